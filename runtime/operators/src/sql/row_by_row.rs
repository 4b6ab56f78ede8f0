//! Keyed operators that go row by row over what they remember of a key, and say what changes: Top-N, deduplication, their like.
//!
//! ```text
//!   batch --key--> slots; rows --logic(the slot's rows)--> Changes --decoded at once--> batch
//! ```
//!
//! State: "rows" by key ([`super::encoded`]).

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int8Array, Int64Array};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use thalweg_functions::EvaluationEnv;
use thalweg_plan::spec::SortKey;
use thalweg_state::{
    ColumnHandle, KeyedState, OperatorSnapshot, RestoredState, Slot, SnapshotRequest, StateTtl,
};
use thalweg_types::StreamBatch;
use thalweg_types::element::RowKind;

use super::SqlOperator;
use super::encoded::{Encoded, EncodedBatch, EncodedRows, RowCodec};
use super::group_aggregate::{global_hashes, global_key, key_fields};
use super::output::{Output, arrow_error, last_watermark, record_batch};
use crate::keyed::{keyed_state, keys_of, state_error};
use crate::{Operator, OperatorContext, OperatorError, OutputLimit};

/// Rows that are worked off at a time.
const ROWS_AT_A_TIME: usize = 4096;

/// Changes in order.
#[derive(Default)]
pub(crate) struct Changes {
    rows: Vec<Encoded>,
    ranks: Vec<i64>,
    kinds: Vec<i8>,
    scratch: Vec<u8>,
}

impl Changes {
    /// A change of a row, with its rank.
    pub(crate) fn push(&mut self, row: &Encoded, rank: usize, kind: RowKind) {
        self.rows.push(row.clone());
        self.ranks.push(rank as i64);
        self.kinds.push(kind as i8);
    }

    /// A change of the row that has come.
    pub(crate) fn push_new(&mut self, row: &Row<'_>, kind: RowKind) {
        let row = row.batch.get(row.place, &mut self.scratch);
        self.push(&row, 0, kind);
    }

    /// As columns: those of the rows, then the rank if wanted.
    fn batch(
        &self,
        codec: &RowCodec,
        schema: &SchemaRef,
        with_rank: bool,
    ) -> Result<StreamBatch, ArrowError> {
        let mut columns = codec.decode(self.rows.iter().map(Encoded::row))?;
        if with_rank {
            columns.push(Arc::new(Int64Array::from(self.ranks.clone())));
        }
        let inserts = self.kinds.iter().all(|kind| *kind == RowKind::Insert as i8);
        Ok(StreamBatch {
            kinds: (!inserts).then(|| Int8Array::from(self.kinds.clone())),
            ..StreamBatch::new(record_batch(schema, columns, self.rows.len())?)
        })
    }
}

/// A row that has come.
pub(crate) struct Row<'a> {
    pub(crate) slot: Slot,
    /// Its place in the batch.
    pub(crate) place: usize,
    pub(crate) kind: i8,
    pub(crate) batch: &'a EncodedBatch,
}

/// What an operator does with a row.
pub(crate) trait RowLogic: Send + 'static {
    /// The next rows of a batch.
    fn begin(&mut self, columns: &[ArrayRef]) -> Result<(), ArrowError> {
        let _ = columns;
        Ok(())
    }
    /// A row has come.
    fn apply(&self, row: &Row<'_>, rows: &mut EncodedRows, changes: &mut Changes);
}

struct Pending {
    batch: StreamBatch,
    slots: Vec<Slot>,
    next: usize,
}

/// What a [`RowByRow`] needs to know.
pub(crate) struct RowByRowSpec<'a> {
    /// The key; empty: all rows are of one.
    pub(crate) keys: &'a [usize],
    /// How rows are sorted; their sort keys.
    pub(crate) order: &'a [SortKey],
    /// What tells rows apart, if they are found by less than all columns.
    pub(crate) ids: &'a [usize],
    /// 0 = for ever.
    pub(crate) state_ttl_ms: u64,
    /// Whether the rank is the last column of the output.
    pub(crate) with_rank: bool,
}

