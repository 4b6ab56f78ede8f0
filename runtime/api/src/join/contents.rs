//! What windows of two streams hold: two lists of elements, tables "window-elements-1" and "window-elements-2".

use std::marker::PhantomData;

use arrow::array::ArrayRef;
use thalweg_state::timers::WindowNamespace;
use thalweg_state::{KeyedState, Slot, StateError, WindowListHandle};
use thalweg_types::StreamBatch;

use crate::function::{Collector, RowAt, Services};
use crate::process::UserError;
use crate::record::{Record, RecordError, RecordRef, Value};
use crate::side_output::SideOutputs;
use crate::window::{Contents, Fired, Source, move_all, opened};

/// The states' names in snapshots.
const FIRST: &str = "window-elements-1";
const SECOND: &str = "window-elements-2";

/// What is done with the elements of both when a window emits.
pub(crate) trait Pairs: Clone + Send + 'static {
    type In1: Record;
    type In2: Record;
    type Out: Record;

    /// `first` or `second` may be empty.
    fn emit(&mut self, first: &[Self::In1], second: &[Self::In2], out: &mut Collector<Self::Out>);
}

macro_rules! pairs_by_function {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone)]
        pub(crate) struct $name<F, T1, T2, O> {
            function: F,
            types: PhantomData<Types<T1, T2, O>>,
        }

        impl<F, T1, T2, O> $name<F, T1, T2, O> {
            pub(crate) fn new(function: F) -> Self {
                Self {
                    function,
                    types: PhantomData,
                }
            }
        }
    )*};
}

/// Named, not held.
type Types<T1, T2, O> = fn() -> (T1, T2, O);

pairs_by_function! {
    /// A record for each pair.
    JoinBy;
    /// Records for each pair.
    FlatJoinBy;
    /// Records for both lists.
    CoGroupBy;
}

impl<F, T1: Record, T2: Record, O: Record> Pairs for JoinBy<F, T1, T2, O>
where
    F: for<'a, 'b> FnMut(RecordRef<'a, T1>, RecordRef<'b, T2>) -> O + Clone + Send + 'static,
{
    type In1 = T1;
    type In2 = T2;
    type Out = O;

    fn emit(&mut self, first: &[T1], second: &[T2], out: &mut Collector<O>) {
        for first in first {
            for second in second {
                out.collect_owned(&(self.function)(T1::view(first), T2::view(second)));
            }
        }
    }
}

impl<F, T1: Record, T2: Record, O: Record> Pairs for FlatJoinBy<F, T1, T2, O>
where
    F: for<'a, 'b, 'c> FnMut(RecordRef<'a, T1>, RecordRef<'b, T2>, &'c mut Collector<O>)
        + Clone
        + Send
        + 'static,
{
    type In1 = T1;
    type In2 = T2;
    type Out = O;

    fn emit(&mut self, first: &[T1], second: &[T2], out: &mut Collector<O>) {
        for first in first {
            for second in second {
                (self.function)(T1::view(first), T2::view(second), out);
            }
        }
    }
}

impl<F, T1: Record, T2: Record, O: Record> Pairs for CoGroupBy<F, T1, T2, O>
where
    F: for<'a, 'b, 'c> FnMut(&'a [T1], &'b [T2], &'c mut Collector<O>) + Clone + Send + 'static,
{
    type In1 = T1;
    type In2 = T2;
    type Out = O;

    fn emit(&mut self, first: &[T1], second: &[T2], out: &mut Collector<O>) {
        (self.function)(first, second, out);
    }
}

/// All elements of both streams.
#[derive(Clone)]
pub(crate) struct CoListed<K: Record, E: Pairs> {
    sources: (Source<K, E::In1>, Source<K, E::In2>),
    pairs: E,
    handles: Option<Handles<E::In1, E::In2>>,
}

/// Of both tables.
type Handles<T1, T2> = (WindowListHandle<T1>, WindowListHandle<T2>);

impl<K: Record, E: Pairs> CoListed<K, E> {
    pub(crate) fn new(pairs: E) -> Self {
        Self {
            sources: (Source::new(None), Source::new(None)),
            pairs,
            handles: None,
        }
    }
}

impl<K: Record, E: Pairs> Contents for CoListed<K, E> {
    /// Whether it came from the second stream.
    type Element = bool;
    type Out = E::Out;
    const INPUTS: usize = 2;

    fn open(&mut self, keyed: &mut KeyedState) -> Result<(), StateError> {
        let first = keyed.register_window_list(FIRST)?;
        self.handles = Some((first, keyed.register_window_list(SECOND)?));
        Ok(())
    }

    fn take(&mut self, input: usize, batch: &StreamBatch, keys: &[ArrayRef]) -> Result<(), RecordError> {
        match input {
            0 => self.sources.0.take(batch, keys),
            _ => self.sources.1.take(batch, keys),
        }
    }

    #[inline]
    fn element(&self, at: RowAt) -> bool {
        at.input > 0
    }

    #[inline]
    fn add(&mut self, keyed: &mut KeyedState, at: RowAt, cell: WindowNamespace) -> bool {
        let (first, second) = opened(self.handles);
        let is_new = keyed.table(first).get(at.slot, cell).is_empty()
            && keyed.table(second).get(at.slot, cell).is_empty();
        match at.input {
            0 => {
                let record = E::In1::own(self.sources.0.get(at.row));
                keyed.table(first).add(at.slot, cell, record);
            }
            _ => {
                let record = E::In2::own(self.sources.1.get(at.row));
                keyed.table(second).add(at.slot, cell, record);
            }
        }
        is_new
    }

    fn drop_late(&mut self, sides: &mut SideOutputs, at: RowAt) {
        match at.input {
            0 => self.sources.0.drop_late(sides, at),
            _ => self.sources.1.drop_late(sides, at),
        }
    }

    fn merge(
        &mut self,
        keyed: &mut KeyedState,
        slot: Slot,
        into: WindowNamespace,
        from: impl Iterator<Item = WindowNamespace> + Clone,
    ) {
        let (first, second) = opened(self.handles);
        move_all(keyed, first, slot, into, from.clone());
        move_all(keyed, second, slot, into, from);
    }

    fn clear(&mut self, keyed: &mut KeyedState, slot: Slot, cell: WindowNamespace) {
        let (first, second) = opened(self.handles);
        keyed.table(first).clear(slot, cell);
        keyed.table(second).clear(slot, cell);
    }

    fn emit(
        &mut self,
        services: &mut Services,
        fired: &Fired,
        out: &mut Collector<E::Out>,
    ) -> Result<(), UserError> {
        let (first, second) = opened(self.handles);
        let (first, second) = services.keyed().table_pair(first, second);
        let first = first.get(fired.slot, fired.cell);
        let second = second.get(fired.slot, fired.cell);
        if !first.is_empty() || !second.is_empty() {
            self.pairs.emit(first, second, out);
        }
        Ok(())
    }
}
