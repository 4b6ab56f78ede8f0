//! GROUP BY windows: one row a key and window, when the window is over. Flink's window aggregates and legacy group windows.
//!
//! ```text
//!   rows --window--> (key, slice | window | session) --> accumulators, and a timer at the end of the first window
//!   watermark, clock --due timers--> of one window:   TUMBLE, attached, sessions: results as they are
//!                                                     HOP: slices of a key combined; they stay for the next window
//!                                                     CUMULATE: slices of a key merged into one, which goes on
//!                    --> keys | results | window_start, window_end, window_time        then the watermark itself
//! ```
//!
//! A row of state is a key and a slice ([`super::slice_key`]): table "accumulators" by the key's columns and `slice_end` (attached windows:
//! `window_start` and `window_end`; sessions: `session`, the time that opened it). Its timer has the bounds of the window that is
//! next to be over. List "watermark": a row is late after a restart if it was before.
//!
//! Rows of which all windows are over are dropped and counted. Invariant: a row of state has a timer, and no other.

mod firing;
mod placing;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use thalweg_functions::EvaluationEnv;
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::spec::{WindowAggregateSpec, WindowKind, WindowProperty, Windowing};
use thalweg_plan::{Schema, TypeRoot};
use thalweg_state::{
    KeyIndex, KeyedState, OperatorSnapshot, RestoredState, Slot, SnapshotRequest, TimeDomain, Timer,
};
use thalweg_types::StreamBatch;

use super::super::SqlOperator;
use super::super::aggregate::Grouped;
use super::super::group_aggregate::{Uniques, key_fields};
use super::super::output::{Output, restored_watermark, signs, unsupported, watermark_list};
use super::assigner::Assigner;
use super::sessions::Sessions;
use super::zone::Zone;
use crate::keyed::{keyed_state, state_error};
use crate::{Operator, OperatorContext, OperatorError, OutputLimit};

/// Where a row's window is from.
enum Windows {
    /// Windows of slices; `time` is the input's column.
    Sliced { assigner: Assigner, time: usize },
    /// Columns of the row.
    Attached { start: usize, end: usize },
    /// Sessions.
    Sessions {
        sessions: Sessions,
        /// The keys that have sessions.
        index: Box<KeyIndex>,
        time: usize,
    },
}

/// A batch that is worked off.
struct Pending {
    batch: StreamBatch,
    signs: Option<Vec<i8>>,
    next_row: usize,
    next_cut: usize,
}

/// Windows that are over and being put out.
#[derive(Debug, Clone, Copy)]
struct Firing {
    until: i64,
    /// Goes on behind them.
    watermark: Option<i64>,
}

/// [`thalweg_plan::NodeSpec::WindowAggregate`].
pub struct WindowAggregate {
    context: OperatorContext,
    env: Arc<EvaluationEnv>,
    keys: Vec<usize>,
    windows: Windows,
    zone: Zone,
    domain: TimeDomain,
    properties: Vec<(WindowProperty, DataType)>,
    state: KeyedState,
    groups: Grouped,
    schema: SchemaRef,
    /// The input's columns that aggregates read.
    used: Vec<usize>,
    watermark: i64,
    late_rows: u64,
    slots: Vec<Slot>,
    uniques: Uniques,
    timers: Vec<Timer>,
    /// Groups the slices of a window by key.
    combining: Option<KeyIndex>,
    pending: Option<Pending>,
    firing: Option<Firing>,
    next_processing_time: Option<i64>,
    output: Output,
}

