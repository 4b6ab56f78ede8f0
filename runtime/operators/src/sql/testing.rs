//! Drives an SQL operator as tasks would: several subtasks, batches cut anywhere, restarts with another parallelism.
//!
//! ```text
//!   row(input, kind, values), watermark, set_time --> batches of each subtask --push, poll_output--> Emitted, by subtask
//!   restart(n): snapshots of all subtasks --rows by key group, lists item by item--> n new subtasks
//! ```
//!
//! ```ignore
//! let input = table(&[("k", text()), ("v", bigint())]);
//! let mut harness = Harness::new(vec![Input::hash(&input, &[0])], move |context| Box::new(MyOperator::new(..).unwrap()));
//! harness.insert(0, row(["a".into(), 1.into()]));
//! harness.watermark(0, 1_000);
//! harness.restart(3);
//! assert_eq!(harness.changelog(), [(RowKind::Insert, row!["a", 1])]);
//! ```

pub(crate) mod random;
mod rows;
mod snapshots;
mod value;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};

use thalweg_functions::EvaluationEnv;
use thalweg_plan::Schema;
use thalweg_state::{DiskSettings, LocalFolder, SnapshotRequest, StateSettings};
use thalweg_types::element::RowKind;
use thalweg_types::key_group::{key_group, subtask_of_key_group};
use thalweg_types::{KeyGroupRange, OperatorId};

use crate::{Operator, OperatorContext, OutputLimit};
use rows::history;
pub(crate) use rows::{array_of, batch_of, materialize, row_of, upserted, value_of};
use snapshots::{Snapshots, hashes};
pub(crate) use value::{Row, Value, bigint, proctime, row, rowtime, table, text, timestamp};

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

/// What a test's clock says, which expressions and time-to-live read.
#[derive(Debug, Clone)]
pub(crate) struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub(crate) fn new(now_ms: i64) -> Self {
        Self(Arc::new(AtomicI64::new(now_ms)))
    }

    fn set(&self, now_ms: i64) {
        self.0.store(now_ms, Ordering::SeqCst);
    }

    /// An environment with this clock.
    pub(crate) fn env(&self) -> Arc<EvaluationEnv> {
        let time = Arc::clone(&self.0);
        Arc::new(EvaluationEnv {
            clock: Arc::new(move || time.load(Ordering::SeqCst)),
            time_zone: "UTC".to_owned(),
            statement_time_ms: 0,
            is_batch: false,
            functions: Arc::default(),
        })
    }
}

/// How an input's rows reach the subtasks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Route {
    /// To the one that owns the key; with key hashes.
    Hash(Vec<usize>),
    /// To the first; for operators that have one subtask.
    Singleton,
    /// In turn.
    InTurn,
    /// To all.
    All,
}

/// A logical input.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    pub(crate) schema: Schema,
    pub(crate) route: Route,
}

impl Input {
    pub(crate) fn hash(schema: &Schema, columns: &[usize]) -> Self {
        Self {
            schema: schema.clone(),
            route: Route::Hash(columns.to_vec()),
        }
    }

    pub(crate) fn singleton(schema: &Schema) -> Self {
        Self {
            schema: schema.clone(),
            route: Route::Singleton,
        }
    }

    pub(crate) fn in_turn(schema: &Schema) -> Self {
        Self {
            schema: schema.clone(),
            route: Route::InTurn,
        }
    }
}

/// What came out, in the order of its subtask.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Emitted {
    Row(RowKind, Row),
    Watermark(i64),
}

struct Subtask {
    operator: Box<dyn Operator>,
    input: usize,
    rows: Vec<(RowKind, Row)>,
    cuts: Vec<(usize, i64)>,
}

type Make = Box<dyn Fn(OperatorContext) -> Box<dyn Operator>>;

/// See the module.
pub(crate) struct Harness {
    make: Make,
    inputs: Vec<Input>,
    clock: TestClock,
    subtasks: Vec<Subtask>,
    turn: usize,
    checkpoints: u64,
    settings: Arc<StateSettings>,
    /// Where state is that memory has no room for.
    folder: Option<tempfile::TempDir>,
    /// Rows of a batch, and of a piece of output.
    pub(crate) batch_rows: usize,
    pub(crate) limit_rows: usize,
    /// By subtask.
    pub(crate) emitted: Vec<Vec<Emitted>>,
}

impl Harness {
    /// Two subtasks, or one if an input is a singleton. The clock stands at 1,000 until it is set.
    pub(crate) fn new(
        inputs: Vec<Input>,
        make: impl Fn(OperatorContext) -> Box<dyn Operator> + 'static,
    ) -> Self {
        Self::with_clock(inputs, TestClock::new(1_000), make)
    }

    /// With a clock that the operator reads, too ([`TestClock::env`]).
    pub(crate) fn with_clock(
        inputs: Vec<Input>,
        clock: TestClock,
        make: impl Fn(OperatorContext) -> Box<dyn Operator> + 'static,
    ) -> Self {
        let parallelism = if inputs.iter().any(|input| input.route == Route::Singleton) {
            1
        } else {
            2
        };
        let mut harness = Self {
            make: Box::new(make),
            inputs,
            clock,
            subtasks: Vec::new(),
            turn: 0,
            checkpoints: 0,
            settings: Arc::new(StateSettings::default()),
            folder: None,
            batch_rows: 3,
            limit_rows: 2,
            emitted: Vec::new(),
        };
        harness.start(parallelism, &Snapshots::default());
        harness
    }