/// A [`RowLogic`] as an operator.
pub(crate) struct RowByRow<L> {
    context: OperatorContext,
    env: Arc<EvaluationEnv>,
    keys: Vec<usize>,
    with_rank: bool,
    logic: L,
    state: KeyedState,
    rows: ColumnHandle<EncodedRows>,
    schema: SchemaRef,
    pending: Option<Pending>,
    watermark: Option<i64>,
    new_rows: Vec<u32>,
    output: Output,
}

impl<L: RowLogic> RowByRow<L> {
    pub(crate) fn with_logic(
        spec: &RowByRowSpec<'_>,
        logic: L,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        let input = &operator.inputs[0];
        let rows = EncodedRows::new(&input.to_arrow(), spec.order, spec.ids)
            .map_err(|source| arrow_error(&context, source))?;
        let mut state = keyed_state(&context, key_fields(input, spec.keys))?;
        let ttl = (spec.state_ttl_ms > 0).then(|| StateTtl::new(Duration::from_millis(spec.state_ttl_ms)));
        let rows = state
            .register_columns("rows", rows, ttl)
            .map_err(|source| state_error(&context, source))?;
        Ok(Self {
            env: Arc::clone(&operator.env),
            keys: spec.keys.to_vec(),
            with_rank: spec.with_rank,
            logic,
            state,
            rows,
            schema: operator.output.to_arrow(),
            pending: None,
            watermark: None,
            new_rows: Vec::new(),
            output: Output::default(),
            context,
        })
    }

    fn begin(&mut self, batch: StreamBatch) -> Result<Pending, OperatorError> {
        let global;
        let (columns, hashes) = match self.keys.is_empty() {
            true => {
                global = global_hashes(batch.num_rows());
                (vec![global_key(batch.num_rows())], &global)
            }
            false => keys_of(&self.context, &batch, &self.keys)?,
        };
        let mut slots = Vec::new();
        let begun = self
            .state
            .begin_batch(&columns, hashes, (self.env.clock)(), &mut slots);
        begun.map_err(|source| state_error(&self.context, source))?;
        Ok(Pending {
            batch,
            slots,
            next: 0,
        })
    }

    /// Works the next rows off; whether some are left.
    fn advance(&mut self, pending: &mut Pending) -> Result<bool, OperatorError> {
        let count = (pending.batch.num_rows() - pending.next).min(ROWS_AT_A_TIME);
        let slots = &pending.slots[pending.next..pending.next + count];
        let piece = pending.batch.slice(pending.next, count);
        pending.next += count;
        let batch = self
            .apply(slots, &piece)
            .map_err(|source| arrow_error(&self.context, source))?;
        self.output.push(batch);
        Ok(pending.next < pending.batch.num_rows())
    }

    fn apply(&mut self, slots: &[Slot], batch: &StreamBatch) -> Result<StreamBatch, ArrowError> {
        let columns = batch.rows.columns();
        self.logic.begin(columns)?;
        let table = self.state.table(self.rows);
        let store = table.write(slots, &mut self.new_rows);
        let encoded = store.codec.encode(columns)?;
        let mut changes = Changes::default();
        for (place, slot) in slots.iter().enumerate() {
            let row = Row {
                slot: *slot,
                place,
                kind: batch
                    .kinds
                    .as_ref()
                    .map_or(RowKind::Insert as i8, |kinds| kinds.value(place)),
                batch: &encoded,
            };
            self.logic.apply(&row, store, &mut changes);
        }
        let output = changes.batch(&store.codec, &self.schema, self.with_rank)?;
        let mut empty: Vec<Slot> = slots
            .iter()
            .copied()
            .filter(|slot| store.rows(*slot).is_empty())
            .collect();
        empty.sort_unstable();
        empty.dedup();
        table.clear(&empty);
        Ok(output)
    }
}

impl<L: RowLogic> Operator for RowByRow<L> {
    fn push(&mut self, _input: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        self.watermark = last_watermark(&batch);
        if batch.num_rows() > 0 {
            self.pending = Some(self.begin(batch)?);
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
            && let Some(watermark) = self.watermark.take()
        {
            self.output.push_watermark(&self.schema, watermark);
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
