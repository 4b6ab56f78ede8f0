//! A deployment, checked against itself and the program: what [`crate::assemble`] needs, and nothing left to doubt.
//!
//! Pure: no thread, channel or connector is touched.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use thalweg_connectors::AttemptOrder;
use thalweg_operators::KeySelector;
use thalweg_proto::control::v1 as control;
use thalweg_proto::graph::v1::{self as graph, Partitioner};
use thalweg_proto::state::v1::TaskRestore;
use thalweg_types::config::{ConfigError, Configuration, options};
use thalweg_types::key_group::default_max_parallelism;
use thalweg_types::{ExecutionId, OperatorId};

use crate::alignment::AlignmentPlan;
use crate::error::TaskError;
use crate::program::{JobProgram, NodeFactory};

/// One node of the chain.
pub(crate) struct NodePlan {
    pub(crate) node: u32,
    pub(crate) name: String,
    pub(crate) operator_id: OperatorId,
    pub(crate) factory: NodeFactory,
    /// Number of its logical inputs; 1 for a source, whose reader is its input.
    pub(crate) inputs: usize,
    /// Nodes behind it.
    pub(crate) children: Vec<Child>,
    /// Edges behind it, by their place in [`TaskPlan::outputs`].
    pub(crate) outputs: Vec<usize>,
}

/// An edge within the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Child {
    /// Place of the node behind it.
    pub(crate) node: usize,
    /// The logical input there.
    pub(crate) input: usize,
    /// Which output travels here: 0 = the main one, else the side output of this number.
    pub(crate) side: u32,
}

/// One edge that leaves the chain.
pub(crate) struct OutputPlan {
    pub(crate) edge: u32,
    /// Place of the node before it.
    pub(crate) source: usize,
    /// Which output of it, as [`Child::side`].
    pub(crate) side: u32,
    pub(crate) partitioner: Partitioner,
    pub(crate) key: Option<Arc<dyn KeySelector>>,
    pub(crate) subpartitions: u32,
    pub(crate) consumer_parallelism: u32,
    pub(crate) consumer_max_parallelism: u32,
}

/// One channel that enters the chain.
#[derive(Debug)]
pub(crate) struct ChannelPlan {
    pub(crate) producer: ExecutionId,
    pub(crate) edge: u32,
    pub(crate) subpartition: u32,
    pub(crate) address: String,
    /// Who sends, in words: "subtask 1 of Flat Map".
    pub(crate) from: String,
    /// The head's logical input.
    pub(crate) input: usize,
    /// Whether a barrier may overtake rows here: not where each row has but one way to go, or all.
    pub(crate) may_overtake: bool,
}

/// One task.
pub(crate) struct TaskPlan {
    pub(crate) execution: ExecutionId,
    pub(crate) attempt: control::ExecutionAttempt,
    /// The attempt among all others of its subtask.
    pub(crate) order: AttemptOrder,
    /// The vertex's name.
    pub(crate) vertex_name: String,
    /// "Flat Map -> Map (1/4)"
    pub(crate) task_name: Arc<str>,
    pub(crate) parallelism: u32,
    pub(crate) max_parallelism: u32,
    pub(crate) nodes: Vec<NodePlan>,
    pub(crate) channels: Vec<ChannelPlan>,
    pub(crate) outputs: Vec<OutputPlan>,
    /// Whether a node's watermarks are aligned with those of other sources.
    pub(crate) alignment: Option<AlignmentPlan>,
    /// How long rows may wait for others; `None` = until a batch is full.
    pub(crate) buffer_timeout: Option<Duration>,
    /// Whether the job takes checkpoints.
    pub(crate) checkpointing: bool,
    /// Whether it takes them when tasks have finished: then a task ends behind a last one, if it has something to commit.
    pub(crate) last_checkpoint: bool,
    /// What it starts with.
    pub(crate) restore: TaskRestore,
    /// The job's effective configuration.
    pub(crate) configuration: Configuration,
}

/// The ids in a message.
pub fn execution_id(attempt: &control::ExecutionAttempt) -> Result<ExecutionId, TaskError> {
    let name = || format!("subtask {} of vertex {:?}", attempt.subtask, attempt.vertex_id);
    Ok(ExecutionId {
        job: attempt
            .job_id
            .parse()
            .map_err(|error| TaskError::deployment(name(), format!("{error}")))?,
        vertex: attempt
            .vertex_id
            .parse()
            .map_err(|error| TaskError::deployment(name(), format!("{error}")))?,
        subtask: attempt.subtask,
        attempt: attempt.attempt,
    })
}

