//! The common part of operators that go row by row with timers, watermarks and side outputs. Process functions, windows and joins
//! are a [`Logic`] each; everything else is here.
//!
//! ```text
//!   push(batch) -> rows up to a watermark cut --Logic::row-------> Output: rows, each with its event time
//!                  the cut: least of all inputs --has grown--+          + side outputs (Services)
//!                            event timers, in order <--------+
//!                                --Logic::timer------------->
//!                            then the watermark itself -----> a cut between the output rows
//!   on_processing_time(now) -> processing timers before now --Logic::timer--> Output
//! ```
//!
//! One `poll_output` stops at the limit, also in the middle of the timers of one watermark. One `catch_unwind` a piece.
//!
//! Invariants: a watermark goes on behind everything that its timers emitted; slots of a batch stay valid until its last row and
//! the timers in between are done (`KeyedState::end_batch` is called then); `Output::times` has one entry for each row of the
//! collector after each call of the logic.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayBuilder, ArrayRef, Int64Builder, RecordBatch};
use arrow::error::ArrowError;
use thalweg_operators::keyed::keys_of;
use thalweg_operators::{InputWatermarks, Operator, OperatorContext, OperatorError, OutputLimit, Slot};
use thalweg_state::{OperatorSnapshot, RestoredState, SnapshotRequest, TimeDomain, Timer};
use thalweg_types::{StreamBatch, WatermarkCut};

use super::services::Services;
use super::{Collector, arrow_error, at_row, guard, wrong_input};
use crate::context::OpenContext;
use crate::keyed::KeyColumns;
use crate::process::UserError;
use crate::record::{Record, RecordError};
use crate::side_output::SideOutputTags;

/// Timers fired in one piece at most, so that the task looks into its mailbox even if they emit nothing.
const TIMERS_PER_PIECE: usize = 1 << 14;

/// Which row is worked off.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowAt {
    /// The logical input.
    pub(crate) input: usize,
    /// In the batch that [`Logic::take`] got last of this input.
    pub(crate) row: usize,
    /// Its event time.
    pub(crate) timestamp: Option<i64>,
    /// Its key's slot; 0 where the input has no key.
    pub(crate) slot: Slot,
}

/// What an operator does with rows and timers.
pub(crate) trait Logic: Send {
    /// What it emits.
    type Out: Record;
    /// How many logical inputs it has.
    const INPUTS: usize;

    /// Registers state and looks at restored operator state; before everything else, once.
    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<(), UserError>;
    /// Checks and keeps the columns of a batch whose rows come next. `keys` is empty where the input has no key.
    fn take(&mut self, input: usize, batch: &StreamBatch, keys: &[ArrayRef]) -> Result<(), RecordError>;
    /// Works off a row. What it emits gets the row's event time, unless it stamps it otherwise ([`Output::stamp`]).
    fn row(
        &mut self,
        at: RowAt,
        services: &mut Services,
        out: &mut Output<Self::Out>,
    ) -> Result<(), UserError>;
    /// A timer has fired, and is gone. What it emits gets the time of an event timer and none of a processing timer, unless it
    /// stamps it otherwise.
    fn timer(
        &mut self,
        domain: TimeDomain,
        timer: Timer,
        services: &mut Services,
        out: &mut Output<Self::Out>,
    ) -> Result<(), UserError> {
        let _ = (domain, timer, services, out);
        Ok(())
    }
    /// A piece of output before it goes on: what is done to whole columns. As many rows come out.
    fn finish(&mut self, rows: RecordBatch) -> Result<RecordBatch, ArrowError> {
        Ok(rows)
    }
}

/// Rows that a logic emitted, with their event times.
pub(crate) struct Output<O: Record> {
    pub(crate) collector: Collector<O>,
    times: Int64Builder,
}

impl<O: Record> Output<O> {
    pub(super) fn new() -> Self {
        Self {
            collector: Collector::new(),
            times: Int64Builder::new(),
        }
    }

