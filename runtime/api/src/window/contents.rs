//! What windows hold, by key and cell. A cell is the window itself; sessions that merge keep the cell of one of them.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::error::ArrowError;
use thalweg_state::timers::WindowNamespace;
use thalweg_state::{KeyedState, Slot, StateError, WindowHandle, WindowListHandle};
use thalweg_types::StreamBatch;

use super::assigner::TimeWindow;
use super::fold::Fold;
use super::function::{Emit, WindowContext};
use crate::function::{Collector, RowAt, Services};
use crate::process::UserError;
use crate::record::{Record, RecordError, RecordRef, Rows, Value};
use crate::side_output::{OutputTag, SideOutputs};

/// The states' names in snapshots.
const VALUES: &str = "window-contents";
const ELEMENTS: &str = "window-elements";

/// A window that emits.
pub(crate) struct Fired {
    pub(crate) slot: Slot,
    pub(crate) cell: WindowNamespace,
    pub(crate) window: TimeWindow,
    /// The row that made it emit; `None` if a timer did.
    pub(crate) row: Option<RowAt>,
}

/// How elements are kept.
pub(crate) trait Contents: Clone + Send + 'static {
    /// What a trigger sees of an element.
    type Element: Record;
    type Out: Record;
    /// How many logical inputs there are.
    const INPUTS: usize;

    fn open(&mut self, keyed: &mut KeyedState) -> Result<(), StateError>;
    /// The batch whose rows come next of an input.
    fn take(&mut self, input: usize, batch: &StreamBatch, keys: &[ArrayRef]) -> Result<(), RecordError>;
    fn element(&self, at: RowAt) -> RecordRef<'_, Self::Element>;
    /// Adds a row; whether the cell was empty.
    fn add(&mut self, keyed: &mut KeyedState, at: RowAt, cell: WindowNamespace) -> bool;
    /// A row that is too late for all its windows.
    fn drop_late(&mut self, sides: &mut SideOutputs, at: RowAt);
    /// Moves what other cells hold into one.
    fn merge(
        &mut self,
        keyed: &mut KeyedState,
        slot: Slot,
        into: WindowNamespace,
        from: impl Iterator<Item = WindowNamespace> + Clone,
    );
    fn clear(&mut self, keyed: &mut KeyedState, slot: Slot, cell: WindowNamespace);
    /// Emits, unless the cell is empty.
    fn emit(
        &mut self,
        services: &mut Services,
        fired: &Fired,
        out: &mut Collector<Self::Out>,
    ) -> Result<(), UserError>;
    /// See [`crate::function::Logic::finish`].
    fn finish(&mut self, rows: RecordBatch) -> Result<RecordBatch, ArrowError> {
        Ok(rows)
    }
}

/// An input's batch, and where its late rows go.
pub(crate) struct Source<K: Record, T: Record> {
    late: Option<OutputTag<T>>,
    batch: Option<(K::Columns, Rows<T>)>,
}

impl<K: Record, T: Record> Source<K, T> {
    pub(crate) fn new(late: Option<OutputTag<T>>) -> Self {
        Self { late, batch: None }
    }

    pub(crate) fn take(&mut self, batch: &StreamBatch, keys: &[ArrayRef]) -> Result<(), RecordError> {
        self.batch = Some((K::columns(keys, None)?, Rows::of(&batch.rows)?));
        Ok(())
    }

    #[inline]
    pub(crate) fn get(&self, row: usize) -> RecordRef<'_, T> {
        self.taken().1.get(row)
    }

    fn keys(&self) -> &K::Columns {
        &self.taken().0
    }

    pub(crate) fn drop_late(&self, sides: &mut SideOutputs, at: RowAt) {
        if let Some(tag) = &self.late {
            sides.collect(tag, self.get(at.row), at.timestamp);
        }
    }

    #[inline]
    fn taken(&self) -> &(K::Columns, Rows<T>) {
        match &self.batch {
            Some(batch) => batch,
            None => unreachable!("rows come after take()"),
        }
    }
}

