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

use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Float32Array, Float64Array,
    Int8Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, UInt32Array, UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{
    DataType as Arrow, Decimal128Type, Field as ArrowField, Float32Type, Float64Type, Int8Type, Int64Type,
    UInt32Type,
};
use thalweg_functions::EvaluationEnv;
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::{DataType, Field, Schema, TypeRoot};
use thalweg_state::{
    DiskSettings, ListDistribution, ListSnapshot, LocalFolder, OperatorSnapshot, RestoredList, RestoredState,
    RestoredTable, SnapshotRequest, StateSettings, TableDescriptor, TableSnapshot,
};
use thalweg_types::element::RowKind;
use thalweg_types::key_group::{key_group, subtask_of_key_group};
use thalweg_types::key_hash::hash_rows;
use thalweg_types::{KeyGroupRange, OperatorId, StreamBatch, WatermarkCut};

use crate::{Operator, OperatorContext, OutputLimit};

const MAX_PARALLELISM: u32 = 8;

static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| tokio::runtime::Runtime::new().unwrap());

/// A value of a row, whatever its width.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// All integers, dates, times, timestamps (in their column's unit).
    Int(i64),
    /// The unscaled value.
    Decimal(i128),
    Double(f64),
    Text(String),
    /// ARRAY; MAP and MULTISET as a list of (key, value); ROW as a list of its fields.
    List(Vec<Value>),
}

/// One row.
pub(crate) type Row = Vec<Value>;

impl Value {
    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Int(_) => 2,
            Self::Decimal(_) => 3,
            Self::Double(_) => 4,
            Self::Text(_) => 5,
            Self::List(_) => 6,
        }
    }

    pub(crate) fn int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }
}

