//! One aggregate function over groups that somebody else keeps: batch plans, where the groups are DataFusion's.
//!
//! ```text
//!   rows with their groups' numbers --update--> accumulators[group] --gather--> what is spilled --merge--> .. --evaluate--> results
//! ```
//!
//! Invariant: the values are those of the streaming operators, from the same accumulators; DISTINCT and FILTER are the caller's.

use arrow::array::ArrayRef;
use arrow::datatypes::Field;
use arrow::error::ArrowError;
use thalweg_functions::user::UserFunctions;
use thalweg_plan::spec::AggregateCall;
use thalweg_state::Slot;

use super::aggregate::{Accumulator, Rows, accumulator};

/// The accumulators of one call, by group.
pub struct GroupedFunction {
    accumulator: Box<dyn Accumulator>,
}

impl GroupedFunction {
    /// Without groups.
    ///
    /// # Errors
    /// The function by name, if it can't be computed over such arguments.
    pub fn new(call: &AggregateCall, functions: &UserFunctions) -> Result<Self, String> {
        let accumulator = accumulator(call, functions).map_err(|error| error.to_string())?;
        Ok(Self { accumulator })
    }

    /// The columns of [`Self::gather`].
    pub fn fields(&self) -> Vec<Field> {
        self.accumulator.fields()
    }

    /// Makes room for groups below `count`.
    pub fn resize(&mut self, count: usize) {
        self.accumulator.resize(count);
    }

    /// Folds rows in: `groups[row]` is whose each row is; signs are +1: added, -1: taken back, 0: not counted.
    ///
    /// # Errors
    /// Arguments of other types than the call's, or a value that can't be computed.
    pub fn update(
        &mut self,
        groups: &[Slot],
        signs: Option<&[i8]>,
        args: &[ArrayRef],
    ) -> Result<(), ArrowError> {
        self.accumulator.update(Rows { slots: groups, signs }, args)
    }

    /// Folds in what [`Self::gather`] gave, one row a group.
    ///
    /// # Errors
    /// Columns of other types.
    pub fn merge(&mut self, groups: &[Slot], parts: &[ArrayRef]) -> Result<(), ArrowError> {
        self.accumulator.merge(groups, parts)
    }

    /// The results of these groups.
    ///
    /// # Errors
    /// A value that can't be computed.
    pub fn evaluate(&self, groups: &[Slot]) -> Result<ArrayRef, ArrowError> {
        self.accumulator.evaluate(groups)
    }

    /// What is kept of these groups.
    ///
    /// # Errors
    /// More than a column can hold.
    pub fn gather(&self, groups: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError> {
        self.accumulator.gather(groups)
    }

    /// These groups are as new ones.
    pub fn clear(&mut self, groups: &[Slot]) {
        self.accumulator.clear(groups);
    }

    /// Bytes held.
    pub fn memory_size(&self) -> usize {
        self.accumulator.memory_size()
    }
}
