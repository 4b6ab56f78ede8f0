//! Asking something outside for each record, without waiting for each answer.
//!
//! ```text
//!   AsyncDataStream::ordered_wait(&stream, function, timeout, capacity)      the usual way
//!   AsyncDataStream::wait(&stream, function).retry(..).on_timeout(..).ordered()   with all there is
//! ```

use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::function::{AsyncOperator, AsyncOptions, OutputMode};
use crate::process::UserError;
use crate::record::Record;
use crate::stream::DataStream;

/// Records asked for at one time if nothing else is said; Flink's.
const CAPACITY: usize = 100;

/// A future of the answer to a record: any number of records of type `O`, or an error.
pub trait AsyncAnswer<O>:
    Future<Output = Result<<Self as AsyncAnswer<O>>::Rows, <Self as AsyncAnswer<O>>::Error>> + Send + 'static
{
    /// The records, as an array or a vector.
    type Rows: IntoIterator<Item = O>;
    /// Why there is no answer.
    type Error: Display + Send + 'static;
}

impl<A, I, O, E> AsyncAnswer<O> for A
where
    A: Future<Output = Result<I, E>> + Send + 'static,
    I: IntoIterator<Item = O>,
    E: Display + Send + 'static,
{
    type Rows = I;
    type Error = E;
}

/// Whether something is to be tried again.
type Predicate<T> = Arc<dyn Fn(&T) -> bool + Send + Sync>;

/// When a record is asked for again. Flink's AsyncRetryStrategies.
///
/// ```
/// # use thalweg_api::prelude::*;
/// # use std::time::Duration;
/// let strategy = AsyncRetryStrategy::<String, std::io::Error>::fixed_delay(3, Duration::from_millis(100))
///     .if_result(|names| names.is_empty())
///     .if_error(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
/// ```
pub struct AsyncRetryStrategy<O, E> {
    max_attempts: u32,
    initial_delay: Duration,
    max_delay: Duration,
    multiplier: f64,
    if_result: Option<Predicate<Vec<O>>>,
    if_error: Option<Predicate<E>>,
}

impl<O, E> Clone for AsyncRetryStrategy<O, E> {
    fn clone(&self) -> Self {
        Self {
            if_result: self.if_result.clone(),
            if_error: self.if_error.clone(),
            ..*self
        }
    }
}

impl<O, E> AsyncRetryStrategy<O, E> {
    /// Asks again up to so many times, each time after this delay. Without a predicate nothing is asked again.
    pub fn fixed_delay(max_attempts: u32, delay: Duration) -> Self {
        Self::exponential_backoff(max_attempts, delay, delay, 1.0)
    }

    /// As [`Self::fixed_delay`], with a delay that is multiplied after each attempt, up to `max_delay`.
    pub fn exponential_backoff(
        max_attempts: u32,
        initial_delay: Duration,
        max_delay: Duration,
        multiplier: f64,
    ) -> Self {
        Self {
            max_attempts,
            initial_delay,
            max_delay,
            multiplier,
            if_result: None,
            if_error: None,
        }
    }

    /// Asks again after answers for which this is true.
    #[must_use]
    pub fn if_result(self, predicate: impl Fn(&Vec<O>) -> bool + Send + Sync + 'static) -> Self {
        Self {
            if_result: Some(Arc::new(predicate)),
            ..self
        }
    }

    /// Asks again after errors for which this is true. Flink's `ifException`.
    #[must_use]
    pub fn if_error(self, predicate: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self {
        Self {
            if_error: Some(Arc::new(predicate)),
            ..self
        }
    }

    /// How long to wait before the record is asked for again, if it is; `attempts` were made.
    pub(crate) fn delay_after(&self, attempts: u32, answer: &Result<Vec<O>, E>) -> Option<Duration> {
        let again = match answer {
            Ok(rows) => self.if_result.as_ref().is_some_and(|again| again(rows)),
            Err(error) => self.if_error.as_ref().is_some_and(|again| again(error)),
        };
        (again && attempts <= self.max_attempts).then(|| {
            let exponent = i32::try_from(attempts.saturating_sub(1)).unwrap_or(i32::MAX);
            let delay = self.initial_delay.as_secs_f64() * self.multiplier.powi(exponent);
            let delay = Duration::try_from_secs_f64(delay).unwrap_or(self.max_delay);
            if attempts > 1 {
                delay.min(self.max_delay)
            } else {
                delay
            }
        })
    }
}

/// Asynchronous I/O: a database or service is asked for each record, many at a time. Flink's AsyncDataStream.
///
/// The function is called with an owned record and gives a future, which runs on the engine's runtime for I/O (Tokio), not on the
/// task's thread. It must be quick to call and must not block in the future. An error, a panic and a timeout fail the task.
///
/// At most `capacity` records are asked or wait for their turn; then the stream waits. A checkpoint holds the records that have not
/// gone out, and they are asked again after a restore: what is asked may be asked twice.
///
/// ```
/// # use thalweg_api::prelude::*;
/// # use std::time::Duration;
/// # async fn name_of(id: i64) -> Result<String, std::io::Error> { Ok(id.to_string()) }
/// # fn job(ids: DataStream<i64>) -> DataStream<(i64, String)> {
/// AsyncDataStream::unordered_wait(
///     &ids,
///     |id| async move { Ok::<_, std::io::Error>([(id, name_of(id).await?)]) },
///     Duration::from_secs(3),
///     100,
/// )
/// # }
/// ```
pub struct AsyncDataStream;

impl AsyncDataStream {
    /// Results in the order of their records.
    pub fn ordered_wait<T, O, F, A>(
        stream: &DataStream<T>,
        function: F,
        timeout: Duration,
        capacity: usize,
    ) -> DataStream<O>
    where
        T: Record,
        O: Record,
        F: Fn(T) -> A + Clone + Send + 'static,
        A: AsyncAnswer<O>,
    {
        let wait = Self::wait(stream, function);
        wait.timeout(timeout).capacity(capacity).ordered()
    }

