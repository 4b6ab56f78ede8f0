//! A job as its own program holds it: the graph, and for each node the code that makes its operator.
//!
//! The graph travels and is stored; the code does not. A worker process runs the same `main` again and so gets both
//! (design 2), which is why [`JobProgram`] is found by node and edge ids only.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use thalweg_connectors::{Sink, Source};
use thalweg_operators::{KeySelector, Operator, OperatorContext, OperatorError};
use thalweg_proto::graph::v1::StreamGraph;

/// Makes one operator for one subtask.
pub type OperatorFactory =
    Arc<dyn Fn(OperatorContext) -> Result<Box<dyn Operator>, OperatorError> + Send + Sync>;

/// What makes a node's part in each subtask.
#[derive(Clone)]
pub enum NodeFactory {
    /// Makes readers.
    Source(Arc<dyn Source>),
    /// Makes operators.
    Operator(OperatorFactory),
    /// Makes writers.
    Sink(Arc<dyn Sink>),
}

impl fmt::Debug for NodeFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(source) => f.debug_tuple("Source").field(&source.kind()).finish(),
            Self::Operator(_) => f.write_str("Operator"),
            Self::Sink(sink) => f.debug_tuple("Sink").field(&sink.kind()).finish(),
        }
    }
}

/// A job, complete.
#[derive(Clone)]
pub struct JobProgram {
    /// What the program built.
    pub stream_graph: StreamGraph,
    /// The code of each node by `StreamNode.id`.
    pub nodes: HashMap<u32, NodeFactory>,
    /// The key of each HASH edge by `StreamEdge.id`.
    pub keys: HashMap<u32, Arc<dyn KeySelector>>,
}

impl fmt::Debug for JobProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobProgram")
            .field("job_name", &self.stream_graph.job_name)
            .field("nodes", &self.nodes)
            .finish_non_exhaustive()
    }
}
