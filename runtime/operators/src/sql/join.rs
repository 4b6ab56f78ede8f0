//! Joins that keep both sides. Flink's StreamingJoinOperator and StreamingSemiAntiJoinOperator.
//!
//! ```text
//!   rows --key--> slots --chains of the other side--> pairs --condition--> matches
//!     +I -U +U -D of each match; of an outer side: the row with nulls, while it has no partner
//!     Semi, Anti: left rows that have, or don't have, a partner
//! ```
//!
//! Pairs are made for some rows of a batch at a time and joined as columns. A null in a key finds no partner, unless the key says so.
//! State: tables "left" and "right" by the join key ([`super::rows`]). Invariant: `$partners` of a row is the number of rows of the other
//! side that match it, where that side's rows are shown or hidden by it.

mod changes;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, BooleanArray, Int8Array, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::{Schema as Columns, SchemaRef};
use arrow::error::ArrowError;
use thalweg_functions::{EvaluationEnv, EvaluationError, Evaluator};
use thalweg_plan::Expr;
use thalweg_plan::spec::{JoinKind, JoinSideKey, JoinSpec};
use thalweg_state::{
    ColumnHandle, KeyedState, OperatorSnapshot, RestoredState, Slot, SnapshotRequest, StateTtl,
};
use thalweg_types::StreamBatch;
use thalweg_types::element::RowKind;

use super::SqlOperator;
use super::calc::{renumber, used_columns};
use super::group_aggregate::{global_hashes, global_key, key_fields};
use super::output::{Output, arrow_error, evaluation_error, is_retraction, last_watermark, record_batch};
use super::pairs::unmatched;
use super::rows::{NONE, RowStore};
use crate::keyed::{keyed_state, keys_of, state_error};
use crate::{InputWatermarks, Operator, OperatorContext, OperatorError, OutputLimit};
use changes::{Changes, Matches};

/// Pairs that are joined at a time, if no row has more.
const PAIRS_AT_A_TIME: usize = 8192;

/// One side.
struct Side {
    keys: Vec<usize>,
    rows: ColumnHandle<RowStore>,
    /// Whether rows without a partner are put out, with nulls for the other side.
    outer: bool,
    schema: SchemaRef,
}

/// A batch that is worked off.
struct Pending {
    side: usize,
    batch: StreamBatch,
    slots: Vec<Slot>,
    /// Rows whose key has a null that finds no partner.
    unmatched: Option<Vec<bool>>,
    next: usize,
}

/// What pairs must fulfil beside equal keys.
struct Condition {
    evaluator: Evaluator,
    /// The columns that it reads, of left and right.
    columns: [Vec<usize>; 2],
    /// Of these, all nullable: of pairs before it is known which there are.
    schema: SchemaRef,
}

impl Condition {
    fn new(
        condition: &Expr,
        sides: [&SchemaRef; 2],
        operator: &SqlOperator<'_>,
    ) -> Result<Self, EvaluationError> {
        let used = used_columns(std::slice::from_ref(condition));
        let left = sides[0].fields().len();
        let (lefts, rights): (Vec<usize>, Vec<usize>) = used.iter().partition(|column| **column < left);
        let columns = [lefts, rights.into_iter().map(|column| column - left).collect()];
        let fields = sides.iter().zip(&columns).flat_map(|(side, columns)| {
            let fields = columns.iter().map(|column| side.field(*column).clone());
            fields.map(|field| field.with_nullable(true))
        });
        let schema = Arc::new(Columns::new(fields.collect::<Vec<_>>()));
        let condition = renumber(condition, &used);
        Ok(Self {
            evaluator: Evaluator::new(&[condition], &schema, Arc::clone(&operator.env))?,
            columns,
            schema,
        })
    }
}

/// [`thalweg_plan::NodeSpec::Join`].
pub struct Join {
    context: OperatorContext,
    env: Arc<EvaluationEnv>,
    kind: JoinKind,
    sides: [Side; 2],
    null_safe: Vec<bool>,
    condition: Option<Condition>,
    schema: SchemaRef,
    state: KeyedState,
    pending: Option<Pending>,
    watermarks: InputWatermarks,
    new_rows: Vec<u32>,
    output: Output,
}

