//! A lookup join's table: its connector's source, of which each subtask reads all rows.
//!
//! ```text
//!   LookupJoinSpec --create_lookup--> Source --one reader a reading, as if there were one subtask--> LookupJoin
//! ```

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arrow::array::RecordBatch;
use thalweg_connectors::table::create_lookup;
use thalweg_connectors::{AttemptOrder, ConnectorContext, ConnectorError, Source, SourceEvent, SourceReader};
use thalweg_functions::EvaluationEnv;
use thalweg_operators::OperatorContext;
use thalweg_operators::sql::SqlOperator;
use thalweg_operators::sql::lookup_join::{
    LookupError, LookupJoin, LookupSettings, LookupTable, Reload, TableReader, table_schema,
};
use thalweg_plan::connector::{ConnectorProblem, SourceSpec};
use thalweg_plan::spec::LookupJoinSpec;
use thalweg_plan::{NodeSpec, Schema};
use thalweg_storage::FileSystems;
use thalweg_task::OperatorFactory;
use thalweg_types::Classify;
use thalweg_types::config::Configuration;

/// What makes the operator.
pub(super) fn operator_factory(
    spec: &LookupJoinSpec,
    inputs: Vec<Schema>,
    output: Schema,
    env: Arc<EvaluationEnv>,
    configuration: &Configuration,
) -> Result<OperatorFactory, ConnectorProblem> {
    let scan = SourceSpec {
        table: spec.table.clone(),
        columns: spec.columns.clone(),
        filters: Vec::new(),
        limit: None,
        watermark: None,
    };
    let (source, cache) = create_lookup(&scan, &table_schema(spec))?;
    let settings = LookupSettings {
        reload: cache.reload_interval.map(|interval| Reload {
            interval,
            fixed_rate: cache.fixed_rate,
        }),
        max_bytes: cache.max_bytes,
    };
    let files = FileSystems::new(configuration.clone());
    let (spec, node) = (spec.clone(), NodeSpec::LookupJoin(spec.clone()));
    Ok(Arc::new(move |context: OperatorContext| {
        let table = Box::new(SourceTable {
            source: Arc::clone(&source),
            context: reader_context(&context, files.clone()),
        });
        let operator = SqlOperator {
            spec: &node,
            inputs: &inputs,
            output: &output,
            env: Arc::clone(&env),
        };
        let join = LookupJoin::new(&spec, &operator, context, table, settings)?;
        Ok(Box::new(join))
    }))
}

/// Of a reader that reads all: the only one.
fn reader_context(context: &OperatorContext, files: FileSystems) -> ConnectorContext {
    ConnectorContext {
        operator_name: Arc::clone(&context.operator_name),
        operator_id: context.operator_id,
        subtask: 0,
        parallelism: 1,
        attempt: AttemptOrder::default(),
        io: context.io.clone(),
        files,
        checkpointing: false,
        restored: None,
    }
}

struct SourceTable {
    source: Arc<dyn Source>,
    context: ConnectorContext,
}

impl LookupTable for SourceTable {
    fn read(&mut self) -> Result<Box<dyn TableReader>, LookupError> {
        let reader = self.source.create_reader(self.context.clone()).map_err(failed)?;
        Ok(Box::new(SourceRows(reader)))
    }
}

struct SourceRows(Box<dyn SourceReader>);

impl TableReader for SourceRows {
    fn poll_rows(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<RecordBatch>, LookupError>> {
        loop {
            match ready!(self.0.poll_next(cx)).map_err(failed)? {
                SourceEvent::Batch(batch) => return Poll::Ready(Ok(Some(batch.rows))),
                SourceEvent::Idle => {}
                SourceEvent::EndOfInput => return Poll::Ready(Ok(None)),
            }
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "as map_err gives it")]
fn failed(error: ConnectorError) -> LookupError {
    LookupError {
        class: error.class(),
        message: error.to_string(),
    }
}
