//! Rows of events and their columns: each row has the fields of its own kind, and nulls in those of the others.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int32Array, Int64Array, StringArray, StructArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType as Arrow, TimeUnit};
use thalweg_plan::DataType;

use super::events::EventKind;
use super::fields::{Leaf, Output};

/// The events of a batch, by kind.
pub(super) struct EventRows<E> {
    kinds: Vec<EventKind>,
    by_kind: [OfKind<E>; 3],
}

/// Events of one kind, the rows that they are in, and where the others leave nulls.
struct OfKind<E> {
    events: Vec<(u32, E)>,
    nulls: Option<NullBuffer>,
}

impl<E> Default for OfKind<E> {
    fn default() -> Self {
        Self {
            events: Vec::new(),
            nulls: None,
        }
    }
}

impl<E> EventRows<E> {
    /// The events of wanted kinds.
    pub(super) fn new(events: impl Iterator<Item = (EventKind, E)>, wanted: [bool; 3]) -> Self {
        let mut kinds = Vec::with_capacity(events.size_hint().0);
        let mut by_kind: [OfKind<E>; 3] = Default::default();
        for (kind, event) in events.filter(|(kind, _)| wanted[*kind as usize]) {
            by_kind[kind as usize].events.push((kinds.len() as u32, event));
            kinds.push(kind);
        }
        for kind in EventKind::ALL {
            let of_kind = &mut by_kind[kind as usize];
            if of_kind.events.len() < kinds.len() {
                of_kind.nulls = Some(kinds.iter().map(|other| *other == kind).collect());
            }
        }
        Self { kinds, by_kind }
    }

    pub(super) fn len(&self) -> usize {
        self.kinds.len()
    }

    /// A column whose leaves `leaf` makes.
    pub(super) fn column(
        &self,
        output: &Output,
        leaf: impl Fn(EventKind, Leaf, &DataType) -> ArrayRef,
    ) -> ArrayRef {
        match output {
            Output::EventType => Arc::new(Int32Array::from_iter_values(
                self.kinds.iter().map(|kind| *kind as i32),
            )),
            Output::Leaf(kind, field, data_type) => leaf(*kind, *field, data_type),
            Output::Row(kind, leaves, data_type) => {
                let arrow = data_type.to_arrow();
                let Arrow::Struct(fields) = &arrow else {
                    return arrow::array::new_null_array(&arrow, self.len());
                };
                let columns = leaves
                    .iter()
                    .map(|(field, data_type)| leaf(*kind, *field, data_type))
                    .collect();
                let nulls = self.by_kind[*kind as usize].nulls.clone();
                Arc::new(StructArray::new(fields.clone(), columns, nulls))
            }
        }
    }

    fn nulls(&self, kind: EventKind) -> Option<NullBuffer> {
        self.by_kind[kind as usize].nulls.clone()
    }

    fn values(&self, kind: EventKind, make: impl Fn(&E) -> i64) -> Vec<i64> {
        let of_kind = &self.by_kind[kind as usize];
        if of_kind.nulls.is_none() {
            return of_kind.events.iter().map(|(_, event)| make(event)).collect();
        }
        let mut values = vec![0; self.len()];
        for (row, event) in &of_kind.events {
            values[*row as usize] = make(event);
        }
        values
    }

    pub(super) fn numbers(&self, kind: EventKind, make: impl Fn(&E) -> i64) -> ArrayRef {
        let values = self.values(kind, make);
        Arc::new(Int64Array::new(values.into(), self.nulls(kind)))
    }

    pub(super) fn times(&self, kind: EventKind, data_type: &DataType, make: impl Fn(&E) -> i64) -> ArrayRef {
        let nulls = self.nulls(kind);
        match data_type.to_arrow() {
            Arrow::Timestamp(TimeUnit::Microsecond, _) => {
                let values = self.values(kind, |event| make(event).saturating_mul(1_000));
                Arc::new(TimestampMicrosecondArray::new(values.into(), nulls))
            }
            Arrow::Timestamp(TimeUnit::Nanosecond, _) => {
                let values = self.values(kind, |event| make(event).saturating_mul(1_000_000));
                Arc::new(TimestampNanosecondArray::new(values.into(), nulls))
            }
            _ => {
                let values = self.values(kind, make);
                Arc::new(TimestampMillisecondArray::new(values.into(), nulls))
            }
        }
    }

    pub(super) fn texts(
        &self,
        kind: EventKind,
        about: usize,
        mut write: impl FnMut(&E, &mut Vec<u8>),
    ) -> ArrayRef {
        let of_kind = &self.by_kind[kind as usize];
        let mut bytes = Vec::with_capacity(of_kind.events.len() * about);
        let mut offsets: Vec<i32> = Vec::with_capacity(self.len() + 1);
        offsets.push(0);
        for (row, event) in &of_kind.events {
            // Rows of other kinds before it are empty.
            offsets.resize(*row as usize + 1, bytes.len() as i32);
            write(event, &mut bytes);
            offsets.push(bytes.len() as i32);
        }
        offsets.resize(self.len() + 1, bytes.len() as i32);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        match StringArray::try_new(offsets, Buffer::from_vec(bytes), of_kind.nulls.clone()) {
            Ok(texts) => Arc::new(texts),
            Err(_) => arrow::array::new_null_array(&Arrow::Utf8, self.len()),
        }
    }
}
