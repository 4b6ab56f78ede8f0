//! The contracts of sources and sinks.

use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::Int64Array;
use arrow::datatypes::SchemaRef;
use thalweg_storage::FileSystems;
use thalweg_types::{Classify, FailureClass, OperatorId, StreamBatch};
use tokio::runtime::Handle;

use crate::watermark::WatermarkAlignment;

/// Where a reader or writer runs.
#[derive(Debug, Clone)]
pub struct ConnectorContext {
    /// The operator's name.
    pub operator_name: Arc<str>,
    /// Its id.
    pub operator_id: OperatorId,
    /// 0-based.
    pub subtask: u32,
    /// How many subtasks there are.
    pub parallelism: u32,
    /// Which attempt of the subtask this is.
    pub attempt: AttemptOrder,
    /// The shared runtime for I/O.
    pub io: Handle,
    /// Folders and buckets, with the job's configuration.
    pub files: FileSystems,
    /// Whether the job takes checkpoints.
    pub checkpointing: bool,
    /// What the reader or writer is restored with, see [`SourceReader::snapshot`] and [`SinkWriter::snapshot`]; `None` if the job
    /// starts empty or its checkpoint knows nothing of this operator.
    pub restored: Option<RestoredConnector>,
}

/// Which of two attempts of a subtask was deployed later, whoever deployed it and in whichever run of the job: the greater one. So an attempt
/// that stood still can leave alone what a later one has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptOrder {
    /// When the job was submitted, in Unix milliseconds by the clock of whoever took it.
    pub job_started_ms: u64,
    /// The leader that deployed the attempt.
    pub leader_epoch: u64,
    /// Its number under that leader.
    pub attempt: u32,
}

/// A reader's or writer's state in the checkpoint that the job is restored from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoredConnector {
    /// The checkpoint.
    pub checkpoint_id: u64,
    /// The states that all subtasks gave, in no order; for a source the splits of all of them, and a subtask takes those
    /// that its way of assigning gives it. For a sink as [`SinkWriter::snapshot_distribution`] said when they were taken.
    pub states: Vec<Vec<u8>>,
    /// This subtask's share of what was prepared and not known to be committed.
    pub committables: Vec<Committable>,
}

/// A named number that a connector shows among its operator's metrics; Flink's name, as "pendingRecords".
pub type Gauge = (&'static str, f64);

/// Why a connector failed. The message names the system, the object in it and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    /// Can pass: broker away, file locked, time-out.
    #[error("{0}")]
    Unavailable(String),
    /// Can't pass by itself: topic missing, path not allowed, option malformed, record too large.
    #[error("{0}")]
    Refused(String),
    /// A record that can't be read.
    #[error("{0}")]
    Malformed(String),
}

impl Classify for ConnectorError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Unavailable(_) => FailureClass::Retryable,
            Self::Refused(_) | Self::Malformed(_) => FailureClass::Fatal,
        }
    }
}

/// A source as the graph holds it: makes a reader for each subtask.
pub trait Source: Send + Sync {
    /// The rows it gives.
    fn schema(&self) -> SchemaRef;
    /// The operator's kind for the graph, as "KafkaSource".
    fn kind(&self) -> &'static str;
    /// Checks what can be checked when the graph is built.
    fn validate(&self) -> Result<(), ConnectorError> {
        Ok(())
    }
    /// With which other sources it keeps step, if it makes watermarks itself.
    fn watermark_alignment(&self) -> Option<&WatermarkAlignment> {
        None
    }
    /// A reader for one subtask. Must not block: it connects on `context.io`.
    fn create_reader(&self, context: ConnectorContext) -> Result<Box<dyn SourceReader>, ConnectorError>;
}

/// What a reader gives.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "moved once a batch; a box would be an allocation a batch"
)]
pub enum SourceEvent {
    /// Rows, about [`thalweg_types::element::TARGET_BATCH_ROWS`] of them.
    Batch(StreamBatch),
    /// No rows for now: the reader holds no watermark back until the next batch.
    Idle,
    /// A bounded source is at its end.
    EndOfInput,
}