impl Join {
    /// A join of two inputs.
    pub fn new(
        spec: &JoinSpec,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        let [left, right] = [0, 1].map(|side| operator.inputs[side].to_arrow());
        let condition = spec.condition.as_ref();
        let condition = condition.map(|condition| Condition::new(condition, [&left, &right], operator));
        let condition = condition
            .transpose()
            .map_err(|error| evaluation_error(&context, &error))?;
        let mut state = keyed_state(&context, key_fields(&operator.inputs[0], &spec.keys.left))?;
        let mut side = |name: &str,
                        keys: &[usize],
                        row_key: &JoinSideKey,
                        ttl_ms: u64,
                        outer: bool,
                        schema: &SchemaRef| {
            let told_apart = match row_key {
                JoinSideKey::JoinKey => Some(keys.to_vec()),
                JoinSideKey::Columns(columns) => Some(columns.clone()),
                JoinSideKey::None => None,
            };
            let store = RowStore::new(schema, told_apart.as_deref())
                .map_err(|source| arrow_error(&context, source))?;
            let ttl = (ttl_ms > 0).then(|| StateTtl::new(Duration::from_millis(ttl_ms)));
            let rows = state
                .register_columns(name, store, ttl)
                .map_err(|source| state_error(&context, source))?;
            Ok::<_, OperatorError>(Side {
                keys: keys.to_vec(),
                rows,
                outer,
                schema: Arc::clone(schema),
            })
        };
        let (left_outer, right_outer) = match spec.kind {
            JoinKind::Left => (true, false),
            JoinKind::Right => (false, true),
            JoinKind::Full => (true, true),
            JoinKind::Inner | JoinKind::Semi | JoinKind::Anti => (false, false),
        };
        let sides = [
            side(
                "left",
                &spec.keys.left,
                &spec.left_key,
                spec.left_ttl_ms,
                left_outer,
                &left,
            )?,
            side(
                "right",
                &spec.keys.right,
                &spec.right_key,
                spec.right_ttl_ms,
                right_outer,
                &right,
            )?,
        ];
        Ok(Self {
            env: Arc::clone(&operator.env),
            kind: spec.kind,
            sides,
            null_safe: spec.keys.null_safe.clone(),
            condition,
            schema: operator.output.to_arrow(),
            state,
            pending: None,
            watermarks: InputWatermarks::new(2),
            new_rows: Vec::new(),
            output: Output::default(),
            context,
        })
    }

    fn is_half(&self) -> bool {
        matches!(self.kind, JoinKind::Semi | JoinKind::Anti)
    }

    /// Finds the slots of a batch.
    fn begin(&mut self, side: usize, batch: StreamBatch) -> Result<Pending, OperatorError> {
        let keys = &self.sides[side].keys;
        let global;
        let (columns, hashes) = match keys.is_empty() {
            true => {
                global = global_hashes(batch.num_rows());
                (vec![global_key(batch.num_rows())], &global)
            }
            false => keys_of(&self.context, &batch, keys)?,
        };
        let mut slots = Vec::new();
        let begun = self
            .state
            .begin_batch(&columns, hashes, (self.env.clock)(), &mut slots);
        begun.map_err(|source| state_error(&self.context, source))?;
        let unmatched = unmatched(&columns, &self.null_safe, batch.num_rows());
        Ok(Pending {
            side,
            slots,
            unmatched,
            next: 0,
            batch,
        })
    }

    /// Joins the next rows of the batch; whether some are left.
    fn advance(&mut self, pending: &mut Pending) -> Result<bool, OperatorError> {
        let first = pending.next;
        let (candidates, end) = self.candidates(pending);
        pending.next = end;
        let matches = self.matching(pending, candidates)?;
        let mut partners = vec![0_u32; end - first];
        for row in &matches.rows {
            partners[*row as usize - first] += 1;
        }
        let kinds: Vec<i8> = match &pending.batch.kinds {
            Some(kinds) => kinds.values()[first..end].to_vec(),
            None => vec![RowKind::Insert as i8; end - first],
        };
        let changes = self.changes(pending.side, first, &kinds, &partners, matches);
        self.remember(pending, first..end, &kinds, &partners)?;
        self.emit(pending, &changes)?;
        Ok(end < pending.batch.num_rows())
    }

