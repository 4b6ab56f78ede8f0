//! Which operators run in one task: Flink's rules (StreamingJobGraphGenerator.isChainable), each with its own name.
//!
//! An edge is chained if nothing below breaks it:
//!
//! 1. `pipeline.operator-chaining.enabled` is false;
//! 2. the consumer has more than one input edge;
//! 3. the slot-sharing groups differ;
//! 4. the partitioner is not FORWARD (all exchanges are pipelined here, none is BATCH);
//! 5. the producer's strategy is NEVER, or the consumer's is HEAD or NEVER;
//! 6. the parallelisms differ, or the max parallelisms do and
//!    `pipeline.operator-chaining.chain-operators-with-different-max-parallelism` is false;
//! 7. the edge is one of a union;
//! 8. a yielding operator behind a legacy source: neither exists here.

use thalweg_proto::graph::v1::{ChainingStrategy, Partitioner, StreamEdge, StreamGraph};

/// Why an edge is not chained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainBreak {
    /// Rule 1.
    Disabled,
    /// Rule 2.
    SeveralInputs,
    /// Rule 3.
    SlotSharingGroup,
    /// Rule 4.
    Partitioner,
    /// Rule 5.
    Strategy,
    /// Rule 6.
    Parallelism,
    /// Rule 6.
    MaxParallelism,
    /// Rule 7.
    Union,
}

/// What the configuration says about chaining.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainingRules {
    /// `pipeline.operator-chaining.enabled`
    pub enabled: bool,
    /// `pipeline.operator-chaining.chain-operators-with-different-max-parallelism`
    pub different_max_parallelism: bool,
}

