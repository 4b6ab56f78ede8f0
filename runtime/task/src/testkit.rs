//! For tests: programs of one column `n: BIGINT`, scripted sources, sinks that the test opens, and deployments by hand.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, Int8Array, Int64Array, RecordBatch, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use thalweg_connectors::{
    Committable, ConnectorContext, ConnectorError, Sink, SinkWriter, Source, SourceEvent, SourceReader,
};
use thalweg_exchange::{Exchange, ExchangeConfig};
use thalweg_operators::{KeySelector, Operator, OperatorError, OutputLimit};
use thalweg_proto::control::v1 as control;
use thalweg_proto::graph::v1::{self as graph, Partitioner};
use thalweg_state::{
    ChangeKind, OperatorSnapshot, RestoredState, SnapshotRequest, StoredRows, TableDescriptor, TableKind,
    TableSnapshot,
};
use thalweg_types::{JobId, StreamBatch, VertexId, WatermarkCut, key_hash};
use tokio::runtime::Handle;

use crate::program::{JobProgram, NodeFactory};

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something holds; a test that waits for ever fails instead.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what} never came");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// An exchange on a free loopback port.
pub(crate) async fn exchange(io: &Handle) -> Arc<Exchange> {
    let config = ExchangeConfig::new(([127, 0, 0, 1], 0).into(), 64 << 20, io.clone(), "token");
    Exchange::start(config).await.unwrap()
}

pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
}

pub(crate) fn rows(values: impl IntoIterator<Item = i64>) -> StreamBatch {
    let column = Arc::new(Int64Array::from_iter_values(values));
    StreamBatch::new(RecordBatch::try_new(schema(), vec![column]).unwrap())
}

pub(crate) fn values(batch: &StreamBatch) -> Vec<i64> {
    batch.rows.column(0).as_primitive::<Int64Type>().values().to_vec()
}

pub(crate) fn with_watermarks(mut batch: StreamBatch, watermarks: &[(u32, i64)]) -> StreamBatch {
    batch.watermarks = watermarks
        .iter()
        .map(|&(row, timestamp_ms)| WatermarkCut { row, timestamp_ms })
        .collect();
    batch
}

// ---- sources -------------------------------------------------------------------------------------

/// What a source does behind its batches.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    End,
    Wait,
    Repeat,
}

/// Gives batch `i` in subtask `i % parallelism`. Its state: the subtask and how many batches it has given.
pub(crate) struct ScriptedSource {
    pub(crate) batches: Vec<StreamBatch>,
    pub(crate) then: Then,
    /// Rows taken from all readers.
    pub(crate) taken: Arc<AtomicUsize>,
    /// Readers that exist.
    pub(crate) open: Arc<AtomicUsize>,
    /// (subtask, checkpoint, completed) as readers heard it.
    pub(crate) heard: Arc<Mutex<Vec<(u32, u64, bool)>>>,
    /// Batches that each reader may give, until the test lets it give more.
    pub(crate) gate: SourceGate,
    /// What readers say to watermark alignment.
    pub(crate) aligns_splits: bool,
    /// Whether readers wait at their end for a checkpoint that holds it.
    pub(crate) commits_offsets: bool,
}

/// How far readers may go.
#[derive(Clone, Default)]
pub(crate) struct SourceGate(Arc<Mutex<GateState>>);

#[derive(Default)]
struct GateState {
    limit: Option<usize>,
    waiting: Vec<Waker>,
}

impl SourceGate {
    /// Lets each reader go up to its `limit`th batch.
    pub(crate) fn limit(&self, limit: usize) {
        let mut state = self.0.lock().unwrap();
        state.limit = Some(limit);
        state.waiting.drain(..).for_each(Waker::wake);
    }

    /// Lets readers go on.
    pub(crate) fn open(&self) {
        self.limit(usize::MAX);
    }

    fn allows(&self, given: usize, cx: &Context<'_>) -> bool {
        let mut state = self.0.lock().unwrap();
        let allowed = state.limit.is_none_or(|limit| given < limit);
        if !allowed {
            state.waiting.push(cx.waker().clone());
        }
        allowed
    }
}

