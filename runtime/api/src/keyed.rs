//! Keyed streams: operations that remember something by key.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use thalweg_operators::Operator;
use thalweg_operators::rolling::{Aggregation, RollingAggregate, RollingColumns};
use thalweg_task::OperatorFactory;

use crate::function::{KeyedProcess, ReduceOperator};
use crate::graph::{NewNode, ProgramError, find_field};
use crate::process::KeyedProcessFunction;
use crate::record::Record;
use crate::stream::{DataStream, DrivenNode, per_subtask};

/// Where a keyed operator finds the key in its input.
#[derive(Debug, Clone)]
pub(crate) struct KeyColumns {
    pub(crate) indices: Vec<usize>,
    pub(crate) types: Vec<DataType>,
    pub(crate) names: Vec<String>,
}

impl KeyColumns {
    /// The columns as state names them.
    pub(crate) fn fields(&self) -> Vec<FieldRef> {
        let columns = self.names.iter().zip(&self.types);
        columns
            .map(|(name, data_type)| Arc::new(Field::new(name, data_type.clone(), true)))
            .collect()
    }
}

/// A stream whose records of one key of type `K` meet in one subtask. Flink's KeyedStream.
///
/// `reduce`, `sum`, `min` and `max` are rolling, as Flink's: each record gives one, with what its key has come to. With
/// [`Self::process`] a function keeps what it wants of each key.
pub struct KeyedStream<K: Record, T: Record> {
    pub(crate) stream: DataStream<T>,
    pub(crate) columns: KeyColumns,
    key: PhantomData<fn() -> K>,
}

impl<K: Record, T: Record> Clone for KeyedStream<K, T> {
    fn clone(&self) -> Self {
        Self::new(self.stream.clone(), self.columns.clone())
    }
}

impl<K: Record, T: Record> KeyedStream<K, T> {
    pub(crate) fn new(stream: DataStream<T>, columns: KeyColumns) -> Self {
        Self {
            stream,
            columns,
            key: PhantomData,
        }
    }

    /// Folds each record into what its key has so far, and emits that. A key's first record is its first value.
    ///
    /// ```
    /// # use thalweg_api::prelude::*;
    /// # fn job(words: KeyedStream<String, (String, i64)>) -> DataStream<(String, i64)> {
    /// words.reduce(|total, (_, count)| total.1 += count)
    /// # }
    /// ```
    pub fn reduce<F>(&self, function: F) -> DataStream<T>
    where
        F: for<'a, 'b> FnMut(&'b mut T, T::Ref<'a>) + Clone + Send + 'static,
    {
        let columns = self.columns.clone();
        let factory = per_subtask(function, move |context, function| {
            Ok(Box::new(ReduceOperator::<T, F>::new(
                context,
                columns.clone(),
                function,
            )?))
        });
        self.add_operator("KeyedReduce", "Keyed Reduce", factory, T::schema())
    }

    /// A function over each record with state and timers of its key: see [`KeyedProcessFunction`].
    pub fn process<F>(&self, function: F) -> DataStream<F::Out>
    where
        F: KeyedProcessFunction<Key = K, In = T>,
    {
        let node = DrivenNode {
            kind: "KeyedProcess",
            name: "KeyedProcess",
            keys: vec![Some(self.columns.clone())],
        };
        let inputs = std::slice::from_ref(&self.stream.inputs);
        node.add(&self.stream.graph, inputs, function, KeyedProcess::new)
    }

    /// The running sum of a numeric column; all others are those of the key's first record, as in Flink. Integers wrap at
    /// the bounds of their type.
    pub fn sum(&self, field: &str) -> DataStream<T> {
        self.rolling("sum()", "KeyedSum", Aggregation::Sum, field)
    }

    /// The smallest value of a numeric column so far; all others are those of the key's first record.
    pub fn min(&self, field: &str) -> DataStream<T> {
        self.rolling("min()", "KeyedMin", Aggregation::Min, field)
    }

    /// The largest value of a numeric column so far; all others are those of the key's first record.
    pub fn max(&self, field: &str) -> DataStream<T> {
        self.rolling("max()", "KeyedMax", Aggregation::Max, field)
    }

    fn rolling(
        &self,
        method: &'static str,
        kind: &'static str,
        aggregation: Aggregation,
        field: &str,
    ) -> DataStream<T> {
        let index = self
            .aggregated_field(method, aggregation, field)
            .unwrap_or_else(|error| {
                self.stream.graph.borrow_mut().refuse(error);
                0
            });
        let schema = Arc::clone(&self.stream.schema);
        let columns = RollingColumns {
            schema: Arc::clone(&schema),
            keys: self.columns.indices.clone(),
            field: index,
        };
        let key_types = self.columns.types.clone();
        let factory: OperatorFactory = Arc::new(move |context| {
            let operator = RollingAggregate::new(context, columns.clone(), &key_types, aggregation)?;
            Ok(Box::new(operator) as Box<dyn Operator>)
        });
        self.add_operator(kind, "Keyed Aggregation", factory, schema)
    }

    pub(crate) fn aggregated_field(
        &self,
        method: &'static str,
        aggregation: Aggregation,
        field: &str,
    ) -> Result<usize, ProgramError> {
        let index = find_field(method, &self.stream.schema, field)?;
        let found = self.stream.schema.field(index).data_type();
        if !aggregation.supports(found) {
            return Err(ProgramError::FieldType {
                operator: method,
                field: field.to_owned(),
                found: found.to_string(),
                wanted: "an integer or a float is needed".to_owned(),
            });
        }
        if self.columns.indices.contains(&index) {
            return Err(ProgramError::FieldType {
                operator: method,
                field: field.to_owned(),
                found: "the key".to_owned(),
                wanted: "another column is needed".to_owned(),
            });
        }
        Ok(index)
    }

    fn add_operator(
        &self,
        kind: &'static str,
        name: &str,
        factory: OperatorFactory,
        output: arrow::datatypes::SchemaRef,
    ) -> DataStream<T> {
        let mut node = NewNode::operator(kind, name, &output, factory);
        node.key_columns.clone_from(&self.columns.names);
        let id = self.stream.graph.borrow_mut().add_node(node, &self.stream.inputs);
        DataStream::of_node(&self.stream.graph, id, output)
    }
}
