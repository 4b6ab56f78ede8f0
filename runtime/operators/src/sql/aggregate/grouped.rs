//! Accumulators and DISTINCT values as keyed state.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::error::ArrowError;
use thalweg_functions::user::UserFunctions;
use thalweg_plan::Schema;
use thalweg_plan::spec::AggregateCall;
use thalweg_state::{ColumnHandle, KeyedState, Slot, SlotColumn, StateError, StateTtl};

use super::super::output::unsupported;
use super::accumulator::Rows;
use super::{Aggregates, DistinctKey, UnsupportedCall};
use crate::keyed::state_error;
use crate::{OperatorContext, OperatorError};

/// The table of accumulators.
const TABLE: &str = "accumulators";

/// Why groups can't be aggregated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GroupedError {
    /// The state refused.
    #[error(transparent)]
    State(#[from] StateError),
    /// An Arrow kernel or an accumulator refused.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    /// There is no such accumulator.
    #[error(transparent)]
    Unsupported(#[from] UnsupportedCall),
    /// The operator itself.
    #[error(transparent)]
    Operator(#[from] OperatorError),
}

impl GroupedError {
    /// As the operator's. What an accumulator computes may be wrong by the values; all else is by us.
    pub(crate) fn of(self, context: &OperatorContext) -> OperatorError {
        let operator = context.operator_name.to_string();
        match self {
            Self::State(source) => state_error(context, source),
            Self::Arrow(ArrowError::ComputeError(message) | ArrowError::ArithmeticOverflow(message)) => {
                OperatorError::Value { operator, message }
            }
            Self::Arrow(source) => OperatorError::Arrow { operator, source },
            Self::Operator(error) => error,
            Self::Unsupported(error) => unsupported(context, error.to_string()),
        }
    }
}

/// What a [`KeyedState`] keeps of groups. All slots are good until its `end_batch`.
pub(crate) struct Grouped {
    table: ColumnHandle<Aggregates>,
    distinct: Vec<DistinctKey>,
    /// For windows that are combined of slices.
    combining: Aggregates,
    new_rows: Vec<u32>,
}

impl Grouped {
    /// Registers the tables. `suffix` is behind their names, where an operator has several groups of calls; `retracts`: rows are taken back.
    /// Calls are of Flink's functions only.
    pub(crate) fn register(
        state: &mut KeyedState,
        suffix: &str,
        calls: &[AggregateCall],
        retracts: bool,
        input: &Schema,
        ttl: Option<StateTtl>,
    ) -> Result<Self, GroupedError> {
        Self::with_functions(
            state,
            suffix,
            calls,
            retracts,
            input,
            ttl,
            &UserFunctions::default(),
        )
    }

    /// The same of calls that may be of users' functions.
    pub(crate) fn with_functions(
        state: &mut KeyedState,
        suffix: &str,
        calls: &[AggregateCall],
        retracts: bool,
        input: &Schema,
        ttl: Option<StateTtl>,
        functions: &UserFunctions,
    ) -> Result<Self, GroupedError> {
        let aggregates = Aggregates::with_functions(calls, input, retracts, functions)?;
        let combining = Aggregates::with_functions(calls, input, retracts, functions)?;
        let distinct = DistinctKey::register_all(state, suffix, &aggregates, input, ttl)?;
        let table = state.register_columns(&format!("{TABLE}{suffix}"), aggregates, ttl)?;
        Ok(Self {
            table,
            distinct,
            combining,
            new_rows: Vec::new(),
        })
    }

    /// Which of these slots have a row, and be it of a group without rows.
    pub(crate) fn have_rows(&self, state: &mut KeyedState, slots: &[Slot]) -> Vec<bool> {
        let table = state.table(self.table);
        slots.iter().map(|slot| table.has(*slot)).collect()
    }

    /// Which of these groups have rows.
    pub(crate) fn are_there(&self, state: &mut KeyedState, slots: &[Slot]) -> Vec<bool> {
        let table = state.table(self.table);
        let has: Vec<bool> = slots.iter().map(|slot| table.has(*slot)).collect();
        let aggregates = table.read(slots);
        let rows = slots.iter().zip(has);
        rows.map(|(slot, has)| has && !aggregates.is_empty(*slot))
            .collect()
    }

    /// Which of these groups have rows, and a column of results a call.
    pub(crate) fn results(
        &self,
        state: &mut KeyedState,
        slots: &[Slot],
    ) -> Result<(Vec<bool>, Vec<ArrayRef>), GroupedError> {
        let there = self.are_there(state, slots);
        let results = state.table(self.table).read(slots).evaluate(slots)?;
        Ok((there, results))
    }

    /// Folds rows into their groups; `unique` are their slots, each once, and `columns` the input's.
    pub(crate) fn update(
        &mut self,
        state: &mut KeyedState,
        unique: &[Slot],
        rows: Rows<'_>,
        columns: &[ArrayRef],
    ) -> Result<(), GroupedError> {
        let table = state.table(self.table);
        table.write(unique, &mut self.new_rows).update(rows, columns)?;
        for distinct in &mut self.distinct {
            let values = distinct.values(columns);
            let signs = distinct.signs(columns, rows.signs);
            let changed = distinct.add(state, unique, rows.slots, &values, &signs)?;
            let table = state.table(self.table);
            changed.apply(table.write(unique, &mut self.new_rows), distinct)?;
        }
        Ok(())
    }

    /// Folds partial results into groups.
    pub(crate) fn merge(
        &mut self,
        state: &mut KeyedState,
        unique: &[Slot],
        slots: &[Slot],
        partials: &[ArrayRef],
    ) -> Result<(), GroupedError> {
        let table = state.table(self.table);
        Ok(table
            .write(unique, &mut self.new_rows)
            .merge_partials(slots, partials)?)
    }

    /// Removes groups.
    pub(crate) fn clear(&mut self, state: &mut KeyedState, slots: &[Slot]) -> Result<(), GroupedError> {
        if slots.is_empty() {
            return Ok(());
        }
        state.table(self.table).clear(slots);
        for distinct in &mut self.distinct {
            distinct.clear(state, slots)?;
        }
        Ok(())
    }

    /// Folds groups into others and removes them: `from[i]` into `into[i]`. A slot of `into` may come several times, and is not among
    /// `from`.
    pub(crate) fn absorb(
        &mut self,
        state: &mut KeyedState,
        from: &[Slot],
        into: &[Slot],
    ) -> Result<(), GroupedError> {
        if from.is_empty() {
            return Ok(());
        }
        let mut unique = into.to_vec();
        unique.sort_unstable();
        unique.dedup();
        let table = state.table(self.table);
        let parts = table.read(from).gather(from)?;
        table.write(&unique, &mut self.new_rows).merge(into, &parts)?;
        for distinct in &mut self.distinct {
            let moved = distinct.take(state, from)?;
            let slots: Vec<Slot> = moved.owners.iter().map(|owner| into[*owner as usize]).collect();
            let changed = distinct.add(state, &unique, &slots, &moved.values, &moved.signs)?;
            let table = state.table(self.table);
            changed.apply(table.write(&unique, &mut self.new_rows), distinct)?;
        }
        state.table(self.table).clear(from);
        Ok(())
    }

    /// The results of groups that are put together of others: those of `from[i]` are part of `groups[i]`, which is below `count`.
    /// Nothing of what is kept changes.
    pub(crate) fn combined(
        &mut self,
        state: &mut KeyedState,
        from: &[Slot],
        groups: &[Slot],
        count: usize,
    ) -> Result<(Vec<bool>, Vec<ArrayRef>), GroupedError> {
        let all: Vec<Slot> = (0..count as Slot).collect();
        self.combining.resize(count);
        let parts = state.table(self.table).read(from).gather(from)?;
        self.combining.merge(groups, &parts)?;
        for distinct in &mut self.distinct {
            let kept = distinct.look_at(state, from)?;
            let slots: Vec<Slot> = kept.owners.iter().map(|owner| groups[*owner as usize]).collect();
            let united = distinct.unite(&slots, &kept)?;
            united.apply(&mut self.combining, distinct)?;
        }
        let there = all.iter().map(|group| !self.combining.is_empty(*group)).collect();
        let results = self.combining.evaluate(&all)?;
        self.combining.clear(&all);
        Ok((there, results))
    }
}

/// The arguments of a call.
pub(crate) fn columns_of(columns: &[ArrayRef], places: &[usize]) -> Vec<ArrayRef> {
    places.iter().map(|place| Arc::clone(&columns[*place])).collect()
}
