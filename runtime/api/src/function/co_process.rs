//! Functions of two inputs as [`Logic`].

use arrow::array::ArrayRef;
use thalweg_state::{TimeDomain, Timer};
use thalweg_types::StreamBatch;

use super::driver::{Logic, Output, RowAt};
use super::process::{Typed, TypedKeyed, with_timer};
use super::row::RowFunction;
use super::services::Services;
use crate::context::{BroadcastContext, OpenContext, ProcessContext};
use crate::process::{
    BroadcastProcessFunction, CoProcessFunction, KeyedBroadcastProcessFunction, KeyedCoProcessFunction,
    UserError,
};
use crate::record::{Record, RecordError};

/// The logical input of the first stream; of the stream that is not broadcast.
const FIRST: usize = 0;

/// `ConnectedStreams::map` and `flat_map`.
pub(crate) struct CoRows<T1: Record, T2: Record, O, F1, F2> {
    functions: (F1, F2),
    rows: (Typed<T1>, Typed<T2>),
    output: std::marker::PhantomData<fn() -> O>,
}

impl<T1: Record, T2: Record, O, F1, F2> CoRows<T1, T2, O, F1, F2> {
    pub(crate) fn new(functions: (F1, F2)) -> Self {
        Self {
            functions,
            rows: (Typed::none(), Typed::none()),
            output: std::marker::PhantomData,
        }
    }
}

impl<T1: Record, T2: Record, O: Record, F1, F2> Logic for CoRows<T1, T2, O, F1, F2>
where
    F1: RowFunction<T1, O>,
    F2: RowFunction<T2, O>,
{
    type Out = O;
    const INPUTS: usize = 2;

    fn open(&mut self, _context: &mut OpenContext<'_>) -> Result<(), UserError> {
        Ok(())
    }

    fn take(&mut self, input: usize, batch: &StreamBatch, _keys: &[ArrayRef]) -> Result<(), RecordError> {
        match input {
            FIRST => self.rows.0.take(batch),
            _ => self.rows.1.take(batch),
        }
    }

    #[inline]
    fn row(&mut self, at: RowAt, _services: &mut Services, out: &mut Output<O>) -> Result<(), UserError> {
        let out = &mut out.collector;
        let done = match at.input {
            FIRST => self.functions.0.call(self.rows.0.get(at.row), out),
            _ => self.functions.1.call(self.rows.1.get(at.row), out),
        };
        Ok(done?)
    }
}

/// [`CoProcessFunction`].
pub(crate) struct CoProcess<F: CoProcessFunction> {
    function: F,
    rows: (Typed<F::In1>, Typed<F::In2>),
}

impl<F: CoProcessFunction> CoProcess<F> {
    pub(crate) fn new(function: F) -> Self {
        Self {
            function,
            rows: (Typed::none(), Typed::none()),
        }
    }
}

impl<F: CoProcessFunction> Logic for CoProcess<F> {
    type Out = F::Out;
    const INPUTS: usize = 2;

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<(), UserError> {
        self.function.open(context)
    }

    fn take(&mut self, input: usize, batch: &StreamBatch, _keys: &[ArrayRef]) -> Result<(), RecordError> {
        match input {
            FIRST => self.rows.0.take(batch),
            _ => self.rows.1.take(batch),
        }
    }

    #[inline]
    fn row(&mut self, at: RowAt, services: &mut Services, out: &mut Output<F::Out>) -> Result<(), UserError> {
        let Self { function, rows } = self;
        let (context, out) = (
            &mut ProcessContext::new(services, at.timestamp),
            &mut out.collector,
        );
        match at.input {
            FIRST => function.process1(rows.0.get(at.row), context, out),
            _ => function.process2(rows.1.get(at.row), context, out),
        }
    }
}

/// [`KeyedCoProcessFunction`].
pub(crate) struct KeyedCoProcess<F: KeyedCoProcessFunction> {
    function: F,
    first: TypedKeyed<F::Key, F::In1>,
    second: TypedKeyed<F::Key, F::In2>,
}