/// Without rows: each subtask's operator is a clone of one that never got any.
impl<K: Record, T: Record> Clone for Source<K, T> {
    fn clone(&self) -> Self {
        Self::new(self.late.clone())
    }
}

/// One accumulator a cell.
#[derive(Clone)]
pub(crate) struct Folded<D: Fold, E: Emit> {
    source: Source<E::Key, D::In>,
    fold: D,
    emit: E,
    handle: Option<WindowHandle<D::Accumulator>>,
}

impl<D: Fold, E: Emit> Folded<D, E> {
    pub(crate) fn new(late: Option<OutputTag<D::In>>, fold: D, emit: E) -> Self {
        Self {
            source: Source::new(late),
            fold,
            emit,
            handle: None,
        }
    }
}

impl<D: Fold, E: Emit<In = D::Value>> Contents for Folded<D, E> {
    type Element = D::In;
    type Out = E::Out;
    const INPUTS: usize = 1;

    fn open(&mut self, keyed: &mut KeyedState) -> Result<(), StateError> {
        self.handle = Some(keyed.register_window(VALUES)?);
        Ok(())
    }

    fn take(&mut self, _input: usize, batch: &StreamBatch, keys: &[ArrayRef]) -> Result<(), RecordError> {
        self.fold.take(batch)?;
        self.source.take(batch, keys)
    }

    #[inline]
    fn element(&self, at: RowAt) -> RecordRef<'_, D::In> {
        self.source.get(at.row)
    }

    #[inline]
    fn add(&mut self, keyed: &mut KeyedState, at: RowAt, cell: WindowNamespace) -> bool {
        let mut is_new = false;
        let record = self.source.get(at.row);
        let table = keyed.table(opened(self.handle));
        let accumulator = table.get_or_insert_with(at.slot, cell, || {
            is_new = true;
            self.fold.first(at.row, record)
        });
        if !is_new {
            self.fold.add(accumulator, at.row, record);
        }
        is_new
    }

    fn drop_late(&mut self, sides: &mut SideOutputs, at: RowAt) {
        self.source.drop_late(sides, at);
    }

    fn merge(
        &mut self,
        keyed: &mut KeyedState,
        slot: Slot,
        into: WindowNamespace,
        from: impl Iterator<Item = WindowNamespace> + Clone,
    ) {
        let table = keyed.table(opened(self.handle));
        for cell in from {
            let Some(other) = table.remove(slot, &cell) else {
                continue;
            };
            match table.get_mut(slot, &into) {
                Some(accumulator) => self.fold.merge(accumulator, &other),
                None => table.put(slot, into, other),
            }
        }
    }

    fn clear(&mut self, keyed: &mut KeyedState, slot: Slot, cell: WindowNamespace) {
        keyed.table(opened(self.handle)).remove(slot, &cell);
    }

    fn finish(&mut self, rows: RecordBatch) -> Result<RecordBatch, ArrowError> {
        self.fold.finish(rows)
    }

    fn emit(
        &mut self,
        services: &mut Services,
        fired: &Fired,
        out: &mut Collector<E::Out>,
    ) -> Result<(), UserError> {
        let Self {
            source,
            fold,
            emit,
            handle,
        } = self;
        let key = KeyOf::find::<E, _>(services, source, fired)?;
        let (keyed, mut context) = WindowContext::split(services, fired.window);
        let table = keyed.table(opened(*handle));
        let Some(accumulator) = table.peek(fired.slot, &fired.cell) else {
            return Ok(());
        };
        fold.value(accumulator, |value| {
            emit.emit(key.get(), &mut context, std::slice::from_ref(value), out)
        })
    }
}

/// All elements.
#[derive(Clone)]
pub(crate) struct Listed<E: Emit> {
    source: Source<E::Key, E::In>,
    emit: E,
    handle: Option<WindowListHandle<E::In>>,
}

