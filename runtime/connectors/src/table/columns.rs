//! From columns to the batch that a scan's node declares.

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;

use crate::ConnectorError;

/// A batch of a scan's schema; the error names the column that doesn't fit.
pub(crate) fn batch_of(
    schema: &SchemaRef,
    columns: Vec<ArrayRef>,
    rows: usize,
) -> Result<RecordBatch, ConnectorError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let fits = schema.fields().iter().zip(&columns).find_map(|(field, column)| {
        let is_missing = !field.is_nullable() && column.null_count() > 0;
        is_missing.then(|| {
            ConnectorError::Malformed(format!(
                "column {:?} is NOT NULL and has no value in some row",
                field.name()
            ))
        })
    });
    if let Some(error) = fits {
        return Err(error);
    }
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
        .map_err(|error| ConnectorError::Malformed(format!("the rows don't fit the scan: {error}")))
}