    /// Starts again, without state: what is over so many bytes goes to disk. It can't be restarted with what it has there.
    pub(crate) fn on_disk(&mut self, resident_bytes: usize) {
        let folder = tempfile::tempdir().unwrap();
        self.settings = Arc::new(StateSettings {
            exact_columns: false,
            memory_bytes: usize::MAX,
            disk: Some(DiskSettings {
                folder: LocalFolder::of_process(folder.path()).unwrap(),
                resident_bytes,
                wait_bytes: resident_bytes.saturating_add(resident_bytes / 6),
            }),
            scratch: None,
        });
        self.start(self.subtasks.len() as u32, &Snapshots::default());
        self.folder = Some(folder);
    }

    pub(crate) fn insert(&mut self, input: usize, row: Row) {
        self.row(input, RowKind::Insert, row);
    }

    #[allow(
        clippy::needless_pass_by_value,
        reason = "a row is mostly written where it is used"
    )]
    pub(crate) fn row(&mut self, input: usize, kind: RowKind, row: Row) {
        let subtasks = self.subtasks.len();
        let targets = match &self.inputs[input].route {
            Route::Hash(columns) => {
                let batch = batch_of(&self.inputs[input].schema, &[(kind, row.clone())], &[]);
                let group = key_group(hashes(&batch, columns).value(0), MAX_PARALLELISM);
                let owner = subtask_of_key_group(group, subtasks as u32, MAX_PARALLELISM) as usize;
                owner..owner + 1
            }
            Route::Singleton => 0..1,
            Route::InTurn => {
                self.turn += 1;
                let subtask = self.turn % subtasks;
                subtask..subtask + 1
            }
            Route::All => 0..subtasks,
        };
        for subtask in targets {
            self.turn_to(subtask, input);
            self.subtasks[subtask].rows.push((kind, row.clone()));
            if self.subtasks[subtask].rows.len() >= self.batch_rows {
                self.flush(subtask);
            }
        }
    }

    pub(crate) fn watermark(&mut self, input: usize, timestamp_ms: i64) {
        for subtask in 0..self.subtasks.len() {
            self.turn_to(subtask, input);
            let state = &mut self.subtasks[subtask];
            state.cuts.push((state.rows.len(), timestamp_ms));
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
            self.subtasks[subtask]
                .operator
                .set_input_idle(input, idle)
                .unwrap();
            self.drain(subtask);
        }
    }

    /// Sets the clock; timers that are due fire.
    pub(crate) fn set_time(&mut self, now_ms: i64) {
        self.flush_all();
        self.clock.set(now_ms);
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
        self.checkpoints += 1;
        let request = SnapshotRequest {
            checkpoint_id: self.checkpoints,
            full: false,
        };
        for subtask in &mut self.subtasks {
            subtask.operator.snapshot(request).unwrap();
        }
    }

    /// Takes a full checkpoint and starts again from it with so many subtasks.
    pub(crate) fn restart(&mut self, parallelism: u32) {
        self.flush_all();
        self.checkpoints += 1;
        let request = SnapshotRequest {
            checkpoint_id: self.checkpoints,
            full: true,
        };
        let mut snapshots = Snapshots::default();
        for subtask in &mut self.subtasks {
            snapshots.add(subtask.operator.snapshot(request).unwrap());
        }
        self.start(parallelism, &snapshots);
    }

    /// Everything that was put in is worked off.
    pub(crate) fn flush_all(&mut self) {
        (0..self.subtasks.len()).for_each(|subtask| self.flush(subtask));
    }

    /// The rows of all subtasks since the last call; those of one subtask in order.
    pub(crate) fn changelog(&mut self) -> Vec<(RowKind, Row)> {
        self.flush_all();
        let emitted = self.emitted.iter_mut().flat_map(std::mem::take);
        emitted
            .filter_map(|emitted| match emitted {
                Emitted::Row(kind, row) => Some((kind, row)),
                Emitted::Watermark(_) => None,
            })
            .collect()
    }

    /// The watermarks of the first subtask since the last call; all else since then is forgotten.
    pub(crate) fn watermarks(&mut self) -> Vec<i64> {
        self.flush_all();
        let emitted = std::mem::take(&mut self.emitted[0]);
        emitted
            .into_iter()
            .filter_map(|emitted| match emitted {
                Emitted::Watermark(timestamp_ms) => Some(timestamp_ms),
                Emitted::Row(..) => None,
            })
            .collect()
    }

    /// Bytes of state of all subtasks.
    pub(crate) fn state_bytes(&self) -> usize {
        self.subtasks
            .iter()
            .map(|subtask| subtask.operator.state_bytes())
            .sum()
    }

    /// The operator of a subtask.
    pub(crate) fn operator(&mut self, subtask: usize) -> &mut dyn Operator {
        self.subtasks[subtask].operator.as_mut()
    }

    fn start(&mut self, parallelism: u32, snapshots: &Snapshots) {
        self.subtasks = (0..parallelism)
            .map(|number| {
                let context = OperatorContext {
                    state: Arc::clone(&self.settings),
                    ..context(number, parallelism)
                };
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
        let input = &self.inputs[state.input];
        let mut batch = batch_of(&input.schema, &rows, &cuts);
        if let Route::Hash(columns) = &input.route {
            batch.key_hashes = Some(hashes(&batch, columns));
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
        while let Some(batch) = operator.poll_output(limit).unwrap() {
            assert!(
                batch.num_rows() <= self.limit_rows,
                "a piece of {} rows, at most {} are allowed",
                batch.num_rows(),
                self.limit_rows
            );
            assert!(batch.watermarks.is_sorted(), "{:?}", batch.watermarks);
            self.emitted[subtask].extend(history(&batch));
        }
    }
}
