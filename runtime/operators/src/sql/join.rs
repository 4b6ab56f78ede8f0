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

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, BooleanArray, Int8Array, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::{Schema as Columns, SchemaRef};
use thalweg_functions::{EvaluationEnv, Evaluator};
use thalweg_plan::spec::{JoinKind, JoinSideKey, JoinSpec};
use thalweg_state::{
    ColumnHandle, KeyedState, OperatorSnapshot, RestoredState, Slot, SnapshotRequest, StateTtl,
};
use thalweg_types::StreamBatch;
use thalweg_types::element::RowKind;

use super::SqlOperator;
use super::group_aggregate::{global_hashes, global_key, key_fields};
use super::output::{Output, arrow_error, evaluation_error, is_retraction, last_watermark, record_batch};
use super::rows::{NONE, RowStore};
use crate::keyed::{keyed_state, keys_of, state_error};
use crate::{InputWatermarks, Operator, OperatorContext, OperatorError, OutputLimit};

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

/// [`thalweg_plan::NodeSpec::Join`].
pub struct Join {
    context: OperatorContext,
    env: Arc<EvaluationEnv>,
    kind: JoinKind,
    sides: [Side; 2],
    null_safe: Vec<bool>,
    condition: Option<Evaluator>,
    /// Left, then right columns.
    pair_schema: SchemaRef,
    schema: SchemaRef,
    state: KeyedState,
    pending: Option<Pending>,
    watermarks: InputWatermarks,
    new_rows: Vec<u32>,
    output: Output,
}

/// Matches of some rows: row of the batch, entry of the other side; sorted by row.
struct Matches {
    rows: Vec<u32>,
    entries: Vec<u32>,
}

/// What is put out, in order: a row of the batch and an entry of the other side, or one of them.
#[derive(Default)]
struct Changes {
    rows: Vec<u32>,
    entries: Vec<u32>,
    kinds: Vec<i8>,
}

impl Changes {
    fn push(&mut self, row: u32, entry: u32, kind: RowKind) {
        self.rows.push(row);
        self.entries.push(entry);
        self.kinds.push(kind as i8);
    }
}

