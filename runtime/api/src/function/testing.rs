//! Drives an operator as tasks would: several subtasks, batches cut anywhere, restarts with another parallelism.
//!
//! ```text
//!   row, watermark, set_time --> batches of each subtask --push, poll_output, poll_side_output--> Emitted
//!   restart(n): full snapshots of all subtasks --by key group, list by list--> n new subtasks
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, UInt32Type};
use thalweg_operators::{Operator, OperatorContext, OutputLimit};
use thalweg_state::{
    ListDistribution, ListSnapshot, OperatorSnapshot, RestoredList, RestoredState, RestoredTable,
    SnapshotRequest, StateSettings, TableDescriptor, TableSnapshot,
};
use thalweg_task::Clock;
use thalweg_types::key_group::{key_group, subtask_of_key_group};
use thalweg_types::key_hash::hash_rows;
use thalweg_types::{KeyGroupRange, OperatorId, StreamBatch, WatermarkCut};

use super::driver::{Driver, Logic};
use crate::keyed::KeyColumns;
use crate::record::{Record, Rows, RowsBuilder};
use crate::side_output::SideOutputTags;

/// What goes in: a key and a number.
pub(crate) type Word = (String, i64);

const MAX_PARALLELISM: u32 = 8;

static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| tokio::runtime::Runtime::new().unwrap());

/// The context of one subtask.
pub(crate) fn context(subtask: u32, parallelism: u32) -> OperatorContext {
    OperatorContext {
        task_name: format!("Test ({}/{parallelism})", subtask + 1).into(),
        operator_name: "Test".into(),
        operator_id: OperatorId::from_u128(1),
        subtask,
        parallelism,
        max_parallelism: MAX_PARALLELISM,
        key_groups: KeyGroupRange::of_subtask(subtask, parallelism, MAX_PARALLELISM),
        state: Arc::new(StateSettings::default()),
        io: RUNTIME.handle().clone(),
    }
}

/// The key of a [`Word`].
pub(crate) fn word_key() -> KeyColumns {
    KeyColumns {
        indices: vec![0],
        types: vec![DataType::Utf8],
        names: vec!["f0".to_owned()],
    }
}

/// How an input's rows reach the subtasks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Route {
    /// To the one that owns the key.
    Key,
    /// In turn.
    InTurn,
    /// To all.
    All,
}

/// What came out, in the order of each subtask.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Emitted<O> {
    Row(O, Option<i64>),
    Watermark(i64),
}

struct Subtask {
    operator: Box<dyn Operator>,
    input: usize,
    rows: Vec<(Word, Option<i64>)>,
    cuts: Vec<(usize, i64)>,
}

type Make = Box<dyn Fn(OperatorContext) -> Box<dyn Operator>>;

pub(crate) struct Harness<O> {
    make: Make,
    routes: Vec<Route>,
    clock: Arc<AtomicI64>,
    subtasks: Vec<Subtask>,
    turn: usize,
    /// Rows of a batch, and of a piece of output.
    pub(crate) batch_rows: usize,
    pub(crate) limit_rows: usize,
    /// Rows of the largest piece of output.
    pub(crate) largest_piece: usize,
    /// How many there were.
    pub(crate) pieces: usize,
    /// By subtask.
    pub(crate) emitted: Vec<Vec<Emitted<O>>>,
    /// Side outputs by their number, of all subtasks.
    pub(crate) sides: BTreeMap<u32, Vec<StreamBatch>>,
}

