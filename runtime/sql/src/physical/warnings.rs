//! What a user should know of a plan before it runs for months.

use thalweg_plan::spec::JoinSpec;
use thalweg_plan::{Node, NodeSpec, Plan};

/// A warning for each operator whose state grows with its input and never shrinks: no time-to-live, no window, no watermark ends it.
pub fn state_warnings(plan: &Plan) -> Vec<String> {
    let growing = plan.nodes.iter().filter(|node| grows(plan, node));
    growing
        .map(|node| {
            format!(
                "the state of {} can only grow: set table.exec.state.ttl or a STATE_TTL hint if rows of its keys stop coming",
                node.name
            )
        })
        .collect()
}

fn grows(plan: &Plan, node: &Node) -> bool {
    match &node.spec {
        NodeSpec::GroupAggregate(spec) | NodeSpec::GlobalGroupAggregate(spec) => {
            spec.state_ttl_ms == 0 && !spec.keys.is_empty()
        }
        NodeSpec::Join(JoinSpec {
            left_ttl_ms,
            right_ttl_ms,
            ..
        }) => [left_ttl_ms, right_ttl_ms]
            .into_iter()
            .zip(&node.inputs)
            .any(|(ttl, input)| {
                // One row, or constants: nothing grows.
                let side = &plan.nodes[input.node];
                *ttl == 0
                    && !side.upsert_keys.iter().any(Vec::is_empty)
                    && !matches!(side.spec, NodeSpec::Values(_))
            }),
        NodeSpec::Rank(rank) => rank.state_ttl_ms == 0 && !rank.partition.is_empty(),
        NodeSpec::Deduplicate(spec) => spec.state_ttl_ms == 0,
        NodeSpec::ChangelogNormalize { state_ttl_ms, .. }
        | NodeSpec::SinkMaterializer { state_ttl_ms, .. } => *state_ttl_ms == 0,
        _ => false,
    }
}
