//! From a plan to a chain that can run: channels, operators, readers and writers. On the task's thread, because it calls
//! user code.

use std::sync::Arc;

use thalweg_connectors::{ConnectorContext, ConnectorError};
use thalweg_exchange::{ChannelId, Exchange, Partitioner, RecordWriter};
use thalweg_operators::OperatorContext;
use thalweg_proto::graph::v1 as graph;
use thalweg_types::KeyGroupRange;
use tokio::runtime::Handle;

use crate::chain::{Body, Chain, Node};
use crate::error::TaskError;
use crate::input::{GateInput, Input};
use crate::metrics::{OperatorCounters, TaskCounters};
use crate::output::Output;
use crate::plan::{NodePlan, OutputPlan, TaskPlan};
use crate::program::NodeFactory;
use crate::sink::SinkBody;
use crate::source::SourceInput;

/// Makes everything that one task runs. Its result partitions come first: consumers may be waiting for them.
pub(crate) fn assemble(
    plan: &TaskPlan,
    exchange: &Exchange,
    io: &Handle,
    counters: &Arc<TaskCounters>,
) -> Result<(Chain, Input), TaskError> {
    let outputs = plan
        .outputs
        .iter()
        .map(|output| open_output(plan, output, exchange))
        .collect::<Result<_, _>>()?;
    let mut source = None;
    let mut nodes = Vec::with_capacity(plan.nodes.len());
    for (node, operator) in plan.nodes.iter().zip(counters.operators()) {
        let body = match &node.factory {
            NodeFactory::Source(factory) => {
                let reader = factory
                    .create_reader(connector_context(plan, node, io))
                    .map_err(failed(node))?;
                source = Some(SourceInput::new(node.name.clone(), reader, factory.schema()));
                Body::Source
            }
            NodeFactory::Operator(make) => {
                let operator =
                    make(operator_context(plan, node)).map_err(|source| TaskError::CreateOperator {
                        operator: node.name.clone(),
                        source,
                    })?;
                Body::Operator(operator)
            }
            NodeFactory::Sink(factory) => {
                let writer = factory
                    .create_writer(connector_context(plan, node, io))
                    .map_err(failed(node))?;
                Body::Sink(Box::new(SinkBody::new(node.name.clone(), writer)))
            }
        };
        nodes.push(assemble_node(node, body, operator));
    }
    let input = match source {
        Some(source) => Input::Source(source),
        None => Input::Gate(open_gate(plan, exchange)?),
    };
    Ok((Chain::new(nodes, outputs, counters.clone()), input))
}

fn assemble_node(plan: &NodePlan, body: Body, counters: &Arc<OperatorCounters>) -> Node {
    let mut node = Node::new(body, plan.inputs, counters.clone());
    node.children.clone_from(&plan.children);
    node.outputs.clone_from(&plan.outputs);
    node
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

fn open_gate(plan: &TaskPlan, exchange: &Exchange) -> Result<GateInput, TaskError> {
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
    let gate = exchange.input_gate(channels)?;
    let inputs: Vec<usize> = plan.channels.iter().map(|channel| channel.input).collect();
    Ok(GateInput::new(plan.task_name.clone(), gate, &inputs))
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

fn operator_context(plan: &TaskPlan, node: &NodePlan) -> OperatorContext {
    let subtask = plan.execution.subtask;
    OperatorContext {
        task_name: plan.task_name.clone(),
        operator_name: node.name.as_str().into(),
        operator_id: node.operator_id,
        subtask,
        parallelism: plan.parallelism,
        max_parallelism: plan.max_parallelism,
        key_groups: KeyGroupRange::of_subtask(subtask, plan.parallelism, plan.max_parallelism),
    }
}

fn connector_context(plan: &TaskPlan, node: &NodePlan, io: &Handle) -> ConnectorContext {
    ConnectorContext {
        operator_name: node.name.as_str().into(),
        operator_id: node.operator_id,
        subtask: plan.execution.subtask,
        parallelism: plan.parallelism,
        io: io.clone(),
    }
}

fn failed(node: &NodePlan) -> impl Fn(ConnectorError) -> TaskError {
    |source| TaskError::Connector {
        operator: node.name.clone(),
        source,
    }
}
