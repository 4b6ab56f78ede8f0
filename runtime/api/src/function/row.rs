//! Operators of functions over one record: map and flat_map.

use std::fmt::Display;
use std::marker::PhantomData;
use std::ops::Range;

use arrow::array::UInt32Array;
use arrow::compute::take;
use arrow::error::ArrowError;
use thalweg_operators::{Operator, OperatorContext, OperatorError, OutputLimit};
use thalweg_types::{StreamBatch, WatermarkCut};

use super::{Collector, arrow_error, at_row, guard, wrong_input};
use crate::record::{Record, Rows};

/// What is done to one record.
pub(crate) trait RowFunction<T: Record, O: Record>: Clone + Send + 'static {
    /// Whether each record gives exactly one.
    const ONE_TO_ONE: bool;
    /// Puts the record's outputs into the collector; an error is the user's message.
    fn call(&mut self, record: T::Ref<'_>, out: &mut Collector<O>) -> Result<(), String>;
}

/// `T -> O`.
#[derive(Clone)]
pub(crate) struct Map<F>(pub(crate) F);

impl<T: Record, O: Record, F> RowFunction<T, O> for Map<F>
where
    F: for<'a> FnMut(T::Ref<'a>) -> O + Clone + Send + 'static,
{
    const ONE_TO_ONE: bool = true;

    #[inline]
    fn call(&mut self, record: T::Ref<'_>, out: &mut Collector<O>) -> Result<(), String> {
        out.collect_owned(&(self.0)(record));
        Ok(())
    }
}

/// `T -> Result<O, E>`.
pub(crate) struct TryMap<F, E>(F, PhantomData<fn() -> E>);

impl<F, E> TryMap<F, E> {
    pub(crate) fn new(function: F) -> Self {
        Self(function, PhantomData)
    }
}

impl<F: Clone, E> Clone for TryMap<F, E> {
    fn clone(&self) -> Self {
        Self::new(self.0.clone())
    }
}