    /// Gives the rows that were emitted since the last call this event time.
    #[inline]
    pub(crate) fn stamp(&mut self, time: Option<i64>) {
        let rows = self.collector.rows.len() - self.times.len();
        match time {
            _ if rows == 0 => {}
            Some(time) => self.times.append_value_n(time, rows),
            None => self.times.append_nulls(rows),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.collector.rows.len()
    }

    pub(super) fn is_full(&self, limit: OutputLimit) -> bool {
        self.len() >= limit.rows || self.collector.rows.bytes() >= limit.bytes
    }

    /// The rows so far with watermarks between them.
    pub(super) fn finish(&mut self, watermarks: Vec<WatermarkCut>) -> Result<StreamBatch, ArrowError> {
        let times = self.times.finish();
        Ok(StreamBatch {
            timestamps: (times.null_count() < times.len()).then_some(times),
            watermarks,
            ..StreamBatch::new(self.collector.rows.finish()?)
        })
    }
}

/// The batch that is worked off.
struct Pending {
    input: usize,
    batch: StreamBatch,
    /// The next row.
    next: usize,
    /// The next watermark.
    next_cut: usize,
}

impl Pending {
    /// A watermark that holds before the next row.
    fn take_cut(&mut self) -> Option<i64> {
        let cut = self.batch.watermarks.get(self.next_cut)?;
        if cut.row as usize > self.next {
            return None;
        }
        self.next_cut += 1;
        Some(cut.timestamp_ms)
    }

    /// Rows up to which no watermark lies between.
    fn segment_end(&self) -> usize {
        let cut = self.batch.watermarks.get(self.next_cut);
        cut.map_or(self.batch.num_rows(), |cut| cut.row as usize)
    }

    fn timestamp(&self, row: usize) -> Option<i64> {
        let times = self.batch.timestamps.as_ref()?;
        times.is_valid(row).then(|| times.value(row))
    }
}

/// Timers that are being fired.
#[derive(Debug, Clone, Copy)]
struct Firing {
    domain: TimeDomain,
    until: i64,
}

/// A [`Logic`] as an operator.
pub(crate) struct Driver<L: Logic> {
    services: Services,
    logic: L,
    /// The key's columns in each input; `None` where it has no key.
    keys: Vec<Option<KeyColumns>>,
    slots: Vec<Slot>,
    pending: Option<Pending>,
    firing: Option<Firing>,
    watermarks: InputWatermarks,
    out: Output<L::Out>,
    cuts: Vec<WatermarkCut>,
    /// Of the last piece, by number; taken before the next is made.
    sides: VecDeque<(u32, StreamBatch)>,
    next_processing_time: Option<i64>,
}

impl<L: Logic> Driver<L> {
    /// `keys[i]`: where input `i` has its key. The first that has one names the key's columns in snapshots.
    pub(crate) fn new(
        context: OperatorContext,
        keys: Vec<Option<KeyColumns>>,
        tags: &SideOutputTags,
        logic: L,
    ) -> Result<Self, OperatorError> {
        debug_assert_eq!(keys.len(), L::INPUTS);
        Ok(Self {
            services: Services::new(context, keys.iter().flatten().next(), tags)?,
            logic,
            keys,
            slots: Vec::new(),
            pending: None,
            firing: None,
            watermarks: InputWatermarks::new(L::INPUTS),
            out: Output::new(),
            cuts: Vec::new(),
            sides: VecDeque::new(),
            next_processing_time: None,
        })
    }

    /// With a clock that the test sets.
    #[cfg(test)]
    pub(crate) fn with_clock(mut self, clock: thalweg_task::Clock) -> Self {
        self.services.clock = clock;
        self
    }

    fn is_full(&self, limit: OutputLimit) -> bool {
        self.out.len() >= limit.rows
            || self.out.collector.rows.bytes() + self.services.sides.bytes() >= limit.bytes
    }

