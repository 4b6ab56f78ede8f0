//! Is this StreamGraph one that can run? What comes from a package is not trusted to be.

use std::collections::{BTreeSet, HashMap};

use thalweg_proto::graph::v1::{
    ChainingStrategy, NodeKind, Partitioner, StreamEdge, StreamGraph, StreamNode,
};
use thalweg_types::OperatorId;
use thalweg_types::key_group::MAX_MAX_PARALLELISM;

use crate::{FORMAT_VERSION, GraphError};

const MOST_NODES: usize = 10_000;
const MOST_EDGES: usize = 100_000;

/// Checks a complete graph, its operator ids included. The first thing that is wrong is the error.
pub fn validate(graph: &StreamGraph) -> Result<(), GraphError> {
    if graph.format_version != FORMAT_VERSION {
        return Err(GraphError::FormatVersion {
            found: graph.format_version,
        });
    }
    if graph.nodes.is_empty() {
        return Err(GraphError::Empty);
    }
    for (what, count, most) in [
        ("operators", graph.nodes.len(), MOST_NODES),
        ("edges", graph.edges.len(), MOST_EDGES),
    ] {
        if count > most {
            return Err(GraphError::TooLarge { what, count, most });
        }
    }
    for (index, node) in graph.nodes.iter().enumerate() {
        check_node(index, node)?;
    }
    for (index, edge) in graph.edges.iter().enumerate() {
        check_edge(graph, index, edge)?;
    }
    check_inputs_and_outputs(graph)?;
    check_identities(graph)
}

fn malformed<T>(message: String) -> Result<T, GraphError> {
    Err(GraphError::Malformed(message))
}

fn check_node(index: usize, node: &StreamNode) -> Result<(), GraphError> {
    let name = &node.name;
    if node.id as usize != index + 1 {
        return malformed(format!(
            "operator {name:?} at position {} has the id {}",
            index + 1,
            node.id
        ));
    }
    if matches!(NodeKind::try_from(node.kind), Err(_) | Ok(NodeKind::Unspecified)) {
        return malformed(format!("operator {name:?} is neither source, operator nor sink"));
    }
    if ChainingStrategy::try_from(node.chaining).is_err() {
        return malformed(format!(
            "operator {name:?} has the unknown chaining strategy {}",
            node.chaining
        ));
    }
    let limit = if node.max_parallelism == 0 {
        MAX_MAX_PARALLELISM
    } else {
        node.max_parallelism
    };
    if node.parallelism > limit || node.max_parallelism > MAX_MAX_PARALLELISM {
        return Err(GraphError::AboveMaxParallelism {
            operator: name.clone(),
            parallelism: node.parallelism.max(node.max_parallelism),
            max_parallelism: limit.min(MAX_MAX_PARALLELISM),
        });
    }
    Ok(())
}

fn check_edge(graph: &StreamGraph, index: usize, edge: &StreamEdge) -> Result<(), GraphError> {
    if edge.id as usize != index + 1 {
        return malformed(format!(
            "the edge at position {} has the id {}",
            index + 1,
            edge.id
        ));
    }
    if edge.source == 0 || edge.target as usize > graph.nodes.len() {
        return malformed(format!(
            "edge {} joins operators {} and {}, which do not exist",
            edge.id, edge.source, edge.target
        ));
    }
    if edge.source >= edge.target {
        return malformed(format!(
            "edge {} goes back from operator {} to {}",
            edge.id, edge.source, edge.target
        ));
    }
    let (from, to) = (
        &graph.nodes[edge.source as usize - 1],
        &graph.nodes[edge.target as usize - 1],
    );
    if edge.side_output as usize > from.side_outputs.len() {
        return malformed(format!(
            "the edge from {:?} to {:?} takes side output {}, which does not exist",
            from.name, to.name, edge.side_output
        ));
    }
    let Ok(partitioner) = Partitioner::try_from(edge.partitioner) else {
        return malformed(format!(
            "the edge from {:?} to {:?} has an unknown partitioner",
            from.name, to.name
        ));
    };
    let differ = from.parallelism != to.parallelism && from.parallelism != 0 && to.parallelism != 0;
    if partitioner == Partitioner::Forward && differ {
        return Err(GraphError::ForwardParallelism {
            from: from.name.clone(),
            from_parallelism: from.parallelism,
            to: to.name.clone(),
            to_parallelism: to.parallelism,
        });
    }
    Ok(())
}

