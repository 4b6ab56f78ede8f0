//! Columns between DataFusion's operators: by position, all nullable, so that two schemas of the same types are the same.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;

/// A schema of these types.
pub(crate) fn positional<'a>(types: impl IntoIterator<Item = &'a DataType>) -> SchemaRef {
    let fields = types
        .into_iter()
        .enumerate()
        .map(|(place, data_type)| Field::new(name(place), data_type.clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The positional schema of a plan's rows.
pub(crate) fn of_plan(schema: &thalweg_plan::Schema) -> SchemaRef {
    let types: Vec<DataType> = schema
        .fields
        .iter()
        .map(|field| field.data_type.to_arrow())
        .collect();
    positional(&types)
}

/// What the column at this place is called.
pub(crate) fn name(place: usize) -> String {
    format!("c{place}")
}

/// The column at this place.
pub(crate) fn column(place: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(&name(place), place))
}

/// The same rows under another schema.
pub(crate) fn renamed(schema: &SchemaRef, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    of_columns(schema, rows.columns().to_vec(), rows.num_rows())
}

/// Rows of these columns, which may be none.
pub(crate) fn of_columns(
    schema: &SchemaRef,
    columns: Vec<ArrayRef>,
    rows: usize,
) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}