    fn is_working(&self) -> bool {
        self.pending.is_some() || self.firing.is_some()
    }

    /// Works until the limit, or until nothing is left.
    fn run(&mut self, limit: OutputLimit) -> Result<(), OperatorError> {
        let mut timers = TIMERS_PER_PIECE;
        while !self.is_full(limit) && timers > 0 {
            if let Some(firing) = self.firing {
                self.fire(firing, limit, &mut timers)?;
                continue;
            }
            let Some(pending) = &mut self.pending else {
                return Ok(());
            };
            if let Some(watermark) = pending.take_cut() {
                self.watermarks.advance(pending.input, watermark);
                self.advance();
            } else if pending.next < pending.batch.num_rows() {
                self.run_rows(limit)?;
            } else {
                self.pending = None;
            }
        }
        Ok(())
    }

    /// The rows up to the next watermark.
    fn run_rows(&mut self, limit: OutputLimit) -> Result<(), OperatorError> {
        let (input, end) = match &self.pending {
            Some(pending) => (pending.input, pending.segment_end()),
            None => return Ok(()),
        };
        let is_keyed = self.keys[input].is_some();
        while !self.is_full(limit)
            && let Some(pending) = &mut self.pending
            && pending.next < end
        {
            let row = pending.next;
            pending.next += 1;
            let timestamp = pending.timestamp(row);
            let at = RowAt {
                input,
                row,
                timestamp,
                slot: if is_keyed { self.slots[row] } else { 0 },
            };
            let done = self.logic.row(at, &mut self.services, &mut self.out);
            done.map_err(|error| error.of(self.services.operator_name()))?;
            self.out.stamp(timestamp);
        }
        Ok(())
    }

    /// Lets the combined watermark go on, if it can; its timers come first.
    fn advance(&mut self) {
        let Some(watermark) = self.watermarks.combined() else {
            return;
        };
        if watermark > self.services.watermark {
            self.services.watermark = watermark;
            self.begin_firing(TimeDomain::Event, watermark);
        }
    }

    fn begin_firing(&mut self, domain: TimeDomain, until: i64) {
        let now = self.services.clock.now_ms();
        if let Some(keyed) = self.services.keyed_mut() {
            keyed.advance_clock(now);
        }
        self.firing = Some(Firing { domain, until });
    }

    fn fire(&mut self, firing: Firing, limit: OutputLimit, left: &mut usize) -> Result<(), OperatorError> {
        while !self.is_full(limit) && *left > 0 {
            *left -= 1;
            let timer = match self.services.keyed_mut() {
                Some(keyed) => keyed.pop_timer(firing.domain, firing.until),
                None => Ok(None),
            };
            let timer = timer.map_err(|source| self.services.state_error(source))?;
            let Some(timer) = timer else {
                self.end_firing(firing);
                return Ok(());
            };
            let done = self
                .logic
                .timer(firing.domain, timer, &mut self.services, &mut self.out);
            done.map_err(|error| error.of(self.services.operator_name()))?;
            self.out
                .stamp((firing.domain == TimeDomain::Event).then_some(timer.time));
        }
        Ok(())
    }

    fn end_firing(&mut self, firing: Firing) {
        self.firing = None;
        if firing.domain == TimeDomain::Event {
            self.cuts.push(WatermarkCut {
                row: self.out.len() as u32,
                timestamp_ms: firing.until,
            });
        }
    }

    /// Behind each piece of output.
    fn settle(&mut self) -> Result<(), OperatorError> {
        let is_done = !self.is_working();
        self.services.settle(is_done)?;
        self.find_next_processing_time();
        Ok(())
    }

    /// The piece; `None` if there is nothing in it and nothing left.
    fn take_output(&mut self) -> Result<Option<StreamBatch>, ArrowError> {
        while let Some(side) = self.services.sides.take()? {
            self.sides.push_back(side);
        }
        let cuts = std::mem::take(&mut self.cuts);
        if self.out.len() == 0 && cuts.is_empty() && !self.is_working() {
            return Ok(None);
        }
        let mut output = self.out.finish(cuts)?;
        output.rows = self.logic.finish(output.rows)?;
        Ok(Some(output))
    }