impl TaskPlan {
    /// Checks a deployment.
    pub(crate) fn new(deployment: &control::TaskDeployment, program: &JobProgram) -> Result<Self, TaskError> {
        let attempt = deployment.execution.clone().unwrap_or_default();
        let execution = execution_id(&attempt)?;
        let name = execution.to_string();
        let refuse = |message: String| TaskError::deployment(&name, message);
        let vertex = deployment
            .vertex
            .as_ref()
            .ok_or_else(|| refuse("it names no vertex".to_owned()))?;
        if execution.subtask >= vertex.parallelism {
            return Err(refuse(format!(
                "its vertex has parallelism {}",
                vertex.parallelism
            )));
        }
        let max_parallelism = match vertex.max_parallelism {
            0 => default_max_parallelism(vertex.parallelism),
            given => given,
        };
        let channels = channels(deployment, program).map_err(refuse)?;
        let mut nodes = nodes(vertex, program, &channels).map_err(refuse)?;
        let outputs = outputs(deployment, vertex, program).map_err(refuse)?;
        for (place, output) in outputs.iter().enumerate() {
            nodes[output.source].outputs.push(place);
        }
        let configuration = configuration(deployment);
        let malformed = |error: ConfigError| TaskError::Configuration {
            message: error.to_string(),
        };
        let checkpointing = configuration
            .get(&options::CHECKPOINTING_INTERVAL)
            .map_err(malformed)?
            .is_some();
        let has_source = matches!(nodes[0].factory, NodeFactory::Source(_));
        let alignment = AlignmentPlan::of(vertex, has_source, &configuration)
            .map_err(|message| TaskError::Configuration { message })?;
        let order = AttemptOrder {
            job_started_ms: deployment.job_started_ms,
            leader_epoch: deployment.leader_epoch,
            attempt: attempt.attempt,
        };
        Ok(Self {
            order,
            alignment,
            execution,
            restore: deployment.restore.clone().unwrap_or_default(),
            checkpointing,
            last_checkpoint: checkpointing
                && configuration
                    .get(&options::CHECKPOINTING_AFTER_TASKS_FINISH)
                    .map_err(malformed)?,
            task_name: format!(
                "{} ({}/{})",
                vertex.name,
                execution.subtask + 1,
                vertex.parallelism
            )
            .into(),
            attempt,
            vertex_name: vertex.name.clone(),
            parallelism: vertex.parallelism,
            max_parallelism,
            nodes,
            channels,
            outputs,
            buffer_timeout: buffer_timeout(&configuration).map_err(malformed)?,
            configuration,
        })
    }
}

fn configuration(deployment: &control::TaskDeployment) -> Configuration {
    let entries = deployment
        .configuration
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()));
    Configuration::from_map(entries)
}

fn buffer_timeout(configuration: &Configuration) -> Result<Option<Duration>, ConfigError> {
    let enabled = configuration.get(&options::BUFFER_TIMEOUT_ENABLED)?;
    let timeout = configuration.get(&options::BUFFER_TIMEOUT)?;
    Ok(enabled.then_some(timeout))
}

fn channels(deployment: &control::TaskDeployment, program: &JobProgram) -> Result<Vec<ChannelPlan>, String> {
    let mut plans = Vec::new();
    for entering in &deployment.inputs {
        let edge = entering.edge.as_ref().ok_or("an input names no edge")?;
        let mut nodes = program.stream_graph.nodes.iter();
        let sender = nodes.find(|node| node.id == edge.source);
        let sender = sender.map_or("an operator", |node| node.name.as_str());
        if entering.channels.is_empty() {
            return Err(format!("edge {} brings no channel", edge.id));
        }
        for channel in &entering.channels {
            let producer = channel
                .producer
                .as_ref()
                .ok_or(format!("a channel of edge {} names no producer", edge.id))?;
            plans.push(ChannelPlan {
                producer: execution_id(producer).map_err(|error| error.to_string())?,
                edge: edge.id,
                subpartition: channel.subpartition,
                address: channel.data_address.clone(),
                from: format!("subtask {} of {sender}", producer.subtask),
                input: edge.input as usize,
                may_overtake: !matches!(edge.partitioner(), Partitioner::Forward | Partitioner::Broadcast),
            });
        }
    }
    Ok(plans)
}

