//! Table functions of users: rows for each row.

use arrow::array::{Array, ArrayRef, UInt32Array};
use thalweg_plan::{DataType, Field};

/// The types of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFunctionTypes {
    /// What the arguments are cast to first, one for each.
    pub args: Vec<DataType>,
    /// The columns of its rows; a query may name them differently.
    pub columns: Vec<Field>,
}

/// What a table function gives for some rows.
#[derive(Debug, Clone)]
pub struct TableRows {
    /// The number of the row that each of its rows is for, from 0; never less than the one before.
    pub rows: UInt32Array,
    /// Its columns, of the types of [`TableFunctionTypes::columns`], each as long as `rows`.
    pub columns: Vec<ArrayRef>,
}

/// A function that gives rows, as Flink's `TableFunction`: `LATERAL TABLE(f(x))`.
pub trait TableFunction: Send + Sync {
    /// Its types for arguments of these types.
    ///
    /// # Errors
    /// The arguments don't fit; the text says which would: "(STRING, INT)".
    fn types(&self, args: &[DataType]) -> Result<TableFunctionTypes, String>;

    /// The rows for these `rows` rows, whose arguments have the types that [`types`](Self::types) gave. All that is given for the rows of one
    /// call is in memory at once; the engine calls with some hundred rows at a time.
    ///
    /// # Errors
    /// A row can't be computed: the job fails with this text.
    fn evaluate(&self, args: &[ArrayRef], rows: usize) -> Result<TableRows, String>;

    /// Whether the same row has the same rows at all times. Flink's `isDeterministic`.
    fn is_deterministic(&self) -> bool {
        true
    }
}

impl TableRows {
    /// Checks what a function gave for so many rows.
    pub(super) fn checked(self, rows: usize, columns: &[arrow::datatypes::DataType]) -> Result<Self, String> {
        let numbers = self.rows.values();
        if self.rows.null_count() > 0
            || !numbers.is_sorted()
            || numbers.last().is_some_and(|&last| last as usize >= rows)
        {
            return Err(format!(
                "it gave row numbers that are not those of its {rows} rows in ascending order"
            ));
        }
        let columns = super::checked_columns(&self.columns, columns, numbers.len())?;
        Ok(Self { columns, ..self })
    }
}