/// What a source's state says: subtask and batches given.
pub(crate) fn source_position(state: &[u8]) -> (u32, usize) {
    (
        u32::from(state[0]),
        usize::from(state[1]) << 8 | usize::from(state[2]),
    )
}

impl ScriptedSource {
    pub(crate) fn new(batches: Vec<StreamBatch>, then: Then) -> Self {
        Self {
            batches,
            then,
            taken: Arc::default(),
            open: Arc::default(),
            heard: Arc::default(),
            gate: SourceGate::default(),
            aligns_splits: true,
            commits_offsets: false,
        }
    }

    pub(crate) fn node(self) -> NodeFactory {
        NodeFactory::Source(Arc::new(self))
    }
}

struct ScriptedReader {
    subtask: u32,
    given: usize,
    heard: Arc<Mutex<Vec<(u32, u64, bool)>>>,
    gate: SourceGate,
    aligns_splits: bool,
    /// None = it has none to commit, else (how many batches it had given in the newest checkpoint, whether that is complete).
    to_commit: Option<(usize, bool)>,
    batches: VecDeque<StreamBatch>,
    then: Then,
    taken: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl Source for ScriptedSource {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn kind(&self) -> &'static str {
        "ScriptedSource"
    }

    fn create_reader(&self, context: ConnectorContext) -> Result<Box<dyn SourceReader>, ConnectorError> {
        let (subtask, parallelism) = (context.subtask as usize, context.parallelism as usize);
        self.open.fetch_add(1, Ordering::SeqCst);
        let states = context
            .restored
            .map(|restored| restored.states)
            .unwrap_or_default();
        let own = states.iter().map(|state| source_position(state));
        let given = own
            .filter(|(of, _)| *of == context.subtask)
            .map(|(_, given)| given)
            .max();
        let given = given.unwrap_or(0);
        Ok(Box::new(ScriptedReader {
            subtask: context.subtask,
            given,
            heard: self.heard.clone(),
            gate: self.gate.clone(),
            aligns_splits: self.aligns_splits,
            to_commit: self.commits_offsets.then_some((usize::MAX, false)),
            batches: self
                .batches
                .iter()
                .skip(subtask)
                .step_by(parallelism)
                .skip(given)
                .cloned()
                .collect(),
            then: self.then,
            taken: self.taken.clone(),
            open: self.open.clone(),
        }))
    }
}

impl SourceReader for ScriptedReader {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<SourceEvent, ConnectorError>> {
        if !self.gate.allows(self.given, cx) {
            return Poll::Pending;
        }
        let Some(batch) = self.batches.pop_front() else {
            return if self.then == Then::End {
                Poll::Ready(Ok(SourceEvent::EndOfInput))
            } else {
                Poll::Pending
            };
        };
        if self.then == Then::Repeat {
            self.batches.push_back(batch.clone());
        }
        self.given += 1;
        self.taken.fetch_add(batch.num_rows(), Ordering::SeqCst);
        Poll::Ready(Ok(SourceEvent::Batch(batch)))
    }

    fn snapshot(&mut self, _: u64) -> Result<Vec<Vec<u8>>, ConnectorError> {
        self.to_commit = self.to_commit.map(|_| (self.given, false));
        Ok(vec![vec![
            self.subtask as u8,
            (self.given >> 8) as u8,
            self.given as u8,
        ]])
    }

    fn align_splits(&mut self, _: i64) -> bool {
        self.aligns_splits
    }

    fn on_checkpoint_end(&mut self, checkpoint_id: u64, completed: bool) -> Result<(), ConnectorError> {
        self.heard
            .lock()
            .unwrap()
            .push((self.subtask, checkpoint_id, completed));
        self.to_commit = self.to_commit.map(|(given, _)| (given, completed));
        Ok(())
    }

    fn awaits_checkpoint(&self) -> bool {
        let all = |(given, completed): (usize, bool)| completed && given == self.given;
        self.to_commit.is_some_and(|newest| !all(newest))
    }

