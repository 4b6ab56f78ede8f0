//! Process functions of one input as [`Logic`].

use std::cell::OnceCell;

use arrow::array::ArrayRef;
use thalweg_state::{TimeDomain, Timer};
use thalweg_types::StreamBatch;

use super::driver::{Logic, Output, RowAt};
use super::services::Services;
use crate::context::{Context, OnTimerContext, OpenContext, ProcessContext};
use crate::process::{KeyedProcessFunction, ProcessFunction, UserError};
use crate::record::{Record, RecordError, Rows};

/// Rows of an input, typed.
pub(super) struct Typed<T: Record>(Option<Rows<T>>);

impl<T: Record> Typed<T> {
    pub(super) fn none() -> Self {
        Self(None)
    }

    pub(super) fn take(&mut self, batch: &StreamBatch) -> Result<(), RecordError> {
        self.0 = Some(Rows::of(&batch.rows)?);
        Ok(())
    }

    /// A row of the batch that came last.
    #[inline]
    pub(super) fn get(&self, row: usize) -> T::Ref<'_> {
        match &self.0 {
            Some(rows) => rows.get(row),
            None => panic!("a row is asked for before its batch"),
        }
    }
}

/// Rows of a keyed input and their keys.
pub(super) struct TypedKeyed<K: Record, T: Record> {
    rows: Typed<T>,
    keys: Option<K::Columns>,
}

impl<K: Record, T: Record> TypedKeyed<K, T> {
    pub(super) fn none() -> Self {
        Self {
            rows: Typed::none(),
            keys: None,
        }
    }

    pub(super) fn take(&mut self, batch: &StreamBatch, keys: &[ArrayRef]) -> Result<(), RecordError> {
        self.keys = Some(K::columns(keys, None)?);
        self.rows.take(batch)
    }

    /// The record and its context.
    #[inline]
    pub(super) fn at<'a>(&'a self, at: RowAt, services: &'a mut Services) -> (T::Ref<'a>, Context<'a, K>) {
        let record = self.rows.get(at.row);
        match &self.keys {
            Some(keys) => (
                record,
                Context::of_row(services, at.timestamp, at.slot, keys, at.row),
            ),
            None => panic!("a row is asked for before its batch"),
        }
    }
}

/// Calls `call` with the context of a timer.
pub(super) fn with_timer<K: Record>(
    domain: TimeDomain,
    timer: Timer,
    services: &mut Services,
    call: impl FnOnce(&mut OnTimerContext<'_, K>) -> Result<(), UserError>,
) -> Result<(), UserError> {
    let key = OnceCell::new();
    call(&mut OnTimerContext::new(services, domain, timer, &key))
}

/// [`ProcessFunction`].
pub(crate) struct Process<F: ProcessFunction> {
    function: F,
    rows: Typed<F::In>,
}

impl<F: ProcessFunction> Process<F> {
    pub(crate) fn new(function: F) -> Self {
        Self {
            function,
            rows: Typed::none(),
        }
    }
}

impl<F: ProcessFunction> Logic for Process<F> {
    type Out = F::Out;
    const INPUTS: usize = 1;

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<(), UserError> {
        self.function.open(context)
    }

    fn take(&mut self, _input: usize, batch: &StreamBatch, _keys: &[ArrayRef]) -> Result<(), RecordError> {
        self.rows.take(batch)
    }

    #[inline]
    fn row(&mut self, at: RowAt, services: &mut Services, out: &mut Output<F::Out>) -> Result<(), UserError> {
        let mut context = ProcessContext::new(services, at.timestamp);
        self.function
            .process(self.rows.get(at.row), &mut context, &mut out.collector)
    }
}

/// [`KeyedProcessFunction`].
pub(crate) struct KeyedProcess<F: KeyedProcessFunction> {
    function: F,
    rows: TypedKeyed<F::Key, F::In>,
}

impl<F: KeyedProcessFunction> KeyedProcess<F> {
    pub(crate) fn new(function: F) -> Self {
        Self {
            function,
            rows: TypedKeyed::none(),
        }
    }
}

impl<F: KeyedProcessFunction> Logic for KeyedProcess<F> {
    type Out = F::Out;
    const INPUTS: usize = 1;

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<(), UserError> {
        self.function.open(context)
    }

    fn take(&mut self, _input: usize, batch: &StreamBatch, keys: &[ArrayRef]) -> Result<(), RecordError> {
        self.rows.take(batch, keys)
    }

    #[inline]
    fn row(&mut self, at: RowAt, services: &mut Services, out: &mut Output<F::Out>) -> Result<(), UserError> {
        let (record, mut context) = self.rows.at(at, services);
        self.function.process(record, &mut context, &mut out.collector)
    }

    fn timer(
        &mut self,
        domain: TimeDomain,
        timer: Timer,
        services: &mut Services,
        out: &mut Output<F::Out>,
    ) -> Result<(), UserError> {
        with_timer(domain, timer, services, |context| {
            self.function.on_timer(timer.time, context, &mut out.collector)
        })
    }
}

#[cfg(test)]
mod tests;
