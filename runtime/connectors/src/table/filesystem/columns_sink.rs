//! A table's rows for files of a bulk format: the columns that are in files, and behind them the bucket.
//!
//! ```text
//!   the table's columns --> those in files | bucket, its rows together --> inner sink
//! ```

use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::{Array, RecordBatch, RecordBatchOptions, StringArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType as Arrow, Field as ArrowField, Schema as ArrowSchema, SchemaRef};
use arrow::error::ArrowError;
use thalweg_plan::Field;
use thalweg_types::StreamBatch;

use crate::table::encoding::{BUCKET, Buckets};
use crate::{Committable, ConnectorContext, ConnectorError, Gauge, Sink, SinkWriter, StateDistribution};

/// What becomes of rows.
pub(super) struct FileColumns {
    /// Positions in the table's rows.
    pub(super) columns: Vec<usize>,
    pub(super) buckets: Option<Buckets>,
    pub(super) schema: SchemaRef,
}

impl FileColumns {
    pub(super) fn new(fields: &[Field], columns: Vec<usize>, buckets: Option<Buckets>) -> Self {
        let mut all: Vec<ArrowField> = fields.iter().map(Field::to_arrow).collect();
        if buckets.is_some() {
            all.push(ArrowField::new(BUCKET, Arrow::Utf8, false));
        }
        Self {
            columns,
            buckets,
            schema: Arc::new(ArrowSchema::new(all)),
        }
    }

    fn rows(&self, rows: &RecordBatch) -> Result<RecordBatch, ConnectorError> {
        let failed =
            |error: ArrowError| ConnectorError::Malformed(format!("rows don't fit the files: {error}"));
        let mut columns: Vec<_> = self
            .columns
            .iter()
            .map(|column| Arc::clone(rows.column(*column)))
            .collect();
        let buckets = self.buckets.as_ref().map(|buckets| buckets(rows)).transpose()?;
        let order = buckets.as_ref().and_then(together);
        columns.extend(buckets.map(|buckets| Arc::new(buckets) as _));
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let rows =
            RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(failed)?;
        match order {
            Some(order) => take_record_batch(&rows, &order).map_err(failed),
            None => Ok(rows),
        }
    }
}

/// The order that has the rows of each bucket behind one another, where they aren't: each run of rows is a write.
fn together(buckets: &StringArray) -> Option<UInt32Array> {
    let starts = |row: &usize| *row == 0 || buckets.value(*row) != buckets.value(row - 1);
    let mut names: Vec<&str> = (0..buckets.len())
        .filter(starts)
        .map(|row| buckets.value(row))
        .collect();
    let runs = names.len();
    names.sort_unstable();
    names.dedup();
    if names.len() == runs {
        return None;
    }
    let mut order: Vec<u32> = (0..buckets.len() as u32).collect();
    order.sort_by_key(|row| buckets.value(*row as usize));
    Some(order.into())
}

/// A sink that gives files' columns to `inner`.
pub(super) struct FileColumnsSink {
    pub(super) inner: Arc<dyn Sink>,
    pub(super) columns: Arc<FileColumns>,
}

impl Sink for FileColumnsSink {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn validate(&self, _input: &SchemaRef) -> Result<(), ConnectorError> {
        self.inner.validate(&self.columns.schema)
    }

    fn create_writer(&self, context: ConnectorContext) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        Ok(Box::new(FileColumnsWriter {
            inner: self.inner.create_writer(context)?,
            columns: Arc::clone(&self.columns),
            pending: None,
        }))
    }
}

struct FileColumnsWriter {
    inner: Box<dyn SinkWriter>,
    columns: Arc<FileColumns>,
    /// What the inner sink had no room for: the caller comes again with as many rows.
    pending: Option<StreamBatch>,
}

impl FileColumnsWriter {
    fn of_files(&self, batch: &StreamBatch) -> Result<StreamBatch, ConnectorError> {
        let mut prepared = StreamBatch::new(self.columns.rows(&batch.rows)?);
        prepared.watermarks.clone_from(&batch.watermarks);
        prepared.kinds.clone_from(&batch.kinds);
        Ok(prepared)
    }
}

impl SinkWriter for FileColumnsWriter {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectorError>> {
        self.inner.poll_ready(cx)
    }

    fn write(&mut self, batch: &StreamBatch) -> Result<usize, ConnectorError> {
        let rows = batch.num_rows();
        let pending = self.pending.take().filter(|pending| pending.num_rows() == rows);
        let prepared = match pending {
            Some(pending) => pending,
            None => self.of_files(batch)?,
        };
        let taken = self.inner.write(&prepared)?;
        if taken < rows {
            self.pending = Some(prepared.slice(taken, rows - taken));
        }
        Ok(taken)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, end_of_input: bool) -> Poll<Result<(), ConnectorError>> {
        self.inner.poll_flush(cx, end_of_input)
    }

    fn prepare_commit(&mut self, checkpoint_id: u64) -> Result<Vec<Committable>, ConnectorError> {
        self.inner.prepare_commit(checkpoint_id)
    }

    fn snapshot(&mut self, checkpoint_id: u64) -> Result<Vec<Vec<u8>>, ConnectorError> {
        self.inner.snapshot(checkpoint_id)
    }

    fn snapshot_distribution(&self) -> StateDistribution {
        self.inner.snapshot_distribution()
    }

    fn poll_commit(
        &mut self,
        cx: &mut Context<'_>,
        committables: &[Committable],
    ) -> Poll<Result<(), ConnectorError>> {
        self.inner.poll_commit(cx, committables)
    }

    fn gauges(&self) -> Vec<Gauge> {
        self.inner.gauges()
    }
}
