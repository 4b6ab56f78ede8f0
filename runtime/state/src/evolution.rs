//! Stored columns as those that the operator has now: schema evolution.
//!
//! ```text
//!   stored value columns --by name--> unchanged | widened | its children adapted (a struct)
//!                                     new: null if it may be, else zero, false, empty
//!                                     not wanted any more: left out
//! ```
//!
//! Anything else is refused, naming state and field, because a value could change silently. Columns of the key and of the
//! sub-key are matched by position and may change their names only: they are what rows are found by.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Int8Array, StringArray, StructArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use arrow::error::ArrowError;

use crate::snapshot::{StateError, TableDescriptor, TableKind};
use crate::table::ACCESSED_COLUMN;

/// How the value columns of one stored table become an operator's.
#[derive(Debug)]
pub struct Adapter {
    columns: Vec<Source>,
    accessed: Option<usize>,
}

/// Where a wanted column comes from.
#[derive(Debug)]
enum Source {
    /// The stored column of this index.
    Stored(usize, Change),
    /// Nowhere: it is new.
    New(FieldRef),
}

#[derive(Debug)]
enum Change {
    Same,
    Widened(DataType),
    Struct(Fields, Vec<Source>),
}

impl Adapter {
    /// How `stored` becomes `wanted`; [`StateError::Incompatible`] if it can't.
    pub fn new(stored: &TableDescriptor, wanted: &TableDescriptor) -> Result<Self, StateError> {
        let plan = Plan { state: &wanted.name };
        plan.check_kind(stored.kind, wanted.kind)?;
        plan.check_identity("key field", &stored.key, &wanted.key)?;
        plan.check_identity("map key field", &stored.sub_key, &wanted.sub_key)?;
        let is_value = |field: &&FieldRef| field.name() != ACCESSED_COLUMN;
        let stored_fields: Vec<FieldRef> = stored.value.iter().filter(is_value).cloned().collect();
        let wanted_fields: Vec<FieldRef> = wanted.value.iter().filter(is_value).cloned().collect();
        let columns = plan.sources("", &stored_fields, &wanted_fields)?;
        Ok(Self {
            columns,
            accessed: stored
                .value
                .iter()
                .position(|field| field.name() == ACCESSED_COLUMN),
        })
    }

    /// The wanted columns, without that of time-to-live, from the stored value columns.
    pub fn columns(&self, stored: &[ArrayRef], rows: usize) -> Result<Vec<ArrayRef>, ArrowError> {
        let values: Vec<ArrayRef> = stored
            .iter()
            .enumerate()
            .filter(|(place, _)| Some(*place) != self.accessed)
            .map(|(_, column)| Arc::clone(column))
            .collect();
        self.columns
            .iter()
            .map(|source| source.column(&values, rows))
            .collect()
    }

    /// The stored column of time-to-live, if there is one.
    pub fn accessed<'a>(&self, stored: &'a [ArrayRef]) -> Option<&'a ArrayRef> {
        self.accessed.map(|place| &stored[place])
    }
}

impl Source {
    fn column(&self, stored: &[ArrayRef], rows: usize) -> Result<ArrayRef, ArrowError> {
        match self {
            Self::New(field) => new_column(field, rows),
            Self::Stored(place, Change::Same) => Ok(Arc::clone(&stored[*place])),
            Self::Stored(place, Change::Widened(data_type)) => cast(&stored[*place], data_type),
            Self::Stored(place, Change::Struct(fields, children)) => {
                let column = stored[*place].as_struct();
                let children = children
                    .iter()
                    .map(|child| child.column(column.columns(), rows))
                    .collect::<Result<Vec<_>, _>>()?;
                Ok(Arc::new(StructArray::try_new(
                    fields.clone(),
                    children,
                    column.nulls().cloned(),
                )?))
            }
        }
    }
}

/// What a new column holds in stored rows.
fn new_column(field: &Field, rows: usize) -> Result<ArrayRef, ArrowError> {
    if field.is_nullable() {
        return Ok(arrow::array::new_null_array(field.data_type(), rows));
    }
    Ok(match field.data_type() {
        DataType::Boolean => Arc::new(BooleanArray::from(vec![false; rows])),
        DataType::Utf8 => Arc::new(StringArray::from_iter_values(std::iter::repeat_n("", rows))),
        DataType::Binary => Arc::new(BinaryArray::from_iter_values(std::iter::repeat_n(b"", rows))),
        DataType::Struct(fields) => {
            let children = fields.iter().map(|child| new_column(child, rows));
            let children = children.collect::<Result<Vec<_>, _>>()?;
            Arc::new(StructArray::try_new(fields.clone(), children, None)?)
        }
        number => cast(&zeros(number, rows)?, number)?,
    })
}

/// Zeros of a type that casts to a number or to a point in time.
fn zeros(data_type: &DataType, rows: usize) -> Result<ArrayRef, ArrowError> {
    let zeros: ArrayRef = Arc::new(Int8Array::from(vec![0_i8; rows]));
    if data_type.is_temporal() {
        return cast(&zeros, &DataType::Int64);
    }
    Ok(zeros)
}

