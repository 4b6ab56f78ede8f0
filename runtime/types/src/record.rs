//! Typed rows over Arrow columns.
//!
//! ```text
//!   RecordBatch --Rows<T>--> T::Ref<'_> (row by row, nothing is allocated) --user function--> O or O::Ref<'_>
//!                                                                                    RowsBuilder<O> --> RecordBatch
//! ```
//!
//! A [`Value`] is what fits one column, a [`Record`] what fits a row. A plain value as a record is one column named
//! `value`; a tuple's columns are `f0`, `f1`, .. as in Flink; a struct's columns are its fields. A tuple or struct
//! inside another record is one Arrow `Struct` column.
//!
//! | Rust            | borrowed     | Arrow                    | Flink            |
//! |-----------------|--------------|--------------------------|------------------|
//! | `String`        | `&str`       | `Utf8`                   | STRING           |
//! | `Vec<u8>`       | `&[u8]`      | `Binary`                 | BYTES            |
//! | `bool`          | `bool`       | `Boolean`                | BOOLEAN          |
//! | `i8` .. `i64`   | same         | `Int8` .. `Int64`        | TINYINT .. BIGINT|
//! | `u8` .. `u64`   | same         | `UInt8` .. `UInt64`      | (none)           |
//! | `f32`, `f64`    | same         | `Float32`, `Float64`     | FLOAT, DOUBLE    |
//! | [`Timestamp`]   | same         | `Timestamp(ms, "UTC")`   | TIMESTAMP_LTZ(3) |
//! | `Option<T>`     | `Option<..>` | nullable                 | nullable         |
//! | tuples, structs | tuples, `FooRef<'_>` | `Struct`         | ROW              |
//!
//! Invariants: a column that is not `Option` has no nulls where its row has a value; every builder of one record has
//! the same number of rows.

mod batch;
mod product;
mod scalar;
mod sql_type;

use arrow::array::{Array, ArrayRef};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use std::sync::Arc;

pub use batch::{Rows, RowsBuilder};
pub use product::{StructBuilder, StructColumn};
pub use scalar::Timestamp;
pub use sql_type::output_columns;

/// Columns that don't hold the record that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Too few or too many.
    #[error("{wanted} columns are expected, {found} came")]
    ColumnCount {
        /// Of the record.
        wanted: usize,
        /// What came.
        found: usize,
    },
    /// A column of another type.
    #[error("column {column:?} is {found}, {wanted} is expected")]
    ColumnType {
        /// Its name in the record.
        column: String,
        /// Of the record's field.
        wanted: DataType,
        /// What came.
        found: DataType,
    },
    /// A column of another name, where the record is a struct.
    #[error("column {found:?} stands where {wanted:?} is expected")]
    ColumnName {
        /// The struct's field.
        wanted: String,
        /// What came.
        found: String,
    },
    /// Nulls in a column whose field is not an `Option`.
    #[error("column {column:?} has nulls: make the field an Option")]
    Nulls {
        /// Its name in the record.
        column: String,
    },
}

/// A type that fits one column.
///
/// All functions are associated functions without `self`, so that the trait adds no methods to `String` and friends.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be a column of a record",
    label = "not a column type",
    note = "columns are: bool, i8..i64, u8..u64, f32, f64, String, Vec<u8>, Timestamp, Option of one of these, tuples \
            of up to six of them, and structs that `#[derive(Record)]`"
)]
pub trait Value: Clone + Send + Sync + 'static {
    /// The value as user functions see it: borrowed from a column.
    type Ref<'a>: Copy;
    /// A column of this type, checked once.
    type Column: Send + 'static;
    /// Makes such a column.
    type Builder: Send + 'static;
    /// Whether the column may hold nulls.
    const NULLABLE: bool = false;

    /// The column's type.
    fn data_type() -> DataType;
    /// The typed column; `name` is for the error. The column's own nulls are the caller's to check.
    fn column(array: &ArrayRef, name: &str) -> Result<Self::Column, RecordError>;
    /// The value of a row.
    fn get(column: &Self::Column, row: usize) -> Self::Ref<'_>;
    /// Whether the row holds no value.
    fn is_null(column: &Self::Column, row: usize) -> bool;
    /// An empty builder with room for so many rows.
    fn builder(capacity: usize) -> Self::Builder;
    /// Adds a value.
    fn append(builder: &mut Self::Builder, value: Self::Ref<'_>);
    /// Adds a row without value: inside of a `None`.
    fn append_null(builder: &mut Self::Builder);
    /// About how many bytes of values the builder holds.
    fn builder_bytes(builder: &Self::Builder) -> usize;
    /// The column; the builder is empty again.
    fn finish(builder: &mut Self::Builder) -> ArrayRef;
    /// Borrows a value.
    fn view(value: &Self) -> Self::Ref<'_>;
    /// A value of its own.
    fn own(value: Self::Ref<'_>) -> Self;
    /// About how many bytes an owned value holds besides its own size: what state accounts for.
    fn heap_bytes(value: Self::Ref<'_>) -> usize;
}

/// A [`Value`] that is not an `Option`: what an `Option` may hold.
#[diagnostic::on_unimplemented(
    message = "`Option<{Self}>` can't be a column of a record",
    note = "an Option in a record holds a column type that is not an Option itself"
)]
pub trait Required: Value {}

