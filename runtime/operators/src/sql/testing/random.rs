//! Random inputs for property tests: rows with nulls that are added, updated and taken back, out of order within the watermark, in batches of
//! any size, with checkpoints and restarts between them.
//!
//! ```text
//!   steps(..) --play--> Harness --> log;  the rows that are left of each input, in the order of arrival --> the test's naive twin
//! ```

use proptest::collection::vec;
use proptest::prelude::*;
use thalweg_types::element::RowKind;

use super::{Harness, Row, Value};

/// What happens to an operator.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// A row comes; its time is so far ahead of the input's watermark.
    Row(usize, Row, i64),
    /// A row of the input is taken back.
    TakeBack(usize, prop::sample::Index),
    /// The input's watermark goes on by so much.
    Watermark(usize, i64),
    Checkpoint,
    Restart(u32),
}

/// How an input behaves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Side {
    /// The column that is set to a time above the watermark; there are watermarks then.
    pub(crate) time: Option<usize>,
    /// A row takes the place of the one with the same values here: -U and +U, or +U alone (`upserts`).
    pub(crate) key: Option<Vec<usize>>,
    pub(crate) upserts: bool,
    /// Whether rows are taken back.
    pub(crate) retracts: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Played {
    pub(crate) log: Vec<(RowKind, Row)>,
    /// The rows that are left, by input.
    pub(crate) left: Vec<Vec<Row>>,
    /// All rows that came, by input.
    pub(crate) all: Vec<Vec<(RowKind, Row)>>,
    /// The input's watermark when each of them came.
    pub(crate) watermarks: Vec<Vec<i64>>,
}

/// A row of a text that tells groups apart, a small number and an id; the first two may be null.
pub(crate) fn keyed_row() -> impl Strategy<Value = Row> {
    let key = prop::option::weighted(0.9, "[a-c]");
    let number = prop::option::weighted(0.85, -2..4_i64);
    (key, number, 0..9_i64).prop_map(|(key, number, id)| vec![key.into(), number.into(), Value::Int(id)])
}

/// Steps of so many inputs.
pub(crate) fn steps(
    inputs: usize,
    rows: impl Strategy<Value = Row> + 'static,
    count: usize,
) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        16 => (0..inputs, rows, 1..9_i64).prop_map(|(input, row, ahead)| Step::Row(input, row, ahead)),
        6 => (0..inputs, any::<prop::sample::Index>()).prop_map(|(input, which)| Step::TakeBack(input, which)),
        5 => (0..inputs, 0..6_i64).prop_map(|(input, by)| Step::Watermark(input, by)),
        1 => Just(Step::Checkpoint),
        1 => (1..=3_u32).prop_map(Step::Restart),
    ];
    vec(step, 0..count)
}

/// Plays steps, then the end of all inputs. `parallel`: whether restarts may change the number of subtasks.
pub(crate) fn play(harness: &mut Harness, sides: &[Side], steps: &[Step], parallel: bool) -> Played {
    let mut played = Played {
        left: vec![Vec::new(); sides.len()],
        all: vec![Vec::new(); sides.len()],
        watermarks: vec![Vec::new(); sides.len()],
        ..Played::default()
    };
    let mut watermarks = vec![0_i64; sides.len()];
    for step in steps {
        match step {
            Step::Row(input, row, ahead) => {
                let mut row = row.clone();
                if let Some(time) = sides[*input].time {
                    row[time] = Value::Int(watermarks[*input] + ahead);
                }
                played.add(harness, *input, &sides[*input], row);
                played.watermarks[*input].resize(played.all[*input].len(), watermarks[*input]);
            }
            Step::TakeBack(input, which) => {
                if sides[*input].retracts && !played.left[*input].is_empty() {
                    let place = which.index(played.left[*input].len());
                    let row = played.left[*input][place].clone();
                    played.take_back(harness, *input, RowKind::Delete, row);
                    played.watermarks[*input].push(watermarks[*input]);
                }
            }
            Step::Watermark(input, by) => {
                if sides[*input].time.is_some() {
                    watermarks[*input] += by;
                    harness.watermark(*input, watermarks[*input]);
                }
            }
            Step::Checkpoint => harness.checkpoint(),
            Step::Restart(parallelism) => {
                played.log.extend(harness.changelog());
                harness.restart(if parallel { *parallelism } else { 1 });
            }
        }
    }
    for (input, side) in sides.iter().enumerate() {
        if side.time.is_some() {
            harness.watermark(input, i64::MAX);
        }
    }
    played.log.extend(harness.changelog());
    played
}

impl Played {
    fn add(&mut self, harness: &mut Harness, input: usize, side: &Side, row: Row) {
        let mut kind = RowKind::Insert;
        if let Some(key) = &side.key {
            let same = |other: &Row| key.iter().all(|column| other[*column] == row[*column]);
            if let Some(before) = self.left[input].iter().find(|other| same(other)).cloned() {
                kind = RowKind::UpdateAfter;
                match side.upserts {
                    false => self.take_back(harness, input, RowKind::UpdateBefore, before),
                    true => self.left[input].retain(|other| !same(other)),
                }
            }
        }
        harness.row(input, kind, row.clone());
        self.all[input].push((kind, row.clone()));
        self.left[input].push(row);
    }

    fn take_back(&mut self, harness: &mut Harness, input: usize, kind: RowKind, row: Row) {
        let first = self.left[input].iter().position(|other| *other == row);
        self.left[input].remove(first.unwrap());
        self.all[input].push((kind, row.clone()));
        harness.row(input, kind, row);
    }
}
