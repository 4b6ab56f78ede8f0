//! Operator ids: from the uid, else from the place in the graph. State and metrics are matched by them.

use thalweg_proto::graph::v1::StreamGraph;
use thalweg_types::OperatorId;
use xxhash_rust::xxh3::{Xxh3, xxh3_128_with_seed};

/// So that an uid and a place never give the same id by construction.
const UID_SEED: u64 = 1;
const PLACE_SEED: u64 = 2;

/// The id of the operator with this uid, in every graph.
pub fn operator_id_of_uid(uid: &str) -> OperatorId {
    OperatorId::from_u128(xxh3_128_with_seed(uid.as_bytes(), UID_SEED))
}

/// Sets every node's operator id. Without a uid it comes from the node's position, its kind and its inputs' ids, so it
/// changes when something is put before it: only a uid keeps state over such an edit.
pub fn assign_operator_ids(graph: &mut StreamGraph) {
    for index in 0..graph.nodes.len() {
        let id = if graph.nodes[index].uid.is_empty() {
            id_of_place(graph, index)
        } else {
            operator_id_of_uid(&graph.nodes[index].uid)
        };
        graph.nodes[index].operator_id = id.to_string();
    }
}

/// Inputs come before their consumers, so their ids are set.
fn id_of_place(graph: &StreamGraph, index: usize) -> OperatorId {
    let node = &graph.nodes[index];
    let mut hash = Xxh3::with_seed(PLACE_SEED);
    hash.update(&(index as u64).to_le_bytes());
    hash.update(node.operator.as_bytes());
    for edge in graph.edges.iter().filter(|edge| edge.target == node.id) {
        hash.update(&edge.input.to_le_bytes());
        if let Some(source) = graph.nodes.get((edge.source as usize).wrapping_sub(1)) {
            hash.update(source.operator_id.as_bytes());
        }
    }
    OperatorId::from_u128(hash.digest128())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_graphs::word_count;

    #[test]
    fn an_operator_with_a_uid_keeps_its_id_wherever_it_stands() {
        let mut graph = word_count();
        graph.nodes[2].uid = "counts".to_owned();
        assign_operator_ids(&mut graph);
        assert_eq!(
            graph.nodes[2].operator_id,
            operator_id_of_uid("counts").to_string()
        );
    }

    #[test]
    fn operators_without_uid_have_different_ids_that_are_the_same_in_each_run() {
        let (mut first, mut second) = (word_count(), word_count());
        assign_operator_ids(&mut first);
        assign_operator_ids(&mut second);
        assert_eq!(first, second);
        let mut ids: Vec<_> = first.nodes.iter().map(|node| node.operator_id.clone()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), first.nodes.len());
        assert!(ids.iter().all(|id| id.parse::<OperatorId>().is_ok()));
    }

    #[test]
    fn the_id_of_a_uid_never_changes() {
        assert_eq!(
            operator_id_of_uid("counts").to_string(),
            "aba181dadb588d5fbffaf7702b631fc9"
        );
    }
}