    fn gauges(&self) -> Vec<(&'static str, f64)> {
        vec![(
            "pendingRecords",
            self.batches.iter().map(StreamBatch::num_rows).sum::<usize>() as f64,
        )]
    }
}

impl Drop for ScriptedReader {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

// ---- sinks ---------------------------------------------------------------------------------------

/// Keeps what was written. While `closed` it takes nothing.
#[derive(Clone, Default)]
pub(crate) struct CollectSink {
    rows: Arc<Mutex<Vec<(u32, i64)>>>,
    watermarks: Arc<Mutex<Vec<i64>>>,
    closed: Arc<AtomicBool>,
    waiting: Arc<Mutex<Vec<Waker>>>,
    /// Rows that one write takes; 0 = all.
    at_most: usize,
    flushed: Arc<AtomicUsize>,
    two_phases: bool,
    committed: Arc<Mutex<Vec<i64>>>,
    commits_wait: Arc<AtomicBool>,
    flushes_wait: Arc<AtomicBool>,
    commits_asked: Arc<AtomicUsize>,
}

impl CollectSink {
    pub(crate) fn closed() -> Self {
        let sink = Self::default();
        sink.closed.store(true, Ordering::SeqCst);
        sink
    }

    pub(crate) fn taking(at_most: usize) -> Self {
        Self {
            at_most,
            ..Self::default()
        }
    }

    /// Takes nothing from now on, until [`Self::open`].
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn in_two_phases() -> Self {
        Self {
            two_phases: true,
            ..Self::default()
        }
    }

    /// Commits come to nothing until [`Self::open`].
    pub(crate) fn hold_commits(&self) {
        self.commits_wait.store(true, Ordering::SeqCst);
    }

    /// Flushes come to nothing.
    pub(crate) fn hold_flushes(&self) {
        self.flushes_wait.store(true, Ordering::SeqCst);
    }

    /// How often a commit was asked for.
    pub(crate) fn commits_asked(&self) -> usize {
        self.commits_asked.load(Ordering::SeqCst)
    }

    /// What was committed, sorted; a row that was committed twice comes twice.
    pub(crate) fn committed(&self) -> Vec<i64> {
        let mut committed = self.committed.lock().unwrap().clone();
        committed.sort_unstable();
        committed
    }

    pub(crate) fn open(&self) {
        self.commits_wait.store(false, Ordering::SeqCst);
        self.flushes_wait.store(false, Ordering::SeqCst);
        self.closed.store(false, Ordering::SeqCst);
        self.waiting.lock().unwrap().drain(..).for_each(Waker::wake);
    }

    /// Whether a writer was asked and had no room.
    pub(crate) fn holds_someone_up(&self) -> bool {
        !self.waiting.lock().unwrap().is_empty()
    }

    pub(crate) fn node(&self) -> NodeFactory {
        NodeFactory::Sink(Arc::new(self.clone()))
    }

    /// (subtask, value) in the order of writing.
    pub(crate) fn written(&self) -> Vec<(u32, i64)> {
        self.rows.lock().unwrap().clone()
    }

    pub(crate) fn values(&self) -> Vec<i64> {
        self.written().into_iter().map(|(_, value)| value).collect()
    }

    pub(crate) fn sorted_values(&self) -> Vec<i64> {
        let mut values = self.values();
        values.sort_unstable();
        values
    }

    pub(crate) fn watermarks(&self) -> Vec<i64> {
        self.watermarks.lock().unwrap().clone()
    }

    /// Writers that were flushed at the end of their input.
    pub(crate) fn flushed(&self) -> usize {
        self.flushed.load(Ordering::SeqCst)
    }
}

impl Sink for CollectSink {
    fn kind(&self) -> &'static str {
        "CollectSink"
    }

    fn validate(&self, _: &SchemaRef) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn create_writer(&self, context: ConnectorContext) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        Ok(Box::new(CollectWriter {
            sink: self.clone(),
            subtask: context.subtask,
            uncommitted: Vec::new(),
        }))
    }
}

struct CollectWriter {
    sink: CollectSink,
    subtask: u32,
    uncommitted: Vec<i64>,
}