impl<O: Record> Harness<O> {
    /// Of a [`Logic`].
    pub(crate) fn of_logic<L: Logic + 'static>(
        routes: &[Route],
        tags: &SideOutputTags,
        logic: impl Fn() -> L + 'static,
    ) -> Self {
        let clock = Arc::new(AtomicI64::new(1_000));
        let (time, tags) = (Arc::clone(&clock), tags.clone());
        let keys: Vec<_> = routes
            .iter()
            .map(|route| (*route == Route::Key).then(word_key))
            .collect();
        let make = move |context| {
            let driver = Driver::new(context, keys.clone(), &tags, logic()).unwrap();
            Box::new(driver.with_clock(Clock::manual(Arc::clone(&time)))) as Box<dyn Operator>
        };
        Self::new(routes, clock, Box::new(make))
    }

    /// Of an operator that looks at the clock.
    pub(crate) fn new(routes: &[Route], clock: Arc<AtomicI64>, make: Make) -> Self {
        let mut harness = Self {
            make,
            routes: routes.to_vec(),
            clock,
            subtasks: Vec::new(),
            turn: 0,
            batch_rows: 3,
            limit_rows: 2,
            largest_piece: 0,
            pieces: 0,
            emitted: Vec::new(),
            sides: BTreeMap::new(),
        };
        harness.start(2, &OperatorSnapshots::default());
        harness
    }

    pub(crate) fn row(&mut self, input: usize, word: &Word, timestamp: Option<i64>) {
        let targets = match self.routes[input] {
            Route::Key => {
                let group = key_group(hashes(&[(word.clone(), None)]).value(0), MAX_PARALLELISM);
                let owner = subtask_of_key_group(group, self.subtasks.len() as u32, MAX_PARALLELISM);
                owner as usize..owner as usize + 1
            }
            Route::InTurn => {
                self.turn += 1;
                let subtask = self.turn % self.subtasks.len();
                subtask..subtask + 1
            }
            Route::All => 0..self.subtasks.len(),
        };
        for subtask in targets {
            self.turn_to(subtask, input);
            self.subtasks[subtask].rows.push((word.clone(), timestamp));
            if self.subtasks[subtask].rows.len() >= self.batch_rows {
                self.flush(subtask);
            }
        }
    }

    pub(crate) fn watermark(&mut self, input: usize, timestamp: i64) {
        for subtask in 0..self.subtasks.len() {
            self.turn_to(subtask, input);
            let state = &mut self.subtasks[subtask];
            state.cuts.push((state.rows.len(), timestamp));
        }
    }

    pub(crate) fn end_input(&mut self, input: usize) {
        for subtask in 0..self.subtasks.len() {
            self.flush(subtask);
            self.subtasks[subtask].operator.end_input(input).unwrap();
            self.drain(subtask);
        }
    }

    pub(crate) fn set_input_idle(&mut self, input: usize, idle: bool) {
        for subtask in 0..self.subtasks.len() {
            self.flush(subtask);
            let operator = &mut self.subtasks[subtask].operator;
            operator.set_input_idle(input, idle).unwrap();
            self.drain(subtask);
        }
    }

    /// Sets the clock; timers that are due fire.
    pub(crate) fn set_time(&mut self, now_ms: i64) {
        (0..self.subtasks.len()).for_each(|subtask| self.flush(subtask));
        self.clock.store(now_ms, Ordering::SeqCst);
        for subtask in 0..self.subtasks.len() {
            let operator = &mut self.subtasks[subtask].operator;
            if operator.next_processing_time().is_some_and(|due| due <= now_ms) {
                operator.on_processing_time(now_ms).unwrap();
            }
            self.drain(subtask);
        }
    }

    /// Takes an incremental checkpoint and goes on.
    pub(crate) fn checkpoint(&mut self) {
        self.flush_all();
        let request = SnapshotRequest {
            checkpoint_id: 1,
            full: false,
        };
        for subtask in &mut self.subtasks {
            subtask.operator.snapshot(request).unwrap();
        }
    }

    /// Takes a checkpoint and starts again from it with so many subtasks.
    pub(crate) fn restart(&mut self, parallelism: u32) {
        (0..self.subtasks.len()).for_each(|subtask| self.flush(subtask));
        let request = SnapshotRequest {
            checkpoint_id: 1,
            full: true,
        };
        let mut snapshots = OperatorSnapshots::default();
        for subtask in &mut self.subtasks {
            snapshots.add(subtask.operator.snapshot(request).unwrap());
        }
        self.start(parallelism, &snapshots);
    }

    /// Everything that was put in is worked off.
    pub(crate) fn flush_all(&mut self) {
        (0..self.subtasks.len()).for_each(|subtask| self.flush(subtask));
    }

    /// Rows of all subtasks with their event times; rows of one subtask in order.
    pub(crate) fn rows(&self) -> Vec<(O, Option<i64>)> {
        let rows = self.emitted.iter().flatten().filter_map(|emitted| match emitted {
            Emitted::Row(row, time) => Some((row.clone(), *time)),
            Emitted::Watermark(_) => None,
        });
        rows.collect()
    }

    /// A side output's records with their event times.
    pub(crate) fn side<T: Record>(&self, number: u32) -> Vec<(T, Option<i64>)> {
        let batches = self.sides.get(&number).into_iter().flatten();
        batches.flat_map(typed_rows::<T>).collect()
    }

    fn start(&mut self, parallelism: u32, snapshots: &OperatorSnapshots) {
        self.subtasks = (0..parallelism)
            .map(|number| {
                let context = context(number, parallelism);
                let mut operator = (self.make)(context.clone());
                operator.restore(&mut snapshots.share_of(&context)).unwrap();
                Subtask {
                    operator,
                    input: 0,
                    rows: Vec::new(),
                    cuts: Vec::new(),
                }
            })
            .collect();
        self.emitted
            .resize(self.emitted.len().max(parallelism as usize), Vec::new());
    }

    fn turn_to(&mut self, subtask: usize, input: usize) {
        if self.subtasks[subtask].input != input {
            self.flush(subtask);
            self.subtasks[subtask].input = input;
        }
    }

    fn flush(&mut self, subtask: usize) {
        let state = &mut self.subtasks[subtask];
        let rows = std::mem::take(&mut state.rows);
        let cuts = std::mem::take(&mut state.cuts);
        if rows.is_empty() && cuts.is_empty() {
            return;
        }
        let mut batch = batch_of(&rows, &cuts);
        if self.routes[state.input] == Route::Key {
            batch.key_hashes = Some(hashes(&rows));
        }
        state.operator.push(state.input, batch).unwrap();
        self.drain(subtask);
    }

    fn drain(&mut self, subtask: usize) {
        let limit = OutputLimit {
            rows: self.limit_rows,
            bytes: 1 << 20,
        };
        let operator = &mut self.subtasks[subtask].operator;
        loop {
            let main = operator.poll_output(limit).unwrap();
            while let Some((number, batch)) = operator.poll_side_output() {
                self.sides.entry(number).or_default().push(batch);
            }
            let Some(batch) = main else { return };
            self.pieces += 1;
            self.largest_piece = batch.num_rows().max(self.largest_piece);
            self.emitted[subtask].extend(history(&batch));
        }
    }
}

