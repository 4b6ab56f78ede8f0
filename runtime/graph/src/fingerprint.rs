//! Are two StreamGraphs the same job? Shape, uids and types count; parallelism, names, chaining and configuration don't.

use std::fmt::Write as _;

use thalweg_proto::graph::v1::{NodeKind, Partitioner, StreamEdge, StreamGraph, StreamNode};
use xxhash_rust::xxh3::xxh3_64;

/// 16 hex digits.
pub fn fingerprint(graph: &StreamGraph) -> String {
    let mut text = String::new();
    // writing to a String can't fail
    for node in &graph.nodes {
        let _ = writeln!(
            text,
            "{}",
            node_facts(node).map(|(_, value)| format!("{value:?}")).join(" ")
        );
    }
    for edge in &graph.edges {
        let _ = writeln!(text, "{:?}", edge_facts(edge));
    }
    format!("{:016x}", xxh3_64(text.as_bytes()))
}

/// What is different first, in words that name the operator; `None` = the same job.
pub fn first_difference(expected: &StreamGraph, actual: &StreamGraph) -> Option<String> {
    for (expected_node, actual_node) in expected.nodes.iter().zip(&actual.nodes) {
        for ((what, expected), (_, actual)) in
            node_facts(expected_node).into_iter().zip(node_facts(actual_node))
        {
            if expected != actual {
                let (id, name) = (expected_node.id, &expected_node.name);
                return Some(format!(
                    "operator {id} {name:?}: {what} {expected:?} was expected, it is {actual:?}"
                ));
            }
        }
        let (expected_inputs, actual_inputs) = (
            inputs(expected, expected_node.id),
            inputs(actual, expected_node.id),
        );
        if expected_inputs != actual_inputs {
            return Some(format!(
                "operator {} {:?}: {} expected, there {}",
                expected_node.id,
                expected_node.name,
                describe_inputs(expected, &expected_inputs),
                describe_inputs(actual, &actual_inputs)
            ));
        }
    }
    let common = expected.nodes.len().min(actual.nodes.len());
    if let Some(missing) = expected.nodes.get(common) {
        return Some(format!("operator {} {:?} is missing", missing.id, missing.name));
    }
    actual
        .nodes
        .get(common)
        .map(|more| format!("operator {} {:?} was not expected", more.id, more.name))
}

