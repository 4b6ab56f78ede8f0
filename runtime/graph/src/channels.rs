//! Which subtask sends to which: pointwise for FORWARD and RESCALE, all to all otherwise. Flink's EdgeManagerBuildUtil.

use thalweg_proto::graph::v1::{JobEdge, JobGraph, Partitioner};

/// The channels by which an edge enters a subtask of its target: producing subtask, and subpartition of that producer's
/// result partition.
pub fn channels_into(edge: &JobEdge, job: &JobGraph, subtask: u32) -> Vec<(u32, u32)> {
    let (producers, consumers) = parallelisms(edge, job);
    if !is_pointwise(edge) {
        return (0..producers).map(|producer| (producer, subtask)).collect();
    }
    let range = if producers > consumers {
        share(subtask, producers, consumers)
    } else {
        // the one producer whose consumers include this subtask
        let producer = (u64::from(subtask) * u64::from(producers) / u64::from(consumers)) as u32;
        producer..producer + 1
    };
    range
        .map(|producer| {
            (
                producer,
                subtask - consumers_of(producer, producers, consumers).start,
            )
        })
        .collect()
}

/// The consuming subtasks that an edge leads to from a subtask of its source; subpartition i feeds the i-th.
pub fn channels_out(edge: &JobEdge, job: &JobGraph, subtask: u32) -> Vec<u32> {
    let (producers, consumers) = parallelisms(edge, job);
    if is_pointwise(edge) {
        consumers_of(subtask, producers, consumers).collect()
    } else {
        (0..consumers).collect()
    }
}

fn parallelisms(edge: &JobEdge, job: &JobGraph) -> (u32, u32) {
    let of = |id: &str| {
        job.vertices
            .iter()
            .find(|vertex| vertex.id == id)
            .map_or(0, |vertex| vertex.parallelism)
    };
    (of(&edge.source_vertex), of(&edge.target_vertex))
}

pub(crate) fn is_pointwise(edge: &JobEdge) -> bool {
    let partitioner = edge.edge.as_ref().map(|edge| edge.partitioner());
    matches!(partitioner, Some(Partitioner::Forward | Partitioner::Rescale))
}

/// The `index`-th of `parts` contiguous shares of `whole`.
fn share(index: u32, whole: u32, parts: u32) -> std::ops::Range<u32> {
    let bound = |index: u32| (u64::from(index) * u64::from(whole) / u64::from(parts)) as u32;
    bound(index)..bound(index + 1)
}

/// Pointwise consumers of a producer.
fn consumers_of(producer: u32, producers: u32, consumers: u32) -> std::ops::Range<u32> {
    if producers > consumers {
        // the consumer whose share of the producers holds this one
        let consumer =
            ((u64::from(producer) + 1) * u64::from(consumers)).div_ceil(u64::from(producers)) as u32 - 1;
        return consumer..consumer + 1;
    }
    let bound = |index: u32| (u64::from(index) * u64::from(consumers)).div_ceil(u64::from(producers)) as u32;
    bound(producer)..bound(producer + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_proto::graph::v1::{JobVertex, StreamEdge};

    fn job(producers: u32, consumers: u32, partitioner: Partitioner) -> JobGraph {
        let vertex = |id: &str, parallelism| JobVertex {
            id: id.to_owned(),
            parallelism,
            ..JobVertex::default()
        };
        let edge = JobEdge {
            edge: Some(StreamEdge {
                partitioner: partitioner.into(),
                ..StreamEdge::default()
            }),
            source_vertex: "p".to_owned(),
            target_vertex: "c".to_owned(),
        };
        JobGraph {
            vertices: vec![vertex("p", producers), vertex("c", consumers)],
            edges: vec![edge],
            ..JobGraph::default()
        }
    }

    fn all_out(job: &JobGraph) -> Vec<Vec<u32>> {
        (0..job.vertices[0].parallelism)
            .map(|subtask| channels_out(&job.edges[0], job, subtask))
            .collect()
    }

    #[test]
    fn forward_joins_equal_subtasks() {
        assert_eq!(all_out(&job(3, 3, Partitioner::Forward)), [[0], [1], [2]]);
    }

    #[test]
    fn rescale_spreads_each_producer_over_its_share_of_consumers_or_the_other_way_round() {
        assert_eq!(all_out(&job(2, 4, Partitioner::Rescale)), [[0, 1], [2, 3]]);
        assert_eq!(all_out(&job(2, 3, Partitioner::Rescale)), [vec![0, 1], vec![2]]);
        assert_eq!(all_out(&job(4, 2, Partitioner::Rescale)), [[0], [0], [1], [1]]);
        assert_eq!(all_out(&job(3, 2, Partitioner::Rescale)), [[0], [1], [1]]);
    }

    #[test]
    fn other_partitioners_join_all_with_all() {
        for partitioner in [
            Partitioner::Hash,
            Partitioner::Rebalance,
            Partitioner::Broadcast,
            Partitioner::Shuffle,
            Partitioner::Global,
        ] {
            assert_eq!(all_out(&job(2, 3, partitioner)), [[0, 1, 2], [0, 1, 2]]);
        }
    }

    #[test]
    fn both_ends_of_a_channel_agree_on_it() {
        for partitioner in [Partitioner::Rescale, Partitioner::Hash] {
            for producers in 1..9 {
                for consumers in 1..9 {
                    let job = job(producers, consumers, partitioner);
                    let mut from_inputs = Vec::new();
                    for consumer in 0..consumers {
                        let channels = channels_into(&job.edges[0], &job, consumer);
                        assert!(
                            !channels.is_empty(),
                            "{producers} -> {consumers}: consumer {consumer} has no input"
                        );
                        from_inputs.extend(
                            channels
                                .into_iter()
                                .map(|(p, subpartition)| (p, subpartition, consumer)),
                        );
                    }
                    from_inputs.sort_unstable();
                    let from_outputs: Vec<_> = all_out(&job)
                        .into_iter()
                        .zip(0..)
                        .flat_map(|(out, p)| {
                            out.into_iter()
                                .zip(0..)
                                .map(move |(consumer, s)| (p, s, consumer))
                        })
                        .collect();
                    assert_eq!(
                        from_inputs, from_outputs,
                        "{partitioner:?} {producers} -> {consumers}"
                    );
                }
            }
        }
    }
}
