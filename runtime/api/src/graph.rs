//! The graph while `main` builds it, and how it becomes a [`JobProgram`].
//!
//! ```text
//!   DataStream methods --add_node--> GraphBuilder --into_program--> StreamGraph + node factories + key selectors
//! ```
//!
//! Builder methods can't fail where they are called (`stream.map(..).uid("x")` reads as in Flink): the first mistake is
//! kept and comes out of [`GraphBuilder::into_program`].
//!
//! Invariants: `nodes[i].id == i + 1`, inputs of a node come before it; an edge's key selector is there if and only if its
//! partitioner is HASH.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::Schema;
use thalweg_connectors::{ConnectorError, WatermarkAlignment};
use thalweg_graph::{FORMAT_VERSION, GraphError, assign_operator_ids, validate};
use thalweg_operators::KeySelector;
use thalweg_proto::graph::v1::{
    self as graph, ChainingStrategy, NodeKind, Partitioner, SideOutput, StreamEdge, StreamGraph, StreamNode,
};
use thalweg_task::{JobProgram, NodeFactory};
use thalweg_types::config::Configuration;
use thalweg_types::key_group::MAX_MAX_PARALLELISM;
use thalweg_types::{Classify, FailureClass};

use crate::record::{RecordError, output_columns};

/// A mistake in how `main` builds its job.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// A column that is not there.
    #[error("{operator}: there is no column {field:?}; the columns are {}", .known.join(", "))]
    UnknownField {
        /// Which method.
        operator: &'static str,
        /// What was asked for.
        field: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A column of a type that doesn't fit.
    #[error("{operator}: column {field:?} is {found}; {wanted}")]
    FieldType {
        /// Which method.
        operator: &'static str,
        /// The column.
        field: String,
        /// Its type.
        found: String,
        /// What would fit.
        wanted: String,
    },
    /// A parallelism or max parallelism out of range.
    #[error("{what} of {operator} must be 1 to {MAX_MAX_PARALLELISM}, not {value}")]
    Parallelism {
        /// "parallelism" or "max parallelism".
        what: &'static str,
        /// The operator, or "the job".
        operator: String,
        /// What was given.
        value: u32,
    },
    /// A setter on a stream that is not one operator's output.
    #[error(
        "{method}() follows {after}, which is no operator: set it on the operator before or behind, \
         as `stream.map(..).{method}(..)`"
    )]
    NoOperator {
        /// The setter.
        method: &'static str,
        /// What it follows.
        after: &'static str,
    },
    /// Streams of two environments in one operator.
    #[error("streams of different environments meet in one operator: one package is one job")]
    ForeignStream,
    /// Windows that make no sense.
    #[error("{method}: {message}")]
    Window {
        /// Which method.
        method: &'static str,
        /// What is wrong.
        message: String,
    },
    /// An interval that would be none.
    #[error("watermark alignment of group {0:?}: the update interval must be at least a millisecond")]
    Alignment(String),
    /// A side output that can't be had.
    #[error("{0}")]
    SideOutput(String),
    /// A source whose rows are not the stream's records.
    #[error("{kind} does not give records of type {record}: {source}")]
    SourceType {
        /// The source's kind.
        kind: &'static str,
        /// The Rust type.
        record: &'static str,
        /// What differs.
        #[source]
        source: RecordError,
    },
    /// A source's or sink's own check.
    #[error("{operator}: {source}")]
    Connector {
        /// Its name.
        operator: String,
        /// What it says.
        #[source]
        source: ConnectorError,
    },
    /// Something outside that each sink must have for itself, as a Kafka sink's prefix of transactions.
    #[error(
        "the sinks {first:?} and {second:?} both have {what}: give each its own, or each takes what is the other's"
    )]
    SharedBySinks {
        /// The first one's name.
        first: String,
        /// The other one's.
        second: String,
        /// What it is.
        what: String,
    },
    /// Values given to `from_elements` that make no batch.
    #[error("{operator}: the rows can't be made a batch: {message}")]
    Elements {
        /// Which method.
        operator: &'static str,
        /// Why.
        message: String,
    },
    /// A configuration key or value.
    #[error("configure(): {0}")]
    Configuration(String),
    /// What the graph's own checks found.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A second environment.
    #[error("main made {0} StreamExecutionEnvironments: one package is one job, so make one")]
    SecondEnvironment(usize),
}

