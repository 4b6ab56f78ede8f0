//! From a plan's operators to DataFusion's.
//!
//! ```text
//!   Source, Values ............ InputExec                      Join, IntervalJoin, WindowJoin .. HashJoinExec | NestedLoopJoinExec
//!   Calc, Expand, Correlate,    SteppedExec: our operator      Sort, TemporalSort, SortLimit ... SortExec, GlobalLimitExec
//!   WindowTableFunction                                        Rank, Deduplicate and of windows  SortExec, RankedExec
//!   GroupAggregate ............ AggregateExec                  OverAggregate ................... SortExec, BoundedWindowAggExec
//!   WindowAggregate ........... windows as columns, AggregateExec
//!   WatermarkAssigner, DropUpdateBefore, SinkMaterializer: nothing
//! ```
//!
//! Groups, joins, Top-N and OVER share their rows out by key to threads, each between a repartitioning and a gathering of its own.
//!
//! Invariant: what is lowered has one partition and the node's columns, positional and nullable ([`crate::columns`]).

mod aggregate;
mod join;
pub(crate) mod over;
mod partitions;
mod sort;
mod window;

use std::sync::Arc;

use datafusion_execution::runtime_env::RuntimeEnv;
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion_physical_plan::limit::GlobalLimitExec;
use datafusion_physical_plan::union::UnionExec;
use thalweg_functions::EvaluationEnv;
use thalweg_operators::OperatorContext;
use thalweg_plan::{Node, NodeSpec, Schema};

use crate::budget::Budget;
use crate::chained::ChainedExec;
use crate::error::BatchError;
use crate::input::Inputs;
use crate::plan::BatchPlan;
use crate::stepped::{Recipe, SteppedExec};

/// A part of a DataFusion plan.
pub(crate) type Lowered = Result<Arc<dyn ExecutionPlan>, BatchError>;

/// What lowering needs.
pub(crate) struct Lowering<'a> {
    pub(crate) plan: &'a BatchPlan,
    pub(crate) inputs: &'a Arc<Inputs>,
    pub(crate) runtime: &'a Arc<RuntimeEnv>,
    pub(crate) env: &'a Arc<EvaluationEnv>,
    pub(crate) context: &'a OperatorContext,
    /// The memory that operators may hold.
    pub(crate) budget: &'a Arc<Budget>,
    /// To how many threads rows are shared out by keys.
    pub(crate) partitions: usize,
}

