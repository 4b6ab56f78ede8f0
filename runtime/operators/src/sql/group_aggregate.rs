//! GROUP BY without windows: accumulators by key, and the changes of their results. Flink's GroupAggFunction.
//!
//! ```text
//!   batch --keys--> slots --each once--> results before
//!                     +--rows----------> accumulators ----> results after
//!                                                            |
//!     before, after:  none, some  +I     some, other  -U +U     some, none  -D     the same: nothing
//! ```
//!
//! Updates of a batch are folded: one change a key. Without folding a batch is worked off in rounds, in each of which a key comes at
//! most once; the changes are then put in the order of the rows. As in Flink a row that is taken back from a group that isn't
//! there is left out, a result that stays the same is not sent unless the state has a time-to-live, and a global aggregate
//! begins with its first row.
//!
//! State: "accumulators" by key ([`super::aggregate`]), and a table of values for each set of columns with DISTINCT.

mod changes;
mod local;
mod uniques;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use thalweg_functions::EvaluationEnv;
use thalweg_plan::Schema;
use thalweg_plan::spec::GroupAggregateSpec;
use thalweg_state::{KeyedState, OperatorSnapshot, RestoredState, Slot, SnapshotRequest, StateTtl};
use thalweg_types::{StreamBatch, WatermarkCut};

use super::SqlOperator;
use super::aggregate::{Grouped, GroupedError, Rows};
use super::output::{Output, last_watermark, signs};
use crate::keyed::{keyed_state, keys_of, state_error};
use crate::{Operator, OperatorContext, OperatorError, OutputLimit};
use changes::{Changes, Round};
pub use local::LocalGroupAggregate;
pub(crate) use uniques::Uniques;

/// The state's key where there is no key.
const GLOBAL_KEY: &str = "$global";

/// What comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Rows.
    Single,
    /// Partial results, which stand from this column on.
    Global(usize),
}

/// [`thalweg_plan::NodeSpec::GroupAggregate`] and [`thalweg_plan::NodeSpec::GlobalGroupAggregate`].
pub struct GroupAggregate {
    context: OperatorContext,
    env: Arc<EvaluationEnv>,
    keys: Vec<usize>,
    phase: Phase,
    /// The input's columns that aggregates read.
    used: Vec<usize>,
    state: KeyedState,
    groups: Grouped,
    emit_update_before: bool,
    fold: bool,
    has_ttl: bool,
    schema: SchemaRef,
    slots: Vec<Slot>,
    uniques: Uniques,
    pending: Option<StreamBatch>,
    output: Output,
}

impl GroupAggregate {
    /// Of rows.
    pub fn new(
        spec: &GroupAggregateSpec,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        Self::of_phase(spec, spec.keys.clone(), Phase::Single, operator, context)
    }

    /// Of what a [`LocalGroupAggregate`] of the same spec gives: keys, then partial results.
    pub fn global(
        spec: &GroupAggregateSpec,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        let keys = (0..spec.keys.len()).collect();
        Self::of_phase(spec, keys, Phase::Global(spec.keys.len()), operator, context)
    }

    fn of_phase(
        spec: &GroupAggregateSpec,
        keys: Vec<usize>,
        phase: Phase,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        let input = &operator.inputs[0];
        let ttl = (spec.state_ttl_ms > 0).then(|| StateTtl::new(Duration::from_millis(spec.state_ttl_ms)));
        let mut state = keyed_state(&context, key_fields(input, &keys))?;
        let groups = Grouped::with_functions(
            &mut state,
            "",
            &spec.aggregates,
            spec.retracts,
            input,
            ttl,
            &operator.env.functions,
        );
        let groups = groups.map_err(|error| error.of(&context))?;
        let read = spec
            .aggregates
            .iter()
            .flat_map(|call| call.args.iter().chain(&call.filter));
        let mut used: Vec<usize> = match phase {
            Phase::Single => read.copied().collect(),
            Phase::Global(first) => (first..input.fields.len()).collect(),
        };
        used.sort_unstable();
        used.dedup();
        Ok(Self {
            env: Arc::clone(&operator.env),
            keys,
            phase,
            used,
            state,
            groups,
            emit_update_before: spec.emit_update_before,
            fold: spec.fold_batches || phase != Phase::Single,
            has_ttl: spec.state_ttl_ms > 0,
            schema: operator.output.to_arrow(),
            slots: Vec::new(),
            uniques: Uniques::default(),
            pending: None,
            output: Output::default(),
            context,
        })
    }

    fn aggregate(&mut self, batch: &StreamBatch) -> Result<StreamBatch, OperatorError> {
        let watermark = last_watermark(batch);
        let mut changes = Changes::default();
        if batch.num_rows() > 0 {
            self.find_slots(batch)?;
            let signs = signs(batch.kinds.as_ref());
            let columns = batch.rows.columns();
            let done = match self.fold {
                true => self.round(None, columns, signs.as_deref(), &mut changes),
                false => self.rounds(columns, signs.as_deref(), &mut changes),
            };
            done.map_err(|error| error.of(&self.context))?;
            let ended = self.state.end_batch();
            ended.map_err(|source| state_error(&self.context, source))?;
        }
        let keys: Vec<&ArrayRef> = self.keys.iter().map(|key| batch.rows.column(*key)).collect();
        let output = changes.into_batch(&keys, self.emit_update_before, &self.schema);
        let mut output = output.map_err(|error| GroupedError::Arrow(error).of(&self.context))?;
        // A watermark waits for the rows of the whole batch.
        let row = output.num_rows() as u32;
        output.watermarks = watermark
            .map(|timestamp_ms| WatermarkCut { row, timestamp_ms })
            .into_iter()
            .collect();
        Ok(output)
    }

