//! Helpers of the unit tests: contexts, number batches, and readers polled to their end.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use futures::future::poll_fn;
use thalweg_storage::FileSystems;
use thalweg_types::config::Configuration;
use thalweg_types::{OperatorId, StreamBatch};
use tokio::runtime::{Builder, Runtime};

use crate::{AttemptOrder, ConnectorContext, ConnectorError, RestoredConnector, SourceEvent, SourceReader};

pub(crate) fn context_of(io: &Runtime, subtask: u32, parallelism: u32) -> ConnectorContext {
    ConnectorContext {
        operator_name: "test".into(),
        operator_id: OperatorId::from_u128(1),
        subtask,
        parallelism,
        attempt: AttemptOrder::default(),
        io: io.handle().clone(),
        files: FileSystems::new(Configuration::default()),
        checkpointing: false,
        restored: None,
    }
}

/// As [`context_of`], restored with what other readers gave.
pub(crate) fn restored_context_of(
    io: &Runtime,
    subtask: u32,
    parallelism: u32,
    states: Vec<Vec<u8>>,
) -> ConnectorContext {
    ConnectorContext {
        restored: Some(RestoredConnector {
            checkpoint_id: 1,
            states,
            committables: Vec::new(),
        }),
        ..context_of(io, subtask, parallelism)
    }
}

pub(crate) fn batch_of(numbers: Range<i64>) -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from_iter_values(numbers))]).unwrap()
}

/// The next event, waited for on a runtime that the reader doesn't know.
pub(crate) fn next(reader: &mut dyn SourceReader) -> Result<SourceEvent, ConnectorError> {
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(poll_fn(|cx| reader.poll_next(cx)))
}

/// All batches of a bounded reader.
pub(crate) fn batches(reader: &mut dyn SourceReader) -> Result<Vec<StreamBatch>, ConnectorError> {
    let mut batches = Vec::new();
    loop {
        match next(reader)? {
            SourceEvent::Batch(batch) => batches.push(batch),
            SourceEvent::Idle => {}
            SourceEvent::EndOfInput => return Ok(batches),
        }
    }
}

/// All numbers of a bounded reader's first column.
pub(crate) fn drain(mut reader: Box<dyn SourceReader>) -> Vec<i64> {
    let batches = batches(reader.as_mut()).unwrap();
    batches
        .iter()
        .flat_map(|batch| batch.rows.column(0).as_primitive::<Int64Type>().values().to_vec())
        .collect()
}