fn nodes(
    vertex: &graph::JobVertex,
    program: &JobProgram,
    channels: &[ChannelPlan],
) -> Result<Vec<NodePlan>, String> {
    let places: HashMap<u32, usize> = vertex
        .chain
        .iter()
        .enumerate()
        .map(|(place, node)| (node.id, place))
        .collect();
    let mut nodes = Vec::with_capacity(vertex.chain.len());
    for node in &vertex.chain {
        let factory = program
            .nodes
            .get(&node.id)
            .ok_or(format!("the program has no operator {}", named(node)))?;
        nodes.push(NodePlan {
            node: node.id,
            name: node.name.clone(),
            operator_id: node
                .operator_id
                .parse()
                .map_err(|error| format!("operator {}: {error}", named(node)))?,
            factory: factory.clone(),
            inputs: 0,
            children: Vec::new(),
            outputs: Vec::new(),
        });
    }
    for edge in &vertex.chained_edges {
        match (places.get(&edge.source), places.get(&edge.target)) {
            (Some(&source), Some(&target)) if source < target => {
                nodes[target].inputs += 1;
                nodes[source].children.push(Child {
                    node: target,
                    input: edge.input as usize,
                    side: edge.side_output,
                });
            }
            _ => {
                return Err(format!(
                    "chained edge {} does not lead on within its chain",
                    edge.id
                ));
            }
        }
    }
    let head = nodes.first_mut().ok_or("its chain is empty")?;
    head.inputs = head_inputs(&head.factory, channels)?;
    check_kinds(&nodes)?;
    Ok(nodes)
}

fn head_inputs(factory: &NodeFactory, channels: &[ChannelPlan]) -> Result<usize, String> {
    if matches!(factory, NodeFactory::Source(_)) {
        return if channels.is_empty() {
            Ok(1)
        } else {
            Err("a source has no inputs".to_owned())
        };
    }
    let count = channels
        .iter()
        .map(|channel| channel.input + 1)
        .max()
        .unwrap_or(0);
    match (0..count).find(|&input| channels.iter().all(|channel| channel.input != input)) {
        Some(gap) => Err(format!("no channel feeds input {gap} of {count}")),
        None if count == 0 => Err("nothing feeds its chain".to_owned()),
        None => Ok(count),
    }
}

fn check_kinds(nodes: &[NodePlan]) -> Result<(), String> {
    for (place, node) in nodes.iter().enumerate() {
        if place > 0 && node.inputs != 1 {
            return Err(format!(
                "{} has {} edges within the chain, 1 is expected",
                node.name, node.inputs
            ));
        }
        match node.factory {
            NodeFactory::Source(_) if place > 0 => return Err(format!("source {} is no head", node.name)),
            NodeFactory::Sink(_) if !node.children.is_empty() => {
                return Err(format!("operators follow sink {}", node.name));
            }
            _ => {}
        }
    }
    Ok(())
}

fn outputs(
    deployment: &control::TaskDeployment,
    vertex: &graph::JobVertex,
    program: &JobProgram,
) -> Result<Vec<OutputPlan>, String> {
    let mut plans = Vec::with_capacity(deployment.outputs.len());
    for leaving in &deployment.outputs {
        let edge = leaving.edge.as_ref().ok_or("an output names no edge")?;
        let source = vertex
            .chain
            .iter()
            .position(|node| node.id == edge.source)
            .ok_or(format!(
                "edge {} leaves node {}, which is not in its chain",
                edge.id, edge.source
            ))?;
        let node = &vertex.chain[source];
        if matches!(program.nodes.get(&node.id), Some(NodeFactory::Sink(_))) {
            return Err(format!("edge {} leaves sink {}", edge.id, named(node)));
        }
        if leaving.consumers.is_empty() {
            return Err(format!("edge {} behind {} has no consumer", edge.id, named(node)));
        }
        let partitioner = edge.partitioner();
        let key = match partitioner {
            Partitioner::Unspecified => return Err(format!("edge {} has no partitioner", edge.id)),
            Partitioner::Hash => {
                let key = program.keys.get(&edge.id);
                Some(
                    key.ok_or(format!(
                        "the program has no key for edge {} behind {}",
                        edge.id,
                        named(node)
                    ))?
                    .clone(),
                )
            }
            _ => None,
        };
        plans.push(OutputPlan {
            edge: edge.id,
            source,
            side: edge.side_output,
            partitioner,
            key,
            subpartitions: u32::try_from(leaving.consumers.len()).map_err(|error| error.to_string())?,
            consumer_parallelism: leaving.consumer_parallelism,
            consumer_max_parallelism: leaving.consumer_max_parallelism,
        });
    }
    Ok(plans)
}

fn named(node: &graph::StreamNode) -> String {
    format!("{} ({:?})", node.id, node.name)
}

#[cfg(test)]
mod tests;
