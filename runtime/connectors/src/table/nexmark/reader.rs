//! Which events a subtask gives, and when.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::datatypes::SchemaRef;
use thalweg_types::StreamBatch;
use thalweg_types::element::TARGET_BATCH_ROWS;
use tokio::runtime::Handle;
use tokio::time::Sleep;

use super::config::NexmarkConfig;
use super::events::{Generator, Texts};
use super::fields::{Events, Output};
use crate::split_state::{decode, encode};
use crate::table::columns::batch_of;
use crate::{ConnectorContext, ConnectorError, Gauge, Source, SourceEvent, SourceReader};

/// Lanes: subtasks above it get nothing.
const LANES: u64 = 1_024;
/// Events of a block.
const BLOCK: u64 = 64;
/// Events of a batch that may be given at once, so that an interval of 1 ms isn't a batch.
const GATHER: Duration = Duration::from_millis(10);

#[derive(Clone, PartialEq, prost::Message)]
struct ReaderState {
    #[prost(sint64, tag = "1")]
    base_time_ms: i64,
    /// Lanes by their next event.
    #[prost(message, repeated, tag = "2")]
    lanes: Vec<LaneState>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LaneState {
    #[prost(uint64, tag = "1")]
    next: u64,
    #[prost(uint32, repeated, tag = "2")]
    lanes: Vec<u32>,
}

/// The source of a scan.
pub(super) struct NexmarkSource {
    config: NexmarkConfig,
    outputs: Arc<[Output]>,
    kinds: [bool; 3],
    schema: SchemaRef,
    base_time_ms: i64,
    texts: Arc<Texts>,
}

impl NexmarkSource {
    pub(super) fn new(
        config: NexmarkConfig,
        outputs: Vec<Output>,
        kinds: [bool; 3],
        schema: SchemaRef,
    ) -> Self {
        Self {
            base_time_ms: config.base_time_ms.unwrap_or_else(now_ms),
            texts: Arc::new(Texts::new(config.seed)),
            config,
            outputs: outputs.into(),
            kinds,
            schema,
        }
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Source for NexmarkSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn kind(&self) -> &'static str {
        "NexmarkSource"
    }

    fn create_reader(&self, context: ConnectorContext) -> Result<Box<dyn SourceReader>, ConnectorError> {
        let mut base_time_ms = self.base_time_ms;
        let mut next: BTreeMap<u64, u64> = (0..LANES).map(|lane| (lane, lane * BLOCK)).collect();
        if let Some(restored) = &context.restored {
            for state in decode::<ReaderState>("nexmark source", &restored.states)? {
                base_time_ms = state.base_time_ms;
                for lanes in state.lanes {
                    next.extend(lanes.lanes.iter().map(|lane| (u64::from(*lane), lanes.next)));
                }
            }
        }
        let mine = |lane: &u64| lane % u64::from(context.parallelism) == u64::from(context.subtask);
        let lanes = next
            .into_iter()
            .filter(|(lane, _)| mine(lane) && *lane < LANES)
            .map(|(lane, next)| Reverse((next, lane)));
        let lanes: BinaryHeap<_> = lanes.collect();
        let generator = Generator {
            config: self.config.clone(),
            base_time_ms,
            texts: Arc::clone(&self.texts),
        };
        let begin = lanes.peek().map_or(0, |Reverse((next, _))| *next);
        Ok(Box::new(NexmarkReader {
            // What was given before the restore isn't waited for again.
            ahead_ms: now_ms().saturating_sub(generator.timestamp(begin)),
            generator,
            outputs: Arc::clone(&self.outputs),
            kinds: self.kinds,
            schema: Arc::clone(&self.schema),
            lanes,
            ranges: Vec::new(),
            waiting: None,
            idle: false,
            io: context.io,
        }))
    }
}

struct NexmarkReader {
    generator: Generator,
    outputs: Arc<[Output]>,
    kinds: [bool; 3],
    schema: SchemaRef,
    /// The next event of each lane.
    lanes: BinaryHeap<Reverse<(u64, u64)>>,
    /// Events of the last batch.
    ranges: Vec<Range<u64>>,
    /// The wall clock before the events' one.
    ahead_ms: i64,
    waiting: Option<Pin<Box<Sleep>>>,
    idle: bool,
    io: Handle,
}

impl NexmarkReader {
    /// Takes the next events below a number.
    fn take(&mut self, end: u64) {
        self.ranges.clear();
        let mut count = 0;
        while count < TARGET_BATCH_ROWS as u64 {
            let Some(Reverse((next, lane))) = self.lanes.peek().copied() else {
                break;
            };
            if next >= end {
                break;
            }
            self.lanes.pop();
            let block_end = (next / BLOCK + 1) * BLOCK;
            let until = block_end.min(end);
            let behind = if until == block_end {
                until + (LANES - 1) * BLOCK
            } else {
                until
            };
            self.lanes.push(Reverse((behind, lane)));
            count += until - next;
            match self.ranges.last_mut() {
                Some(last) if last.end == next => last.end = until,
                _ => self.ranges.push(next..until),
            }
        }
    }