impl SinkWriter for CollectWriter {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectorError>> {
        let mut waiting = self.sink.waiting.lock().unwrap();
        if self.sink.closed.load(Ordering::SeqCst) {
            waiting.push(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn write(&mut self, batch: &StreamBatch) -> Result<usize, ConnectorError> {
        let limit = if self.sink.at_most == 0 {
            usize::MAX
        } else {
            self.sink.at_most
        };
        let taken = batch.num_rows().min(limit);
        let values = values(batch).into_iter().take(taken);
        if self.sink.two_phases {
            self.uncommitted.extend(values.clone());
        }
        self.sink
            .rows
            .lock()
            .unwrap()
            .extend(values.map(|value| (self.subtask, value)));
        if taken == batch.num_rows() {
            self.sink
                .watermarks
                .lock()
                .unwrap()
                .extend(batch.watermarks.iter().map(|cut| cut.timestamp_ms));
        }
        Ok(taken)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, end_of_input: bool) -> Poll<Result<(), ConnectorError>> {
        if self.sink.flushes_wait.load(Ordering::SeqCst) {
            self.sink.waiting.lock().unwrap().push(cx.waker().clone());
            return Poll::Pending;
        }
        self.sink
            .flushed
            .fetch_add(usize::from(end_of_input), Ordering::SeqCst);
        Poll::Ready(Ok(()))
    }

    fn prepare_commit(&mut self, _: u64) -> Result<Vec<Committable>, ConnectorError> {
        if self.uncommitted.is_empty() {
            return Ok(Vec::new());
        }
        let rows = std::mem::take(&mut self.uncommitted);
        let bytes = rows.iter().flat_map(|row| row.to_le_bytes()).collect();
        Ok(vec![Committable { bytes }])
    }

    fn poll_commit(
        &mut self,
        cx: &mut Context<'_>,
        committables: &[Committable],
    ) -> Poll<Result<(), ConnectorError>> {
        assert!(!committables.is_empty(), "a commit of nothing");
        self.sink.commits_asked.fetch_add(1, Ordering::SeqCst);
        if self.sink.commits_wait.load(Ordering::SeqCst) {
            self.sink.waiting.lock().unwrap().push(cx.waker().clone());
            return Poll::Pending;
        }
        let rows = committables.iter().flat_map(|committable| {
            let rows = committable.bytes.as_chunks::<8>().0;
            rows.iter().map(|row| i64::from_le_bytes(*row))
        });
        self.sink.committed.lock().unwrap().extend(rows);
        Poll::Ready(Ok(()))
    }
}

// ---- operators -----------------------------------------------------------------------------------

/// An operator made of a function from one batch to its outputs.
pub(crate) struct FnOperator<F> {
    function: F,
    out: VecDeque<StreamBatch>,
}

impl<F: FnMut(usize, StreamBatch) -> Result<Vec<StreamBatch>, OperatorError> + Send> Operator
    for FnOperator<F>
{
    fn push(&mut self, input: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        assert!(self.out.is_empty(), "push before the output was taken");
        self.out.extend((self.function)(input, batch)?);
        Ok(())
    }

    fn poll_output(&mut self, _: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        Ok(self.out.pop_front())
    }
}

pub(crate) fn operator<F>(function: F) -> NodeFactory
where
    F: FnMut(usize, StreamBatch) -> Result<Vec<StreamBatch>, OperatorError> + Clone + Send + Sync + 'static,
{
    NodeFactory::Operator(Arc::new(move |_| {
        Ok(Box::new(FnOperator {
            function: function.clone(),
            out: VecDeque::new(),
        }))
    }))
}

pub(crate) fn map(function: fn(i64) -> i64) -> NodeFactory {
    operator(move |_, batch| {
        let mapped = rows(values(&batch).into_iter().map(function)).rows;
        Ok(vec![batch.with_rows(mapped)])
    })
}

/// Holds every row until its input has ended, then gives them one by one.
struct HoldOperator {
    held: VecDeque<i64>,
    ended: bool,
}

impl Operator for HoldOperator {
    fn push(&mut self, _: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        self.held.extend(values(&batch));
        Ok(())
    }

    fn poll_output(&mut self, _: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        Ok(if self.ended {
            self.held.pop_front().map(|value| rows([value]))
        } else {
            None
        })
    }

    fn end_input(&mut self, _: usize) -> Result<(), OperatorError> {
        self.ended = true;
        Ok(())
    }
}

pub(crate) fn hold_to_the_end() -> NodeFactory {
    NodeFactory::Operator(Arc::new(|_| {
        Ok(Box::new(HoldOperator {
            held: VecDeque::new(),
            ended: false,
        }))
    }))
}

/// Passes rows on and counts them by value; its counts are a keyed table, of which a snapshot has what changed.
#[derive(Default)]
struct CountOperator {
    counts: HashMap<i64, i64>,
    dirty: HashSet<i64>,
    out: Option<StreamBatch>,
}

pub(crate) fn counts_table() -> TableDescriptor {
    TableDescriptor {
        name: "counts".to_owned(),
        kind: TableKind::Value,
        key: vec![Arc::new(Field::new("n", DataType::Int64, false))],
        sub_key: Vec::new(),
        value: vec![Arc::new(Field::new("count", DataType::Int64, false))],
        ttl: None,
    }
}

/// The rows of [`counts_table`].
pub(crate) fn read_counts(state: &mut RestoredState) -> HashMap<i64, i64> {
    let mut counts = HashMap::new();
    for batch in state
        .take_table("counts")
        .into_iter()
        .flat_map(|table| table.rows)
    {
        let batch = batch.unwrap();
        let column = |place| batch.column(place).as_primitive::<Int64Type>().values().to_vec();
        for (key, count) in column(1).into_iter().zip(column(2)) {
            assert_eq!(counts.insert(key, count), None, "{key} comes twice");
        }
    }
    counts
}

impl Operator for CountOperator {
    fn push(&mut self, _: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        for value in values(&batch) {
            *self.counts.entry(value).or_default() += 1;
            self.dirty.insert(value);
        }
        self.out = Some(batch);
        Ok(())
    }

    fn poll_output(&mut self, _: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        Ok(self.out.take())
    }

    fn restore(&mut self, state: &mut RestoredState) -> Result<(), OperatorError> {
        self.counts = read_counts(state);
        Ok(())
    }

    fn snapshot(&mut self, request: SnapshotRequest) -> Result<OperatorSnapshot, OperatorError> {
        let dirty = std::mem::take(&mut self.dirty);
        let keys: Vec<i64> = if request.full {
            self.counts.keys().copied().collect()
        } else {
            dirty.into_iter().collect()
        };
        let key: ArrayRef = Arc::new(Int64Array::from(keys.clone()));
        let mut hashes = Vec::new();
        key_hash::hash_rows(std::slice::from_ref(&key), &mut hashes).unwrap();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from_iter_values(
                hashes.iter().map(|hash| (hash % 128) as u32),
            )),
            Arc::new(UInt64Array::from(hashes)),
            Arc::new(Int8Array::from(vec![ChangeKind::Upsert as i8; keys.len()])),
            key,
            Arc::new(Int64Array::from_iter_values(
                keys.iter().map(|key| self.counts[key]),
            )),
        ];
        let descriptor = Arc::new(counts_table());
        let changes = RecordBatch::try_new(descriptor.change_schema(), columns).unwrap();
        Ok(OperatorSnapshot {
            tables: vec![TableSnapshot {
                descriptor,
                changes: vec![changes],
                stored: StoredRows::default(),
            }],
            lists: Vec::new(),
        })
    }
}

pub(crate) fn counting() -> NodeFactory {
    NodeFactory::Operator(Arc::new(|_| Ok(Box::<CountOperator>::default())))
}

/// Gives output for ever, whatever it got.
struct EndlessOperator;

impl Operator for EndlessOperator {
    fn push(&mut self, _: usize, _: StreamBatch) -> Result<(), OperatorError> {
        Ok(())
    }

