//! Top-N and deduplication of each window. Flink's WindowRankOperator and RowTimeWindowDeduplicateOperator.
//!
//! ```text
//!   rows --key, window's end--> kept --the window is over--> sorted, the ranks start..=end put out
//! ```
//!
//! A row of a window that is over is late, and dropped and counted. Rows that are equal by the order keep the order in which they came.
//! State: "rows" by key ([`super::timed`]), the time being that at which the window is over. List "watermark".

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use thalweg_functions::EvaluationEnv;
use thalweg_plan::spec::{DeduplicateSpec, RankEnd, RankSpec, SortKey, WindowColumns};
use thalweg_state::{
    ColumnHandle, KeyedState, OperatorSnapshot, RestoredState, Slot, SnapshotRequest, TimeDomain, Timer,
};
use thalweg_types::StreamBatch;

use super::SqlOperator;
use super::encoded::RowCodec;
use super::group_aggregate::{global_hashes, global_key, key_fields};
use super::output::{
    Output, arrow_error, millis, record_batch, restored_watermark, unsupported, watermark_list,
};
use super::timed::{Timed, TimedRows};
use super::window::zone::Zone;
use super::window_join::{over_at, zone_of};
use crate::keyed::{keyed_state, keys_of, state_error};
use crate::{Operator, OperatorContext, OperatorError, OutputLimit};

/// Keys worked off at a time.
const KEYS_AT_A_TIME: usize = 1024;

/// Which rows of a window are put out.
enum Picks {
    /// From 1, in the order.
    Ranks {
        start: usize,
        end: usize,
        with_rank: bool,
    },
    /// The last in the order.
    Last,
}

/// [`thalweg_plan::NodeSpec::WindowRank`] and [`thalweg_plan::NodeSpec::WindowDeduplicate`].
pub struct WindowTop {
    context: OperatorContext,
    env: Arc<EvaluationEnv>,
    keys: Vec<usize>,
    window: WindowColumns,
    zone: Zone,
    picks: Picks,
    order: RowCodec,
    state: KeyedState,
    rows: ColumnHandle<TimedRows>,
    pending: Option<StreamBatch>,
    watermark: i64,
    firing: bool,
    late_rows: u64,
    timers: Vec<Timer>,
    new_rows: Vec<u32>,
    output: Output,
    schema: SchemaRef,
}

impl WindowTop {
    /// Top-N of each window.
    pub fn rank(
        spec: &RankSpec,
        window: WindowColumns,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        let RankEnd::Constant(end) = spec.end else {
            return Err(unsupported(
                &context,
                "Top-N of windows needs a constant N".to_owned(),
            ));
        };
        let picks = Picks::Ranks {
            start: spec.start.max(1) as usize,
            end: usize::try_from(end).unwrap_or(usize::MAX),
            with_rank: spec.with_rank,
        };
        Self::new(&spec.partition, &spec.order, picks, window, operator, context)
    }

    /// The first or last row of each window.
    pub fn deduplicate(
        spec: &DeduplicateSpec,
        window: WindowColumns,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        let order = spec.rowtime.map(|column| SortKey {
            column,
            descending: false,
            nulls_first: true,
        });
        let picks = match spec.keep_last {
            true => Picks::Last,
            false => Picks::Ranks {
                start: 1,
                end: 1,
                with_rank: false,
            },
        };
        Self::new(&spec.keys, order.as_slice(), picks, window, operator, context)
    }

    fn new(
        keys: &[usize],
        order: &[SortKey],
        picks: Picks,
        window: WindowColumns,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        if !window.event_time {
            let message = "Processing time Window TopN is not supported yet.".to_owned();
            return Err(unsupported(&context, message));
        }
        let input = &operator.inputs[0];
        let schema = input.to_arrow();
        let fail = |source| arrow_error(&context, source);
        let mut state = keyed_state(&context, key_fields(input, keys))?;
        let rows = TimedRows::new(&schema).map_err(fail)?;
        let rows = state
            .register_columns("rows", rows, None)
            .map_err(|source| state_error(&context, source))?;
        Ok(Self {
            env: Arc::clone(&operator.env),
            keys: keys.to_vec(),
            zone: zone_of(&window, &operator.env, &context)?,
            window,
            picks,
            order: RowCodec::new(&schema, order).map_err(fail)?,
            state,
            rows,
            pending: None,
            watermark: i64::MIN,
            firing: false,
            late_rows: 0,
            timers: Vec::new(),
            new_rows: Vec::new(),
            output: Output::default(),
            schema: operator.output.to_arrow(),
            context,
        })
    }

    /// How many rows were dropped because their window was over.
    pub fn late_rows(&self) -> u64 {
        self.late_rows
    }

    fn keep(&mut self, batch: &StreamBatch) -> Result<(), OperatorError> {
        let fail = |source| arrow_error(&self.context, source);
        let global;
        let (columns, hashes) = match self.keys.is_empty() {
            true => {
                global = global_hashes(batch.num_rows());
                (vec![global_key(batch.num_rows())], &global)
            }
            false => keys_of(&self.context, batch, &self.keys)?,
        };
        let mut slots = Vec::new();
        let begun = self
            .state
            .begin_batch(&columns, hashes, (self.env.clock)(), &mut slots);
        begun.map_err(|source| state_error(&self.context, source))?;
        let ends = millis(batch.rows.column(self.window.end)).map_err(fail)?;
        let times = over_at(&ends, &self.zone);
        let is_kept = |row: usize| ends.is_valid(row) && times[row] > self.watermark;
        let kept: Vec<usize> = (0..batch.num_rows()).filter(|row| is_kept(*row)).collect();
        self.late_rows += (batch.num_rows() - kept.len()) as u64;
        let written: Vec<Slot> = kept.iter().map(|row| slots[*row]).collect();
        let store = self.state.table(self.rows).write(&written, &mut self.new_rows);
        let encoded = store.codec.encode(batch.rows.columns()).map_err(fail)?;
        for row in &kept {
            store.insert(slots[*row], Timed::new(times[*row], 0, encoded.row(*row)));
        }
        let timers = self.state.timers();
        for row in kept {
            let timer = Timer {
                time: times[row],
                slot: slots[row],
                window: None,
            };
            timers.register(TimeDomain::Event, timer);
        }
        self.state
            .end_batch()
            .map_err(|source| state_error(&self.context, source))
    }