fn check_inputs_and_outputs(graph: &StreamGraph) -> Result<(), GraphError> {
    let mut inputs: Vec<BTreeSet<u32>> = vec![BTreeSet::new(); graph.nodes.len()];
    for edge in &graph.edges {
        let from = &graph.nodes[edge.source as usize - 1];
        if from.kind() == NodeKind::Sink {
            return malformed(format!("sink {:?} has an output", from.name));
        }
        inputs[edge.target as usize - 1].insert(edge.input);
    }
    for (node, inputs) in graph.nodes.iter().zip(inputs) {
        if node.kind() == NodeKind::Source && !inputs.is_empty() {
            return malformed(format!("source {:?} has an input", node.name));
        }
        if node.kind() != NodeKind::Source && inputs.is_empty() {
            return malformed(format!("operator {:?} has no input", node.name));
        }
        // inputs are numbered from 0 without a gap
        if inputs.iter().zip(0..).any(|(input, expected)| *input != expected) {
            return malformed(format!(
                "the inputs of operator {:?} are not numbered from 0",
                node.name
            ));
        }
    }
    Ok(())
}

fn check_identities(graph: &StreamGraph) -> Result<(), GraphError> {
    let mut by_uid: HashMap<&str, &str> = HashMap::new();
    let mut by_id: HashMap<OperatorId, &str> = HashMap::new();
    for node in &graph.nodes {
        if !node.uid.is_empty()
            && let Some(first) = by_uid.insert(&node.uid, &node.name)
        {
            return Err(GraphError::DuplicateUid {
                uid: node.uid.clone(),
                first: first.to_owned(),
                second: node.name.clone(),
            });
        }
        if let Some(first) = by_id.insert(node.operator_id.parse()?, &node.name) {
            return malformed(format!(
                "operators {first:?} and {:?} have the same id {}",
                node.name, node.operator_id
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_graphs::{GraphBuilder, word_count};

    fn refused(change: impl FnOnce(&mut StreamGraph)) -> String {
        let mut graph = word_count();
        change(&mut graph);
        validate(&graph).unwrap_err().to_string()
    }

    #[test]
    fn a_complete_graph_is_accepted() {
        assert_eq!(validate(&word_count()), Ok(()));
    }

    #[test]
    fn a_graph_without_operators_or_of_another_version_is_refused() {
        assert!(refused(|graph| graph.nodes.clear()).starts_with("the job has no operators"));
        assert!(refused(|graph| graph.format_version = 2).contains("format version 2"));
    }

    #[test]
    fn positions_kinds_and_edges_that_do_not_fit_are_refused() {
        assert!(refused(|graph| graph.nodes[1].id = 7).contains("has the id 7"));
        assert!(refused(|graph| graph.nodes[1].kind = 0).contains("neither source"));
        assert!(refused(|graph| graph.nodes[1].chaining = 9).contains("chaining strategy 9"));
        assert!(refused(|graph| graph.edges[1].id = 9).contains("has the id 9"));
        assert!(refused(|graph| graph.edges[0].target = 99).contains("do not exist"));
        assert!(refused(|graph| graph.edges[0].source = 0).contains("do not exist"));
        assert!(refused(|graph| graph.edges[1].target = 2).contains("goes back"));
        assert!(refused(|graph| graph.edges[0].partitioner = 99).contains("unknown partitioner"));
        assert!(refused(|graph| graph.edges[0].input = 1).contains("not numbered from 0"));
        assert!(
            refused(|graph| graph.edges[0].side_output = 1).contains("side output 1, which does not exist")
        );
        assert!(refused(|graph| graph.nodes[1].operator_id.clear()).contains("is not an id"));
    }

    #[test]
    fn a_source_with_input_a_sink_with_output_and_an_operator_without_input_are_refused() {
        assert!(refused(|graph| graph.nodes[1].kind = NodeKind::Source.into()).contains("has an input"));
        assert!(refused(|graph| graph.nodes[1].kind = NodeKind::Sink.into()).contains("has an output"));
        assert!(refused(|graph| graph.nodes[0].kind = NodeKind::Operator.into()).contains("has no input"));
    }

    #[test]
    fn two_operators_with_one_uid_are_refused_by_name() {
        let message = refused(|graph| {
            graph.nodes[0].uid = "same".to_owned();
            graph.nodes[1].uid = "same".to_owned();
        });
        assert!(
            message.contains("\"Source: lines\"") && message.contains("\"Flat Map\""),
            "{message}"
        );
    }

    #[test]
    fn a_parallelism_above_the_max_parallelism_is_refused() {
        let message = refused(|graph| {
            graph.nodes[1].parallelism = 9;
            graph.nodes[1].max_parallelism = 8;
        });
        assert!(
            message.contains("parallelism 9") && message.contains("is 8"),
            "{message}"
        );
        assert!(refused(|graph| graph.nodes[1].max_parallelism = 40_000).contains("32768"));
    }

    #[test]
    fn forward_between_different_parallelisms_is_refused() {
        let mut builder = GraphBuilder::new();
        let source = builder.source("s");
        let map = builder.operator("m", &[(source, 0, Partitioner::Forward)]);
        builder.node(source).parallelism = 2;
        builder.node(map).parallelism = 3;
        let error = validate(&builder.build()).unwrap_err();
        assert!(matches!(
            error,
            GraphError::ForwardParallelism {
                from_parallelism: 2,
                to_parallelism: 3,
                ..
            }
        ));
    }
}
