//! Generated rows; Flink's `DataGeneratorSource` with a rate per second.
//!
//! ```text
//!   indices 0..count --contiguous shares--> subtask --RateLimiter says how many--> generator(range) -> batch
//! ```
//!
//! Invariants: every index below the count is generated exactly once over all subtasks; the rate is shared equally by them,
//! and at most one second of it is made up for after a stall (Flink's limiter allows the same burst).

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use thalweg_types::StreamBatch;
use thalweg_types::element::TARGET_BATCH_ROWS;
use tokio::runtime::Handle;
use tokio::time::Sleep;

use crate::collection::same_schema;
use crate::ranges::Ranges;
use crate::{ConnectorContext, ConnectorError, Gauge, Source, SourceEvent, SourceReader};

/// Makes the rows of a range of indices: as many rows as the range is long, in its order.
pub type GeneratorFunction = Arc<dyn Fn(Range<u64>) -> RecordBatch + Send + Sync>;

/// How long rows are gathered before a wait ends, so that high rates give batches and not rows.
const GATHER: Duration = Duration::from_millis(10);

/// A source of generated rows.
#[derive(Clone)]
pub struct DatagenSource {
    schema: SchemaRef,
    generator: GeneratorFunction,
    rows_per_second: Option<f64>,
    number_of_rows: Option<u64>,
}

impl DatagenSource {
    /// A source of what `generator` makes, without end and as fast as it can.
    pub fn new(schema: SchemaRef, generator: GeneratorFunction) -> Self {
        Self {
            schema,
            generator,
            rows_per_second: None,
            number_of_rows: None,
        }
    }

    /// At most so many rows a second over all subtasks.
    #[must_use]
    pub fn rows_per_second(self, rows_per_second: f64) -> Self {
        Self {
            rows_per_second: Some(rows_per_second),
            ..self
        }
    }

    /// Ends after so many rows over all subtasks.
    #[must_use]
    pub fn number_of_rows(self, number_of_rows: u64) -> Self {
        Self {
            number_of_rows: Some(number_of_rows),
            ..self
        }
    }
}

impl Source for DatagenSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn kind(&self) -> &'static str {
        "DataGeneratorSource"
    }

    fn validate(&self) -> Result<(), ConnectorError> {
        match self.rows_per_second {
            Some(rate) if !(rate.is_finite() && rate > 0.0) => Err(ConnectorError::Refused(format!(
                "rows per second must be a number above 0, not {rate}"
            ))),
            _ => Ok(()),
        }
    }

    fn create_reader(&self, context: ConnectorContext) -> Result<Box<dyn SourceReader>, ConnectorError> {
        self.validate()?;
        let count = self.number_of_rows.unwrap_or(i64::MAX as u64);
        let rate = self
            .rows_per_second
            .map(|rate| rate / f64::from(context.parallelism));
        Ok(Box::new(DatagenReader {
            schema: Arc::clone(&self.schema),
            generator: Arc::clone(&self.generator),
            left: Ranges::open(self.kind(), count, &context)?,
            bounded: self.number_of_rows.is_some(),
            limiter: rate.map(|rate| RateLimiter::new(rate, Instant::now())),
            waiting: None,
            io: context.io,
        }))
    }
}

struct DatagenReader {
    schema: SchemaRef,
    generator: GeneratorFunction,
    left: Ranges,
    bounded: bool,
    limiter: Option<RateLimiter>,
    waiting: Option<Pin<Box<Sleep>>>,
    io: Handle,
}

impl DatagenReader {
    /// How many rows may be made now, one at least.
    fn poll_permits(&mut self, cx: &mut Context<'_>) -> Poll<u64> {
        loop {
            if let Some(sleep) = &mut self.waiting {
                ready!(sleep.as_mut().poll(cx));
                self.waiting = None;
            }
            let Some(limiter) = &mut self.limiter else {
                return Poll::Ready(u64::MAX);
            };
            match limiter.permits(Instant::now()) {
                Ok(permits) => return Poll::Ready(permits),
                Err(wait) => {
                    let _runtime = self.io.enter();
                    self.waiting = Some(Box::pin(tokio::time::sleep(wait)));
                }
            }
        }
    }

    fn generate(&mut self, range: Range<u64>) -> Result<StreamBatch, ConnectorError> {
        let rows = range.end - range.start;
        let batch = (self.generator)(range.clone());
        if batch.num_rows() as u64 != rows {
            return Err(ConnectorError::Malformed(format!(
                "the generator made {} rows for the indices {}..{}: it has to make one an index",
                batch.num_rows(),
                range.start,
                range.end
            )));
        }
        if !same_schema(&batch.schema(), &self.schema) {
            return Err(ConnectorError::Malformed(format!(
                "the generator made rows of {} but was declared with {}",
                batch.schema(),
                self.schema
            )));
        }
        self.left.advance(rows);
        if let Some(limiter) = &mut self.limiter {
            limiter.take(rows);
        }
        Ok(StreamBatch::new(batch))
    }
}

