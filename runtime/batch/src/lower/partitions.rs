//! Rows shared out to threads by a key, and gathered again.

use std::sync::Arc;

use datafusion_physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion_physical_plan::repartition::RepartitionExec;
use datafusion_physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning};

use super::Lowered;
use crate::columns::column;

/// Rows of equal keys in one of so many partitions; without a key as they are.
pub(super) fn shared_out(input: Arc<dyn ExecutionPlan>, keys: &[usize], partitions: usize) -> Lowered {
    if keys.is_empty() || partitions < 2 {
        return Ok(input);
    }
    let keys = keys.iter().map(|key| column(*key)).collect();
    Ok(Arc::new(RepartitionExec::try_new(
        input,
        Partitioning::Hash(keys, partitions),
    )?))
}

/// All rows in one partition.
pub(super) fn gathered(input: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    match input.output_partitioning().partition_count() {
        1 => input,
        _ => Arc::new(CoalescePartitionsExec::new(input)),
    }
}