/// Rows with their times.
pub(crate) fn typed_rows<T: Record>(batch: &StreamBatch) -> Vec<(T, Option<i64>)> {
    let time = |row| {
        let times = batch.timestamps.as_ref()?;
        times.is_valid(row).then(|| times.value(row))
    };
    let rows = Rows::<T>::of(&batch.rows).unwrap();
    (0..rows.len())
        .map(|row| (T::own(rows.get(row)), time(row)))
        .collect()
}

fn history<O: Record>(batch: &StreamBatch) -> Vec<Emitted<O>> {
    let mut rows: VecDeque<_> = typed_rows::<O>(batch).into();
    let mut history = Vec::new();
    for row in 0..=batch.num_rows() {
        let cuts = batch.watermarks.iter().filter(|cut| cut.row as usize == row);
        history.extend(cuts.map(|cut| Emitted::Watermark(cut.timestamp_ms)));
        history.extend(rows.pop_front().map(|(row, time)| Emitted::Row(row, time)));
    }
    history
}

fn batch_of(rows: &[(Word, Option<i64>)], cuts: &[(usize, i64)]) -> StreamBatch {
    let mut builder = RowsBuilder::<Word>::with_capacity(rows.len());
    rows.iter().for_each(|(word, _)| builder.push(word));
    let times: Int64Array = rows.iter().map(|(_, time)| *time).collect();
    StreamBatch {
        timestamps: (times.null_count() < times.len()).then_some(times),
        watermarks: cuts
            .iter()
            .map(|(row, timestamp_ms)| WatermarkCut {
                row: *row as u32,
                timestamp_ms: *timestamp_ms,
            })
            .collect(),
        ..StreamBatch::new(builder.finish().unwrap())
    }
}