impl SourceReader for DatagenReader {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<SourceEvent, ConnectorError>> {
        if self.left.len() == 0 {
            return Poll::Ready(Ok(SourceEvent::EndOfInput));
        }
        let permits = ready!(self.poll_permits(cx));
        let range = self.left.next(permits.min(TARGET_BATCH_ROWS as u64));
        Poll::Ready(match range {
            Some(range) => self.generate(range).map(SourceEvent::Batch),
            None => Ok(SourceEvent::EndOfInput),
        })
    }

    fn snapshot(&mut self, _checkpoint_id: u64) -> Result<Vec<Vec<u8>>, ConnectorError> {
        Ok(self.left.state())
    }

    fn position(&self) -> Option<String> {
        self.left.position()
    }

    fn gauges(&self) -> Vec<Gauge> {
        match self.bounded {
            true => vec![("pendingRecords", self.left.len() as f64)],
            false => Vec::new(),
        }
    }
}

/// A token bucket that holds a second of its rate at most, one token at least.
#[derive(Debug)]
struct RateLimiter {
    per_second: f64,
    tokens: f64,
    filled: Instant,
}

impl RateLimiter {
    fn new(per_second: f64, now: Instant) -> Self {
        Self {
            per_second,
            tokens: 0.0,
            filled: now,
        }
    }

    /// How many rows may be given now, one at least; else how long to wait until it makes sense to ask again.
    fn permits(&mut self, now: Instant) -> Result<u64, Duration> {
        let gained = now.duration_since(self.filled).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + gained).min(self.per_second.max(1.0));
        self.filled = now;
        if self.tokens >= 1.0 {
            return Ok(self.tokens as u64);
        }
        let until_one = Duration::from_secs_f64((1.0 - self.tokens) / self.per_second);
        Err(until_one.clamp(GATHER, Duration::from_secs(3_600)))
    }

    fn take(&mut self, rows: u64) {
        self.tokens -= rows as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch_of, context_of, drain, next};
    use tokio::runtime::Runtime;

    fn numbers() -> DatagenSource {
        let generator = |range: Range<u64>| batch_of(range.start as i64..range.end as i64);
        DatagenSource::new(batch_of(0..0).schema(), Arc::new(generator))
    }

    #[test]
    fn all_subtasks_together_generate_every_index_once() {
        let io = Runtime::new().unwrap();
        let source = numbers().number_of_rows(10_001).rows_per_second(1e9);
        let read = |subtask| drain(source.create_reader(context_of(&io, subtask, 3)).unwrap());
        let all = (0..3).flat_map(read).collect::<Vec<_>>();
        assert_eq!(all, (0..10_001).collect::<Vec<_>>());
    }

    #[test]
    fn the_rate_gives_as_many_rows_as_time_has_passed_and_a_second_of_burst() {
        let start = Instant::now();
        let mut limiter = RateLimiter::new(100.0, start);
        assert_eq!(limiter.permits(start), Err(GATHER));
        assert_eq!(limiter.permits(start + Duration::from_millis(255)), Ok(25));
        limiter.take(25);
        assert_eq!(limiter.permits(start + Duration::from_secs(60)), Ok(100));
    }

    #[test]
    fn a_slow_rate_waits_for_its_next_row() {
        let start = Instant::now();
        let mut limiter = RateLimiter::new(0.5, start);
        assert_eq!(limiter.permits(start), Err(Duration::from_secs(2)));
        assert_eq!(limiter.permits(start + Duration::from_secs(2)), Ok(1));
    }

    #[test]
    fn a_generator_that_makes_another_number_of_rows_is_named() {
        let io = Runtime::new().unwrap();
        let source =
            DatagenSource::new(batch_of(0..0).schema(), Arc::new(|_| batch_of(0..1))).number_of_rows(2);
        let mut reader = source.create_reader(context_of(&io, 0, 1)).unwrap();
        let error = next(reader.as_mut()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the generator made 1 rows for the indices 0..2: it has to make one an index"
        );
    }

    #[test]
    fn a_rate_of_zero_is_refused() {
        let error = numbers().rows_per_second(0.0).validate().unwrap_err();
        assert_eq!(
            error.to_string(),
            "rows per second must be a number above 0, not 0"
        );
    }
}