impl<F: KeyedCoProcessFunction> KeyedCoProcess<F> {
    pub(crate) fn new(function: F) -> Self {
        Self {
            function,
            first: TypedKeyed::none(),
            second: TypedKeyed::none(),
        }
    }
}

impl<F: KeyedCoProcessFunction> Logic for KeyedCoProcess<F> {
    type Out = F::Out;
    const INPUTS: usize = 2;

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<(), UserError> {
        self.function.open(context)
    }

    fn take(&mut self, input: usize, batch: &StreamBatch, keys: &[ArrayRef]) -> Result<(), RecordError> {
        match input {
            FIRST => self.first.take(batch, keys),
            _ => self.second.take(batch, keys),
        }
    }

    #[inline]
    fn row(&mut self, at: RowAt, services: &mut Services, out: &mut Output<F::Out>) -> Result<(), UserError> {
        let Self {
            function,
            first,
            second,
        } = self;
        if at.input == FIRST {
            let (record, mut context) = first.at(at, services);
            function.process1(record, &mut context, &mut out.collector)
        } else {
            let (record, mut context) = second.at(at, services);
            function.process2(record, &mut context, &mut out.collector)
        }
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

/// [`BroadcastProcessFunction`]; input 1 is the broadcast stream.
pub(crate) struct BroadcastProcess<F: BroadcastProcessFunction> {
    function: F,
    rows: Typed<F::In>,
    broadcast: Typed<F::Broadcast>,
}

impl<F: BroadcastProcessFunction> BroadcastProcess<F> {
    pub(crate) fn new(function: F) -> Self {
        Self {
            function,
            rows: Typed::none(),
            broadcast: Typed::none(),
        }
    }
}

impl<F: BroadcastProcessFunction> Logic for BroadcastProcess<F> {
    type Out = F::Out;
    const INPUTS: usize = 2;

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<(), UserError> {
        self.function.open(context)
    }

    fn take(&mut self, input: usize, batch: &StreamBatch, _keys: &[ArrayRef]) -> Result<(), RecordError> {
        match input {
            FIRST => self.rows.take(batch),
            _ => self.broadcast.take(batch),
        }
    }

    #[inline]
    fn row(&mut self, at: RowAt, services: &mut Services, out: &mut Output<F::Out>) -> Result<(), UserError> {
        if at.input == FIRST {
            let mut context = ProcessContext::new(services, at.timestamp);
            self.function
                .process(self.rows.get(at.row), &mut context, &mut out.collector)
        } else {
            let mut context = BroadcastContext::new(services, at.timestamp);
            self.function
                .process_broadcast(self.broadcast.get(at.row), &mut context, &mut out.collector)
        }
    }
}

/// [`KeyedBroadcastProcessFunction`]; input 1 is the broadcast stream.
pub(crate) struct KeyedBroadcastProcess<F: KeyedBroadcastProcessFunction> {
    function: F,
    rows: TypedKeyed<F::Key, F::In>,
    broadcast: Typed<F::Broadcast>,
}

impl<F: KeyedBroadcastProcessFunction> KeyedBroadcastProcess<F> {
    pub(crate) fn new(function: F) -> Self {
        Self {
            function,
            rows: TypedKeyed::none(),
            broadcast: Typed::none(),
        }
    }
}

impl<F: KeyedBroadcastProcessFunction> Logic for KeyedBroadcastProcess<F> {
    type Out = F::Out;
    const INPUTS: usize = 2;

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<(), UserError> {
        self.function.open(context)
    }

    fn take(&mut self, input: usize, batch: &StreamBatch, keys: &[ArrayRef]) -> Result<(), RecordError> {
        match input {
            FIRST => self.rows.take(batch, keys),
            _ => self.broadcast.take(batch),
        }
    }

    #[inline]
    fn row(&mut self, at: RowAt, services: &mut Services, out: &mut Output<F::Out>) -> Result<(), UserError> {
        if at.input == FIRST {
            let (record, mut context) = self.rows.at(at, services);
            self.function.process(record, &mut context, &mut out.collector)
        } else {
            let mut context = BroadcastContext::new(services, at.timestamp);
            self.function
                .process_broadcast(self.broadcast.get(at.row), &mut context, &mut out.collector)
        }
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