fn node_facts(node: &StreamNode) -> [(&'static str, String); 6] {
    let kind = match node.kind() {
        NodeKind::Source => "source",
        NodeKind::Sink => "sink",
        NodeKind::Operator | NodeKind::Unspecified => "operator",
    };
    [
        ("uid", node.uid.clone()),
        ("kind", kind.to_owned()),
        ("operator", node.operator.clone()),
        ("output columns", node.output_columns.join(", ")),
        ("key columns", node.key_columns.join(", ")),
        ("side outputs", side_outputs(node)),
    ]
}

/// "late (word: STRING), odd (value: BIGINT)"
fn side_outputs(node: &StreamNode) -> String {
    let described = node
        .side_outputs
        .iter()
        .map(|output| format!("{} ({})", output.name, output.columns.join(", ")));
    described.collect::<Vec<_>>().join(", ")
}

/// Target, its input, source, its output, how.
type EdgeFacts = (u32, u32, u32, u32, &'static str);

fn edge_facts(edge: &StreamEdge) -> EdgeFacts {
    let partitioner = match edge.partitioner() {
        // which of these it is may depend on parallelism
        Partitioner::Unspecified | Partitioner::Forward | Partitioner::Rebalance => "as it comes",
        Partitioner::Rescale => "rescaled",
        Partitioner::Broadcast => "broadcast",
        Partitioner::Hash => "by key",
        Partitioner::Shuffle => "shuffled",
        Partitioner::Global => "to one subtask",
    };
    (
        edge.target,
        edge.input,
        edge.source,
        edge.side_output,
        partitioner,
    )
}

fn inputs(graph: &StreamGraph, target: u32) -> Vec<EdgeFacts> {
    graph
        .edges
        .iter()
        .filter(|edge| edge.target == target)
        .map(edge_facts)
        .collect()
}

fn describe_inputs(graph: &StreamGraph, inputs: &[EdgeFacts]) -> String {
    let described: Vec<String> = inputs
        .iter()
        .map(|(_, _, source, side_output, partitioner)| {
            let node = graph.nodes.get((*source as usize).wrapping_sub(1));
            let name = node.map_or("?", |node| node.name.as_str());
            let side = node
                .zip((*side_output as usize).checked_sub(1))
                .and_then(|(node, place)| node.side_outputs.get(place));
            match side {
                Some(side) => format!("{name:?} ({}) {partitioner}", side.name),
                None => format!("{name:?} {partitioner}"),
            }
        })
        .collect();
    match described.len() {
        1 => format!("is the input {}", described[0]),
        count => format!("are {count} inputs ({})", described.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use thalweg_proto::graph::v1::SideOutput;

    use super::*;
    use crate::test_graphs::word_count;

    fn changed(change: impl FnOnce(&mut StreamGraph)) -> (bool, Option<String>) {
        let (expected, mut actual) = (word_count(), word_count());
        change(&mut actual);
        (
            fingerprint(&expected) == fingerprint(&actual),
            first_difference(&expected, &actual),
        )
    }

    #[test]
    fn the_same_program_gives_the_same_fingerprint_of_16_digits() {
        assert_eq!(changed(|_| {}), (true, None));
        assert_eq!(fingerprint(&word_count()).len(), 16);
    }

    #[test]
    fn parallelism_names_and_configuration_do_not_count() {
        let change = |graph: &mut StreamGraph| {
            graph.nodes[1].parallelism = 7;
            graph.nodes[1].name = "Split".to_owned();
            graph.job_name = "other".to_owned();
            graph
                .configuration
                .insert("parallelism.default".to_owned(), "4".to_owned());
            graph.edges[0].partitioner = Partitioner::Rebalance.into();
        };
        assert_eq!(changed(change), (true, None));
    }

    #[test]
    fn a_changed_operator_is_named_with_what_changed() {
        let (same, difference) = changed(|graph| graph.nodes[1].operator = "Map".to_owned());
        assert!(!same);
        assert_eq!(
            difference.as_deref(),
            Some("operator 2 \"Flat Map\": operator \"FlatMap\" was expected, it is \"Map\"")
        );
        let (same, difference) = changed(|graph| graph.nodes[1].output_columns[0] = "word: INT".to_owned());
        assert!(!same && difference.unwrap().contains("output columns"));
    }

    #[test]
    fn a_changed_edge_is_named_at_its_consumer() {
        let (same, difference) = changed(|graph| graph.edges[1].partitioner = Partitioner::Forward.into());
        assert!(!same);
        assert_eq!(
            difference.as_deref(),
            Some(
                "operator 3 \"Sum\": is the input \"Flat Map\" by key expected, there is the input \"Flat Map\" as it comes"
            )
        );
    }

    #[test]
    fn a_side_output_and_the_edge_that_takes_it_count() {
        let with_output = |graph: &mut StreamGraph, name: &str| {
            graph.nodes[1].side_outputs.push(SideOutput {
                name: name.to_owned(),
                columns: vec!["word: STRING".to_owned()],
            });
        };
        let (same, difference) = changed(|graph| with_output(graph, "late"));
        assert!(!same);
        assert_eq!(
            difference.as_deref(),
            Some("operator 2 \"Flat Map\": side outputs \"\" was expected, it is \"late (word: STRING)\"")
        );
        let (mut expected, mut actual) = (word_count(), word_count());
        with_output(&mut expected, "late");
        with_output(&mut actual, "late");
        actual.edges[1].side_output = 1;
        assert_ne!(fingerprint(&expected), fingerprint(&actual));
        assert_eq!(
            first_difference(&expected, &actual).as_deref(),
            Some(
                "operator 3 \"Sum\": is the input \"Flat Map\" by key expected, there is the input \"Flat Map\" (late) by key"
            )
        );
    }

    #[test]
    fn a_missing_and_an_added_operator_are_named() {
        let (same, difference) = changed(|graph| {
            graph.nodes.pop();
            graph.edges.pop();
        });
        assert!(!same);
        assert_eq!(difference.as_deref(), Some("operator 4 \"Sink: out\" is missing"));
        let (mut shorter, longer) = (word_count(), word_count());
        shorter.nodes.pop();
        assert_eq!(
            first_difference(&shorter, &longer).as_deref(),
            Some("operator 4 \"Sink: out\" was not expected")
        );
    }
}
