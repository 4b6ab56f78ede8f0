//! Keys before a keyed exchange: a column of the row, or computed ones behind it.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use thalweg_operators::{KeySelector, OperatorError};

use super::guard;
use crate::record::{Record, Rows, RowsBuilder};

/// What errors of a key function are attributed to.
const KEY_BY: &str = "key_by()";

/// The key is a column.
pub(crate) struct FieldKey {
    pub(crate) index: usize,
}

impl KeySelector for FieldKey {
    fn select(&self, rows: RecordBatch) -> Result<(RecordBatch, Vec<usize>), OperatorError> {
        Ok((rows, vec![self.index]))
    }
}

/// The key is a function of the row; its columns go behind the row's.
pub(crate) struct ComputedKey<T, K, F> {
    schema: SchemaRef,
    columns: usize,
    function: F,
    types: PhantomData<fn(T) -> K>,
}

impl<T: Record, K: Record, F> ComputedKey<T, K, F> {
    /// A selector over rows of this schema.
    pub(crate) fn new(rows: &Schema, function: F) -> Self {
        let key_fields = K::fields().into_iter().zip(Self::column_names());
        let key_fields = key_fields.map(|(field, name)| Arc::new(Field::clone(&field).with_name(name)));
        let columns = rows.fields().len();
        let schema = Schema::new(
            rows.fields()
                .iter()
                .cloned()
                .chain(key_fields)
                .collect::<Vec<_>>(),
        );
        Self {
            schema: Arc::new(schema),
            columns,
            function,
            types: PhantomData,
        }
    }

    /// Names that no user's field has.
    pub(crate) fn column_names() -> Vec<String> {
        (0..K::fields().len())
            .map(|index| format!("$key{index}"))
            .collect()
    }
}

impl<T: Record, K: Record, F> KeySelector for ComputedKey<T, K, F>
where
    F: for<'a> Fn(&'a T::Ref<'a>) -> K::Ref<'a> + Send + Sync,
{
    fn select(&self, rows: RecordBatch) -> Result<(RecordBatch, Vec<usize>), OperatorError> {
        let keys = guard(KEY_BY, || {
            let typed = Rows::<T>::of(&rows).map_err(|error| OperatorError::Input {
                operator: KEY_BY.to_owned(),
                message: error.to_string(),
            })?;
            let mut keys = RowsBuilder::<K>::with_capacity(typed.len());
            for row in 0..typed.len() {
                let record = typed.get(row);
                keys.push_ref((self.function)(&record));
            }
            Ok(keys.finish_columns())
        })?;
        let columns = rows.columns()[..self.columns]
            .iter()
            .cloned()
            .chain(keys)
            .collect::<Vec<_>>();
        let indices = (self.columns..columns.len()).collect();
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(|source| {
            OperatorError::Arrow {
                operator: KEY_BY.to_owned(),
                source,
            }
        })?;
        Ok((rows, indices))
    }
}