    /// All rows of the other side with the same key, for as many rows of the batch as there is room for.
    fn candidates(&mut self, pending: &Pending) -> (Matches, usize) {
        let other = self.sides[1 - pending.side].rows;
        let rows = pending.batch.num_rows();
        let store = self.state.table(other).read(&pending.slots[pending.next..]);
        let mut found = Matches {
            rows: Vec::new(),
            entries: Vec::new(),
        };
        let mut row = pending.next;
        while row < rows && found.rows.len() < PAIRS_AT_A_TIME {
            if pending.unmatched.as_ref().is_none_or(|unmatched| !unmatched[row]) {
                let mut entry = store.first(pending.slots[row]);
                while entry != NONE {
                    for _ in 0..store.count(entry) {
                        found.rows.push(row as u32);
                        found.entries.push(entry);
                    }
                    entry = store.next(entry);
                }
            }
            row += 1;
        }
        (found, row)
    }

    /// Those for which the condition is true.
    fn matching(&self, pending: &Pending, candidates: Matches) -> Result<Matches, OperatorError> {
        let Some(condition) = &self.condition else {
            return Ok(candidates);
        };
        if candidates.rows.is_empty() {
            return Ok(candidates);
        }
        let [lefts, rights] = &condition.columns;
        let (rows, entries) = (&candidates.rows, &candidates.entries);
        let mut columns = self.of_side(pending, 0, lefts, rows, entries)?;
        columns.extend(self.of_side(pending, 1, rights, rows, entries)?);
        let pairs = record_batch(&condition.schema, columns, candidates.rows.len());
        let pairs = pairs.map_err(|source| arrow_error(&self.context, source))?;
        let mask: BooleanArray = condition
            .evaluator
            .evaluate_filter(&pairs)
            .map_err(|error| evaluation_error(&self.context, &error))?;
        let kept = |values: Vec<u32>| {
            let values = values.into_iter().enumerate();
            values
                .filter(|(place, _)| mask.is_valid(*place) && mask.value(*place))
                .map(|(_, value)| value)
                .collect()
        };
        Ok(Matches {
            rows: kept(candidates.rows),
            entries: kept(candidates.entries),
        })
    }

    /// What is put out for rows and their matches.
    fn changes(
        &mut self,
        side: usize,
        first: usize,
        kinds: &[i8],
        partners: &[u32],
        matches: Matches,
    ) -> Changes {
        let (outer, other_outer) = (self.sides[side].outer, self.sides[1 - side].outer);
        if self.is_half() && side == 0 {
            return Changes::left_of_half(self.kind, first, kinds, partners);
        }
        if !self.is_half() && !outer && !other_outer {
            return Changes::inner(first, kinds, matches);
        }
        let is_half = self.is_half();
        let other = self.state.table(self.sides[1 - side].rows);
        let other = other.write(&[], &mut self.new_rows);
        match is_half {
            true => Changes::right_of_half(self.kind, first, kinds, &matches, other),
            false => Changes::outer(first, kinds, &matches, outer, other_outer.then_some(other)),
        }
    }

    /// Keeps the rows; those of the other side whose partners changed are written, too.
    fn remember(
        &mut self,
        pending: &Pending,
        range: std::ops::Range<usize>,
        kinds: &[i8],
        partners: &[u32],
    ) -> Result<(), OperatorError> {
        let slots = &pending.slots[range.clone()];
        let counts_partners = self.sides[1 - pending.side].outer || self.is_half() && pending.side == 1;
        if counts_partners {
            let other = self.sides[1 - pending.side].rows;
            let table = self.state.table(other);
            let written: Vec<Slot> = slots.iter().copied().filter(|slot| table.has(*slot)).collect();
            table.write(&written, &mut self.new_rows);
        }
        let columns: Vec<ArrayRef> = pending
            .batch
            .rows
            .columns()
            .iter()
            .map(|column| column.slice(range.start, range.len()))
            .collect();
        let signs: Vec<i8> = kinds
            .iter()
            .map(|kind| if is_retraction(*kind) { -1 } else { 1 })
            .collect();
        let tracked = self.sides[pending.side].outer || self.is_half() && pending.side == 0;
        let own = self.state.table(self.sides[pending.side].rows);
        let store = own.write(slots, &mut self.new_rows);
        let applied = store.apply(slots, &columns, Some(&signs), tracked.then_some(partners));
        applied.map_err(|source| arrow_error(&self.context, source))?;
        let mut empty: Vec<Slot> = slots
            .iter()
            .copied()
            .filter(|slot| store.is_empty(*slot))
            .collect();
        empty.sort_unstable();
        empty.dedup();
        own.clear(&empty);
        Ok(())
    }