impl Classify for ProgramError {
    fn class(&self) -> FailureClass {
        FailureClass::Fatal
    }
}

/// A node's output on its way to the next operator.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) node: u32,
    /// Which output of the node: 0 = the main one, else a side output's number.
    pub(crate) side_output: u32,
    pub(crate) partitioner: Partitioner,
    pub(crate) key: Option<Arc<dyn KeySelector>>,
}

/// What is needed to add a node.
pub(crate) struct NewNode {
    pub(crate) kind: NodeKind,
    pub(crate) operator: &'static str,
    pub(crate) name: String,
    pub(crate) parallelism: u32,
    pub(crate) output_columns: Vec<String>,
    pub(crate) key_columns: Vec<String>,
    pub(crate) side_outputs: Vec<SideOutput>,
    pub(crate) factory: NodeFactory,
}

impl NewNode {
    /// An operator with an output of this schema.
    pub(crate) fn operator(
        operator: &'static str,
        name: &str,
        output: &Schema,
        factory: thalweg_task::OperatorFactory,
    ) -> Self {
        Self {
            kind: NodeKind::Operator,
            operator,
            name: name.to_owned(),
            parallelism: 0,
            output_columns: output_columns(output),
            key_columns: Vec::new(),
            side_outputs: Vec::new(),
            factory: NodeFactory::Operator(factory),
        }
    }
}

#[derive(Default)]
pub(crate) struct GraphBuilder {
    nodes: Vec<StreamNode>,
    edges: Vec<StreamEdge>,
    factories: HashMap<u32, NodeFactory>,
    keys: HashMap<u32, Arc<dyn KeySelector>>,
    configuration: Configuration,
    first_error: Option<ProgramError>,
}

impl GraphBuilder {
    /// Adds a node with one logical input, the union of these.
    pub(crate) fn add_node(&mut self, new: NewNode, inputs: &[Upstream]) -> u32 {
        self.add_node_of(new, &[inputs])
    }

    /// Adds a node with several logical inputs, each a union.
    pub(crate) fn add_node_of(&mut self, new: NewNode, inputs: &[&[Upstream]]) -> u32 {
        let id = self.nodes.len() as u32 + 1;
        self.nodes.push(StreamNode {
            id,
            kind: new.kind.into(),
            operator: new.operator.to_owned(),
            name: new.name,
            parallelism: new.parallelism,
            output_columns: new.output_columns,
            key_columns: new.key_columns,
            side_outputs: new.side_outputs,
            chaining: ChainingStrategy::Always.into(),
            ..StreamNode::default()
        });
        self.factories.insert(id, new.factory);
        for (input, union) in (0..).zip(inputs) {
            for upstream in *union {
                self.connect(upstream, id, input);
            }
        }
        id
    }

    fn connect(&mut self, upstream: &Upstream, target: u32, input: u32) {
        let id = self.edges.len() as u32 + 1;
        self.edges.push(StreamEdge {
            id,
            source: upstream.node,
            target,
            input,
            partitioner: upstream.partitioner.into(),
            side_output: upstream.side_output,
        });
        if let Some(key) = &upstream.key {
            self.keys.insert(id, Arc::clone(key));
        }
    }

    pub(crate) fn node_mut(&mut self, id: u32) -> &mut StreamNode {
        &mut self.nodes[id as usize - 1]
    }

    fn node(&self, id: u32) -> &StreamNode {
        &self.nodes[id as usize - 1]
    }

