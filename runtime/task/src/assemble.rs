//! From a plan to a chain that can run: channels, operators, readers and writers. On the task's thread, because it calls
//! user code.

use std::sync::Arc;

use thalweg_connectors::{ConnectorContext, ConnectorError, RestoredConnector};
use thalweg_exchange::{ChannelId, Exchange, Partitioner, RecordWriter};
use thalweg_operators::OperatorContext;
use thalweg_proto::graph::v1 as graph;
use thalweg_state::{StateSettings, SubtaskChain};
use thalweg_storage::FileSystems;
use thalweg_types::StreamBatch;
use tokio::runtime::Handle;

use crate::chain::{Body, Chain, Node};
use crate::checkpoint::restore::{NodeRestore, key_groups};
use crate::clock::Clock;
use crate::error::TaskError;
use crate::input::{GateInput, Input};
use crate::metrics::TaskCounters;
use crate::output::Output;
use crate::panics::{self, Stage};
use crate::plan::{NodePlan, OutputPlan, TaskPlan};
use crate::program::NodeFactory;
use crate::sink::SinkBody;
use crate::source::SourceInput;

/// What a task finds where it runs.
pub(crate) struct Place<'a> {
    pub(crate) exchange: &'a Exchange,
    pub(crate) io: &'a Handle,
    pub(crate) clock: &'a Clock,
    /// For the state of its operators.
    pub(crate) state: Arc<StateSettings>,
}

/// Makes everything that one task runs, with the state that it starts with, one for each node. Its result partitions come first: consumers may be waiting for them.
pub(crate) fn assemble(
    plan: &TaskPlan,
    place: &Place<'_>,
    counters: &Arc<TaskCounters>,
    restored: Vec<NodeRestore>,
) -> Result<(Chain, Input), TaskError> {
    let outputs = plan
        .outputs
        .iter()
        .map(|output| open_output(plan, output, place.exchange))
        .collect::<Result<_, _>>()?;
    let mut source = None;
    let mut elements = Vec::new();
    let mut nodes = Vec::with_capacity(plan.nodes.len());
    let nodes_and_state = plan.nodes.iter().zip(restored);
    for ((node, mut restored), operator) in nodes_and_state.zip(counters.operators()) {
        let name: Arc<str> = node.name.as_str().into();
        panics::enter(Stage::Restoring, &name);
        elements.append(&mut restored.elements);
        let body = match &node.factory {
            NodeFactory::Source(factory) => {
                let reader = factory
                    .create_reader(connector_context(plan, node, place.io, restored.connector()))
                    .map_err(failed(node))?;
                source = Some(SourceInput::new(name.clone(), reader, factory.schema()));
                Body::Source
            }
            NodeFactory::Operator(make) => {
                let mut operator = make(operator_context(plan, node, place)).map_err(|source| {
                    TaskError::CreateOperator {
                        operator: node.name.clone(),
                        source,
                    }
                })?;
                operator
                    .restore(&mut restored.state)
                    .map_err(|source| TaskError::RestoreOperator {
                        operator: node.name.clone(),
                        source,
                    })?;
                // A table that it has no more must not stay in the runs that its checkpoints go on with.
                if restored.state.columns_changed || !restored.state.tables.is_empty() {
                    restored.runs =
                        SubtaskChain::new(restored.runs.key_groups(), restored.runs.max_parallelism());
                }
                Body::Operator(operator)
            }
            NodeFactory::Sink(factory) => {
                let connector = restored.connector();
                let prepared = connector.clone().unwrap_or_default().committables;
                let writer = factory
                    .create_writer(connector_context(plan, node, place.io, connector))
                    .map_err(failed(node))?;
                let from = plan.restore.checkpoint_id;
                Body::Sink(Box::new(SinkBody::new(node.name.clone(), writer, prepared, from)))
            }
        };
        let mut assembled = Node::new(name, body, node.inputs, operator.clone(), restored.runs);
        assembled.gives_all = restored.state.columns_changed;
        assembled.operator_id = node.operator_id.to_string();
        assembled.children.clone_from(&node.children);
        let leaving = node
            .outputs
            .iter()
            .map(|&output| (output, plan.outputs[output].side));
        assembled.outputs = leaving.collect();
        nodes.push(assembled);
    }
    let input = match source {
        Some(source) => Input::Source(source),
        None => Input::Gate(Box::new(open_gate(plan, place, elements)?)),
    };
    Ok((Chain::new(nodes, outputs, counters.clone()), input))
}

