//! From drafts to a plan: operators that are the same, of the same rows, become one; each gets its name and uid.
//!
//! A uid is made of the sink, the way from it (stateful operators and which of their inputs) and the operator's kind and keys. Projections,
//! filters and whether a group is aggregated in two phases are not on that way, so that a script that is edited there keeps its state.

use std::collections::HashSet;

use thalweg_functions::user::may_differ;
use thalweg_plan::{Distribution, Input, Node, NodeSpec, Plan};

use super::draft::Draft;
use super::expr::is_deterministic;
use super::names;

/// All operators of some sinks.
pub(crate) fn shared(sinks: &[Draft], parallelism: Option<u32>) -> Plan {
    let mut builder = Builder {
        plan: Plan::default(),
        uids: HashSet::new(),
        parallelism,
    };
    for sink in sinks {
        builder.add(sink, "");
    }
    builder.plan
}

struct Builder {
    plan: Plan,
    uids: HashSet<String>,
    parallelism: Option<u32>,
}

impl Builder {
    fn add(&mut self, draft: &Draft, way: &str) -> usize {
        let step = step(draft);
        let below = match &step {
            Some(step) => format!("{way}{step}/"),
            None => way.to_owned(),
        };
        let several = draft.inputs.len() > 1;
        let mut inputs = Vec::with_capacity(draft.inputs.len());
        for (position, input) in draft.inputs.iter().enumerate() {
            let below = match several {
                true => format!("{below}{position}/"),
                false => below.clone(),
            };
            inputs.push(Input {
                node: self.add(&input.node, &below),
                distribution: input.distribution.clone(),
            });
        }
        let node = Node {
            id: self.plan.nodes.len(),
            spec: draft.spec.clone(),
            name: names::name(draft),
            uid: String::new(),
            parallelism: draft.parallelism.or(self.parallelism),
            inputs,
            schema: draft.schema.clone(),
            changelog: draft.changelog,
            upsert_keys: draft.upsert_keys.clone(),
        };
        if let Some(known) = self.plan.nodes.iter().position(|known| is_same(known, &node)) {
            return known;
        }
        let id = node.id;
        let uid = match &node.spec {
            NodeSpec::Source(spec) => format!("source {}", spec.table.path),
            spec => match step {
                Some(step) => format!("{way}{step}"),
                None => format!("{way}{}", names::kind(spec)),
            },
        };
        let uid = self.unique(uid);
        self.plan.nodes.push(Node { uid, ..node });
        id
    }

    fn unique(&mut self, uid: String) -> String {
        let numbers = std::iter::once(uid.clone()).chain((2_u32..).map(|number| format!("{uid} #{number}")));
        for candidate in numbers {
            if self.uids.insert(candidate.clone()) {
                return candidate;
            }
        }
        uid
    }
}

/// Whether two operators give the same rows.
fn is_same(known: &Node, node: &Node) -> bool {
    let volatile = |spec: &NodeSpec| match spec {
        NodeSpec::Sink(_) => true,
        NodeSpec::Calc { projection, filter } => !projection.iter().chain(filter).all(is_deterministic),
        NodeSpec::Correlate(spec) => may_differ(&spec.function) || !spec.args.iter().all(is_deterministic),
        _ => false,
    };
    known.spec == node.spec
        && known.inputs == node.inputs
        && known.schema == node.schema
        && known.changelog == node.changelog
        && known.parallelism == node.parallelism
        && !volatile(&node.spec)
}

/// An operator's part of the way, if it has state or is a sink: its kind and the names of its keys.
fn step(draft: &Draft) -> Option<String> {
    let kind = match &draft.spec {
        NodeSpec::Sink(spec) => return Some(format!("sink {}", spec.table.path)),
        NodeSpec::GlobalGroupAggregate(_) => "GroupAggregate",
        spec if is_stateful(spec) => names::kind(spec),
        _ => return None,
    };
    let input = draft.inputs.first()?;
    let keys = match &input.distribution {
        Distribution::Hash(columns) => columns.as_slice(),
        _ => &[],
    };
    let name = |column: &usize| Some(input.node.schema.fields.get(*column)?.name.as_str());
    let keys: Vec<&str> = keys.iter().filter_map(name).collect();
    Some(format!("{kind}[{}]", keys.join(",")))
}

/// Whether an operator keeps anything from one row to the next.
pub(crate) fn is_stateful(spec: &NodeSpec) -> bool {
    match spec {
        NodeSpec::GroupAggregate(_)
        | NodeSpec::GlobalGroupAggregate(_)
        | NodeSpec::WindowAggregate(_)
        | NodeSpec::OverAggregate(_)
        | NodeSpec::Join(_)
        | NodeSpec::IntervalJoin(_)
        | NodeSpec::TemporalJoin(_)
        | NodeSpec::WindowJoin(_)
        | NodeSpec::Rank(_)
        | NodeSpec::WindowRank { .. }
        | NodeSpec::Deduplicate(_)
        | NodeSpec::WindowDeduplicate { .. }
        | NodeSpec::ChangelogNormalize { .. }
        | NodeSpec::Limit { .. }
        | NodeSpec::Sort(_)
        | NodeSpec::TemporalSort(_)
        | NodeSpec::SortLimit(_)
        | NodeSpec::SinkMaterializer { .. } => true,
        NodeSpec::WindowTableFunction(spec) => {
            matches!(spec.kind, thalweg_plan::spec::WindowKind::Session { .. })
        }
        NodeSpec::Source(_)
        | NodeSpec::Values(_)
        | NodeSpec::Calc { .. }
        | NodeSpec::WatermarkAssigner(_)
        | NodeSpec::Union
        | NodeSpec::Expand(_)
        | NodeSpec::Correlate(_)
        | NodeSpec::LocalGroupAggregate(_)
        | NodeSpec::LookupJoin(_)
        | NodeSpec::DropUpdateBefore
        | NodeSpec::Sink(_) => false,
    }
}