impl<E: Emit> Listed<E> {
    pub(crate) fn new(late: Option<OutputTag<E::In>>, emit: E) -> Self {
        Self {
            source: Source::new(late),
            emit,
            handle: None,
        }
    }
}

impl<E: Emit> Contents for Listed<E> {
    type Element = E::In;
    type Out = E::Out;
    const INPUTS: usize = 1;

    fn open(&mut self, keyed: &mut KeyedState) -> Result<(), StateError> {
        self.handle = Some(keyed.register_window_list(ELEMENTS)?);
        Ok(())
    }

    fn take(&mut self, _input: usize, batch: &StreamBatch, keys: &[ArrayRef]) -> Result<(), RecordError> {
        self.source.take(batch, keys)
    }

    #[inline]
    fn element(&self, at: RowAt) -> RecordRef<'_, E::In> {
        self.source.get(at.row)
    }

    #[inline]
    fn add(&mut self, keyed: &mut KeyedState, at: RowAt, cell: WindowNamespace) -> bool {
        let table = keyed.table(opened(self.handle));
        let is_new = table.get(at.slot, cell).is_empty();
        table.add(at.slot, cell, E::In::own(self.source.get(at.row)));
        is_new
    }

    fn drop_late(&mut self, sides: &mut SideOutputs, at: RowAt) {
        self.source.drop_late(sides, at);
    }

    fn merge(
        &mut self,
        keyed: &mut KeyedState,
        slot: Slot,
        into: WindowNamespace,
        from: impl Iterator<Item = WindowNamespace> + Clone,
    ) {
        move_all(keyed, opened(self.handle), slot, into, from);
    }

    fn clear(&mut self, keyed: &mut KeyedState, slot: Slot, cell: WindowNamespace) {
        keyed.table(opened(self.handle)).clear(slot, cell);
    }

    fn emit(
        &mut self,
        services: &mut Services,
        fired: &Fired,
        out: &mut Collector<E::Out>,
    ) -> Result<(), UserError> {
        let key = KeyOf::find::<E, _>(services, &self.source, fired)?;
        let (keyed, mut context) = WindowContext::split(services, fired.window);
        let elements = keyed.table(opened(self.handle)).get(fired.slot, fired.cell);
        if elements.is_empty() {
            return Ok(());
        }
        self.emit.emit(key.get(), &mut context, elements, out)
    }
}

/// Moves lists of elements into one.
pub(crate) fn move_all<T: Record>(
    keyed: &mut KeyedState,
    handle: WindowListHandle<T>,
    slot: Slot,
    into: WindowNamespace,
    from: impl Iterator<Item = WindowNamespace>,
) {
    let table = keyed.table(handle);
    for cell in from {
        let elements = table.take(slot, cell);
        table.add_all(slot, into, elements);
    }
}

/// A handle that `open` has registered.
pub(crate) fn opened<H>(handle: Option<H>) -> H {
    match handle {
        Some(handle) => handle,
        None => unreachable!("open() comes before everything else"),
    }
}

/// A window's key.
pub(crate) enum KeyOf<'a, K: Record> {
    /// Nobody asks.
    Unknown,
    Row(&'a K::Columns, usize),
    Timer(K::Columns),
}

impl<'a, K: Record> KeyOf<'a, K> {
    pub(crate) fn find<E: Emit<Key = K>, T: Record>(
        services: &mut Services,
        source: &'a Source<K, T>,
        fired: &Fired,
    ) -> Result<Self, UserError> {
        Ok(match fired.row {
            _ if !E::NEEDS_KEY => Self::Unknown,
            Some(at) => Self::Row(source.keys(), at.row),
            None => {
                let columns: Vec<ArrayRef> = services.keyed().keys(&[fired.slot])?;
                Self::Timer(K::columns(&columns, None)?)
            }
        })
    }

    pub(crate) fn get(&self) -> Option<RecordRef<'_, K>> {
        match self {
            Self::Unknown => None,
            Self::Row(columns, row) => Some(K::row(columns, *row)),
            Self::Timer(columns) => Some(K::row(columns, 0)),
        }
    }
}