/// A type that fits a row; the element type of a stream.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the record of a stream",
    label = "not a record type",
    note = "records are: structs that `#[derive(Record)]`, tuples of up to six columns, and plain values (String, \
            integers, floats, bool, Vec<u8>, Timestamp, Option of these)"
)]
pub trait Record: Value {
    /// The typed columns of a batch.
    type Columns: Send + 'static;
    /// Makes the columns of a batch.
    type Builders: Send + 'static;
    /// Whether the columns' names were chosen by the user (a struct), so that they must match a source's.
    const NAMED: bool = false;

    /// The columns' names and types.
    fn fields() -> Vec<Field>;
    /// The typed columns of a batch's first columns; more of them are left alone (computed keys). `within` marks rows
    /// without record: inside of a `None`, where every column has a null.
    fn columns(arrays: &[ArrayRef], within: Option<&NullBuffer>) -> Result<Self::Columns, RecordError>;
    /// A row.
    fn row(columns: &Self::Columns, row: usize) -> Self::Ref<'_>;
    /// Empty builders with room for so many rows.
    fn builders(capacity: usize) -> Self::Builders;
    /// Adds a row.
    fn push(builders: &mut Self::Builders, value: Self::Ref<'_>);
    /// Adds a row without values, inside of a `None`.
    fn push_null(builders: &mut Self::Builders);
    /// About how many bytes of values the builders hold.
    fn builders_bytes(builders: &Self::Builders) -> usize;
    /// The columns; the builders are empty again.
    fn finish_columns(builders: &mut Self::Builders) -> Vec<ArrayRef>;

    /// The schema of a batch of these.
    fn schema() -> SchemaRef {
        Arc::new(Schema::new(Self::fields()))
    }
}

/// The typed column at `index`, with its type and nulls checked. Used by the code that `#[derive(Record)]` writes.
pub fn open_column<V: Value>(
    arrays: &[ArrayRef],
    index: usize,
    name: &str,
    within: Option<&NullBuffer>,
) -> Result<V::Column, RecordError> {
    let array = &arrays[index];
    let column = V::column(array, name)?;
    if let Some(nulls) = array.nulls()
        && !V::NULLABLE
        && nulls.null_count() > 0
        && !within.is_some_and(|outer| outer.contains(nulls))
    {
        return Err(RecordError::Nulls {
            column: name.to_owned(),
        });
    }
    Ok(column)
}

/// The error of a column of another type. Used by the code that `#[derive(Record)]` writes.
pub fn wrong_type<V: Value>(array: &ArrayRef, name: &str) -> RecordError {
    RecordError::ColumnType {
        column: name.to_owned(),
        wanted: V::data_type(),
        found: array.data_type().clone(),
    }
}

/// Refuses fewer columns than the record has. Used by the code that `#[derive(Record)]` writes.
pub fn check_column_count(arrays: &[ArrayRef], wanted: usize) -> Result<(), RecordError> {
    if arrays.len() < wanted {
        return Err(RecordError::ColumnCount {
            wanted,
            found: arrays.len(),
        });
    }
    Ok(())
}

/// The field of a record's column.
pub fn field_of<V: Value>(name: &str) -> Field {
    Field::new(name, V::data_type(), V::NULLABLE)
}

/// Refuses a schema that doesn't hold `T`: types by position, names too if `T` is a struct.
pub fn check_schema<T: Record>(schema: &Schema) -> Result<(), RecordError> {
    let wanted = T::fields();
    if schema.fields().len() != wanted.len() {
        return Err(RecordError::ColumnCount {
            wanted: wanted.len(),
            found: schema.fields().len(),
        });
    }
    for (field, found) in wanted.iter().zip(schema.fields()) {
        if T::NAMED && field.name() != found.name() {
            return Err(RecordError::ColumnName {
                wanted: field.name().clone(),
                found: found.name().clone(),
            });
        }
        if field.data_type() != found.data_type() {
            return Err(RecordError::ColumnType {
                column: field.name().clone(),
                wanted: field.data_type().clone(),
                found: found.data_type().clone(),
            });
        }
        if found.is_nullable() && !field.is_nullable() {
            return Err(RecordError::Nulls {
                column: field.name().clone(),
            });
        }
    }
    Ok(())
}