fn hashes(rows: &[(Word, Option<i64>)]) -> UInt64Array {
    let batch = batch_of(rows, &[]);
    let mut hashes = Vec::new();
    hash_rows(&batch.rows.columns()[..1], &mut hashes).unwrap();
    hashes.into()
}

/// What all subtasks gave for a checkpoint.
#[derive(Default)]
struct OperatorSnapshots {
    taken: bool,
    tables: Vec<TableSnapshot>,
    lists: Vec<ListSnapshot>,
}

impl OperatorSnapshots {
    fn add(&mut self, snapshot: OperatorSnapshot) {
        self.taken = true;
        self.tables.extend(snapshot.tables);
        self.lists.extend(snapshot.lists);
    }

    fn share_of(&self, context: &OperatorContext) -> RestoredState {
        if !self.taken {
            return RestoredState::default();
        }
        let mut restored = RestoredState {
            checkpoint_id: 1,
            ..RestoredState::default()
        };
        for table in &self.tables {
            let rows: Vec<RecordBatch> = rows_in(table, context.key_groups);
            let known = restored
                .tables
                .iter()
                .position(|known| known.descriptor.name == table.descriptor.name);
            match known {
                Some(place) => {
                    let known = &mut restored.tables[place];
                    let before = std::mem::replace(&mut known.rows, Box::new(std::iter::empty()));
                    known.rows = Box::new(before.chain(rows.into_iter().map(Ok)));
                }
                None => restored.tables.push(RestoredTable {
                    descriptor: TableDescriptor::clone(&table.descriptor),
                    rows: Box::new(rows.into_iter().map(Ok)),
                }),
            }
        }
        let mut names: Vec<&ListSnapshot> = Vec::new();
        for list in &self.lists {
            if names.iter().all(|known| known.name != list.name) {
                names.push(list);
            }
        }
        for first in names {
            let all = self.lists.iter().filter(|list| list.name == first.name);
            let items: Vec<RecordBatch> = match first.distribution {
                ListDistribution::Union => all.map(|list| list.items.clone()).collect(),
                ListDistribution::Broadcast => vec![first.items.clone()],
                ListDistribution::Split => all.map(|list| in_turn(&list.items, context)).collect(),
            };
            restored.lists.push(RestoredList {
                name: first.name.clone(),
                distribution: first.distribution,
                items,
            });
        }
        restored
    }
}

/// The rows of a full snapshot that belong to these key groups.
fn rows_in(table: &TableSnapshot, groups: KeyGroupRange) -> Vec<RecordBatch> {
    let schema = table.descriptor.row_schema();
    table
        .changes
        .iter()
        .map(|batch| {
            let key_groups = batch.column(0).as_primitive::<UInt32Type>();
            let kept =
                (0..batch.num_rows() as u32).filter(|row| groups.contains(key_groups.value(*row as usize)));
            let kept = take_record_batch(batch, &UInt32Array::from_iter_values(kept)).unwrap();
            let columns = kept.columns();
            let columns = columns[1..2].iter().chain(&columns[3..]).cloned().collect();
            RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()
        })
        .collect()
}

fn in_turn(items: &RecordBatch, context: &OperatorContext) -> RecordBatch {
    let mine = (0..items.num_rows() as u32).filter(|row| row % context.parallelism == context.subtask);
    take_record_batch(items, &UInt32Array::from_iter_values(mine)).unwrap()
}