    fn find_slots(&mut self, batch: &StreamBatch) -> Result<(), OperatorError> {
        let now = (self.env.clock)();
        let global;
        let (keys, hashes) = match self.keys.is_empty() {
            true => {
                global = global_hashes(batch.num_rows());
                (vec![global_key(batch.num_rows())], &global)
            }
            false => keys_of(&self.context, batch, &self.keys)?,
        };
        self.state
            .begin_batch(&keys, hashes, now, &mut self.slots)
            .map_err(|source| state_error(&self.context, source))
    }

    /// Row by row as far as it shows: the n-th row of each key in the n-th round.
    fn rounds(
        &mut self,
        columns: &[ArrayRef],
        signs: Option<&[i8]>,
        changes: &mut Changes,
    ) -> Result<(), GroupedError> {
        let slots = std::mem::take(&mut self.slots);
        for rows in self.uniques.rounds(&slots) {
            self.slots = rows.iter().map(|row| slots[*row as usize]).collect();
            let places = UInt32Array::from(rows);
            let mut taken = columns.to_vec();
            for column in &self.used {
                taken[*column] = take(&columns[*column], &places, None)?;
            }
            let rows = places.values();
            let signs: Option<Vec<i8>> =
                signs.map(|signs| rows.iter().map(|row| signs[*row as usize]).collect());
            self.round(Some(rows), &taken, signs.as_deref(), changes)?;
        }
        self.slots = slots;
        Ok(())
    }

    /// Folds rows in and notes what that changes. `origin`: which rows of the batch they are, unless they are all.
    fn round(
        &mut self,
        origin: Option<&[u32]>,
        columns: &[ArrayRef],
        signs: Option<&[i8]>,
        changes: &mut Changes,
    ) -> Result<(), GroupedError> {
        self.uniques.find(&self.slots);
        let (signs, skipped) = self.started(signs);
        if skipped {
            self.uniques.retain_counting(&self.slots, signs.as_deref());
        }
        let unique = self.uniques.slots();
        let (was_there, before) = self.groups.results(&mut self.state, unique)?;
        let rows = Rows {
            slots: &self.slots,
            signs: signs.as_deref(),
        };
        match self.phase {
            Phase::Single => self.groups.update(&mut self.state, unique, rows, columns)?,
            Phase::Global(first) => {
                self.groups
                    .merge(&mut self.state, unique, &self.slots, &columns[first..])?;
            }
        }
        let (is_there, after) = self.groups.results(&mut self.state, unique)?;
        let first_rows = self.uniques.first_rows().iter();
        let rows = first_rows.map(|row| origin.map_or(*row, |origin| origin[*row as usize]));
        changes.add(Round {
            rows: rows.collect(),
            was_there,
            is_there: is_there.clone(),
            before,
            after,
            keeps_equal: self.has_ttl,
        })?;
        let gone = unique.iter().zip(&is_there).filter(|(_, is_there)| !**is_there);
        let gone: Vec<Slot> = gone.map(|(slot, _)| *slot).collect();
        self.groups.clear(&mut self.state, &gone)
    }

    /// Rows that are taken back from groups that aren't there don't count, up to the first that is added. The signs, and
    /// whether there are such rows.
    fn started(&mut self, signs: Option<&[i8]>) -> (Option<Vec<i8>>, bool) {
        let Some(signs) = signs else {
            return (None, false);
        };
        if matches!(self.phase, Phase::Global(_)) {
            return (None, false);
        }
        let mut signs = signs.to_vec();
        let mut started = self.groups.are_there(&mut self.state, self.uniques.slots());
        let mut skipped = false;
        for (sign, group) in signs.iter_mut().zip(self.uniques.groups()) {
            let started = &mut started[*group as usize];
            if *sign > 0 {
                *started = true;
            } else if !*started {
                *sign = 0;
                skipped = true;
            }
        }
        (Some(signs), skipped)
    }
}

/// The key's columns in snapshots.
pub(crate) fn key_fields(input: &Schema, keys: &[usize]) -> Vec<FieldRef> {
    if keys.is_empty() {
        return vec![Arc::new(Field::new(GLOBAL_KEY, DataType::Int64, false))];
    }
    let field = |key: &usize| Arc::new(input.fields[*key].to_arrow().with_nullable(true));
    keys.iter().map(field).collect()
}

/// The key of rows without one.
pub(crate) fn global_key(rows: usize) -> ArrayRef {
    Arc::new(Int64Array::from(vec![0; rows]))
}

/// Its hashes.
pub(crate) fn global_hashes(rows: usize) -> UInt64Array {
    UInt64Array::from(vec![0; rows])
}

impl Operator for GroupAggregate {
    fn push(&mut self, _input: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        self.pending = Some(batch);
        Ok(())
    }

    fn poll_output(&mut self, limit: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        if let Some(batch) = self.pending.take() {
            let output = self.aggregate(&batch)?;
            self.output.push(output);
        }
        Ok(self.output.pop(limit))
    }

    fn restore(&mut self, state: &mut RestoredState) -> Result<(), OperatorError> {
        let restored = self.state.restore(state, (self.env.clock)());
        restored.map_err(|source| state_error(&self.context, source))
    }

    fn snapshot(&mut self, request: SnapshotRequest) -> Result<OperatorSnapshot, OperatorError> {
        let tables = self.state.snapshot(request);
        Ok(OperatorSnapshot {
            tables: tables.map_err(|source| state_error(&self.context, source))?,
            lists: Vec::new(),
        })
    }

    fn state_bytes(&self) -> usize {
        self.state.memory_size()
    }
}

#[cfg(test)]
mod tests;