    /// Results as they come; a watermark is overtaken by none, and overtakes none.
    pub fn unordered_wait<T, O, F, A>(
        stream: &DataStream<T>,
        function: F,
        timeout: Duration,
        capacity: usize,
    ) -> DataStream<O>
    where
        T: Record,
        O: Record,
        F: Fn(T) -> A + Clone + Send + 'static,
        A: AsyncAnswer<O>,
    {
        let wait = Self::wait(stream, function);
        wait.timeout(timeout).capacity(capacity).unordered()
    }

    /// Asks by this function; what follows says how.
    ///
    /// ```
    /// # use thalweg_api::prelude::*;
    /// # use std::time::Duration;
    /// # async fn name_of(id: i64) -> Result<String, std::io::Error> { Ok(id.to_string()) }
    /// # fn job(ids: DataStream<i64>) -> DataStream<(i64, String)> {
    /// AsyncDataStream::wait(&ids, |id| async move { Ok::<_, std::io::Error>([(id, name_of(id).await?)]) })
    ///     .timeout(Duration::from_secs(3))
    ///     .retry(AsyncRetryStrategy::fixed_delay(3, Duration::from_millis(100)).if_error(|_| true))
    ///     .on_timeout(|id| Ok(vec![(id, "unknown".to_owned())]))
    ///     .ordered()
    /// # }
    /// ```
    pub fn wait<T, O, F, A>(stream: &DataStream<T>, function: F) -> AsyncWait<T, O, F, A>
    where
        T: Record,
        O: Record,
        F: Fn(T) -> A + Clone + Send + 'static,
        A: AsyncAnswer<O>,
    {
        AsyncWait {
            stream: stream.clone(),
            function,
            options: AsyncOptions {
                mode: OutputMode::Ordered,
                timeout: None,
                capacity: CAPACITY,
                retry: None,
                on_timeout: None,
            },
        }
    }
}

/// How records are asked for: what [`AsyncDataStream::wait`] begins.
#[must_use = "nothing is asked until `ordered` or `unordered`"]
pub struct AsyncWait<T: Record, O: Record, F, A: AsyncAnswer<O>> {
    stream: DataStream<T>,
    function: F,
    options: AsyncOptions<T, O, A::Error>,
}

impl<T, O, F, A> AsyncWait<T, O, F, A>
where
    T: Record,
    O: Record,
    F: Fn(T) -> A + Clone + Send + 'static,
    A: AsyncAnswer<O>,
{
    /// How long an answer may take, all attempts together; without it as long as it takes.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }

    /// How many records may be asked for or wait for their turn; 100 by default.
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.options.capacity = capacity.max(1);
        self
    }

    /// When a record is asked for again. At the end of the input one that waits for that is asked for at once, for the last time.
    pub fn retry(mut self, strategy: AsyncRetryStrategy<O, A::Error>) -> Self {
        self.options.retry = Some(strategy);
        self
    }

    /// What a record's answer is that takes too long, in place of failing the task. Flink's `AsyncFunction.timeout`.
    pub fn on_timeout(
        mut self,
        answer: impl Fn(T) -> Result<Vec<O>, UserError> + Send + Sync + 'static,
    ) -> Self {
        self.options.on_timeout = Some(Arc::new(answer));
        self
    }

    /// Results in the order of their records.
    pub fn ordered(self) -> DataStream<O> {
        self.operator(OutputMode::Ordered)
    }

    /// Results as they come; a watermark is overtaken by none, and overtakes none.
    pub fn unordered(self) -> DataStream<O> {
        self.operator(OutputMode::Unordered)
    }

    fn operator(self, mode: OutputMode) -> DataStream<O> {
        let Self {
            stream,
            function,
            mut options,
        } = self;
        options.mode = mode;
        let make = move |context, function| {
            let operator = AsyncOperator::<T, O, F, A>::new(context, options.clone(), function);
            Ok(Box::new(operator) as _)
        };
        stream.operator_of("AsyncWait", "async wait operator", function, make)
    }
}