impl Ord for Value {
    /// Nulls are low, as Flink's.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::Decimal(a), Self::Decimal(b)) => a.cmp(b),
            (Self::Double(a), Self::Double(b)) => a.total_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::List(a), Self::List(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Value {}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        format!("{self:?}").hash(state);
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Double(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(values: Vec<T>) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

/// A row of anything that is a [`Value`]: `row!["a", 1, None::<i64>]`.
macro_rules! row {
    ($($value:expr),* $(,)?) => { vec![$($crate::sql::testing::Value::from($value)),*] };
}
pub(crate) use row;

/// BIGINT.
pub(crate) fn bigint() -> DataType {
    DataType::nullable(TypeRoot::BigInt)
}

/// STRING.
pub(crate) fn text() -> DataType {
    DataType::string()
}

/// TIMESTAMP(3) *ROWTIME*.
pub(crate) fn rowtime() -> DataType {
    DataType::nullable(TypeRoot::Timestamp(3, TimeKind::Rowtime))
}

/// TIMESTAMP_LTZ(3) *PROCTIME*.
pub(crate) fn proctime() -> DataType {
    DataType::not_null(TypeRoot::TimestampLtz(3, TimeKind::Proctime))
}

/// TIMESTAMP(3).
pub(crate) fn timestamp() -> DataType {
    DataType::nullable(TypeRoot::Timestamp(3, TimeKind::Regular))
}

/// Columns by name and type.
pub(crate) fn table(columns: &[(&str, DataType)]) -> Schema {
    let fields = columns.iter();
    Schema {
        fields: fields
            .map(|(name, data_type)| Field::new(*name, data_type.clone()))
            .collect(),
    }
}

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

/// How often each row is there behind a changelog. Panics if one is taken back that isn't.
pub(crate) fn materialize(changelog: &[(RowKind, Row)]) -> BTreeMap<Row, i64> {
    let mut rows: BTreeMap<Row, i64> = BTreeMap::new();
    for (kind, row) in changelog {
        let count = rows.entry(row.clone()).or_default();
        match kind {
            RowKind::Insert | RowKind::UpdateAfter => *count += 1,
            RowKind::UpdateBefore | RowKind::Delete => *count -= 1,
        }
        assert!(
            *count >= 0,
            "{row:?} is taken back, but isn't there: {changelog:?}"
        );
        if *count == 0 {
            rows.remove(row);
        }
    }
    rows
}

/// The rows behind an upsert changelog (without -U) whose rows are identified by these columns.
pub(crate) fn upserted(changelog: &[(RowKind, Row)], key: &[usize]) -> BTreeMap<Row, Row> {
    let mut rows = BTreeMap::new();
    for (kind, row) in changelog {
        let key: Row = key.iter().map(|column| row[*column].clone()).collect();
        match kind {
            RowKind::Insert | RowKind::UpdateAfter => {
                rows.insert(key, row.clone());
            }
            RowKind::UpdateBefore | RowKind::Delete => {
                rows.remove(&key);
            }
        }
    }
    rows
}

fn history(batch: &StreamBatch) -> Vec<Emitted> {
    let mut history = Vec::new();
    for row in 0..=batch.num_rows() {
        let cuts = batch.watermarks.iter().filter(|cut| cut.row as usize == row);
        history.extend(cuts.map(|cut| Emitted::Watermark(cut.timestamp_ms)));
        if row < batch.num_rows() {
            history.push(Emitted::Row(kind_of(batch, row), row_of(&batch.rows, row)));
        }
    }
    history
}

fn kind_of(batch: &StreamBatch, row: usize) -> RowKind {
    match batch.kinds.as_ref().map_or(0, |kinds| kinds.value(row)) {
        0 => RowKind::Insert,
        1 => RowKind::UpdateBefore,
        2 => RowKind::UpdateAfter,
        3 => RowKind::Delete,
        other => panic!("{other} is no row kind"),
    }
}

/// The values of a row.
pub(crate) fn row_of(rows: &RecordBatch, row: usize) -> Row {
    rows.columns()
        .iter()
        .map(|column| value_of(column, row))
        .collect()
}

/// The value of a column.
pub(crate) fn value_of(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    let list = |values: ArrayRef| Value::List((0..values.len()).map(|row| value_of(&values, row)).collect());
    match column.data_type() {
        Arrow::Boolean => Value::Bool(column.as_boolean().value(row)),
        Arrow::Utf8 => Value::Text(column.as_string::<i32>().value(row).to_owned()),
        Arrow::Binary => {
            Value::Text(String::from_utf8_lossy(column.as_binary::<i32>().value(row)).into_owned())
        }
        Arrow::Float64 => Value::Double(column.as_primitive::<Float64Type>().value(row)),
        Arrow::Float32 => Value::Double(f64::from(column.as_primitive::<Float32Type>().value(row))),
        Arrow::Decimal128(..) => Value::Decimal(column.as_primitive::<Decimal128Type>().value(row)),
        Arrow::List(_) => list(column.as_list::<i32>().value(row)),
        Arrow::Map(..) => list(Arc::new(column.as_map().value(row))),
        Arrow::Struct(_) => {
            let fields = column.as_struct().columns().iter();
            Value::List(fields.map(|field| value_of(field, row)).collect())
        }
        Arrow::Int8 => Value::Int(i64::from(column.as_primitive::<Int8Type>().value(row))),
        Arrow::Time32(_) | Arrow::Date32 => {
            let values = cast(&cast(column, &Arrow::Int32).unwrap(), &Arrow::Int64).unwrap();
            Value::Int(values.as_primitive::<Int64Type>().value(row))
        }
        _ => {
            let values = cast(column, &Arrow::Int64).unwrap();
            Value::Int(values.as_primitive::<Int64Type>().value(row))
        }
    }
}

/// Rows of a schema with their kinds and the watermarks between them.
pub(crate) fn batch_of(schema: &Schema, rows: &[(RowKind, Row)], cuts: &[(usize, i64)]) -> StreamBatch {
    let columns = schema.fields.iter().enumerate().map(|(column, field)| {
        let values: Vec<&Value> = rows.iter().map(|(_, row)| &row[column]).collect();
        array_of(&field.data_type.to_arrow(), &values)
    });
    let kinds = rows.iter().any(|(kind, _)| *kind != RowKind::Insert);
    let kinds = kinds.then(|| Int8Array::from_iter_values(rows.iter().map(|(kind, _)| *kind as i8)));
    StreamBatch {
        kinds,
        watermarks: cuts
            .iter()
            .map(|(row, timestamp_ms)| WatermarkCut {
                row: *row as u32,
                timestamp_ms: *timestamp_ms,
            })
            .collect(),
        ..StreamBatch::new(RecordBatch::try_new(schema.to_arrow(), columns.collect()).unwrap())
    }
}

/// Values as a column.
pub(crate) fn array_of(data_type: &Arrow, values: &[&Value]) -> ArrayRef {
    let ints = || values.iter().map(|value| value.int()).collect::<Int64Array>();
    match data_type {
        Arrow::Boolean => Arc::new(BooleanArray::from_iter(values.iter().map(|value| match value {
            Value::Bool(value) => Some(*value),
            _ => None,
        }))),
        Arrow::Utf8 => Arc::new(StringArray::from_iter(values.iter().map(|value| match value {
            Value::Text(value) => Some(value.as_str()),
            _ => None,
        }))),
        Arrow::Binary => Arc::new(BinaryArray::from_iter(values.iter().map(|value| match value {
            Value::Text(value) => Some(value.as_bytes()),
            _ => None,
        }))),
        Arrow::Float64 | Arrow::Float32 => {
            let doubles = values.iter().map(|value| match value {
                Value::Double(value) => Some(*value),
                _ => None,
            });
            let doubles: Float64Array = doubles.collect();
            match data_type {
                Arrow::Float64 => Arc::new(doubles),
                _ => Arc::new(
                    doubles
                        .iter()
                        .map(|value| value.map(|value| value as f32))
                        .collect::<Float32Array>(),
                ),
            }
        }
        Arrow::Decimal128(precision, scale) => {
            let unscaled = values.iter().map(|value| match value {
                Value::Decimal(value) => Some(*value),
                Value::Int(value) => Some(i128::from(*value)),
                _ => None,
            });
            let decimals: Decimal128Array = unscaled.collect();
            Arc::new(decimals.with_precision_and_scale(*precision, *scale).unwrap())
        }
        Arrow::List(item) => list_of(item, values),
        Arrow::Time32(_) | Arrow::Date32 => {
            let ints: Int32Array = ints()
                .iter()
                .map(|value| value.map(|value| value as i32))
                .collect();
            cast(&ints, data_type).unwrap()
        }
        _ => cast(&ints(), data_type).unwrap(),
    }
}

fn list_of(item: &Arc<ArrowField>, values: &[&Value]) -> ArrayRef {
    let items = |value: &Value| match value {
        Value::List(items) => items.clone(),
        _ => Vec::new(),
    };
    let all: Vec<Value> = values.iter().flat_map(|value| items(value)).collect();
    let lengths = OffsetBuffer::from_lengths(values.iter().map(|value| items(value).len()));
    let nulls = values.iter().map(|value| !matches!(value, Value::Null)).collect();
    let all = array_of(item.data_type(), &all.iter().collect::<Vec<_>>());
    Arc::new(ListArray::new(Arc::clone(item), lengths, all, Some(nulls)))
}

fn hashes(batch: &StreamBatch, columns: &[usize]) -> UInt64Array {
    let columns: Vec<ArrayRef> = columns
        .iter()
        .map(|column| Arc::clone(batch.rows.column(*column)))
        .collect();
    let mut hashes = Vec::new();
    hash_rows(&columns, &mut hashes).unwrap();
    hashes.into()
}

/// What all subtasks gave for a checkpoint.
#[derive(Default)]
struct Snapshots {
    taken: bool,
    tables: Vec<TableSnapshot>,
    lists: Vec<ListSnapshot>,
}

impl Snapshots {
    fn add(&mut self, snapshot: OperatorSnapshot) {
        self.taken = true;
        self.tables.extend(snapshot.tables);
        self.lists.extend(snapshot.lists);
    }

    fn share_of(&self, context: &OperatorContext) -> RestoredState {
        if !self.taken {
            return RestoredState::default();
        }
        let mut tables: Vec<(TableDescriptor, Vec<RecordBatch>)> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for table in &self.tables {
            let place = *places.entry(&table.descriptor.name).or_insert_with(|| {
                tables.push((TableDescriptor::clone(&table.descriptor), Vec::new()));
                tables.len() - 1
            });
            tables[place].1.extend(rows_in(table, context.key_groups));
        }
        let tables = tables.into_iter().map(|(descriptor, rows)| RestoredTable {
            descriptor,
            rows: Box::new(rows.into_iter().map(Ok)),
        });
        let mut lists: Vec<RestoredList> = Vec::new();
        for list in &self.lists {
            if lists.iter().any(|known| known.name == list.name) {
                continue;
            }
            let all = self.lists.iter().filter(|other| other.name == list.name);
            lists.push(RestoredList {
                name: list.name.clone(),
                distribution: list.distribution,
                items: match list.distribution {
                    ListDistribution::Union => all.map(|list| list.items.clone()).collect(),
                    ListDistribution::Broadcast => vec![list.items.clone()],
                    ListDistribution::Split => all.map(|list| in_turn(&list.items, context)).collect(),
                },
            });
        }
        RestoredState {
            checkpoint_id: 1,
            tables: tables.collect(),
            lists,
            ..RestoredState::default()
        }
    }
}

/// The rows of a full snapshot that belong to these key groups.
fn rows_in(table: &TableSnapshot, groups: KeyGroupRange) -> Vec<RecordBatch> {
    let schema = table.descriptor.row_schema();
    let pieces = table.changes.iter().map(|batch| {
        let key_groups = batch.column(0).as_primitive::<UInt32Type>();
        let kept =
            (0..batch.num_rows() as u32).filter(|row| groups.contains(key_groups.value(*row as usize)));
        let kept = take_record_batch(batch, &UInt32Array::from_iter_values(kept)).unwrap();
        let columns = kept.columns();
        let columns = columns[1..2].iter().chain(&columns[3..]).cloned().collect();
        RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()
    });
    pieces.collect()
}

fn in_turn(items: &RecordBatch, context: &OperatorContext) -> RecordBatch {
    let mine = (0..items.num_rows() as u32).filter(|row| row % context.parallelism == context.subtask);
    take_record_batch(items, &UInt32Array::from_iter_values(mine)).unwrap()
}