    fn find_next_processing_time(&mut self) {
        let keyed = self.services.keyed_mut();
        let next = keyed.and_then(|keyed| keyed.timers().next_time(TimeDomain::Processing));
        self.next_processing_time = next.map(|time| time.saturating_add(1));
    }

    fn open(&mut self, state: &mut RestoredState) -> Result<(), OperatorError> {
        let operator = Arc::clone(self.services.operator_name());
        let (logic, services) = (&mut self.logic, &mut self.services);
        let failed = guard(&operator, || {
            let mut context = OpenContext::new(services, state);
            let opened = logic.open(&mut context).map_err(|error| error.of(&operator));
            let failed = context.take_error();
            opened.map(|()| failed)
        })?;
        match failed {
            Some(source) => Err(self.services.state_error(source)),
            None => Ok(()),
        }
    }
}

impl<L: Logic> Operator for Driver<L> {
    fn push(&mut self, input: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        let context = &self.services.context;
        let wrong = |error: RecordError| wrong_input(context, &error);
        match &self.keys[input] {
            None => self.logic.take(input, &batch, &[]).map_err(wrong)?,
            Some(columns) => {
                let (keys, hashes) = keys_of(context, &batch, &columns.indices)?;
                self.logic.take(input, &batch, &keys).map_err(wrong)?;
                let now = self.services.clock.now_ms();
                let found = self
                    .services
                    .keyed()
                    .begin_batch(&keys, hashes, now, &mut self.slots);
                found.map_err(|source| self.services.state_error(source))?;
            }
        }
        self.pending = Some(Pending {
            input,
            batch,
            next: 0,
            next_cut: 0,
        });
        Ok(())
    }

    fn poll_output(&mut self, limit: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        if !self.is_working() {
            return Ok(None);
        }
        let limit = OutputLimit {
            rows: limit.rows.max(1),
            bytes: limit.bytes.max(1),
        };
        let operator = Arc::clone(self.services.operator_name());
        guard(&operator, || self.run(limit)).map_err(|error| match &self.pending {
            // The row that was begun last; timers have none.
            Some(pending) if self.firing.is_none() => {
                at_row(error, pending.next.saturating_sub(1), pending.batch.num_rows())
            }
            _ => error,
        })?;
        self.settle()?;
        self.take_output()
            .map_err(|error| arrow_error(&self.services.context, error))
    }

    fn poll_side_output(&mut self) -> Option<(u32, StreamBatch)> {
        self.sides.pop_front()
    }

    fn end_input(&mut self, input: usize) -> Result<(), OperatorError> {
        self.watermarks.set_counts(input, false);
        self.advance();
        Ok(())
    }

    fn set_input_idle(&mut self, input: usize, idle: bool) -> Result<(), OperatorError> {
        self.watermarks.set_counts(input, !idle);
        self.advance();
        Ok(())
    }

    fn next_processing_time(&self) -> Option<i64> {
        self.next_processing_time
    }

    fn on_processing_time(&mut self, now_ms: i64) -> Result<(), OperatorError> {
        // A watermark says that its time is over, the clock says that its time has begun: so a timer waits for the next
        // millisecond, as in Flink.
        self.begin_firing(TimeDomain::Processing, now_ms.saturating_sub(1));
        Ok(())
    }

    fn restore(&mut self, state: &mut RestoredState) -> Result<(), OperatorError> {
        self.open(state)?;
        self.services.restore(state)?;
        self.find_next_processing_time();
        Ok(())
    }

    fn snapshot(&mut self, request: SnapshotRequest) -> Result<OperatorSnapshot, OperatorError> {
        self.services.snapshot(request)
    }

    fn state_bytes(&self) -> usize {
        self.services.state_bytes()
    }
}
