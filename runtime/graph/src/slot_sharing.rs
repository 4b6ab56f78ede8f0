//! Slot sharing: one slot holds one subtask of each vertex of a group. Flink's rules.

use std::collections::HashMap;

use thalweg_proto::graph::v1::{JobGraph, StreamGraph};

/// The group of operators that neither set nor inherit one.
pub const DEFAULT_SLOT_SHARING_GROUP: &str = "default";

/// One slot's worth of subtasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedSlot {
    /// The slot-sharing group.
    pub group: String,
    /// Position of the vertex in the JobGraph and 0-based subtask, in topological order.
    pub subtasks: Vec<(usize, u32)>,
}

/// Gives each node its group: its own; else that of its inputs, if they all have the same; else "default".
pub(crate) fn resolve_groups(graph: &mut StreamGraph) {
    for index in 0..graph.nodes.len() {
        if graph.nodes[index].slot_sharing_group.is_empty() {
            let id = graph.nodes[index].id;
            let mut of_inputs = graph
                .edges
                .iter()
                .filter(|edge| edge.target == id)
                .map(|edge| &graph.nodes[edge.source as usize - 1].slot_sharing_group);
            let group = match of_inputs.next() {
                Some(first) if of_inputs.all(|other| other == first) => first.clone(),
                _ => DEFAULT_SLOT_SHARING_GROUP.to_owned(),
            };
            graph.nodes[index].slot_sharing_group = group;
        }
    }
}

/// Slots that the job needs: over its groups, the sum of each one's largest parallelism.
pub fn required_slots(job: &JobGraph) -> u32 {
    slot_assignment(job).len() as u32
}

/// Which subtasks share a slot: subtask i of each vertex of a group, group after group.
pub fn slot_assignment(job: &JobGraph) -> Vec<SharedSlot> {
    let mut groups: Vec<(&str, Vec<usize>)> = Vec::new();
    let mut position: HashMap<&str, usize> = HashMap::new();
    for (index, vertex) in job.vertices.iter().enumerate() {
        let group = vertex.slot_sharing_group.as_str();
        let at = *position.entry(group).or_insert(groups.len());
        if at == groups.len() {
            groups.push((group, Vec::new()));
        }
        groups[at].1.push(index);
    }
    let parallelism = |vertex: &usize| job.vertices[*vertex].parallelism;
    groups
        .iter()
        .flat_map(|(group, vertices)| {
            let slots = vertices.iter().map(parallelism).max().unwrap_or(0);
            (0..slots).map(move |subtask| SharedSlot {
                group: (*group).to_owned(),
                subtasks: vertices
                    .iter()
                    .filter(|v| parallelism(v) > subtask)
                    .map(|v| (*v, subtask))
                    .collect(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_graphs::GraphBuilder;
    use thalweg_proto::graph::v1::{JobVertex, Partitioner};

    fn groups_of(build: impl FnOnce(&mut GraphBuilder)) -> Vec<String> {
        let mut builder = GraphBuilder::new();
        build(&mut builder);
        let mut graph = builder.build();
        resolve_groups(&mut graph);
        graph
            .nodes
            .into_iter()
            .map(|node| node.slot_sharing_group)
            .collect()
    }

    #[test]
    fn a_group_is_inherited_along_the_stream_until_another_is_set() {
        let groups = groups_of(|builder| {
            let source = builder.source("s");
            builder.node(source).slot_sharing_group = "in".to_owned();
            let map = builder.operator("m", &[(source, 0, Partitioner::Forward)]);
            let heavy = builder.operator("h", &[(map, 0, Partitioner::Forward)]);
            builder.node(heavy).slot_sharing_group = "heavy".to_owned();
            builder.sink("k", &[(heavy, 0, Partitioner::Forward)]);
        });
        assert_eq!(groups, ["in", "in", "heavy", "heavy"]);
    }

    #[test]
    fn inputs_of_different_groups_lead_back_to_the_default_one() {
        let groups = groups_of(|builder| {
            let (left, right) = (builder.source("l"), builder.source("r"));
            builder.node(left).slot_sharing_group = "left".to_owned();
            builder.operator(
                "j",
                &[(left, 0, Partitioner::Forward), (right, 1, Partitioner::Forward)],
            );
        });
        assert_eq!(groups, ["left", "default", "default"]);
    }

    fn job(vertices: &[(&str, u32)]) -> JobGraph {
        let vertices = vertices
            .iter()
            .map(|(group, parallelism)| JobVertex {
                slot_sharing_group: (*group).to_owned(),
                parallelism: *parallelism,
                ..JobVertex::default()
            })
            .collect();
        JobGraph {
            vertices,
            ..JobGraph::default()
        }
    }

    #[test]
    fn slots_needed_are_the_sum_over_groups_of_the_largest_parallelism() {
        assert_eq!(required_slots(&job(&[("a", 2), ("a", 4), ("b", 3), ("a", 1)])), 7);
        assert_eq!(required_slots(&job(&[])), 0);
    }

    #[test]
    fn a_slot_holds_one_subtask_of_each_vertex_of_its_group() {
        let slots = slot_assignment(&job(&[("a", 2), ("b", 1), ("a", 1)]));
        let subtasks: Vec<_> = slots
            .iter()
            .map(|slot| (slot.group.as_str(), slot.subtasks.clone()))
            .collect();
        assert_eq!(
            subtasks,
            [
                ("a", vec![(0, 0), (2, 0)]),
                ("a", vec![(0, 1)]),
                ("b", vec![(1, 0)])
            ]
        );
    }
}