    /// Puts the windows out that are over next; whether there were some.
    fn fire(&mut self) -> Result<bool, OperatorError> {
        self.state.advance_clock((self.env.clock)());
        let mut timers = std::mem::take(&mut self.timers);
        let popped = self
            .state
            .pop_timers(TimeDomain::Event, self.watermark, KEYS_AT_A_TIME, &mut timers);
        popped.map_err(|source| state_error(&self.context, source))?;
        let (mut rows, mut lengths) = (Vec::new(), Vec::new());
        let due: Vec<Slot> = timers.iter().map(|timer| timer.slot).collect();
        let table = self.state.table(self.rows);
        let store = table.write(&due, &mut self.new_rows);
        let mut empty = Vec::new();
        for timer in &timers {
            let taken = store.take_until(timer.slot, timer.time);
            lengths.push(taken.len());
            rows.extend(taken);
            if store.rows(timer.slot).is_empty() {
                empty.push(timer.slot);
            }
        }
        let picked = picked(
            &self.picks,
            &self.order,
            &store.codec,
            &rows,
            &lengths,
            &self.schema,
        );
        table.clear(&empty);
        self.output
            .push(picked.map_err(|source| arrow_error(&self.context, source))?);
        let any = !timers.is_empty();
        self.timers = timers;
        self.state
            .end_batch()
            .map_err(|source| state_error(&self.context, source))?;
        Ok(any)
    }

    /// The rows up to the batch's next watermark, then that watermark.
    fn advance(&mut self, mut batch: StreamBatch) -> Result<(), OperatorError> {
        let cut = batch.watermarks.first().copied();
        let end = cut.map_or(batch.num_rows(), |cut| cut.row as usize);
        if end > 0 {
            self.keep(&batch.slice(0, end))?;
        }
        if let Some(cut) = cut {
            self.watermark = self.watermark.max(cut.timestamp_ms);
            self.firing = true;
            let rest = batch.slice(end, batch.num_rows() - end);
            let watermarks = batch.watermarks.drain(1..).map(|mut cut| {
                cut.row -= end as u32;
                cut
            });
            let watermarks = watermarks.collect();
            self.pending = Some(StreamBatch { watermarks, ..rest });
        }
        Ok(())
    }
}

/// The rows of windows that are put out; `lengths`: how many each window has.
fn picked(
    picks: &Picks,
    order: &RowCodec,
    codec: &RowCodec,
    rows: &[Timed],
    lengths: &[usize],
    schema: &SchemaRef,
) -> Result<StreamBatch, ArrowError> {
    let columns = codec.decode(rows.iter().map(|row| &row.row))?;
    let keys = order.encode(&columns)?;
    let (mut places, mut ranks) = (Vec::new(), Vec::new());
    let mut first = 0;
    for length in lengths {
        let mut window: Vec<u32> = (first as u32..(first + length) as u32).collect();
        first += length;
        window.sort_by(|a, b| keys.key(*a as usize).cmp(keys.key(*b as usize)));
        match picks {
            Picks::Last => {
                places.extend(window.last());
                ranks.push(1);
            }
            Picks::Ranks { start, end, .. } => {
                let chosen = window.iter().enumerate().take(*end).skip(start - 1);
                for (rank, place) in chosen {
                    places.push(*place);
                    ranks.push(rank as i64 + 1);
                }
            }
        }
    }
    let chosen = places.iter().map(|place| &rows[*place as usize].row);
    let mut columns: Vec<ArrayRef> = codec.decode(chosen)?;
    if let Picks::Ranks { with_rank: true, .. } = picks {
        columns.push(Arc::new(Int64Array::from(ranks)));
    }
    Ok(StreamBatch::new(record_batch(schema, columns, places.len())?))
}

impl Operator for WindowTop {
    fn push(&mut self, _input: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        self.pending = Some(batch);
        Ok(())
    }

    fn poll_output(&mut self, limit: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        while self.output.is_empty() {
            if self.firing {
                if !self.fire()? {
                    self.firing = false;
                    self.output.push_watermark(&self.schema, self.watermark);
                }
            } else if let Some(batch) = self.pending.take() {
                self.advance(batch)?;
            } else {
                break;
            }
        }
        Ok(self.output.pop(limit))
    }

    fn restore(&mut self, state: &mut RestoredState) -> Result<(), OperatorError> {
        self.watermark = restored_watermark(state);
        let restored = self.state.restore(state, (self.env.clock)());
        restored.map_err(|source| state_error(&self.context, source))
    }

    fn snapshot(&mut self, request: SnapshotRequest) -> Result<OperatorSnapshot, OperatorError> {
        let tables = self.state.snapshot(request);
        Ok(OperatorSnapshot {
            tables: tables.map_err(|source| state_error(&self.context, source))?,
            lists: vec![watermark_list(self.watermark)],
        })
    }

    fn state_bytes(&self) -> usize {
        self.state.memory_size()
    }
}