impl Lowering<'_> {
    /// The whole plan.
    pub(crate) fn root(&self) -> Lowered {
        self.node(self.plan.root)
    }

    /// A node that is used twice is run twice.
    fn node(&self, id: usize) -> Lowered {
        let node = self.plan.node(id)?;
        match &node.spec {
            NodeSpec::Source(_) | NodeSpec::Values(_) => self.source(node),
            NodeSpec::WatermarkAssigner(_)
            | NodeSpec::DropUpdateBefore
            | NodeSpec::SinkMaterializer { .. } => self.input(node, 0),
            NodeSpec::Calc { .. }
            | NodeSpec::Expand(_)
            | NodeSpec::Correlate(_)
            | NodeSpec::WindowTableFunction(_) => {
                let input = self.input(node, 0)?;
                self.stepped(
                    input,
                    &node.spec,
                    self.input_schema(node, 0)?,
                    &node.schema,
                    &node.name,
                )
            }
            NodeSpec::Union => self.union(node),
            NodeSpec::GroupAggregate(spec) => {
                let input = self.input(node, 0)?;
                aggregate::aggregated(self, input, &spec.keys, &spec.aggregates)
            }
            NodeSpec::WindowAggregate(spec) => window::aggregated(self, node, spec),
            NodeSpec::OverAggregate(spec) => over::aggregated(self, node, spec),
            NodeSpec::Join(spec) => join::joined(self, node, spec),
            NodeSpec::IntervalJoin(spec) => join::by_interval(self, node, spec),
            NodeSpec::WindowJoin(spec) => join::by_window(self, node, spec),
            NodeSpec::Rank(spec) => sort::top_n(self, self.input(node, 0)?, spec),
            NodeSpec::WindowRank { rank, window } => sort::top_n(
                self,
                self.input(node, 0)?,
                &sort::in_windows(rank.clone(), *window),
            ),
            NodeSpec::Deduplicate(spec) => sort::deduplicated(self, self.input(node, 0)?, spec, None),
            NodeSpec::WindowDeduplicate { deduplicate, window } => {
                sort::deduplicated(self, self.input(node, 0)?, deduplicate, Some(*window))
            }
            NodeSpec::Limit { offset, fetch } => {
                let (skip, fetch) = (number(*offset), fetch.map(number));
                Ok(Arc::new(GlobalLimitExec::new(self.input(node, 0)?, skip, fetch)))
            }
            NodeSpec::Sort(keys) | NodeSpec::TemporalSort(keys) => {
                sort::sorted(self, self.input(node, 0)?, keys, None)
            }
            NodeSpec::SortLimit(spec) => sort::first_rows(self, self.input(node, 0)?, spec),
            NodeSpec::TemporalJoin(_)
            | NodeSpec::LookupJoin(_)
            | NodeSpec::ChangelogNormalize { .. }
            | NodeSpec::LocalGroupAggregate(_)
            | NodeSpec::GlobalGroupAggregate(_)
            | NodeSpec::Sink(_) => Err(BatchError::Unsupported(node.name.clone())),
        }
    }

    fn source(&self, node: &Node) -> Lowered {
        let input = self.plan.sources.iter().position(|source| *source == node.id);
        let missing = || BatchError::Malformed(format!("node {} is no input", node.id));
        Ok(self
            .inputs
            .reader(input.ok_or_else(missing)?, &node.schema, self.runtime))
    }

    /// The rows of a node's input.
    fn input(&self, node: &Node, input: usize) -> Lowered {
        self.node(self.input_node(node, input)?.id)
    }

    fn input_node(&self, node: &Node, input: usize) -> Result<&Node, BatchError> {
        let missing = || BatchError::Malformed(format!("{} has no input {input}", node.name));
        self.plan.node(node.inputs.get(input).ok_or_else(missing)?.node)
    }

    /// The columns of a node's input.
    fn input_schema(&self, node: &Node, input: usize) -> Result<&Schema, BatchError> {
        Ok(&self.input_node(node, input)?.schema)
    }

    /// An operator of ours.
    fn stepped(
        &self,
        input: Arc<dyn ExecutionPlan>,
        spec: &NodeSpec,
        input_schema: &Schema,
        output: &Schema,
        name: &str,
    ) -> Lowered {
        let kind = name.split('(').next().unwrap_or(name);
        let recipe = Recipe {
            spec: spec.clone(),
            input: input_schema.clone(),
            output: output.clone(),
            env: Arc::clone(self.env),
            context: OperatorContext {
                operator_name: kind.into(),
                ..self.context.clone()
            },
        };
        Ok(Arc::new(SteppedExec::new(input, recipe)?))
    }

    fn union(&self, node: &Node) -> Lowered {
        let inputs = (0..node.inputs.len()).map(|input| self.input(node, input));
        let union = UnionExec::try_new(inputs.collect::<Result<_, _>>()?)?;
        Ok(match self.is_of_constants(node) {
            true => Arc::new(ChainedExec::new(union)),
            // In turn: rows of one source would else wait for all of another.
            false => Arc::new(CoalescePartitionsExec::new(union)),
        })
    }

    fn is_of_constants(&self, node: &Node) -> bool {
        let inputs = || node.inputs.iter().map(|input| self.plan.node(input.node));
        match node.spec {
            NodeSpec::Values(_) => true,
            NodeSpec::Source(_) => false,
            _ => inputs().all(|input| input.is_ok_and(|input| self.is_of_constants(input))),
        }
    }
}

fn number(rows: u64) -> usize {
    usize::try_from(rows).unwrap_or(usize::MAX)
}