impl Join {
    /// A join of two inputs.
    pub fn new(
        spec: &JoinSpec,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        let [left, right] = [0, 1].map(|side| operator.inputs[side].to_arrow());
        let fields = left.fields().iter().chain(right.fields()).cloned();
        let pair_schema = Arc::new(Columns::new(fields.collect::<Vec<_>>()));
        let condition = spec.condition.as_ref().map(|condition| {
            Evaluator::new(
                std::slice::from_ref(condition),
                &pair_schema,
                Arc::clone(&operator.env),
            )
        });
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
            pair_schema,
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
        let nulls = columns.iter().zip(&self.null_safe).filter(|(_, safe)| !**safe);
        let nulls = nulls.filter_map(|(column, _)| column.logical_nulls());
        let unmatched = nulls.fold(None, |found: Option<Vec<bool>>, nulls| {
            let mut found = found.unwrap_or_else(|| vec![false; batch.num_rows()]);
            found
                .iter_mut()
                .zip(nulls.iter())
                .for_each(|(found, valid)| *found |= !valid);
            Some(found)
        });
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
        let changes = match (self.is_half(), pending.side) {
            (true, 0) => self.left_of_half(first, &kinds, &partners),
            (true, _) => self.right_of_half(first, &kinds, &matches),
            (false, side) => self.changes(side, first, &kinds, &matches),
        };
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
        let columns = self.pairs(pending, &candidates.rows, &candidates.entries)?;
        let pairs = record_batch(&nullable(&self.pair_schema), columns, candidates.rows.len());
        let pairs = pairs.map_err(|source| arrow_error(&self.context, source))?;
        let mask: BooleanArray = condition
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

    /// Changes of a join whose output has both sides.
    fn changes(&mut self, side: usize, first: usize, kinds: &[i8], matches: &Matches) -> Changes {
        let (outer, other_outer) = (self.sides[side].outer, self.sides[1 - side].outer);
        let mut changes = Changes::default();
        if !outer && !other_outer {
            changes.kinds = matches
                .rows
                .iter()
                .map(|row| kinds[*row as usize - first])
                .collect();
            changes.rows.clone_from(&matches.rows);
            changes.entries.clone_from(&matches.entries);
            return changes;
        }
        let store = self
            .state
            .table(self.sides[1 - side].rows)
            .write(&[], &mut self.new_rows);
        let mut next = 0;
        for (place, kind) in kinds.iter().enumerate() {
            let row = (first + place) as u32;
            let begin = next;
            while matches.rows.get(next) == Some(&row) {
                next += 1;
            }
            let entries = &matches.entries[begin..next];
            let added = !is_retraction(*kind);
            let shown = if added { RowKind::Insert } else { RowKind::Delete };
            if entries.is_empty() && outer {
                changes.push(row, NONE, shown);
            }
            for (place, entry) in entries.iter().enumerate() {
                // A row that is there several times changes its partners once.
                let is_first = place == 0 || entries[place - 1] != *entry;
                if other_outer && is_first {
                    let times = entries[place..]
                        .iter()
                        .take_while(|other| *other == entry)
                        .count();
                    let partners = store.partners(*entry);
                    if added {
                        *partners += 1;
                        if *partners == 1 {
                            (0..times).for_each(|_| changes.push(NONE, *entry, RowKind::Delete));
                        }
                    } else {
                        *partners = partners.saturating_sub(1);
                    }
                }
                changes.push(row, *entry, shown);
                let is_last = entries.get(place + 1) != Some(entry);
                if other_outer && !added && is_last && *store.partners(*entry) == 0 {
                    let times = entries[..=place]
                        .iter()
                        .rev()
                        .take_while(|other| *other == entry)
                        .count();
                    (0..times).for_each(|_| changes.push(NONE, *entry, RowKind::Insert));
                }
            }
        }
        changes
    }

    /// Left rows of SEMI and ANTI: shown or not.
    fn left_of_half(&self, first: usize, kinds: &[i8], partners: &[u32]) -> Changes {
        let mut changes = Changes::default();
        for (place, (kind, partners)) in kinds.iter().zip(partners).enumerate() {
            if (*partners > 0) == (self.kind == JoinKind::Semi) {
                changes.rows.push((first + place) as u32);
                changes.entries.push(NONE);
                changes.kinds.push(*kind);
            }
        }
        changes
    }

    /// Right rows of SEMI and ANTI: left ones get their first partner, or lose their last.
    fn right_of_half(&mut self, first: usize, kinds: &[i8], matches: &Matches) -> Changes {
        let semi = self.kind == JoinKind::Semi;
        let store = self
            .state
            .table(self.sides[0].rows)
            .write(&[], &mut self.new_rows);
        let mut changes = Changes::default();
        let mut before = (NONE, NONE);
        for (row, entry) in matches.rows.iter().zip(&matches.entries) {
            if before == (*row, *entry) {
                continue;
            }
            before = (*row, *entry);
            let added = !is_retraction(kinds[*row as usize - first]);
            let times = store.count(*entry);
            let partners = store.partners(*entry);
            let had = *partners;
            *partners = if added { had + 1 } else { had.saturating_sub(1) };
            if (had == 0) != (*partners == 0) {
                let shown = (*partners > 0) == semi;
                let kind = if shown { RowKind::Insert } else { RowKind::Delete };
                (0..times).for_each(|_| changes.push(NONE, *entry, kind));
            }
        }
        changes
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
        let columns = match self.is_half() {
            true => self.of_side(pending, 0, &changes.rows, &changes.entries)?,
            false => self.pairs(pending, &changes.rows, &changes.entries)?,
        };
        let rows =
            record_batch(&self.schema, columns, rows).map_err(|source| arrow_error(&self.context, source))?;
        let inserts = changes.kinds.iter().all(|kind| *kind == RowKind::Insert as i8);
        self.output.push(StreamBatch {
            kinds: (!inserts).then(|| Int8Array::from(changes.kinds.clone())),
            ..StreamBatch::new(rows)
        });
        Ok(())
    }

    /// Left, then right columns.
    fn pairs(
        &self,
        pending: &Pending,
        rows: &[u32],
        entries: &[u32],
    ) -> Result<Vec<ArrayRef>, OperatorError> {
        let mut columns = self.of_side(pending, 0, rows, entries)?;
        columns.extend(self.of_side(pending, 1, rows, entries)?);
        Ok(columns)
    }

    /// One side's columns: of the batch, or of the rows that are kept.
    fn of_side(
        &self,
        pending: &Pending,
        side: usize,
        rows: &[u32],
        entries: &[u32],
    ) -> Result<Vec<ArrayRef>, OperatorError> {
        let columns = match side == pending.side {
            true => {
                let places = optional(rows);
                let taken = pending
                    .batch
                    .rows
                    .columns()
                    .iter()
                    .map(|column| take(column, &places, None));
                taken.collect::<Result<Vec<_>, _>>()
            }
            false => {
                let store = self.state.peek(self.sides[side].rows).peek();
                gathered(store, &self.sides[side].schema, entries)
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

/// The columns of entries, nulls for [`NONE`].
fn gathered(
    store: &RowStore,
    schema: &SchemaRef,
    entries: &[u32],
) -> Result<Vec<ArrayRef>, arrow::error::ArrowError> {
    if !entries.contains(&NONE) {
        return store.gather(entries);
    }
    let there: Vec<u32> = entries.iter().copied().filter(|entry| *entry != NONE).collect();
    if there.is_empty() {
        let fields = schema.fields().iter();
        return Ok(fields
            .map(|field| new_null_array(field.data_type(), entries.len()))
            .collect());
    }
    let mut next = 0..;
    let places = entries.iter().map(|entry| match *entry {
        NONE => None,
        _ => next.next(),
    });
    let places: UInt32Array = places.collect();
    let columns = store.gather(&there)?;
    columns.iter().map(|column| take(column, &places, None)).collect()
}

/// The schema with all columns nullable: of pairs before it is known which there are.
fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter();
    let fields: Vec<_> = fields
        .map(|field| arrow::datatypes::Field::clone(field).with_nullable(true))
        .collect();
    Arc::new(Columns::new(fields))
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
