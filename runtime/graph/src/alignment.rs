//! Watermark alignment: how far the sources of a group may read. Flink's SourceCoordinator, without the events.
//!
//! ```text
//!   tasks --their watermark, at an interval--> WatermarkGroups --least of the group + own max drift--> tasks
//! ```
//!
//! Idle, finished and restarting tasks hold nobody back, and neither does one that has had no watermark yet, as in Flink.
//! Invariant: a group's limit depends only on what its running tasks said last.

use std::collections::BTreeMap;

use thalweg_proto::graph::v1::{JobGraph, JobVertex, WatermarkAlignment};

/// A vertex whose watermarks are aligned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlignedVertex {
    /// Its position in the JobGraph.
    pub vertex: usize,
    /// What it is aligned with.
    pub group: String,
    /// How far it may run ahead of the group's least watermark, in ms of event time.
    pub max_drift_ms: i64,
    /// How often its tasks are told how far they may go.
    pub update_interval_ms: u64,
    /// By subtask: the attempt that spoke, and its watermark; `None` = it is idle or at its end.
    reported: BTreeMap<u32, (u32, Option<i64>)>,
}

/// All vertices of a job whose watermarks are aligned.
#[derive(Debug, Clone, Default)]
pub struct WatermarkGroups {
    vertices: Vec<AlignedVertex>,
}

/// What a vertex's chain says of alignment, if it has any.
pub fn watermark_alignment(vertex: &JobVertex) -> Option<&WatermarkAlignment> {
    let mut nodes = vertex.chain.iter();
    nodes.find_map(|node| node.watermark_alignment.as_ref())
}

impl WatermarkGroups {
    /// Those of a job; nothing is reported yet.
    pub fn of(job: &JobGraph) -> Self {
        let aligned = |(position, vertex): (usize, &JobVertex)| {
            let alignment = watermark_alignment(vertex)?;
            Some(AlignedVertex {
                vertex: position,
                group: alignment.group.clone(),
                max_drift_ms: i64::try_from(alignment.max_drift_ms).unwrap_or(i64::MAX),
                update_interval_ms: alignment.update_interval_ms.max(1),
                reported: BTreeMap::new(),
            })
        };
        Self {
            vertices: job.vertices.iter().enumerate().filter_map(aligned).collect(),
        }
    }

    /// In the JobGraph's order.
    pub fn vertices(&self) -> &[AlignedVertex] {
        &self.vertices
    }

    /// A task said how far it is; `None` = it is idle or at its end. Of a vertex that is not aligned it is ignored.
    pub fn report(&mut self, vertex: usize, subtask: u32, attempt: u32, watermark_ms: Option<i64>) {
        if let Some(aligned) = self.vertices.iter_mut().find(|known| known.vertex == vertex) {
            // The end of a stream is no time.
            let watermark_ms = watermark_ms.filter(|watermark| *watermark < i64::MAX);
            aligned.reported.insert(subtask, (attempt, watermark_ms));
        }
    }

    /// How far the tasks of an aligned vertex (its place in [`Self::vertices`]) may go; `i64::MAX` = without limit.
    /// `is_running` says whether an attempt (vertex, subtask, attempt) is one that still counts.
    pub fn max_watermark(&self, place: usize, is_running: impl Fn(usize, u32, u32) -> bool) -> i64 {
        let Some(aligned) = self.vertices.get(place) else {
            return i64::MAX;
        };
        let group = self.vertices.iter().filter(|other| other.group == aligned.group);
        let watermarks = group.flat_map(|member| {
            let reported = member.reported.iter();
            let running =
                reported.filter(|(subtask, (attempt, _))| is_running(member.vertex, **subtask, *attempt));
            running.filter_map(|(_, (_, watermark))| *watermark)
        });
        watermarks
            .min()
            .map_or(i64::MAX, |least| least.saturating_add(aligned.max_drift_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_proto::graph::v1::StreamNode;

    fn vertex(group: &str, max_drift_ms: u64) -> JobVertex {
        let plain = StreamNode::default();
        let aligned = StreamNode {
            watermark_alignment: (!group.is_empty()).then(|| WatermarkAlignment {
                group: group.to_owned(),
                max_drift_ms,
                update_interval_ms: 10,
            }),
            ..StreamNode::default()
        };
        JobVertex {
            chain: vec![plain, aligned],
            ..JobVertex::default()
        }
    }

    /// Vertices 0 and 1 are of group "a", 2 of none, 3 of "b".
    fn groups() -> WatermarkGroups {
        WatermarkGroups::of(&JobGraph {
            vertices: vec![vertex("a", 100), vertex("a", 5), vertex("", 0), vertex("b", 7)],
            ..JobGraph::default()
        })
    }

    fn limits(groups: &WatermarkGroups) -> [i64; 3] {
        [0, 1, 2].map(|place| groups.max_watermark(place, |_, _, _| true))
    }

    #[test]
    fn each_vertex_may_go_by_its_own_drift_beyond_the_least_of_its_group() {
        let mut groups = groups();
        assert_eq!(limits(&groups), [i64::MAX; 3], "nobody has a watermark");
        groups.report(0, 0, 0, Some(1_000));
        groups.report(0, 1, 0, Some(900));
        groups.report(1, 0, 0, Some(50));
        groups.report(3, 0, 0, Some(-7));
        groups.report(2, 0, 0, Some(-1_000));
        assert_eq!(limits(&groups), [150, 55, 0]);
        groups.report(1, 0, 0, Some(2_000));
        assert_eq!(limits(&groups), [1_000, 905, 0]);
    }

    #[test]
    fn idle_and_finished_tasks_hold_nobody_back() {
        let mut groups = groups();
        groups.report(0, 0, 0, Some(1_000));
        groups.report(1, 0, 0, Some(10));
        groups.report(1, 0, 0, None);
        assert_eq!(limits(&groups)[0], 1_100);
        groups.report(1, 0, 0, Some(10));
        groups.report(1, 0, 0, Some(i64::MAX));
        assert_eq!(limits(&groups)[0], 1_100);
        groups.report(0, 0, 0, None);
        assert_eq!(limits(&groups)[0], i64::MAX);
    }

    #[test]
    fn what_an_earlier_attempt_said_counts_no_more() {
        let mut groups = groups();
        groups.report(0, 0, 0, Some(1_000));
        groups.report(1, 0, 3, Some(10));
        let restarted = |vertex, _, attempt| (vertex, attempt) != (1, 3);
        assert_eq!(groups.max_watermark(0, restarted), 1_100);
        groups.report(1, 0, 4, Some(20));
        assert_eq!(groups.max_watermark(0, restarted), 120);
    }

    #[test]
    fn limits_stop_at_the_ends_of_time() {
        let mut groups = WatermarkGroups::of(&JobGraph {
            vertices: vec![vertex("a", u64::MAX)],
            ..JobGraph::default()
        });
        groups.report(0, 0, 0, Some(i64::MAX - 1));
        assert_eq!(groups.max_watermark(0, |_, _, _| true), i64::MAX);
        groups.report(0, 0, 0, Some(i64::MIN));
        assert_eq!(groups.max_watermark(0, |_, _, _| true), -1);
    }
}
