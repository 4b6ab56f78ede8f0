//! A plan in batch mode: sources, one operator before each sink, sinks.
//!
//! ```text
//!   Source, Values --all rows to one--> Batch: all operators of the plan before this sink --> Sink
//! ```
//!
//! Invariant: the sink has one writer unless the plan says otherwise, so that sorted rows come in order.

use std::sync::Arc;

use thalweg_batch::{BatchOperator, BatchPlan};
use thalweg_functions::EvaluationEnv;
use thalweg_operators::OperatorContext;
use thalweg_plan::{Distribution, Node, NodeSpec, Plan};
use thalweg_proto::graph::v1::{ChainingStrategy, NodeKind, StreamNode};
use thalweg_task::{NodeFactory, OperatorFactory};
use thalweg_types::config::{Configuration, options};

use super::{Builder, TableError, columns};

/// Flink's `taskmanager.memory.process.size` where none is configured.
const DEFAULT_PROCESS_BYTES: u64 = 1728 << 20;
/// The operator's name in the graph.
const BATCH: &str = "Batch";

impl Builder {
    /// The program of a plan whose inputs end.
    pub(super) fn add_batch(
        &mut self,
        plan: &Plan,
        configuration: &Configuration,
        env: &Arc<EvaluationEnv>,
    ) -> Result<(), TableError> {
        for node in &plan.nodes {
            match node.spec {
                NodeSpec::Source(_) | NodeSpec::Values(_) => self.add(plan, node, configuration, env)?,
                NodeSpec::Sink(_) => {
                    let batch = self.batch(plan, node, configuration, env)?;
                    self.batch_sink(plan, node, batch, configuration, env)?;
                }
                _ => self.outputs.push(Vec::new()),
            }
        }
        Ok(())
    }

    /// All before a sink.
    fn batch(
        &mut self,
        plan: &Plan,
        sink: &Node,
        configuration: &Configuration,
        env: &Arc<EvaluationEnv>,
    ) -> Result<u32, TableError> {
        let batch = BatchPlan::of(plan, sink.id, &env.functions)?;
        let id = self.nodes.len() as u32 + 1;
        self.nodes.push(StreamNode {
            id,
            kind: NodeKind::Operator.into(),
            operator: BATCH.to_owned(),
            name: format!("{BATCH}({})", sink.name),
            uid: format!("{}/batch", sink.uid),
            parallelism: 1,
            chaining: ChainingStrategy::Always.into(),
            output_columns: columns(&batch.schema()),
            ..StreamNode::default()
        });
        for (number, source) in (0..).zip(batch.sources()) {
            for source in self.outputs_of(*source)? {
                self.connect(source, id, number, &Distribution::Singleton);
            }
        }
        let factory = operator_factory(
            batch,
            Arc::clone(env),
            memory_bytes(configuration)?,
            partitions(configuration)?,
        );
        let factory = NodeFactory::Operator(factory);
        self.factories.insert(id, factory);
        Ok(id)
    }

    fn batch_sink(
        &mut self,
        plan: &Plan,
        sink: &Node,
        batch: u32,
        configuration: &Configuration,
        env: &Arc<EvaluationEnv>,
    ) -> Result<(), TableError> {
        let (kind, operator, factory) = self.factory(plan, sink, configuration, env)?;
        let id = self.nodes.len() as u32 + 1;
        self.nodes.push(StreamNode {
            id,
            kind: kind.into(),
            operator,
            name: sink.name.clone(),
            uid: sink.uid.clone(),
            parallelism: 1,
            chaining: ChainingStrategy::Always.into(),
            ..StreamNode::default()
        });
        self.factories.insert(id, factory);
        self.connect(batch, id, 0, &Distribution::Forward);
        self.outputs.push(vec![id]);
        Ok(())
    }
}

/// What a plan may hold in memory where no TaskManager gives it a part of its own: as a TaskManager of this configuration would.
fn memory_bytes(configuration: &Configuration) -> Result<usize, TableError> {
    let size = configuration.get(&options::MANAGED_MEMORY_SIZE)?;
    let process = configuration
        .get(&options::TM_PROCESS_MEMORY)?
        .or(configuration.get(&options::TM_FLINK_MEMORY)?)
        .map_or(DEFAULT_PROCESS_BYTES, |size| size.0);
    let share = configuration.get(&options::MANAGED_MEMORY_FRACTION)? * process as f64;
    Ok(size.map_or(share as usize, |size| {
        usize::try_from(size.0).unwrap_or(usize::MAX)
    }))
}

/// As many as a stream's operators would have subtasks.
fn partitions(configuration: &Configuration) -> Result<usize, TableError> {
    let of_tables = configuration.get(&options::TABLE_DEFAULT_PARALLELISM)?;
    let default = configuration.get(&options::PARALLELISM_DEFAULT)?;
    Ok(u32::try_from(of_tables).unwrap_or(default) as usize)
}

fn operator_factory(
    plan: BatchPlan,
    env: Arc<EvaluationEnv>,
    memory_bytes: usize,
    partitions: usize,
) -> OperatorFactory {
    Arc::new(move |mut context: OperatorContext| {
        let state = Arc::make_mut(&mut context.state);
        // A worker has its share of the TaskManager's; a process of its own has no limit yet.
        if state.memory_bytes == usize::MAX {
            state.memory_bytes = memory_bytes;
        }
        let operator = BatchOperator::new(&plan, &env, &context, partitions)?;
        Ok(Box::new(operator))
    })
}
