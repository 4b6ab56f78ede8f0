//! Small StreamGraphs for tests.

use thalweg_proto::graph::v1::{NodeKind, Partitioner, StreamEdge, StreamGraph, StreamNode};

use crate::{FORMAT_VERSION, assign_operator_ids};

/// An input: producer, logical input, partitioner.
pub(crate) type Input = (u32, u32, Partitioner);

#[derive(Default)]
pub(crate) struct GraphBuilder {
    graph: StreamGraph,
}

impl GraphBuilder {
    pub(crate) fn new() -> Self {
        Self {
            graph: StreamGraph {
                format_version: FORMAT_VERSION,
                job_name: "test".to_owned(),
                ..StreamGraph::default()
            },
        }
    }

    fn add(&mut self, kind: NodeKind, operator: &str, name: &str, inputs: &[Input]) -> u32 {
        let id = self.graph.nodes.len() as u32 + 1;
        self.graph.nodes.push(StreamNode {
            id,
            kind: kind.into(),
            operator: operator.to_owned(),
            name: name.to_owned(),
            ..StreamNode::default()
        });
        for (source, input, partitioner) in inputs {
            let edge_id = self.graph.edges.len() as u32 + 1;
            let partitioner = (*partitioner).into();
            self.graph.edges.push(StreamEdge {
                id: edge_id,
                source: *source,
                target: id,
                input: *input,
                partitioner,
                side_output: 0,
            });
        }
        id
    }

    pub(crate) fn source(&mut self, name: &str) -> u32 {
        self.add(NodeKind::Source, "TestSource", name, &[])
    }

    pub(crate) fn operator(&mut self, name: &str, inputs: &[Input]) -> u32 {
        self.add(NodeKind::Operator, "Map", name, inputs)
    }

    pub(crate) fn sink(&mut self, name: &str, inputs: &[Input]) -> u32 {
        self.add(NodeKind::Sink, "TestSink", name, inputs)
    }

    pub(crate) fn node(&mut self, id: u32) -> &mut StreamNode {
        &mut self.graph.nodes[id as usize - 1]
    }

    pub(crate) fn build(mut self) -> StreamGraph {
        assign_operator_ids(&mut self.graph);
        self.graph
    }
}

/// Source: lines -> Flat Map =by key=> Sum -> Sink: out
pub(crate) fn word_count() -> StreamGraph {
    let mut builder = GraphBuilder::new();
    let lines = builder.source("Source: lines");
    let words = builder.operator("Flat Map", &[(lines, 0, Partitioner::Forward)]);
    builder.node(words).operator = "FlatMap".to_owned();
    builder.node(words).output_columns = vec![
        "word: STRING NOT NULL".to_owned(),
        "n: BIGINT NOT NULL".to_owned(),
    ];
    let sums = builder.operator("Sum", &[(words, 0, Partitioner::Hash)]);
    builder.node(sums).key_columns = vec!["word".to_owned()];
    builder.sink("Sink: out", &[(sums, 0, Partitioner::Forward)]);
    builder.build()
}