    /// The node's watermarks keep step with those of others.
    pub(crate) fn align_watermarks(&mut self, node: u32, alignment: &WatermarkAlignment) {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        if alignment.update_interval < Duration::from_millis(1) {
            self.refuse(ProgramError::Alignment(alignment.group.to_string()));
        }
        self.node_mut(node).watermark_alignment = Some(graph::WatermarkAlignment {
            group: alignment.group.to_string(),
            max_drift_ms: millis(alignment.max_drift),
            update_interval_ms: millis(alignment.update_interval),
        });
    }

    pub(crate) fn configure(&mut self, key: &str, value: &str) {
        self.configuration.set(key, value);
    }

    /// Keeps the first error.
    pub(crate) fn refuse(&mut self, error: ProgramError) {
        self.first_error.get_or_insert(error);
    }

    /// The complete job, checked.
    pub(crate) fn into_program(mut self, job_name: &str) -> Result<JobProgram, ProgramError> {
        if let Some(error) = self.first_error.take() {
            return Err(error);
        }
        self.configuration
            .check()
            .map_err(|error| ProgramError::Configuration(error.to_string()))?;
        self.check_exclusive_names()?;
        let mut stream_graph = StreamGraph {
            format_version: FORMAT_VERSION,
            engine_version: env!("CARGO_PKG_VERSION").to_owned(),
            job_name: job_name.to_owned(),
            edges: self.edges.iter().map(|edge| self.resolve(edge)).collect(),
            nodes: self.nodes,
            configuration: self.configuration.to_map(),
        };
        assign_operator_ids(&mut stream_graph);
        validate(&stream_graph)?;
        Ok(JobProgram {
            stream_graph,
            nodes: self.factories,
            keys: self.keys,
        })
    }

    fn check_exclusive_names(&self) -> Result<(), ProgramError> {
        let mut owners = HashMap::new();
        for node in &self.nodes {
            let Some(NodeFactory::Sink(sink)) = self.factories.get(&node.id) else {
                continue;
            };
            let Some(what) = sink.exclusive_name() else {
                continue;
            };
            if let Some(first) = owners.insert(what.clone(), &node.name) {
                return Err(ProgramError::SharedBySinks {
                    first: first.clone(),
                    second: node.name.clone(),
                    what,
                });
            }
        }
        Ok(())
    }

    /// Flink's rule for an edge without partitioner: FORWARD between equal parallelisms, else REBALANCE. Where only one side
    /// has a parallelism of its own, the job's default decides, which is known when the JobGraph is made.
    fn resolve(&self, edge: &StreamEdge) -> StreamEdge {
        let (from, to) = (
            self.node(edge.source).parallelism,
            self.node(edge.target).parallelism,
        );
        let partitioner = match edge.partitioner() {
            Partitioner::Unspecified if from == to => Partitioner::Forward,
            Partitioner::Unspecified if from != 0 && to != 0 => Partitioner::Rebalance,
            given => given,
        };
        StreamEdge {
            partitioner: partitioner.into(),
            ..*edge
        }
    }
}

/// Refuses 0 and what is above Flink's bound; a setter's argument is never "the default".
pub(crate) fn check_parallelism(what: &'static str, operator: &str, value: u32) -> Result<u32, ProgramError> {
    if (1..=MAX_MAX_PARALLELISM).contains(&value) {
        return Ok(value);
    }
    Err(ProgramError::Parallelism {
        what,
        operator: operator.to_owned(),
        value,
    })
}

/// The position of a column by name.
pub(crate) fn find_field(
    operator: &'static str,
    schema: &Schema,
    field: &str,
) -> Result<usize, ProgramError> {
    schema.index_of(field).map_err(|_| ProgramError::UnknownField {
        operator,
        field: field.to_owned(),
        known: schema
            .fields()
            .iter()
            .map(|field| format!("{:?}", field.name()))
            .collect(),
    })
}

#[cfg(test)]
mod tests;
