//! A batch plan that runs: on threads of its own, within a memory pool.
//!
//! ```text
//!   ExecutionPlan --task on the plan's runtime--> bounded channel --> BatchOperator
//! ```
//!
//! What has no room in memory goes to files where DataFusion's operators can (sorts, aggregates) and in the inputs' queues; a join's
//! right side can't, and fails with a message.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion_common::{DataFusionError, Result};
use datafusion_execution::TaskContext;
use datafusion_execution::config::SessionConfig;
use datafusion_execution::memory_pool::{GreedyMemoryPool, TrackConsumersPool};
use datafusion_execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion_physical_plan::{ExecutionPlan, execute_stream};
use futures::StreamExt;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

/// Batches of output that wait for the sink.
const WAITING: usize = 4;
/// Of whom a message about memory tells.
const CONSUMERS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(2);

/// A memory pool and a folder for files.
pub(crate) fn runtime_env(memory_bytes: usize, folder: Option<&Path>) -> Result<Arc<RuntimeEnv>> {
    let pool = TrackConsumersPool::new(GreedyMemoryPool::new(memory_bytes), CONSUMERS);
    let builder = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(pool));
    match folder {
        Some(folder) => builder.with_temp_file_path(folder).build_arc(),
        None => builder.build_arc(),
    }
}

/// What a plan is run with: functions are in the plan itself.
pub(crate) fn task_context(config: SessionConfig, env: Arc<RuntimeEnv>) -> TaskContext {
    TaskContext::new(
        None,
        "batch".to_owned(),
        config,
        HashMap::new(),
        HashMap::new(),
        HashMap::new(),
        HashMap::new(),
        env,
    )
}

/// A plan on its way to its end; dropping it ends it.
pub(crate) struct Run {
    threads: Option<Runtime>,
    rows: mpsc::Receiver<Result<RecordBatch>>,
}

impl Run {
    /// Starts a plan of one partition; sorts keep so many bytes free to merge what they put in files.
    pub(crate) fn start(
        plan: Arc<dyn ExecutionPlan>,
        env: Arc<RuntimeEnv>,
        merge_bytes: usize,
        partitions: usize,
    ) -> Result<Self> {
        let threads = Builder::new_multi_thread()
            .worker_threads(partitions)
            .thread_name("batch")
            .enable_all()
            .build()?;
        let mut config = SessionConfig::new()
            .with_target_partitions(partitions)
            .with_sort_spill_reservation_bytes(merge_bytes);
        // The newer streams of groups merge their files with all the memory there is, and have none for the groups that come of it.
        config.options_mut().execution.enable_migration_aggregate = false;
        let context = task_context(config, env);
        let (sender, rows) = mpsc::channel(WAITING);
        threads.spawn(async move {
            let mut stream = match execute_stream(plan, Arc::new(context)) {
                Ok(stream) => stream,
                Err(error) => return drop(sender.send(Err(error)).await),
            };
            while let Some(rows) = stream.next().await {
                let failed = rows.is_err();
                if sender.send(rows).await.is_err() || failed {
                    return;
                }
            }
        });
        Ok(Self {
            threads: Some(threads),
            rows,
        })
    }

    /// The next rows; `None`: there are no more.
    pub(crate) fn poll(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<RecordBatch, DataFusionError>>> {
        self.rows.poll_recv(cx)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}
