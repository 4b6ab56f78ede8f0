//! What lies between a job's sources and one of its sinks.

use std::collections::BTreeMap;
use std::sync::Arc;

use thalweg_functions::user::UserFunctions;
use thalweg_plan::spec::{AggregateCall, WindowKind, Windowing};
use thalweg_plan::{Node, NodeSpec, Plan, Schema};

use crate::error::BatchError;
use crate::function::udaf;
use crate::lower::over::ranking;

/// The operators before one sink.
#[derive(Debug, Clone)]
pub struct BatchPlan {
    /// In the job's order; inputs are positions in here or, of `sources`, in [`Self::inputs`].
    pub(crate) nodes: BTreeMap<usize, Node>,
    /// The node whose rows the sink takes.
    pub(crate) root: usize,
    /// The nodes that give it rows, in the order of its logical inputs.
    pub(crate) sources: Vec<usize>,
}

impl BatchPlan {
    /// All before the sink, which is the node `sink` of `plan`; `functions` are users'.
    ///
    /// # Errors
    /// An operator or a function without a batch form, by name.
    pub fn of(plan: &Plan, sink: usize, functions: &Arc<UserFunctions>) -> Result<Self, BatchError> {
        let malformed = || BatchError::Malformed(format!("node {sink} is no sink with one input"));
        let node = plan.nodes.get(sink).ok_or_else(malformed)?;
        let [input] = node.inputs.as_slice() else {
            return Err(malformed());
        };
        let mut found = Self {
            nodes: BTreeMap::new(),
            root: input.node,
            sources: Vec::new(),
        };
        found.collect(plan, input.node)?;
        for call in found.nodes.values().flat_map(|node| calls(&node.spec)) {
            if ranking(&call.function).is_none() {
                udaf(call, functions)?;
            }
        }
        Ok(found)
    }

    fn collect(&mut self, plan: &Plan, id: usize) -> Result<(), BatchError> {
        if self.nodes.contains_key(&id) {
            return Ok(());
        }
        let node = plan
            .nodes
            .get(id)
            .ok_or_else(|| BatchError::Malformed(format!("node {id} is used and isn't there")))?;
        if let Some(what) = unsupported(&node.spec) {
            return Err(BatchError::Unsupported(what.to_owned()));
        }
        if is_source(&node.spec) {
            self.sources.push(id);
        }
        for input in &node.inputs {
            self.collect(plan, input.node)?;
        }
        self.nodes.insert(id, node.clone());
        Ok(())
    }

    /// The nodes of the job's plan whose rows it takes: one for each logical input, in their order.
    pub fn sources(&self) -> &[usize] {
        &self.sources
    }

    /// Its rows.
    pub fn schema(&self) -> Schema {
        self.nodes
            .get(&self.root)
            .map(|node| node.schema.clone())
            .unwrap_or_default()
    }

    pub(crate) fn node(&self, id: usize) -> Result<&Node, BatchError> {
        let missing = || BatchError::Malformed(format!("node {id} isn't there"));
        self.nodes.get(&id).ok_or_else(missing)
    }
}

/// The aggregate functions of an operator.
fn calls(spec: &NodeSpec) -> Vec<&AggregateCall> {
    match spec {
        NodeSpec::GroupAggregate(spec) => spec.aggregates.iter().collect(),
        NodeSpec::WindowAggregate(spec) => spec.aggregates.iter().collect(),
        NodeSpec::OverAggregate(spec) => spec.groups.iter().flat_map(|(_, calls)| calls).collect(),
        _ => Vec::new(),
    }
}

/// Nodes that are operators of their own beside the batch plan.
pub(crate) fn is_source(spec: &NodeSpec) -> bool {
    matches!(spec, NodeSpec::Source(_) | NodeSpec::Values(_))
}

/// What of an operator has no batch form, in words; `None`: it has one.
pub fn unsupported(spec: &NodeSpec) -> Option<&'static str> {
    match spec {
        NodeSpec::TemporalJoin(_) => Some("A temporal join (FOR SYSTEM_TIME AS OF)"),
        NodeSpec::LookupJoin(_) => Some("A lookup join (FOR SYSTEM_TIME AS OF)"),
        NodeSpec::ChangelogNormalize { .. } => Some("A table of changes"),
        NodeSpec::LocalGroupAggregate(_) | NodeSpec::GlobalGroupAggregate(_) => {
            Some("Aggregation in two phases")
        }
        NodeSpec::WindowTableFunction(spec) if is_session(spec.kind) => Some("SESSION"),
        NodeSpec::WindowAggregate(spec) => match &spec.windowing {
            Windowing::Assign(window) if is_session(window.kind) => Some("SESSION"),
            _ => None,
        },
        _ => None,
    }
}

fn is_session(kind: WindowKind) -> bool {
    matches!(kind, WindowKind::Session { .. })
}