    fn poll_output(&mut self, _: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        Ok(Some(rows([1])))
    }
}

pub(crate) fn endless() -> NodeFactory {
    NodeFactory::Operator(Arc::new(|_| Ok(Box::new(EndlessOperator))))
}

/// The column itself is the key.
pub(crate) struct ByValue;

impl KeySelector for ByValue {
    fn select(&self, rows: RecordBatch) -> Result<(RecordBatch, Vec<usize>), OperatorError> {
        Ok((rows, vec![0]))
    }
}

// ---- graphs and deployments ----------------------------------------------------------------------

/// A program of these nodes; every edge in `keyed` has the row itself as its key.
pub(crate) fn program(nodes: Vec<(u32, NodeFactory)>, keyed: &[u32]) -> JobProgram {
    let keys = keyed
        .iter()
        .map(|&edge| (edge, Arc::new(ByValue) as Arc<dyn KeySelector>));
    JobProgram {
        stream_graph: graph::StreamGraph {
            format_version: 1,
            job_name: "test".to_owned(),
            nodes: nodes.iter().map(|(id, _)| node(*id)).collect(),
            ..Default::default()
        },
        nodes: nodes.into_iter().collect::<HashMap<_, _>>(),
        keys: keys.collect(),
    }
}

pub(crate) fn node(id: u32) -> graph::StreamNode {
    graph::StreamNode {
        id,
        name: format!("node {id}"),
        operator_id: VertexId::from_u128(id.into()).to_string(),
        ..Default::default()
    }
}

pub(crate) fn edge(
    id: u32,
    source: u32,
    target: u32,
    input: u32,
    partitioner: Partitioner,
) -> graph::StreamEdge {
    graph::StreamEdge {
        id,
        source,
        target,
        input,
        partitioner: partitioner.into(),
        side_output: 0,
    }
}

/// A chain of these nodes, one behind the other.
pub(crate) fn vertex(chain: &[u32], parallelism: u32) -> graph::JobVertex {
    let links = chain.windows(2).enumerate();
    graph::JobVertex {
        id: VertexId::from_u128(chain[0].into()).to_string(),
        name: chain
            .iter()
            .map(|id| format!("node {id}"))
            .collect::<Vec<_>>()
            .join(" -> "),
        parallelism,
        max_parallelism: 128,
        chain: chain.iter().map(|&id| node(id)).collect(),
        chained_edges: links
            .map(|(i, link)| edge(900 + i as u32, link[0], link[1], 0, Partitioner::Forward))
            .collect(),
        ..Default::default()
    }
}

pub(crate) fn attempt(vertex: &graph::JobVertex, subtask: u32) -> control::ExecutionAttempt {
    control::ExecutionAttempt {
        job_id: JobId::from_u128(7).to_string(),
        vertex_id: vertex.id.clone(),
        subtask,
        attempt: 0,
    }
}

pub(crate) fn deployment(vertex: &graph::JobVertex, subtask: u32) -> control::TaskDeployment {
    control::TaskDeployment {
        execution: Some(attempt(vertex, subtask)),
        vertex: Some(vertex.clone()),
        ..Default::default()
    }
}

/// An edge from every subtask of one vertex to every subtask of another: both sides' channels.
pub(crate) fn connect(
    edge: &graph::StreamEdge,
    producers: (&graph::JobVertex, &mut [control::TaskDeployment]),
    consumers: (&graph::JobVertex, &mut [control::TaskDeployment]),
    producer_address: impl Fn(u32) -> String,
) {
    let (from, from_tasks) = producers;
    let (to, to_tasks) = consumers;
    for producer in from_tasks {
        producer.outputs.push(control::OutputChannels {
            edge: Some(*edge),
            consumers: (0..to.parallelism).collect(),
            consumer_max_parallelism: to.max_parallelism,
            consumer_parallelism: to.parallelism,
        });
    }
    for (subtask, consumer) in to_tasks.iter_mut().enumerate() {
        let channels = (0..from.parallelism).map(|producer| control::InputChannel {
            producer: Some(attempt(from, producer)),
            subpartition: subtask as u32,
            data_address: producer_address(producer),
        });
        consumer.inputs.push(control::InputChannels {
            edge: Some(*edge),
            channels: channels.collect(),
        });
    }
}
