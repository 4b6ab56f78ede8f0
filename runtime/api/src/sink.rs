//! The end of a stream.

use std::cell::RefCell;
use std::rc::Rc;

use thalweg_proto::graph::v1::ChainingStrategy;

use crate::graph::{GraphBuilder, ProgramError, check_parallelism};

/// A stream's sink. Flink's DataStreamSink; its setters concern the sink's operator.
pub struct DataStreamSink {
    graph: Rc<RefCell<GraphBuilder>>,
    node: u32,
}

impl DataStreamSink {
    pub(crate) fn new(graph: &Rc<RefCell<GraphBuilder>>, node: u32) -> Self {
        Self {
            graph: Rc::clone(graph),
            node,
        }
    }

    /// The name that people see, behind "Sink: ".
    pub fn name(self, name: &str) -> Self {
        self.graph.borrow_mut().node_mut(self.node).name = format!("Sink: {name}");
        self
    }

    /// A stable id by which the sink's state is found again; unique in the job.
    pub fn uid(self, uid: &str) -> Self {
        self.graph.borrow_mut().node_mut(self.node).uid = uid.to_owned();
        self
    }

    /// The number of writers, in place of the job's default.
    pub fn set_parallelism(self, parallelism: u32) -> Self {
        self.check(|graph, node| {
            let node = graph.node_mut(node);
            node.parallelism = check_parallelism("parallelism", &node.name, parallelism)?;
            Ok(())
        })
    }

    /// Runs the sink in slots of this group.
    pub fn slot_sharing_group(self, group: &str) -> Self {
        self.graph.borrow_mut().node_mut(self.node).slot_sharing_group = group.to_owned();
        self
    }

    /// Never runs the sink in one task with another operator.
    pub fn disable_chaining(self) -> Self {
        self.graph.borrow_mut().node_mut(self.node).chaining = ChainingStrategy::Never.into();
        self
    }

    fn check(self, change: impl FnOnce(&mut GraphBuilder, u32) -> Result<(), ProgramError>) -> Self {
        {
            let mut graph = self.graph.borrow_mut();
            if let Err(error) = change(&mut graph, self.node) {
                graph.refuse(error);
            }
        }
        self
    }
}
