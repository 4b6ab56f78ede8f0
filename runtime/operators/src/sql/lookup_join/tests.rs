//! Against a twin that looks at every row of the table for each row that comes.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Mutex;

use proptest::collection::vec;
use proptest::prelude::*;
use thalweg_plan::connector::{CatalogTable, ObjectPath, TableSchema};
use thalweg_plan::expr::Literal;
use thalweg_plan::spec::JoinKeys;
use thalweg_plan::{DataType, NodeSpec, TypeRoot};
use thalweg_types::Classify;
use thalweg_types::element::RowKind;

use super::super::testing::{
    Emitted, Harness, Input, Row, TestClock, Value, batch_of, bigint, context, row, table, text,
};
use super::*;

/// A table that changes outside; each reading gives it as it is when that begins, two rows at a time, with waits between.
#[derive(Clone, Default)]
struct Outside {
    rows: Arc<Mutex<Vec<Row>>>,
    readings: Arc<Mutex<usize>>,
    fails: Arc<Mutex<bool>>,
}

impl Outside {
    fn of(rows: Vec<Row>) -> Self {
        let outside = Self::default();
        outside.set(rows);
        outside
    }

    fn set(&self, rows: Vec<Row>) {
        *self.rows.lock().unwrap() = rows;
    }
}

struct Reading {
    rows: std::vec::IntoIter<Row>,
    has_waited: bool,
    fails: bool,
}

impl LookupTable for Outside {
    fn read(&mut self) -> Result<Box<dyn TableReader>, LookupError> {
        *self.readings.lock().unwrap() += 1;
        Ok(Box::new(Reading {
            rows: self.rows.lock().unwrap().clone().into_iter(),
            has_waited: false,
            fails: *self.fails.lock().unwrap(),
        }))
    }
}

