//! Asking something outside for each record, without waiting for each answer.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use crate::function::{AsyncLimits, AsyncOperator, OutputMode};
use crate::record::Record;
use crate::stream::DataStream;

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
    pub fn ordered_wait<T, O, F, A, I, E>(
        stream: &DataStream<T>,
        function: F,
        timeout: Duration,
        capacity: usize,
    ) -> DataStream<O>
    where
        T: Record,
        O: Record,
        F: Fn(T) -> A + Clone + Send + 'static,
        A: Future<Output = Result<I, E>> + Send + 'static,
        I: IntoIterator<Item = O> + 'static,
        E: Display + 'static,
    {
        Self::wait(stream, function, timeout, capacity, OutputMode::Ordered)
    }

    /// Results as they come; a watermark is overtaken by none, and overtakes none.
    pub fn unordered_wait<T, O, F, A, I, E>(
        stream: &DataStream<T>,
        function: F,
        timeout: Duration,
        capacity: usize,
    ) -> DataStream<O>
    where
        T: Record,
        O: Record,
        F: Fn(T) -> A + Clone + Send + 'static,
        A: Future<Output = Result<I, E>> + Send + 'static,
        I: IntoIterator<Item = O> + 'static,
        E: Display + 'static,
    {
        Self::wait(stream, function, timeout, capacity, OutputMode::Unordered)
    }

    fn wait<T, O, F, A, I, E>(
        stream: &DataStream<T>,
        function: F,
        timeout: Duration,
        capacity: usize,
        mode: OutputMode,
    ) -> DataStream<O>
    where
        T: Record,
        O: Record,
        F: Fn(T) -> A + Clone + Send + 'static,
        A: Future<Output = Result<I, E>> + Send + 'static,
        I: IntoIterator<Item = O> + 'static,
        E: Display + 'static,
    {
        let limits = AsyncLimits {
            mode,
            timeout,
            capacity: capacity.max(1),
        };
        stream.operator_of(
            "AsyncWait",
            "async wait operator",
            function,
            move |context, function| Ok(Box::new(AsyncOperator::<T, O, F>::new(context, limits, function))),
        )
    }
}