impl WindowAggregate {
    /// An operator; refuses windows that make no sense and functions that it can't compute.
    pub fn new(
        spec: &WindowAggregateSpec,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        let input = &operator.inputs[0];
        let (windows, domain, zone) = windows(spec, input, operator, &context)?;
        let mut key = if spec.keys.is_empty() {
            Vec::new()
        } else {
            key_fields(input, &spec.keys)
        };
        key.extend(windows.key_fields());
        let mut state = keyed_state(&context, key)?;
        let groups = Grouped::with_functions(
            &mut state,
            "",
            &spec.aggregates,
            spec.aggregates.iter().any(|call| call.retracts),
            input,
            None,
            &operator.env.functions,
        )
        .map_err(|error| error.of(&context))?;
        let combining = match &windows {
            Windows::Sliced { assigner, .. } if assigner.shares_slices() || assigner.cumulates() => {
                key_index(input, &spec.keys, &context)?
            }
            _ => None,
        };
        let read = spec
            .aggregates
            .iter()
            .flat_map(|call| call.args.iter().chain(&call.filter));
        let mut used: Vec<usize> = read.copied().collect();
        used.sort_unstable();
        used.dedup();
        let properties = spec.properties.iter();
        Ok(Self {
            env: Arc::clone(&operator.env),
            keys: spec.keys.clone(),
            windows,
            zone,
            domain,
            properties: properties
                .map(|(property, data_type)| (*property, data_type.to_arrow()))
                .collect(),
            state,
            groups,
            schema: operator.output.to_arrow(),
            used,
            watermark: i64::MIN,
            late_rows: 0,
            slots: Vec::new(),
            uniques: Uniques::default(),
            timers: Vec::new(),
            combining,
            pending: None,
            firing: None,
            next_processing_time: None,
            output: Output::default(),
            context,
        })
    }

    /// How many rows were dropped because all their windows were over: Flink's numLateRecordsDropped.
    pub fn late_rows(&self) -> u64 {
        self.late_rows
    }

    /// The next rows, or the next watermark, of the batch.
    fn advance(&mut self) -> Result<(), OperatorError> {
        let Some(mut pending) = self.pending.take() else {
            return Ok(());
        };
        let cut = pending.batch.watermarks.get(pending.next_cut).copied();
        let rows = pending.batch.num_rows();
        let end = cut.map_or(rows, |cut| cut.row as usize);
        if pending.next_row < end {
            let length = end - pending.next_row;
            let piece = pending.batch.slice(pending.next_row, length);
            let signs = pending.signs.as_ref().map(|signs| &signs[pending.next_row..end]);
            self.add(&piece, signs)?;
            pending.next_row = end;
        } else if let Some(cut) = cut {
            pending.next_cut += 1;
            self.begin_watermark(cut.timestamp_ms);
        } else {
            return Ok(());
        }
        self.pending = Some(pending);
        Ok(())
    }

    fn begin_watermark(&mut self, watermark: i64) {
        if watermark <= self.watermark {
            return;
        }
        self.watermark = watermark;
        self.firing = Some(Firing {
            // Windows by the clock don't wait for watermarks.
            until: if self.domain == TimeDomain::Event {
                watermark
            } else {
                i64::MIN
            },
            watermark: Some(watermark),
        });
    }

    /// The next windows that are over; then the watermark that has ended them.
    fn fire(&mut self, firing: Firing) -> Result<(), OperatorError> {
        if self.fire_window(firing.until)? {
            return Ok(());
        }
        self.firing = None;
        if let Some(watermark) = firing.watermark {
            self.output.push_watermark(&self.schema, watermark);
        }
        Ok(())
    }

    fn find_next_processing_time(&mut self) {
        let next = self.state.timers().next_time(TimeDomain::Processing);
        // A watermark says that its time is over, the clock that it has begun: a timer waits for the next millisecond, as in Flink.
        self.next_processing_time = next.map(|time| time.saturating_add(1));
    }
}

impl Windows {
    /// What comes behind the key in the state's key.
    fn key_fields(&self) -> Vec<FieldRef> {
        let names: &[&str] = match self {
            Self::Sliced { .. } => &["$slice_end"],
            Self::Attached { .. } => &["$window_start", "$window_end"],
            Self::Sessions { .. } => &["$session"],
        };
        let field = |name: &&str| Arc::new(Field::new(*name, DataType::Int64, false));
        names.iter().map(field).collect()
    }

    /// How many columns that are.
    fn key_columns(&self) -> usize {
        match self {
            Self::Sliced { .. } | Self::Sessions { .. } => 1,
            Self::Attached { .. } => 2,
        }
    }
}

