//! Pipelined regions: subtasks joined by channels, which fail and restart together.
//!
//! Every exchange is pipelined, so a region is a connected part of the graph of subtasks. A job with an all-to-all edge
//! across it is one region; parts that nothing joins, or that are joined pointwise only, are regions of their own.

use std::collections::HashMap;

use thalweg_proto::graph::v1::JobGraph;

use crate::channels::{channels_out, is_pointwise};

/// A connected part of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// Position of the vertex in the JobGraph and 0-based subtask, in topological order.
    pub subtasks: Vec<(usize, u32)>,
}

/// All regions, by their first subtask.
pub fn pipelined_regions(job: &JobGraph) -> Vec<Region> {
    let mut first_of = Vec::with_capacity(job.vertices.len());
    let mut total = 0usize;
    for vertex in &job.vertices {
        first_of.push(total);
        total += vertex.parallelism as usize;
    }
    let position: HashMap<&str, usize> = job
        .vertices
        .iter()
        .enumerate()
        .map(|(index, vertex)| (vertex.id.as_str(), index))
        .collect();
    let mut sets = DisjointSets::new(total);
    for edge in &job.edges {
        let (Some(&source), Some(&target)) = (
            position.get(edge.source_vertex.as_str()),
            position.get(edge.target_vertex.as_str()),
        ) else {
            continue;
        };
        if is_pointwise(edge) {
            for producer in 0..job.vertices[source].parallelism {
                for consumer in channels_out(edge, job, producer) {
                    sets.join(
                        first_of[source] + producer as usize,
                        first_of[target] + consumer as usize,
                    );
                }
            }
        } else {
            for (vertex, count) in [
                (source, job.vertices[source].parallelism),
                (target, job.vertices[target].parallelism),
            ] {
                for subtask in 0..count as usize {
                    sets.join(first_of[source], first_of[vertex] + subtask);
                }
            }
        }
    }
    let mut regions: Vec<Region> = Vec::new();
    let mut region_of_root: HashMap<usize, usize> = HashMap::new();
    for (vertex, first) in first_of.iter().enumerate() {
        for subtask in 0..job.vertices[vertex].parallelism {
            let root = sets.root(first + subtask as usize);
            let region = *region_of_root.entry(root).or_insert_with(|| {
                regions.push(Region { subtasks: Vec::new() });
                regions.len() - 1
            });
            regions[region].subtasks.push((vertex, subtask));
        }
    }
    regions
}

/// Union-find with path halving.
struct DisjointSets {
    parent: Vec<usize>,
}

impl DisjointSets {
    fn new(size: usize) -> Self {
        Self {
            parent: (0..size).collect(),
        }
    }

    fn root(&mut self, mut member: usize) -> usize {
        while self.parent[member] != member {
            self.parent[member] = self.parent[self.parent[member]];
            member = self.parent[member];
        }
        member
    }

    fn join(&mut self, left: usize, right: usize) {
        let (left, right) = (self.root(left), self.root(right));
        self.parent[left.max(right)] = left.min(right);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_proto::graph::v1::{JobEdge, JobVertex, Partitioner, StreamEdge};

    fn regions_of(parallelisms: &[u32], edges: &[(usize, usize, Partitioner)]) -> Vec<Vec<(usize, u32)>> {
        let vertices = parallelisms
            .iter()
            .enumerate()
            .map(|(index, parallelism)| JobVertex {
                id: index.to_string(),
                parallelism: *parallelism,
                ..JobVertex::default()
            })
            .collect();
        let edges = edges
            .iter()
            .map(|(source, target, partitioner)| JobEdge {
                edge: Some(StreamEdge {
                    partitioner: (*partitioner).into(),
                    ..StreamEdge::default()
                }),
                source_vertex: source.to_string(),
                target_vertex: target.to_string(),
            })
            .collect();
        let job = JobGraph {
            vertices,
            edges,
            ..JobGraph::default()
        };
        pipelined_regions(&job)
            .into_iter()
            .map(|region| region.subtasks)
            .collect()
    }

    #[test]
    fn an_all_to_all_edge_makes_one_region() {
        let regions = regions_of(&[2, 2], &[(0, 1, Partitioner::Hash)]);
        assert_eq!(regions, [[(0, 0), (0, 1), (1, 0), (1, 1)]]);
    }

    #[test]
    fn pointwise_edges_alone_make_a_region_for_each_strand() {
        let regions = regions_of(&[2, 4], &[(0, 1, Partitioner::Rescale)]);
        assert_eq!(regions, [[(0, 0), (1, 0), (1, 1)], [(0, 1), (1, 2), (1, 3)]]);
    }

    #[test]
    fn parts_that_nothing_joins_are_regions_of_their_own() {
        assert_eq!(regions_of(&[1, 1], &[]), [[(0, 0)], [(1, 0)]]);
    }
}