/// A source's reader in one subtask.
pub trait SourceReader: Send {
    /// The next event; `Pending` after arranging for a wake-up.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<SourceEvent, ConnectorError>>;
    /// Its splits and how far it is in each, behind the last event that [`Self::poll_next`] gave; each in the source's own
    /// versioned encoding. Bounded sources say which splits they have finished.
    fn snapshot(&mut self, checkpoint_id: u64) -> Result<Vec<Vec<u8>>, ConnectorError>;
    /// Where the rows of the last event came from, in words for people: "topic words partition 2 offsets 10..4106"; `None` if it
    /// can't say.
    fn position(&self) -> Option<String> {
        None
    }
    /// The watermarks that rows of the last batch have, from who knows what the rows hold: ascending positions in the batch, and the watermark
    /// of each; a null is none. A source whose watermarks are made so makes those of its splits of them.
    fn report_watermarks(&mut self, rows: &[u32], watermarks: &Int64Array) {
        let _ = (rows, watermarks);
    }
    /// Watermark alignment: pauses each split whose own watermark lies above this, and lets the others go on. False if it reads
    /// several splits at once and can't do that; one that reads one split after another need do nothing, because its task
    /// doesn't ask it while it is ahead.
    fn align_splits(&mut self, max_watermark_ms: i64) -> bool {
        let _ = max_watermark_ms;
        true
    }
    /// The checkpoint is complete, or was given up: offsets may be committed to the outside. Must not block.
    fn on_checkpoint_end(&mut self, checkpoint_id: u64, completed: bool) -> Result<(), ConnectorError> {
        let _ = (checkpoint_id, completed);
        Ok(())
    }
    /// Behind its end: whether it waits for a complete checkpoint that holds that end, to commit offsets to the outside. The
    /// task then ends behind that checkpoint, if one is still to come.
    fn awaits_checkpoint(&self) -> bool {
        false
    }
    /// Before the task ends, not when it is canceled or fails: ready when what complete checkpoints allowed is done outside, or
    /// when it was tried long enough.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Ready(())
    }
    /// What it shows.
    fn gauges(&self) -> Vec<Gauge> {
        Vec::new()
    }
}

/// Who gets a writer's states back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateDistribution {
    /// Each subtask gets all of all subtasks.
    Union,
    /// Each state goes to one subtask.
    Split,
}

/// A sink as the graph holds it: makes a writer for each subtask.
pub trait Sink: Send + Sync {
    /// The operator's kind for the graph, as "KafkaSink".
    fn kind(&self) -> &'static str;
    /// Checks the rows that will come, when the graph is built.
    fn validate(&self, input: &SchemaRef) -> Result<(), ConnectorError>;
    /// Something outside that no two sinks may have, in words ("transactional_id_prefix \"orders\""): two sinks of one job with the same are
    /// refused.
    fn exclusive_name(&self) -> Option<String> {
        None
    }
    /// A writer for one subtask. Must not block.
    fn create_writer(&self, context: ConnectorContext) -> Result<Box<dyn SinkWriter>, ConnectorError>;
}

/// What the first phase of a two-phase commit leaves for the second; stored in the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committable {
    /// The sink's own encoding.
    pub bytes: Vec<u8>,
}

/// A sink's writer in one subtask. Flink's SinkWriter, with `prepare_commit` for two-phase sinks.
pub trait SinkWriter: Send {
    /// Ready when another batch may be written (backpressure), or an earlier write's error.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectorError>>;
    /// Takes a batch. Called only after `poll_ready` said ready. May take a part of the rows if its buffer is full: returns
    /// how many it took, and is called again with the rest.
    fn write(&mut self, batch: &StreamBatch) -> Result<usize, ConnectorError>;
    /// Ready when all that was written is durable at the other side.
    fn poll_flush(&mut self, cx: &mut Context<'_>, end_of_input: bool) -> Poll<Result<(), ConnectorError>>;
    /// After a flush, when a barrier has come or the input has ended: what has to be committed once the checkpoint is complete;
    /// empty for at-least-once sinks.
    fn prepare_commit(&mut self, checkpoint_id: u64) -> Result<Vec<Committable>, ConnectorError> {
        let _ = checkpoint_id;
        Ok(Vec::new())
    }
    /// The writer's own state behind [`Self::prepare_commit`].
    fn snapshot(&mut self, checkpoint_id: u64) -> Result<Vec<Vec<u8>>, ConnectorError> {
        let _ = checkpoint_id;
        Ok(Vec::new())
    }
    /// Who gets what [`Self::snapshot`] gives.
    fn snapshot_distribution(&self) -> StateDistribution {
        StateDistribution::Union
    }
    /// Makes visible what was prepared up to a complete checkpoint; also called after a restore with what may have been committed
    /// already: committing twice is harmless. Called again with the same until ready.
    fn poll_commit(
        &mut self,
        cx: &mut Context<'_>,
        committables: &[Committable],
    ) -> Poll<Result<(), ConnectorError>> {
        let _ = (cx, committables);
        Poll::Ready(Ok(()))
    }
    /// What it shows.
    fn gauges(&self) -> Vec<Gauge> {
        Vec::new()
    }
}