/// What breaks the chain at this edge; `None` = it is chained. The graph's parallelisms, slot-sharing groups and
/// partitioners are resolved; max parallelisms are as the user set them (0 = not set).
pub fn chain_break(graph: &StreamGraph, edge: &StreamEdge, rules: ChainingRules) -> Option<ChainBreak> {
    let (from, to) = (
        &graph.nodes[edge.source as usize - 1],
        &graph.nodes[edge.target as usize - 1],
    );
    let inputs = |of_this_input: bool| {
        let same = |other: &&StreamEdge| {
            other.target == edge.target && (!of_this_input || other.input == edge.input)
        };
        graph.edges.iter().filter(same).count()
    };
    if !rules.enabled {
        Some(ChainBreak::Disabled)
    } else if inputs(true) > 1 {
        Some(ChainBreak::Union)
    } else if inputs(false) > 1 {
        Some(ChainBreak::SeveralInputs)
    } else if from.slot_sharing_group != to.slot_sharing_group {
        Some(ChainBreak::SlotSharingGroup)
    } else if edge.partitioner() != Partitioner::Forward {
        Some(ChainBreak::Partitioner)
    } else if from.chaining() == ChainingStrategy::Never
        || matches!(to.chaining(), ChainingStrategy::Head | ChainingStrategy::Never)
    {
        Some(ChainBreak::Strategy)
    } else if from.parallelism != to.parallelism {
        Some(ChainBreak::Parallelism)
    } else if from.max_parallelism != to.max_parallelism && !rules.different_max_parallelism {
        Some(ChainBreak::MaxParallelism)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_graphs::GraphBuilder;

    const RULES: ChainingRules = ChainingRules {
        enabled: true,
        different_max_parallelism: true,
    };

    /// Source -> Map over FORWARD, all else equal.
    fn pair(change: impl FnOnce(&mut StreamGraph)) -> StreamGraph {
        let mut builder = GraphBuilder::new();
        let source = builder.source("s");
        builder.operator("m", &[(source, 0, Partitioner::Forward)]);
        let mut graph = builder.build();
        change(&mut graph);
        graph
    }

    fn break_of(graph: &StreamGraph, rules: ChainingRules) -> Option<ChainBreak> {
        chain_break(graph, &graph.edges[0], rules)
    }

    #[test]
    fn a_forward_edge_between_like_operators_is_chained() {
        assert_eq!(break_of(&pair(|_| {}), RULES), None);
    }

    #[test]
    fn rule_1_nothing_is_chained_when_chaining_is_off() {
        let off = ChainingRules {
            enabled: false,
            ..RULES
        };
        assert_eq!(break_of(&pair(|_| {}), off), Some(ChainBreak::Disabled));
    }

    #[test]
    fn rule_2_an_operator_of_two_inputs_begins_a_chain() {
        let mut builder = GraphBuilder::new();
        let (left, right) = (builder.source("l"), builder.source("r"));
        builder.operator(
            "join",
            &[(left, 0, Partitioner::Forward), (right, 1, Partitioner::Forward)],
        );
        assert_eq!(break_of(&builder.build(), RULES), Some(ChainBreak::SeveralInputs));
    }

    #[test]
    fn rule_3_another_slot_sharing_group_begins_a_chain() {
        let graph = pair(|graph| graph.nodes[1].slot_sharing_group = "heavy".to_owned());
        assert_eq!(break_of(&graph, RULES), Some(ChainBreak::SlotSharingGroup));
    }

    #[test]
    fn rule_4_every_partitioner_but_forward_begins_a_chain() {
        for partitioner in [
            Partitioner::Rebalance,
            Partitioner::Rescale,
            Partitioner::Broadcast,
            Partitioner::Hash,
            Partitioner::Shuffle,
            Partitioner::Global,
        ] {
            let graph = pair(|graph| graph.edges[0].partitioner = partitioner.into());
            assert_eq!(
                break_of(&graph, RULES),
                Some(ChainBreak::Partitioner),
                "{partitioner:?}"
            );
        }
    }

    #[test]
    fn rule_5_strategies_break_a_chain_before_or_behind_an_operator() {
        use ChainingStrategy::{Always, Head, Never, Unspecified};
        for (from, to, expected) in [
            (Always, Always, None),
            (Unspecified, Unspecified, None),
            (Head, Always, None),
            (Always, Head, Some(ChainBreak::Strategy)),
            (Always, Never, Some(ChainBreak::Strategy)),
            (Never, Always, Some(ChainBreak::Strategy)),
        ] {
            let graph = pair(|graph| {
                graph.nodes[0].chaining = from.into();
                graph.nodes[1].chaining = to.into();
            });
            assert_eq!(break_of(&graph, RULES), expected, "{from:?} -> {to:?}");
        }
    }

    #[test]
    fn rule_6_another_parallelism_begins_a_chain_another_max_parallelism_only_if_so_configured() {
        assert_eq!(
            break_of(&pair(|graph| graph.nodes[1].parallelism = 5), RULES),
            Some(ChainBreak::Parallelism)
        );
        let graph = pair(|graph| graph.nodes[1].max_parallelism = 64);
        assert_eq!(break_of(&graph, RULES), None);
        let strict = ChainingRules {
            different_max_parallelism: false,
            ..RULES
        };
        assert_eq!(break_of(&graph, strict), Some(ChainBreak::MaxParallelism));
    }

    #[test]
    fn rule_7_a_union_is_not_chained_to_its_inputs() {
        let mut builder = GraphBuilder::new();
        let (left, right) = (builder.source("l"), builder.source("r"));
        builder.operator(
            "m",
            &[(left, 0, Partitioner::Forward), (right, 0, Partitioner::Forward)],
        );
        assert_eq!(break_of(&builder.build(), RULES), Some(ChainBreak::Union));
    }

    #[test]
    fn rule_8_has_no_subject_a_source_chains_like_any_operator() {
        let graph = pair(|graph| graph.nodes[1].kind = thalweg_proto::graph::v1::NodeKind::Sink.into());
        assert_eq!(break_of(&graph, RULES), None);
    }
}