    fn emit(&mut self, pending: &Pending, changes: &Changes) -> Result<(), OperatorError> {
        let rows = changes.rows.len();
        if rows == 0 {
            return Ok(());
        }
        let sides = if self.is_half() { 0..1 } else { 0..2 };
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for side in sides {
            let all: Vec<usize> = (0..self.sides[side].schema.fields().len()).collect();
            columns.extend(self.of_side(pending, side, &all, &changes.rows, &changes.entries)?);
        }
        let rows =
            record_batch(&self.schema, columns, rows).map_err(|source| arrow_error(&self.context, source))?;
        let inserts = changes.kinds.iter().all(|kind| *kind == RowKind::Insert as i8);
        self.output.push(StreamBatch {
            kinds: (!inserts).then(|| Int8Array::from(changes.kinds.clone())),
            ..StreamBatch::new(rows)
        });
        Ok(())
    }

    /// Some of one side's columns: of the batch, or of the rows that are kept.
    fn of_side(
        &self,
        pending: &Pending,
        side: usize,
        wanted: &[usize],
        rows: &[u32],
        entries: &[u32],
    ) -> Result<Vec<ArrayRef>, OperatorError> {
        let columns = match side == pending.side {
            true => {
                let places = optional(rows);
                let batch = &pending.batch.rows;
                let taken = wanted
                    .iter()
                    .map(|column| take(batch.column(*column), &places, None));
                taken.collect::<Result<Vec<_>, _>>()
            }
            false => {
                let store = self.state.peek(self.sides[side].rows).peek();
                gathered(store, &self.sides[side].schema, wanted, entries)
            }
        };
        columns.map_err(|source| arrow_error(&self.context, source))
    }
}

/// Places, with a null for [`NONE`].
fn optional(places: &[u32]) -> UInt32Array {
    match places.contains(&NONE) {
        true => places
            .iter()
            .map(|place| (*place != NONE).then_some(*place))
            .collect(),
        false => UInt32Array::from(places.to_vec()),
    }
}

/// Columns of entries, nulls for [`NONE`].
fn gathered(
    store: &RowStore,
    schema: &SchemaRef,
    wanted: &[usize],
    entries: &[u32],
) -> Result<Vec<ArrayRef>, ArrowError> {
    if !entries.contains(&NONE) {
        return store.gather_columns(entries, wanted);
    }
    let there: Vec<u32> = entries.iter().copied().filter(|entry| *entry != NONE).collect();
    if there.is_empty() {
        let types = wanted.iter().map(|column| schema.field(*column).data_type());
        return Ok(types.map(|of| new_null_array(of, entries.len())).collect());
    }
    let mut next = 0_u32..;
    let places = entries.iter().map(|entry| match *entry {
        NONE => None,
        _ => next.next(),
    });
    let places: UInt32Array = places.collect();
    let columns = store.gather_columns(&there, wanted)?;
    columns.iter().map(|column| take(column, &places, None)).collect()
}

impl Operator for Join {
    fn push(&mut self, input: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        if let Some(watermark) = last_watermark(&batch) {
            self.watermarks.advance(input, watermark);
        }
        if batch.num_rows() > 0 {
            self.pending = Some(self.begin(input, batch)?);
        }
        Ok(())
    }

    fn poll_output(&mut self, limit: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        while self.output.is_empty()
            && let Some(mut pending) = self.pending.take()
        {
            match self.advance(&mut pending)? {
                true => self.pending = Some(pending),
                false => self
                    .state
                    .end_batch()
                    .map_err(|source| state_error(&self.context, source))?,
            }
        }
        if self.pending.is_none()
            && let Some(watermark) = self.watermarks.take()
        {
            self.output.push_watermark(&self.schema, watermark);
        }
        Ok(self.output.pop(limit))
    }

    fn end_input(&mut self, input: usize) -> Result<(), OperatorError> {
        self.watermarks.set_counts(input, false);
        Ok(())
    }

    fn set_input_idle(&mut self, input: usize, idle: bool) -> Result<(), OperatorError> {
        self.watermarks.set_counts(input, !idle);
        Ok(())
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
