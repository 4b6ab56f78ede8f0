//! Functions of plans, with their types: what operators call.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType as ArrowType, Field as ArrowField};
use thalweg_plan::DataType;

use super::{AggregateFunction, TableFunction, TableRows, checked_column, checked_columns, displayed};

/// An error with the function's name.
fn named<T>(function: &str, result: Result<T, String>) -> Result<T, String> {
    result.map_err(|message| format!("{}: {message}", displayed(function)))
}

/// A table function for arguments of known types.
pub struct UserTableFunction {
    name: String,
    function: Arc<dyn TableFunction>,
    columns: Vec<ArrowType>,
}

impl UserTableFunction {
    pub(super) fn new(
        name: &str,
        function: &Arc<dyn TableFunction>,
        args: &[DataType],
    ) -> Result<Self, String> {
        let types = named(name, function.types(args))?;
        Ok(Self {
            name: name.to_owned(),
            function: Arc::clone(function),
            columns: types
                .columns
                .iter()
                .map(|field| field.data_type.to_arrow())
                .collect(),
        })
    }

    /// The rows for so many rows.
    ///
    /// # Errors
    /// The function's, or that what it gave is not what it said; with its name.
    pub fn evaluate(&self, args: &[ArrayRef], rows: usize) -> Result<TableRows, String> {
        let given = self.function.evaluate(args, rows);
        named(
            &self.name,
            given.and_then(|given| given.checked(rows, &self.columns)),
        )
    }
}

/// An aggregate function for arguments of known types.
pub struct UserAggregate {
    name: String,
    function: Arc<dyn AggregateFunction>,
    accumulator: Vec<ArrowField>,
    types: Vec<ArrowType>,
    result: ArrowType,
}

impl UserAggregate {
    pub(super) fn new(
        name: &str,
        function: &Arc<dyn AggregateFunction>,
        args: &[DataType],
    ) -> Result<Self, String> {
        let types = named(name, function.types(args))?;
        let fields = types.accumulator.iter();
        let accumulator: Vec<ArrowField> = fields
            .map(|field| ArrowField::new(field.name.clone(), field.data_type.to_arrow(), true))
            .collect();
        Ok(Self {
            name: name.to_owned(),
            function: Arc::clone(function),
            types: accumulator
                .iter()
                .map(|field| field.data_type().clone())
                .collect(),
            accumulator,
            result: types.result.to_arrow(),
        })
    }

    /// What is kept of a group.
    pub fn accumulator(&self) -> &[ArrowField] {
        &self.accumulator
    }

    /// Whether rows can be taken back.
    pub fn retracts(&self) -> bool {
        self.function.retracts()
    }

    /// Whether accumulators can be put together.
    pub fn merges(&self) -> bool {
        self.function.merges()
    }

    /// Adds rows to their groups; see [`AggregateFunction::accumulate`].
    ///
    /// # Errors
    /// The function's, or that what it gave is not what it said; with its name.
    pub fn accumulate(
        &self,
        accumulators: &[ArrayRef],
        count: usize,
        groups: &[u32],
        args: &[ArrayRef],
    ) -> Result<Vec<ArrayRef>, String> {
        self.checked(self.function.accumulate(accumulators, groups, args), count)
    }

    /// Takes rows back.
    ///
    /// # Errors
    /// As of [`accumulate`](Self::accumulate).
    pub fn retract(
        &self,
        accumulators: &[ArrayRef],
        count: usize,
        groups: &[u32],
        args: &[ArrayRef],
    ) -> Result<Vec<ArrayRef>, String> {
        self.checked(self.function.retract(accumulators, groups, args), count)
    }

    /// Adds other accumulators.
    ///
    /// # Errors
    /// As of [`accumulate`](Self::accumulate).
    pub fn merge(
        &self,
        accumulators: &[ArrayRef],
        count: usize,
        groups: &[u32],
        others: &[ArrayRef],
    ) -> Result<Vec<ArrayRef>, String> {
        self.checked(self.function.merge(accumulators, groups, others), count)
    }

    /// The results of so many groups.
    ///
    /// # Errors
    /// As of [`accumulate`](Self::accumulate).
    pub fn evaluate(&self, accumulators: &[ArrayRef], groups: usize) -> Result<ArrayRef, String> {
        let result = self.function.evaluate(accumulators, groups);
        let checked = result.and_then(|result| checked_column(&result, &self.result, groups));
        named(&self.name, checked)
    }

    fn checked(&self, given: Result<Vec<ArrayRef>, String>, groups: usize) -> Result<Vec<ArrayRef>, String> {
        let checked = given.and_then(|given| checked_columns(&given, &self.types, groups));
        named(&self.name, checked)
    }
}
