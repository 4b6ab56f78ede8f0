//! Aggregate functions of users, columnar: a column of each of the accumulator's fields, a row a group.
//!
//! ```text
//!   accumulators of the groups that have rows, rows with their groups --accumulate--> the accumulators then
//!   accumulators --evaluate--> results
//! ```
//!
//! The engine keeps the accumulators and stores them in checkpoints, by their fields' names. A new group's fields are all NULL.

use arrow::array::ArrayRef;
use thalweg_plan::{DataType, Field};

/// The types of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AggregateFunctionTypes {
    /// What the arguments are cast to first, one for each.
    pub args: Vec<DataType>,
    /// What is kept of a group; names are unique, types nullable. A later version of the function finds its state by them.
    pub accumulator: Vec<Field>,
    /// Of the result.
    pub result: DataType,
}

/// A function over the rows of a group, as Flink's `AggregateFunction`.
pub trait AggregateFunction: Send + Sync {
    /// Its types for arguments of these types.
    ///
    /// # Errors
    /// The arguments don't fit; the text says which would: "(BIGINT, INT)".
    fn types(&self, args: &[DataType]) -> Result<AggregateFunctionTypes, String>;

    /// Adds rows. `accumulators`: a column a field, a row a group; `groups`: the group of each row; `args`: the rows' arguments. Gives the
    /// accumulators as they are then. Rows with NULLs come, too.
    ///
    /// # Errors
    /// A row can't be added: the job fails with this text.
    fn accumulate(
        &self,
        accumulators: &[ArrayRef],
        groups: &[u32],
        args: &[ArrayRef],
    ) -> Result<Vec<ArrayRef>, String>;

    /// The groups' results, of the type that [`types`](Self::types) gave.
    ///
    /// # Errors
    /// One can't be computed: the job fails with this text.
    fn evaluate(&self, accumulators: &[ArrayRef], groups: usize) -> Result<ArrayRef, String>;

    /// Whether [`retract`](Self::retract) is there: without it, input that takes rows back is refused.
    fn retracts(&self) -> bool {
        false
    }

    /// Takes rows back that were added. Of several changes at once rows are added first.
    ///
    /// # Errors
    /// A row can't be taken back: the job fails with this text.
    fn retract(
        &self,
        _accumulators: &[ArrayRef],
        _groups: &[u32],
        _args: &[ArrayRef],
    ) -> Result<Vec<ArrayRef>, String> {
        Err("it has no retract".to_owned())
    }

    /// Whether [`merge`](Self::merge) is there: without it, HOP, CUMULATE and SESSION windows are refused.
    fn merges(&self) -> bool {
        false
    }

    /// Adds what other accumulators hold: `others` has a column a field, `groups` says to which group each of its rows goes.
    ///
    /// # Errors
    /// One can't be added: the job fails with this text.
    fn merge(
        &self,
        _accumulators: &[ArrayRef],
        _groups: &[u32],
        _others: &[ArrayRef],
    ) -> Result<Vec<ArrayRef>, String> {
        Err("it has no merge".to_owned())
    }
}