impl<T: Record, O: Record, E: Display + 'static, F> RowFunction<T, O> for TryMap<F, E>
where
    F: for<'a> FnMut(T::Ref<'a>) -> Result<O, E> + Clone + Send + 'static,
{
    const ONE_TO_ONE: bool = true;

    #[inline]
    fn call(&mut self, record: T::Ref<'_>, out: &mut Collector<O>) -> Result<(), String> {
        match (self.0)(record) {
            Ok(output) => out.collect_owned(&output),
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }
}

/// `T -> O*`.
#[derive(Clone)]
pub(crate) struct FlatMap<F>(pub(crate) F);

impl<T: Record, O: Record, F> RowFunction<T, O> for FlatMap<F>
where
    F: for<'a, 'c> FnMut(T::Ref<'a>, &'c mut Collector<O>) + Clone + Send + 'static,
{
    const ONE_TO_ONE: bool = false;

    #[inline]
    fn call(&mut self, record: T::Ref<'_>, out: &mut Collector<O>) -> Result<(), String> {
        (self.0)(record, out);
        Ok(())
    }
}

/// `T -> Result<O*, E>`.
pub(crate) struct TryFlatMap<F, E>(F, PhantomData<fn() -> E>);

impl<F, E> TryFlatMap<F, E> {
    pub(crate) fn new(function: F) -> Self {
        Self(function, PhantomData)
    }
}

impl<F: Clone, E> Clone for TryFlatMap<F, E> {
    fn clone(&self) -> Self {
        Self::new(self.0.clone())
    }
}

impl<T: Record, O: Record, E: Display + 'static, F> RowFunction<T, O> for TryFlatMap<F, E>
where
    F: for<'a, 'c> FnMut(T::Ref<'a>, &'c mut Collector<O>) -> Result<(), E> + Clone + Send + 'static,
{
    const ONE_TO_ONE: bool = false;

    #[inline]
    fn call(&mut self, record: T::Ref<'_>, out: &mut Collector<O>) -> Result<(), String> {
        (self.0)(record, out).map_err(|error| error.to_string())
    }
}

/// Runs a [`RowFunction`] over batches.
pub(crate) struct RowOperator<T: Record, O: Record, F> {
    context: OperatorContext,
    function: F,
    out: Collector<O>,
    input: Option<Input<T>>,
    /// The input row of each output row; kept only where event times or kinds must follow.
    origins: Vec<u32>,
}

/// The batch that is being worked off.
struct Input<T: Record> {
    rows: Rows<T>,
    batch: StreamBatch,
    /// The next row.
    next: usize,
    /// The next watermark.
    next_cut: usize,
}

impl<T: Record> Input<T> {
    /// Rows up to which no watermark lies between.
    fn segment_end(&self) -> usize {
        self.batch
            .watermarks
            .get(self.next_cut)
            .map_or(self.rows.len(), |cut| cut.row as usize)
    }

    /// Takes the watermarks that hold at the next row; they stand at output row `row`.
    fn take_cuts(&mut self, row: usize, cuts: &mut Vec<WatermarkCut>) {
        while let Some(cut) = self.batch.watermarks.get(self.next_cut)
            && cut.row as usize <= self.next
        {
            cuts.push(WatermarkCut {
                row: row as u32,
                timestamp_ms: cut.timestamp_ms,
            });
            self.next_cut += 1;
        }
    }
}

impl<T: Record, O: Record, F: RowFunction<T, O>> RowOperator<T, O, F> {
    pub(crate) fn new(context: OperatorContext, function: F) -> Self {
        Self {
            context,
            function,
            out: Collector::new(),
            input: None,
            origins: Vec::new(),
        }
    }

    /// Runs the function until the limit or the batch's end; the watermarks on the way.
    fn run(&mut self, limit: OutputLimit) -> Result<Vec<WatermarkCut>, OperatorError> {
        let Self {
            context,
            function,
            out,
            input,
            origins,
        } = self;
        let Some(input) = input else { return Ok(Vec::new()) };
        let keep_origins =
            !F::ONE_TO_ONE && (input.batch.timestamps.is_some() || input.batch.kinds.is_some());
        let mut cuts = Vec::new();
        input.take_cuts(out.rows.len(), &mut cuts);
        while input.next < input.rows.len() && out.rows.len() < limit.rows && out.rows.bytes() < limit.bytes {
            let end = input.segment_end();
            while input.next < end && out.rows.len() < limit.rows && out.rows.bytes() < limit.bytes {
                let row = input.next;
                input.next += 1;
                function
                    .call(input.rows.get(row), out)
                    .map_err(|message| OperatorError::User {
                        operator: context.operator_name.to_string(),
                        message,
                    })?;
                if keep_origins {
                    origins.resize(out.rows.len(), row as u32);
                }
            }
            input.take_cuts(out.rows.len(), &mut cuts);
        }
        Ok(cuts)
    }

    /// The output so far with the stream columns of the input rows in `from`.
    fn output(
        &mut self,
        from: Range<usize>,
        watermarks: Vec<WatermarkCut>,
    ) -> Result<StreamBatch, ArrowError> {
        let mut output = StreamBatch {
            watermarks,
            ..StreamBatch::new(self.out.rows.finish()?)
        };
        let Some(Input { batch, .. }) = &self.input else {
            return Ok(output);
        };
        if F::ONE_TO_ONE {
            output.timestamps = batch
                .timestamps
                .as_ref()
                .map(|column| column.slice(from.start, from.len()));
            output.kinds = batch
                .kinds
                .as_ref()
                .map(|column| column.slice(from.start, from.len()));
            return Ok(output);
        }
        let origins = UInt32Array::from(std::mem::take(&mut self.origins));
        if let Some(timestamps) = &batch.timestamps {
            output.timestamps = Some(take(timestamps, &origins, None)?.to_data().into());
        }
        if let Some(kinds) = &batch.kinds {
            output.kinds = Some(take(kinds, &origins, None)?.to_data().into());
        }
        Ok(output)
    }
}

impl<T: Record, O: Record, F: RowFunction<T, O>> Operator for RowOperator<T, O, F> {
    fn push(&mut self, _input: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        let rows = Rows::of(&batch.rows).map_err(|error| wrong_input(&self.context, &error))?;
        self.input = Some(Input {
            rows,
            batch,
            next: 0,
            next_cut: 0,
        });
        Ok(())
    }

    fn poll_output(&mut self, limit: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        let limit = OutputLimit {
            rows: limit.rows.max(1),
            bytes: limit.bytes.max(1),
        };
        let Some(input) = &self.input else { return Ok(None) };
        let start = input.next;
        let operator = std::sync::Arc::clone(&self.context.operator_name);
        let cuts = guard(&operator, || self.run(limit)).map_err(|error| match &self.input {
            // The row that was begun last.
            Some(input) => at_row(error, input.next.saturating_sub(1), input.rows.len()),
            None => error,
        })?;
        let (next, len) = self
            .input
            .as_ref()
            .map_or((0, 0), |input| (input.next, input.rows.len()));
        let empty = self.out.rows.is_empty() && cuts.is_empty();
        let output = if empty {
            None
        } else {
            Some(
                self.output(start..next, cuts)
                    .map_err(|error| arrow_error(&self.context, error))?,
            )
        };
        if next >= len {
            self.input = None;
        }
        Ok(output)
    }
}
