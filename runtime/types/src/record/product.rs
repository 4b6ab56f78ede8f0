//! Tuples as records, and records inside of records as Arrow `Struct` columns.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, NullBufferBuilder, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields};

use super::{Record, RecordError, Required, Value, check_column_count, field_of, open_column, wrong_type};

/// A record's columns inside of one `Struct` column.
#[derive(Debug)]
pub struct StructColumn<C> {
    columns: C,
    nulls: Option<NullBuffer>,
}

/// Makes a [`StructColumn`]: the record's builders and which rows have a value.
#[derive(Debug)]
pub struct StructBuilder<B> {
    builders: B,
    validity: NullBufferBuilder,
}

/// What [`Value`] is for a record: a `Struct` column. The derive and the tuples delegate to these.
impl<C> StructColumn<C> {
    /// The struct's children as the columns of `T`.
    pub fn open<T: Record<Columns = C>>(array: &ArrayRef, name: &str) -> Result<Self, RecordError> {
        let structs = array
            .as_struct_opt()
            .ok_or_else(|| wrong_type::<T>(array, name))?;
        let columns = T::columns(structs.columns(), structs.nulls())?;
        Ok(Self {
            columns,
            nulls: structs.nulls().cloned(),
        })
    }

    /// Whether the row holds no struct.
    #[inline]
    pub fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// The columns.
    #[inline]
    pub fn columns(&self) -> &C {
        &self.columns
    }
}

impl<B> StructBuilder<B> {
    /// Empty.
    pub fn new<T: Record<Builders = B>>(capacity: usize) -> Self {
        Self {
            builders: T::builders(capacity),
            validity: NullBufferBuilder::new(capacity),
        }
    }

    /// Adds a struct.
    #[inline]
    pub fn append<T: Record<Builders = B>>(&mut self, value: T::Ref<'_>) {
        T::push(&mut self.builders, value);
        self.validity.append_non_null();
    }

    /// Adds a row without struct.
    pub fn append_null<T: Record<Builders = B>>(&mut self) {
        T::push_null(&mut self.builders);
        self.validity.append_null();
    }

    /// About how many bytes of values it holds.
    #[inline]
    pub fn bytes<T: Record<Builders = B>>(&self) -> usize {
        T::builders_bytes(&self.builders)
    }

    /// The column; empty again.
    pub fn finish<T: Record<Builders = B>>(&mut self) -> ArrayRef {
        let columns = T::finish_columns(&mut self.builders);
        let nulls = self.validity.finish();
        Arc::new(StructArray::new(Fields::from(T::fields()), columns, nulls))
    }
}

macro_rules! tuple_record {
    ($($index:tt $name:ident $label:literal),*) => {
        impl<$($name: Value),*> Value for ($($name,)*) {
            type Ref<'a> = ($($name::Ref<'a>,)*);
            type Column = StructColumn<($($name::Column,)*)>;
            type Builder = StructBuilder<($($name::Builder,)*)>;

            fn data_type() -> DataType {
                DataType::Struct(Self::fields().into())
            }

            fn column(array: &ArrayRef, name: &str) -> Result<Self::Column, RecordError> {
                StructColumn::open::<Self>(array, name)
            }

            #[inline]
            fn get(column: &Self::Column, row: usize) -> Self::Ref<'_> {
                Self::row(column.columns(), row)
            }

            #[inline]
            fn is_null(column: &Self::Column, row: usize) -> bool {
                column.is_null(row)
            }

            fn builder(capacity: usize) -> Self::Builder {
                StructBuilder::new::<Self>(capacity)
            }

            #[inline]
            fn append(builder: &mut Self::Builder, value: Self::Ref<'_>) {
                builder.append::<Self>(value);
            }

            fn append_null(builder: &mut Self::Builder) {
                builder.append_null::<Self>();
            }

            #[inline]
            fn builder_bytes(builder: &Self::Builder) -> usize {
                builder.bytes::<Self>()
            }

            fn finish(builder: &mut Self::Builder) -> ArrayRef {
                builder.finish::<Self>()
            }

            #[inline]
            fn view(value: &Self) -> Self::Ref<'_> {
                ($($name::view(&value.$index),)*)
            }

            #[inline]
            fn own(value: Self::Ref<'_>) -> Self {
                ($($name::own(value.$index),)*)
            }

            #[inline]
            fn heap_bytes(value: Self::Ref<'_>) -> usize {
                0 $(+ $name::heap_bytes(value.$index))*
            }
        }

        impl<$($name: Value),*> Required for ($($name,)*) {}

        impl<$($name: Value),*> Record for ($($name,)*) {
            type Columns = ($($name::Column,)*);
            type Builders = ($($name::Builder,)*);

            fn fields() -> Vec<Field> {
                vec![$(field_of::<$name>($label)),*]
            }

            fn columns(arrays: &[ArrayRef], within: Option<&NullBuffer>) -> Result<Self::Columns, RecordError> {
                check_column_count(arrays, [$($label),*].len())?;
                Ok(($(open_column::<$name>(arrays, $index, $label, within)?,)*))
            }

            #[inline]
            fn row(columns: &Self::Columns, row: usize) -> Self::Ref<'_> {
                ($($name::get(&columns.$index, row),)*)
            }

            fn builders(capacity: usize) -> Self::Builders {
                ($($name::builder(capacity),)*)
            }

            #[inline]
            fn push(builders: &mut Self::Builders, value: Self::Ref<'_>) {
                $($name::append(&mut builders.$index, value.$index);)*
            }

            fn push_null(builders: &mut Self::Builders) {
                $($name::append_null(&mut builders.$index);)*
            }

            #[inline]
            fn builders_bytes(builders: &Self::Builders) -> usize {
                0 $(+ $name::builder_bytes(&builders.$index))*
            }

            fn finish_columns(builders: &mut Self::Builders) -> Vec<ArrayRef> {
                vec![$($name::finish(&mut builders.$index)),*]
            }
        }
    };
}

tuple_record!(0 A "f0");
tuple_record!(0 A "f0", 1 B "f1");
tuple_record!(0 A "f0", 1 B "f1", 2 C "f2");
tuple_record!(0 A "f0", 1 B "f1", 2 C "f2", 3 D "f3");
tuple_record!(0 A "f0", 1 B "f1", 2 C "f2", 3 D "f3", 4 E "f4");
tuple_record!(0 A "f0", 1 B "f1", 2 C "f2", 3 D "f3", 4 E "f4", 5 F "f5");