    /// Below which number events are due.
    fn poll_due(&mut self, cx: &mut Context<'_>, next: u64) -> Poll<u64> {
        let end = self.generator.config.events;
        if self.generator.config.max_speed {
            return Poll::Ready(end);
        }
        loop {
            if let Some(sleep) = &mut self.waiting {
                ready!(sleep.as_mut().poll(cx));
                self.waiting = None;
            }
            let due = now_ms().saturating_sub(self.ahead_ms);
            let wait = self.generator.timestamp(next).saturating_sub(due);
            if wait <= 0 {
                return Poll::Ready(self.first_after(next, due).min(end));
            }
            let wait = Duration::from_millis(wait.cast_unsigned()).max(GATHER);
            let _runtime = self.io.enter();
            self.waiting = Some(Box::pin(tokio::time::sleep(wait)));
        }
    }

    /// The first event behind a time, of the next few thousand.
    fn first_after(&self, next: u64, due_ms: i64) -> u64 {
        let (mut low, mut high) = (next, next + LANES * BLOCK);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.generator.timestamp(middle) <= due_ms {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

impl SourceReader for NexmarkReader {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<SourceEvent, ConnectorError>> {
        let next = self.lanes.peek().map_or(u64::MAX, |Reverse((next, _))| *next);
        if next >= self.generator.config.events {
            return match (self.generator.config.keep_alive, self.idle) {
                (false, _) => Poll::Ready(Ok(SourceEvent::EndOfInput)),
                (true, false) => {
                    self.idle = true;
                    Poll::Ready(Ok(SourceEvent::Idle))
                }
                (true, true) => Poll::Pending,
            };
        }
        let end = ready!(self.poll_due(cx, next));
        self.take(end);
        let events = Events::new(&self.generator, &self.ranges, self.kinds);
        let columns = self.outputs.iter().map(|output| events.column(output)).collect();
        let batch = batch_of(&self.schema, columns, events.rows());
        Poll::Ready(batch.map(|rows| SourceEvent::Batch(StreamBatch::new(rows))))
    }

    fn snapshot(&mut self, _checkpoint_id: u64) -> Result<Vec<Vec<u8>>, ConnectorError> {
        let mut by_next: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        for Reverse((next, lane)) in &self.lanes {
            by_next.entry(*next).or_default().push(*lane as u32);
        }
        let lanes = by_next.into_iter().map(|(next, lanes)| LaneState { next, lanes });
        Ok(vec![encode(&ReaderState {
            base_time_ms: self.generator.base_time_ms,
            lanes: lanes.collect(),
        })])
    }

    fn position(&self) -> Option<String> {
        let (first, last) = (self.ranges.first()?, self.ranges.last()?);
        Some(format!("events {}..{}", first.start, last.end))
    }

    fn gauges(&self) -> Vec<Gauge> {
        Vec::new()
    }
}