fn open_output(plan: &TaskPlan, output: &OutputPlan, exchange: &Exchange) -> Result<Output, TaskError> {
    let channels = exchange.result_partition(plan.execution, output.edge, output.subpartitions)?;
    let writer = RecordWriter::new(
        partitioner(output.partitioner),
        channels,
        output.consumer_max_parallelism,
        output.consumer_parallelism,
        plan.buffer_timeout,
    )?;
    Ok(Output::new(
        plan.nodes[output.source].name.clone(),
        writer,
        output.key.clone(),
    ))
}

fn open_gate(
    plan: &TaskPlan,
    place: &Place<'_>,
    elements: Vec<(usize, StreamBatch)>,
) -> Result<GateInput, TaskError> {
    let channels = plan
        .channels
        .iter()
        .map(|channel| {
            let id = ChannelId {
                producer: channel.producer,
                edge: channel.edge,
                subpartition: channel.subpartition,
            };
            (id, channel.address.clone())
        })
        .collect();
    let gate = place.exchange.input_gate(channels)?;
    let inputs: Vec<usize> = plan.channels.iter().map(|channel| channel.input).collect();
    let may_overtake = plan.channels.iter().all(|channel| channel.may_overtake);
    let clock = place.clock.clone();
    let senders = plan.channels.iter().map(|channel| channel.from.clone()).collect();
    let task = plan.task_name.clone();
    let mut input = GateInput::new(task, gate, &inputs, senders, may_overtake, clock);
    input.restore(elements);
    Ok(input)
}

fn partitioner(partitioner: graph::Partitioner) -> Partitioner {
    match partitioner {
        graph::Partitioner::Unspecified | graph::Partitioner::Forward => Partitioner::Forward,
        graph::Partitioner::Rebalance => Partitioner::Rebalance,
        graph::Partitioner::Rescale => Partitioner::Rescale,
        graph::Partitioner::Broadcast => Partitioner::Broadcast,
        graph::Partitioner::Hash => Partitioner::Hash,
        graph::Partitioner::Shuffle => Partitioner::Shuffle,
        graph::Partitioner::Global => Partitioner::Global,
    }
}

fn operator_context(plan: &TaskPlan, node: &NodePlan, place: &Place<'_>) -> OperatorContext {
    let subtask = plan.execution.subtask;
    OperatorContext {
        task_name: plan.task_name.clone(),
        operator_name: node.name.as_str().into(),
        operator_id: node.operator_id,
        subtask,
        parallelism: plan.parallelism,
        max_parallelism: plan.max_parallelism,
        key_groups: key_groups(plan),
        state: place.state.clone(),
        io: place.io.clone(),
    }
}

fn connector_context(
    plan: &TaskPlan,
    node: &NodePlan,
    io: &Handle,
    restored: Option<RestoredConnector>,
) -> ConnectorContext {
    ConnectorContext {
        operator_name: node.name.as_str().into(),
        operator_id: node.operator_id,
        subtask: plan.execution.subtask,
        parallelism: plan.parallelism,
        attempt: plan.order,
        io: io.clone(),
        files: FileSystems::new(plan.configuration.clone()),
        checkpointing: plan.checkpointing,
        restored,
    }
}

fn failed(node: &NodePlan) -> impl Fn(ConnectorError) -> TaskError {
    |source| TaskError::Connector {
        operator: node.name.clone(),
        source,
    }
}