fn windows(
    spec: &WindowAggregateSpec,
    input: &Schema,
    operator: &SqlOperator<'_>,
    context: &OperatorContext,
) -> Result<(Windows, TimeDomain, Zone), OperatorError> {
    let domain = |is_event_time: bool| match is_event_time {
        true => TimeDomain::Event,
        false => TimeDomain::Processing,
    };
    let window = match &spec.windowing {
        Windowing::Attached(columns) => {
            let windows = Windows::Attached {
                start: columns.start,
                end: columns.end,
            };
            let zone = match columns.local_time {
                true => Zone::named(&operator.env.time_zone),
                false => Ok(Zone::utc()),
            };
            let zone = zone.map_err(|message| unsupported(context, message))?;
            return Ok((windows, domain(columns.event_time), zone));
        }
        Windowing::Assign(window) => window,
    };
    let time_type = &input.fields[window.time].data_type;
    let zone = match time_type.root {
        TypeRoot::TimestampLtz(..) => Zone::named(&window.time_zone),
        _ => Ok(Zone::utc()),
    };
    let zone = zone.map_err(|message| unsupported(context, message))?;
    let domain = domain(time_type.time_kind() != TimeKind::Proctime);
    let windows = match window.kind {
        WindowKind::Session { gap_ms } if gap_ms > 0 => Windows::Sessions {
            sessions: Sessions::new(gap_ms),
            index: Box::new(match key_index(input, &spec.keys, context)? {
                Some(index) => index,
                None => KeyIndex::new(&[DataType::Int64])
                    .map_err(|error| unsupported(context, error.to_string()))?,
            }),
            time: window.time,
        },
        WindowKind::Session { gap_ms } => {
            return Err(unsupported(
                context,
                format!("a session's gap is {gap_ms} ms: it must be greater than 0"),
            ));
        }
        kind => Windows::Sliced {
            assigner: Assigner::new(kind, window.offset_ms)
                .map_err(|message| unsupported(context, message))?,
            time: window.time,
        },
    };
    Ok((windows, domain, zone))
}

/// An index of the keys alone; `None`: there is no key.
fn key_index(
    input: &Schema,
    keys: &[usize],
    context: &OperatorContext,
) -> Result<Option<KeyIndex>, OperatorError> {
    if keys.is_empty() {
        return Ok(None);
    }
    let types: Vec<DataType> = keys
        .iter()
        .map(|key| input.fields[*key].data_type.to_arrow())
        .collect();
    let index = KeyIndex::new(&types);
    index
        .map(Some)
        .map_err(|error| unsupported(context, error.to_string()))
}

impl Operator for WindowAggregate {
    fn push(&mut self, _input: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        self.pending = Some(Pending {
            signs: signs(batch.kinds.as_ref()),
            batch,
            next_row: 0,
            next_cut: 0,
        });
        Ok(())
    }

    fn poll_output(&mut self, limit: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        loop {
            if let Some(piece) = self.output.pop(limit) {
                return Ok(Some(piece));
            }
            if let Some(firing) = self.firing {
                self.fire(firing)?;
            } else if self.pending.is_some() {
                self.advance()?;
            } else {
                self.find_next_processing_time();
                return Ok(None);
            }
        }
    }

    fn next_processing_time(&self) -> Option<i64> {
        self.next_processing_time
    }

    fn on_processing_time(&mut self, now_ms: i64) -> Result<(), OperatorError> {
        if self.domain == TimeDomain::Processing {
            self.firing = Some(Firing {
                until: now_ms.saturating_sub(1),
                watermark: None,
            });
        }
        Ok(())
    }

    fn restore(&mut self, state: &mut RestoredState) -> Result<(), OperatorError> {
        self.watermark = restored_watermark(state);
        let restored = self.state.restore(state, (self.env.clock)());
        restored.map_err(|source| state_error(&self.context, source))?;
        self.restore_sessions()?;
        self.find_next_processing_time();
        Ok(())
    }

    fn snapshot(&mut self, request: SnapshotRequest) -> Result<OperatorSnapshot, OperatorError> {
        let tables = self.state.snapshot(request);
        Ok(OperatorSnapshot {
            tables: tables.map_err(|source| state_error(&self.context, source))?,
            lists: vec![watermark_list(self.watermark)],
        })
    }

    fn state_bytes(&self) -> usize {
        let sessions = match &self.windows {
            Windows::Sessions { sessions, index, .. } => sessions.memory_size() + index.memory_size(),
            _ => 0,
        };
        self.state.memory_size() + sessions
    }
}

#[cfg(test)]
mod tests;
