//! What a window that is folded as its elements come keeps of them: one accumulator.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use thalweg_types::StreamBatch;

use crate::process::UserError;
use crate::record::{Record, RecordError, RecordRef};
use crate::state::AggregateFunction;

/// Folds elements into an accumulator.
pub(crate) trait Fold: Clone + Send + 'static {
    type In: Record;
    type Accumulator: Record;
    type Value: Record;
    /// Whether [`Self::take`] has to be called before rows come.
    const NEEDS_BATCH: bool = false;

    /// The batch whose rows come next.
    fn take(&mut self, batch: &StreamBatch) -> Result<(), RecordError> {
        let _ = batch;
        Ok(())
    }
    /// The accumulator of a window's first element, which stands in `row` of the batch.
    fn first(&mut self, row: usize, record: RecordRef<'_, Self::In>) -> Self::Accumulator;
    /// Adds another element.
    fn add(&mut self, accumulator: &mut Self::Accumulator, row: usize, record: RecordRef<'_, Self::In>);
    /// Adds the elements of another window, whose accumulator is gone.
    fn merge(&mut self, accumulator: &mut Self::Accumulator, other: &Self::Accumulator);
    /// Gives the value so far to `emit`.
    fn value(
        &mut self,
        accumulator: &Self::Accumulator,
        emit: impl FnOnce(&Self::Value) -> Result<(), UserError>,
    ) -> Result<(), UserError>;
    /// Works on the rows that `value` has given since the last call, if they are the output.
    fn finish(&mut self, rows: RecordBatch) -> Result<RecordBatch, ArrowError> {
        Ok(rows)
    }
}

/// By a function over two records.
#[derive(Clone)]
pub(crate) struct Reduce<T, F> {
    function: F,
    record: std::marker::PhantomData<fn() -> T>,
}

impl<T, F> Reduce<T, F> {
    pub(crate) fn new(function: F) -> Self {
        Self {
            function,
            record: std::marker::PhantomData,
        }
    }
}

impl<T: Record, F> Fold for Reduce<T, F>
where
    F: for<'a, 'b> FnMut(&'b mut T, RecordRef<'a, T>) + Clone + Send + 'static,
{
    type In = T;
    type Accumulator = T;
    type Value = T;

    #[inline]
    fn first(&mut self, _row: usize, record: RecordRef<'_, T>) -> T {
        T::own(record)
    }

    #[inline]
    fn add(&mut self, accumulator: &mut T, _row: usize, record: RecordRef<'_, T>) {
        (self.function)(accumulator, record);
    }

    fn merge(&mut self, accumulator: &mut T, other: &T) {
        (self.function)(accumulator, T::view(other));
    }

    fn value(
        &mut self,
        accumulator: &T,
        emit: impl FnOnce(&T) -> Result<(), UserError>,
    ) -> Result<(), UserError> {
        emit(accumulator)
    }
}

/// By an [`AggregateFunction`].
#[derive(Clone)]
pub(crate) struct Aggregate<A>(pub(crate) A);

impl<A: AggregateFunction> Fold for Aggregate<A> {
    type In = A::In;
    type Accumulator = A::Accumulator;
    type Value = A::Out;

    #[inline]
    fn first(&mut self, _row: usize, record: RecordRef<'_, A::In>) -> A::Accumulator {
        let mut accumulator = self.0.create_accumulator();
        self.0.add(&mut accumulator, record);
        accumulator
    }

    #[inline]
    fn add(&mut self, accumulator: &mut A::Accumulator, _row: usize, record: RecordRef<'_, A::In>) {
        self.0.add(accumulator, record);
    }

    fn merge(&mut self, accumulator: &mut A::Accumulator, other: &A::Accumulator) {
        self.0.merge(accumulator, other);
    }

    fn value(
        &mut self,
        accumulator: &A::Accumulator,
        emit: impl FnOnce(&A::Out) -> Result<(), UserError>,
    ) -> Result<(), UserError> {
        emit(&self.0.get_result(accumulator))
    }
}