impl TableReader for Reading {
    fn poll_rows(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<RecordBatch>, LookupError>> {
        if self.fails {
            return Poll::Ready(Err(LookupError {
                message: "dim.csv can't be read".to_owned(),
                class: FailureClass::Retryable,
            }));
        }
        self.has_waited = !self.has_waited;
        if self.has_waited {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let rows: Vec<_> = self
            .rows
            .by_ref()
            .take(2)
            .map(|row| (RowKind::Insert, row))
            .collect();
        Poll::Ready(Ok((!rows.is_empty()).then(|| batch_of(&dim(), &rows, &[]).rows)))
    }
}

fn orders() -> Schema {
    table(&[("k", text()), ("n", bigint())])
}

/// What is looked up.
fn dim() -> Schema {
    table(&[("key", text()), ("v", bigint())])
}

fn spec(kind: JoinKind) -> LookupJoinSpec {
    let source = |field: &Field| SourceColumn::Physical {
        path: vec![field.name.clone()],
        data_type: field.data_type.clone(),
    };
    LookupJoinSpec {
        kind,
        table: CatalogTable {
            path: ObjectPath {
                catalog: "c".to_owned(),
                database: "d".to_owned(),
                name: "dim".to_owned(),
            },
            schema: TableSchema::default(),
            options: BTreeMap::new(),
            partition_keys: Vec::new(),
            comment: None,
        },
        columns: dim().fields.iter().map(source).collect(),
        keys: JoinKeys {
            left: vec![0],
            right: vec![0],
            null_safe: vec![false],
        },
        filter: None,
        condition: None,
    }
}

/// A comparison of two columns of numbers, or of one with a number.
fn compared(left: usize, operator: &str, right: Result<usize, i64>) -> Expr {
    let right = match right {
        Ok(column) => Expr::column(column, bigint()),
        Err(number) => Expr::literal(Literal::Int(number), bigint()),
    };
    Expr::call(
        operator,
        vec![Expr::column(left, bigint()), right],
        DataType::nullable(TypeRoot::Boolean),
    )
}

const NO_LIMIT: LookupSettings = LookupSettings {
    reload: None,
    max_bytes: u64::MAX,
};

fn operator(
    spec: &LookupJoinSpec,
    outside: &Outside,
    settings: LookupSettings,
    clock: &TestClock,
    context: OperatorContext,
) -> LookupJoin {
    let mut output = orders();
    output.fields.extend(dim().fields);
    let operator = SqlOperator {
        spec: &NodeSpec::LookupJoin(spec.clone()),
        inputs: &[orders()],
        output: &output,
        env: clock.env(),
    };
    LookupJoin::new(spec, &operator, context, Box::new(outside.clone()), settings).unwrap()
}

/// Lets a reading that is under way come to its end; there is none before.
fn load(operator: &mut dyn Operator) -> Result<(), OperatorError> {
    let io = context(0, 1).io;
    io.block_on(poll_fn(|cx| operator.poll_ready(cx)))
}

/// Waits until the table was read so often.
fn wait_for_reload(harness: &mut Harness, value: i64) {
    for _ in 0..10_000 {
        load(harness.operator(0)).unwrap();
        harness.insert(0, row!["probe", 0]);
        let rows = harness.changelog();
        if rows.iter().any(|(_, row)| row[3] == Value::Int(value)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("the table was not read again");
}

fn harness(spec: LookupJoinSpec, outside: &Outside, settings: LookupSettings) -> Harness {
    let clock = TestClock::new(1_000);
    let (outside, own) = (outside.clone(), clock.clone());
    Harness::with_clock(vec![Input::singleton(&orders())], clock, move |context| {
        let mut operator = operator(&spec, &outside, settings, &own, context);
        load(&mut operator).unwrap();
        Box::new(operator)
    })
}

#[test]
fn each_row_meets_all_rows_of_its_key_with_its_kind_and_between_its_watermarks() {
    let outside = Outside::of(vec![
        row!["a", 1],
        row!["b", 2],
        row!["a", 3],
        row![None::<String>, 4],
    ]);
    let mut harness = harness(spec(JoinKind::Inner), &outside, NO_LIMIT);
    harness.row(0, RowKind::Insert, row!["a", 10]);
    harness.watermark(0, 5);
    harness.row(0, RowKind::UpdateBefore, row!["x", 20]);
    harness.row(0, RowKind::UpdateAfter, row!["b", 21]);
    harness.row(0, RowKind::Insert, row![None::<String>, 30]);
    harness.watermark(0, 7);
    harness.flush_all();
    let expected = [
        Emitted::Row(RowKind::Insert, row!["a", 10, "a", 1]),
        Emitted::Row(RowKind::Insert, row!["a", 10, "a", 3]),
        Emitted::Watermark(5),
        Emitted::Row(RowKind::UpdateAfter, row!["b", 21, "b", 2]),
        Emitted::Watermark(7),
    ];
    assert_eq!(harness.emitted[0], expected);
}

#[test]
fn a_left_join_keeps_rows_for_which_no_partner_passes_the_condition() {
    let outside = Outside::of(vec![row!["a", 1], row!["a", 3], row!["a", 2]]);
    let mut spec = spec(JoinKind::Left);
    spec.condition = Some(compared(1, "<", Ok(3)));
    let mut harness = harness(spec, &outside, NO_LIMIT);
    harness.insert(0, row!["a", 9]);
    harness.insert(0, row!["a", 1]);
    harness.insert(0, row!["z", 0]);
    let (none, null) = (None::<i64>, None::<String>);
    let expected = [
        (RowKind::Insert, row!["a", 9, null.clone(), none]),
        (RowKind::Insert, row!["a", 1, "a", 3]),
        (RowKind::Insert, row!["a", 1, "a", 2]),
        (RowKind::Insert, row!["z", 0, null, none]),
    ];
    assert_eq!(harness.changelog(), expected);
}

#[test]
fn a_table_without_rows_has_no_partner_for_anyone() {
    let outside = Outside::default();
    let mut harness = harness(spec(JoinKind::Left), &outside, NO_LIMIT);
    harness.insert(0, row!["a", 9]);
    let expected = [(RowKind::Insert, row!["a", 9, None::<String>, None::<i64>])];
    assert_eq!(harness.changelog(), expected);
}

#[test]
fn it_is_read_again_at_its_interval_and_joined_with_what_it_had_until_then() {
    let outside = Outside::of(vec![row!["probe", 1]]);
    let settings = LookupSettings {
        reload: Some(Reload {
            interval: Duration::from_secs(10),
            fixed_rate: false,
        }),
        ..NO_LIMIT
    };
    let mut harness = harness(spec(JoinKind::Inner), &outside, settings);
    outside.set(vec![row!["probe", 2]]);
    harness.set_time(10_999);
    harness.insert(0, row!["probe", 0]);
    assert_eq!(
        harness.changelog(),
        [(RowKind::Insert, row!["probe", 0, "probe", 1])]
    );
    assert_eq!(harness.operator(0).next_processing_time(), Some(11_000));
    harness.set_time(11_000);
    harness.insert(0, row!["probe", 5]);
    assert_eq!(
        harness.changelog(),
        [(RowKind::Insert, row!["probe", 5, "probe", 1])]
    );
    wait_for_reload(&mut harness, 2);
    assert_eq!(*outside.readings.lock().unwrap(), 2);
    assert_eq!(harness.operator(0).next_processing_time(), Some(21_000));
}

#[test]
fn without_an_interval_it_is_read_once() {
    let outside = Outside::of(vec![row!["a", 1]]);
    let mut harness = harness(spec(JoinKind::Inner), &outside, NO_LIMIT);
    harness.set_time(i64::MAX);
    load(harness.operator(0)).unwrap();
    assert_eq!(harness.operator(0).next_processing_time(), None);
    assert_eq!(*outside.readings.lock().unwrap(), 1);
}

#[test]
fn a_restart_reads_it_again_and_keeps_nothing() {
    let outside = Outside::of(vec![row!["a", 1]]);
    let mut harness = harness(spec(JoinKind::Inner), &outside, NO_LIMIT);
    outside.set(vec![row!["a", 2]]);
    harness.restart(1);
    harness.insert(0, row!["a", 0]);
    assert_eq!(harness.changelog(), [(RowKind::Insert, row!["a", 0, "a", 2])]);
}

#[test]
fn a_table_that_is_too_large_or_cannot_be_read_fails_the_job_with_its_name() {
    let fails = |outside: &Outside, max_bytes| {
        let settings = LookupSettings {
            max_bytes,
            ..NO_LIMIT
        };
        let spec = spec(JoinKind::Inner);
        let mut operator = operator(&spec, outside, settings, &TestClock::new(0), context(0, 1));
        load(&mut operator).unwrap_err()
    };
    let outside = Outside::of((0..100).map(|number| row!["a", number]).collect());
    let too_large = fails(&outside, 1_000);
    assert_eq!(too_large.class(), FailureClass::Fatal);
    let message = too_large.to_string();
    assert!(
        message.contains("table c.d.dim: its rows take more than 1000 bytes"),
        "{message}"
    );
    assert!(message.contains("'lookup.full-cache.max-size'"), "{message}");
    *outside.fails.lock().unwrap() = true;
    let unreadable = fails(&outside, u64::MAX);
    assert_eq!(unreadable.class(), FailureClass::Retryable);
    assert!(unreadable.to_string().contains("dim.csv can't be read"));
}

#[test]
fn rows_of_a_large_table_are_found_in_all_of_its_chunks() {
    let batches = (0..4).map(|chunk| {
        let rows =
            [row!["a", chunk], row![format!("only {chunk}"), 10 + chunk]].map(|row| (RowKind::Insert, row));
        batch_of(&dim(), &rows, &[]).rows
    });
    let batches: Vec<RecordBatch> = batches.collect();
    let schema = dim().to_arrow();
    let keys = Keys::new(&schema, vec![0], vec![false]).unwrap();
    let index = Index::in_chunks(&schema, batches, &keys, 1).unwrap();
    let asked = [row!["a", 0], row!["only 2", 0], row!["none", 0]].map(|row| (RowKind::Insert, row));
    let asked = batch_of(&orders(), &asked, &[]).rows;
    let asked = keys.of(&asked.columns()[..1], 3).unwrap();
    let found = |row: usize| {
        let mut numbers = vec![index.first(&asked, row)];
        while let Some(last) = numbers.last().filter(|last| **last != NONE) {
            numbers.push(index.following(*last, &asked, row));
        }
        index.gather(numbers.into_iter()).unwrap()[1].to_data()
    };
    let values = |row: usize| {
        arrow::array::Int64Array::from(found(row))
            .iter()
            .collect::<Vec<_>>()
    };
    assert_eq!(values(0), [Some(0), Some(1), Some(2), Some(3), None]);
    assert_eq!(values(1), [Some(12), None]);
    assert_eq!(values(2), [None]);
}

/// What the join is, said row by row.
fn twin(
    spec: &LookupJoinSpec,
    has_filter: bool,
    table: &[Row],
    rows: &[(RowKind, Row)],
) -> Vec<(RowKind, Row)> {
    let null_safe = spec.keys.null_safe[0];
    let number = |value: &Value| match value {
        Value::Int(number) => Some(*number),
        _ => None,
    };
    let is_null = |value: &Value| *value == Value::from(None::<String>);
    let mut out = Vec::new();
    for (kind, left) in rows {
        let matches = |right: &&Row| {
            left[0] == right[0]
                && (null_safe || !is_null(&left[0]))
                && (!has_filter || number(&right[1]).is_some_and(|v| v > 0))
                && (spec.condition.is_none()
                    || number(&left[1])
                        .zip(number(&right[1]))
                        .is_some_and(|(n, v)| n < v))
        };
        let partners: Vec<&Row> = table.iter().filter(matches).collect();
        let joined = partners
            .iter()
            .map(|right| [left.as_slice(), right.as_slice()].concat());
        out.extend(joined.map(|row| (*kind, row)));
        if partners.is_empty() && spec.kind == JoinKind::Left {
            let nulls = row![None::<String>, None::<i64>];
            out.push((*kind, [left.as_slice(), nulls.as_slice()].concat()));
        }
    }
    out
}

fn any_row() -> impl Strategy<Value = Row> {
    let key = prop::option::weighted(0.8, "[a-d]");
    let number = prop::option::weighted(0.8, -2..3_i64);
    (key, number).prop_map(|(key, number)| vec![key.into(), number.into()])
}

fn any_kind() -> impl Strategy<Value = RowKind> {
    prop::sample::select(vec![
        RowKind::Insert,
        RowKind::UpdateBefore,
        RowKind::UpdateAfter,
        RowKind::Delete,
    ])
}

proptest! {
    #[test]
    fn every_join_is_its_twins(
        table in vec(any_row(), 0..12),
        rows in vec((any_kind(), any_row()), 0..20),
        (left_outer, null_safe, has_filter, has_condition) in any::<(bool, bool, bool, bool)>(),
        (batch_rows, limit_rows) in (1..9_usize, 1..9_usize),
    ) {
        let mut spec = spec(if left_outer { JoinKind::Left } else { JoinKind::Inner });
        spec.keys.null_safe = vec![null_safe];
        spec.filter = has_filter.then(|| compared(1, ">", Err(0)));
        spec.condition = has_condition.then(|| compared(1, "<", Ok(3)));
        let expected = twin(&spec, has_filter, &table, &rows);
        let mut harness = harness(spec, &Outside::of(table), NO_LIMIT);
        (harness.batch_rows, harness.limit_rows) = (batch_rows, limit_rows);
        for (kind, row) in rows {
            harness.row(0, kind, row);
        }
        prop_assert_eq!(harness.changelog(), expected);
    }
}