/// Whether a type without null has a value that stands for "not known yet".
fn has_zero(data_type: &DataType) -> bool {
    match data_type {
        DataType::Boolean | DataType::Utf8 | DataType::Binary | DataType::Timestamp(..) => true,
        DataType::Struct(fields) => fields
            .iter()
            .all(|field| field.is_nullable() || has_zero(field.data_type())),
        other => other.is_integer() || other.is_floating(),
    }
}

/// Whether every value of the one type is one of the other.
fn widens(from: &DataType, to: &DataType) -> bool {
    use DataType::{Decimal128, Float32, Float64, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64};
    match (from, to) {
        (Int8, Int16 | Int32 | Int64 | Float32 | Float64)
        | (Int16, Int32 | Int64 | Float32 | Float64)
        | (Int32, Int64 | Float64)
        | (UInt8, UInt16 | UInt32 | UInt64 | Int16 | Int32 | Int64 | Float32 | Float64)
        | (UInt16, UInt32 | UInt64 | Int32 | Int64 | Float32 | Float64)
        | (UInt32, UInt64 | Int64 | Float64)
        | (Float32, Float64) => true,
        (Decimal128(from_precision, from_scale), Decimal128(to_precision, to_scale)) => {
            from_scale == to_scale && from_precision < to_precision
        }
        _ => false,
    }
}

/// Decides column by column.
struct Plan<'a> {
    state: &'a str,
}

impl Plan<'_> {
    fn refuse<T>(&self, message: String) -> Result<T, StateError> {
        Err(StateError::Incompatible {
            state: self.state.to_owned(),
            message,
        })
    }

    fn check_kind(&self, stored: TableKind, wanted: TableKind) -> Result<(), StateError> {
        if stored == wanted {
            return Ok(());
        }
        self.refuse(format!(
            "it was stored as {stored:?} state and is {wanted:?} state now: give the new state another name"
        ))
    }

    fn check_identity(&self, what: &str, stored: &[FieldRef], wanted: &[FieldRef]) -> Result<(), StateError> {
        if stored.len() != wanted.len() {
            return self.refuse(format!(
                "it was stored with {} {what}s and has {} now: keys can't change, start without this state",
                stored.len(),
                wanted.len()
            ));
        }
        for (stored, wanted) in stored.iter().zip(wanted) {
            if !same_type(stored.data_type(), wanted.data_type()) {
                return self.refuse(format!(
                    "{what} {:?} was stored as {} and is {} now: the type of a key can't change, start without this state",
                    wanted.name(),
                    stored.data_type(),
                    wanted.data_type()
                ));
            }
        }
        Ok(())
    }

    fn sources(
        &self,
        path: &str,
        stored: &[FieldRef],
        wanted: &[FieldRef],
    ) -> Result<Vec<Source>, StateError> {
        wanted
            .iter()
            .map(|field| {
                let name = format!("{path}{}", field.name());
                match stored.iter().position(|old| old.name() == field.name()) {
                    Some(place) => Ok(Source::Stored(place, self.change(&name, &stored[place], field)?)),
                    None if field.is_nullable() || has_zero(field.data_type()) => {
                        Ok(Source::New(Arc::clone(field)))
                    }
                    None => self.refuse(format!(
                        "field {name:?} is new and {} has no zero: make it an Option",
                        field.data_type()
                    )),
                }
            })
            .collect()
    }

    fn change(&self, name: &str, stored: &Field, wanted: &Field) -> Result<Change, StateError> {
        if stored.is_nullable() && !wanted.is_nullable() {
            return self.refuse(format!(
                "field {name:?} could be null when it was stored and can't now: keep it an Option"
            ));
        }
        match (stored.data_type(), wanted.data_type()) {
            (DataType::Struct(old), DataType::Struct(new)) => {
                let children = self.sources(&format!("{name}."), old, new)?;
                let is_same = old.len() == new.len()
                    && children
                        .iter()
                        .enumerate()
                        .all(|(place, child)| matches!(child, Source::Stored(at, Change::Same) if *at == place));
                Ok(if is_same {
                    Change::Same
                } else {
                    Change::Struct(new.clone(), children)
                })
            }
            (old, new) if old == new => Ok(Change::Same),
            (old, new) if widens(old, new) => Ok(Change::Widened(new.clone())),
            (old, new) => self.refuse(format!(
                "field {name:?} was stored as {old} and is {new} now: a field may only be widened; give the new one another name"
            )),
        }
    }
}

/// Types of key columns, whatever the names of a struct's fields.
fn same_type(stored: &DataType, wanted: &DataType) -> bool {
    match (stored, wanted) {
        (DataType::Struct(stored), DataType::Struct(wanted)) => {
            stored.len() == wanted.len()
                && stored
                    .iter()
                    .zip(wanted)
                    .all(|(stored, wanted)| same_type(stored.data_type(), wanted.data_type()))
        }
        (stored, wanted) => stored == wanted,
    }
}

#[cfg(test)]
mod tests;
