//! What a task starts with: read before its operators are made, given up as soon as the task is canceled.

use std::collections::HashMap;
use std::future::Future;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use futures::FutureExt;
use futures::future::try_join;
use futures::stream::{self, StreamExt, TryStreamExt};
use thalweg_connectors::RestoredConnector;
use thalweg_proto::state::v1::{ChannelState, OperatorRestore};
use thalweg_state::{RestoredState, SnapshotStore, StateError, SubtaskChain};
use thalweg_types::{KeyGroupRange, OperatorId, StreamBatch};
use tokio::runtime::Handle;

use crate::checkpoint::channels;
use crate::checkpoint::lists::restored_connector;
use crate::error::TaskError;
use crate::mailbox::Mailbox;
use crate::plan::{ChannelPlan, TaskPlan};

/// Operators of a task whose files are read at a time.
const NODES_AT_A_TIME: usize = 4;
/// Of one operator: channels whose elements under way are read at a time.
const CHANNELS_AT_A_TIME: usize = 4;

/// One node's state and the runs that its checkpoints go on with.
pub(crate) struct NodeRestore {
    /// Whether the checkpoint knows the operator.
    pub(crate) known: bool,
    pub(crate) state: RestoredState,
    pub(crate) runs: SubtaskChain,
    /// What barriers had overtaken, with each one's channel.
    pub(crate) elements: Vec<(usize, StreamBatch)>,
}

impl NodeRestore {
    fn empty(plan: &TaskPlan, checkpoint_id: u64) -> Self {
        Self {
            known: false,
            state: RestoredState {
                checkpoint_id,
                ..RestoredState::default()
            },
            runs: SubtaskChain::new(key_groups(plan), plan.max_parallelism),
            elements: Vec::new(),
        }
    }

    /// For a reader or writer.
    pub(crate) fn connector(&mut self) -> Option<RestoredConnector> {
        self.known.then(|| restored_connector(&mut self.state))
    }
}

pub(crate) fn key_groups(plan: &TaskPlan) -> KeyGroupRange {
    KeyGroupRange::of_subtask(plan.execution.subtask, plan.parallelism, plan.max_parallelism)
}

/// Reads the state of every node of the plan, in its order; `None` if the task was canceled meanwhile.
pub(crate) fn read(
    plan: &TaskPlan,
    store: &SnapshotStore,
    io: &Handle,
    mailbox: &Mailbox,
) -> Result<Option<Vec<NodeRestore>>, TaskError> {
    let id = plan.restore.checkpoint_id;
    let mut found: HashMap<OperatorId, _> = plan
        .restore
        .operators
        .iter()
        .filter_map(|operator| Some((operator.operator_id.parse().ok()?, operator.clone())))
        .collect();
    let wanted: Vec<_> = plan
        .nodes
        .iter()
        .map(|node| found.remove(&node.operator_id).filter(|_| id > 0))
        .collect();
    let (groups, max) = (key_groups(plan), plan.max_parallelism);
    let reads: Vec<_> = wanted
        .into_iter()
        .map(|operator| read_node(store.clone(), operator, groups, max, id).boxed())
        .collect();
    let read = stream::iter(reads).buffered(NODES_AT_A_TIME).collect::<Vec<_>>();
    let Some(read) = wait_for(io, mailbox, read) else {
        return Ok(None);
    };
    let mut nodes = Vec::with_capacity(plan.nodes.len());
    for (node, read) in plan.nodes.iter().zip(read) {
        let failed = |source| TaskError::RestoreState {
            operator: node.name.clone(),
            checkpoint_id: id,
            source,
        };
        let Some((state, runs, stored)) = read.map_err(failed)? else {
            nodes.push(NodeRestore::empty(plan, id));
            continue;
        };
        let elements = elements(plan, &stored).map_err(|source| {
            failed(StateError::Arrow {
                step: "reading elements under way",
                source,
            })
        })?;
        nodes.push(NodeRestore {
            known: true,
            state,
            runs,
            elements,
        });
    }
    Ok(Some(nodes))
}

type StoredElements = Vec<(ChannelState, Vec<RecordBatch>)>;

/// One operator's state, its runs, and its elements under way; nothing if the checkpoint has none of it.
async fn read_node(
    store: SnapshotStore,
    operator: Option<OperatorRestore>,
    key_groups: KeyGroupRange,
    max_parallelism: u32,
    checkpoint_id: u64,
) -> Result<Option<(RestoredState, SubtaskChain, StoredElements)>, StateError> {
    let Some(operator) = operator else {
        return Ok(None);
    };
    let read_channel = |channel: ChannelState| {
        let store = store.clone();
        async move {
            let file = channel.file.clone().unwrap_or_default();
            let batches = store.read_batches(&file).await?;
            Ok((channel, batches))
        }
        .boxed()
    };
    let channels: Vec<_> = operator.channels.iter().cloned().map(read_channel).collect();
    let channels = stream::iter(channels).buffered(CHANNELS_AT_A_TIME).try_collect();
    let state = store.read_restore(checkpoint_id, &operator, key_groups, max_parallelism);
    let (stored, (state, runs)) = try_join(channels, state).await?;
    Ok(Some((state, runs, stored)))
}

/// The stored elements that are this subtask's, each with the channel that it came on, or one of the same edge.
fn elements(
    plan: &TaskPlan,
    stored: &[(ChannelState, Vec<RecordBatch>)],
) -> Result<Vec<(usize, StreamBatch)>, ArrowError> {
    let mut elements = Vec::new();
    for (state, batches) in stored {
        let of_edge = |channel: &ChannelPlan| channel.edge == state.edge;
        let same =
            |channel: &ChannelPlan| of_edge(channel) && channel.producer.subtask == state.producer_subtask;
        let place = plan.channels.iter().position(same);
        let Some(place) = place.or_else(|| plan.channels.iter().position(of_edge)) else {
            continue;
        };
        for batch in batches {
            let batch = channels::restored(batch, key_groups(plan), plan.max_parallelism)?;
            if batch.num_rows() > 0 {
                elements.push((place, batch));
            }
        }
    }
    Ok(elements)
}

/// Waits on the task's thread for I/O; `None` if the task is canceled first: then the work is dropped.
pub(crate) fn wait_for<T: Send + 'static>(
    io: &Handle,
    mailbox: &Mailbox,
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let mut work = io.spawn(work);
    let waker = mailbox.waker();
    let mut cx = Context::from_waker(&waker);
    loop {
        mailbox.parker().clear();
        if mailbox.is_canceled() {
            work.abort();
            return None;
        }
        match std::pin::Pin::new(&mut work).poll(&mut cx) {
            Poll::Ready(Ok(value)) => return Some(value),
            Poll::Ready(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is going down, and the task with it.
            Poll::Ready(Err(_)) => return None,
            Poll::Pending => mailbox.parker().wait(None),
        }
    }
}
