//! Streams: what is done to records, and where they go.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use thalweg_connectors::{BlackholeSink, PrintFormat, PrintSink, Sink, WatermarkStrategy};
use thalweg_operators::{KeySelector, Operator, OperatorContext, OperatorError};
use thalweg_proto::graph::v1::{ChainingStrategy, NodeKind, Partitioner};
use thalweg_task::{NodeFactory, OperatorFactory};

use crate::function::{
    BatchOperator, Collector, ComputedKey, Driver, FieldKey, FilterOperator, FlatMap, Logic, Map, Process,
    RowFunction, RowOperator, TimestampsOperator, TryFlatMap, TryMap,
};
use crate::graph::{GraphBuilder, NewNode, ProgramError, Upstream, check_parallelism, find_field};
use crate::keyed::{KeyColumns, KeyedStream};
use crate::process::ProcessFunction;
use crate::record::Record;
use crate::side_output::SideOutputTags;
use crate::sink::DataStreamSink;

/// A stream of records of type `T`. Flink's DataStream.
///
/// Each operation gives the stream of its output; a stream may feed several. Setters as [`Self::name`] concern the operator
/// that the stream comes out of: `lines.map(..).name("parse").uid("parse")`.
///
/// User functions are closures. They see records borrowed from the batch (`&str` for a `String`, `WordRef<'_>` for a struct
/// `Word`), each subtask has its own clone of them, and a panic in one fails the task with its message.
pub struct DataStream<T: Record> {
    pub(crate) graph: Rc<RefCell<GraphBuilder>>,
    pub(crate) inputs: Vec<Upstream>,
    /// What the stream is besides an operator's output; setters are refused then.
    pub(crate) view: Option<&'static str>,
    pub(crate) schema: SchemaRef,
    /// Where the operator that the stream comes out of has side outputs: what was asked for.
    pub(crate) side_outputs: Option<SideOutputTags>,
    record: PhantomData<fn() -> T>,
}

impl<T: Record> Clone for DataStream<T> {
    fn clone(&self) -> Self {
        Self {
            graph: Rc::clone(&self.graph),
            inputs: self.inputs.clone(),
            view: self.view,
            schema: Arc::clone(&self.schema),
            side_outputs: self.side_outputs.clone(),
            record: PhantomData,
        }
    }
}

impl<T: Record> DataStream<T> {
    pub(crate) fn of_node(graph: &Rc<RefCell<GraphBuilder>>, node: u32, schema: SchemaRef) -> Self {
        Self {
            graph: Rc::clone(graph),
            inputs: vec![Upstream {
                node,
                side_output: 0,
                partitioner: Partitioner::Unspecified,
                key: None,
            }],
            view: None,
            schema,
            side_outputs: None,
            record: PhantomData,
        }
    }

    /// Of an operator whose function may emit to these side outputs.
    pub(crate) fn with_side_outputs(mut self, tags: SideOutputTags) -> Self {
        self.side_outputs = Some(tags);
        self
    }

    // ---- operations -------------------------------------------------------------------------------------------

    /// One record out for each record in.
    ///
    /// A closure that gives a borrowed record does not allocate: see [`Self::flat_map`].
    pub fn map<O: Record, F>(&self, function: F) -> DataStream<O>
    where
        F: for<'a> FnMut(T::Ref<'a>) -> O + Clone + Send + 'static,
    {
        self.row_operator("Map", "Map", Map(function))
    }

    /// As [`Self::map`] with a function that can fail: its first error fails the task.
    pub fn try_map<O: Record, E: std::fmt::Display + 'static, F>(&self, function: F) -> DataStream<O>
    where
        F: for<'a> FnMut(T::Ref<'a>) -> Result<O, E> + Clone + Send + 'static,
    {
        self.row_operator("Map", "Map", TryMap::new(function))
    }

    /// Any number of records out for each record in, by [`Collector::collect`], which takes borrowed records:
    ///
    /// ```
    /// # use thalweg_api::prelude::*;
    /// # fn job(lines: DataStream<String>) -> DataStream<(String, i64)> {
    /// lines.flat_map(|line, out: &mut Collector<(String, i64)>| {
    ///     for word in line.split_whitespace() {
    ///         out.collect((word, 1)); // a &str: copied once, into the output's column
    ///     }
    /// })
    /// # }
    /// ```
    pub fn flat_map<O: Record, F>(&self, function: F) -> DataStream<O>
    where
        F: for<'a, 'c> FnMut(T::Ref<'a>, &'c mut Collector<O>) + Clone + Send + 'static,
    {
        self.row_operator("FlatMap", "Flat Map", FlatMap(function))
    }

    /// As [`Self::flat_map`] with a function that can fail: its first error fails the task.
    pub fn try_flat_map<O: Record, E: std::fmt::Display + 'static, F>(&self, function: F) -> DataStream<O>
    where
        F: for<'a, 'c> FnMut(T::Ref<'a>, &'c mut Collector<O>) -> Result<(), E> + Clone + Send + 'static,
    {
        self.row_operator("FlatMap", "Flat Map", TryFlatMap::new(function))
    }

    /// The records for which the function is true.
    pub fn filter<F>(&self, function: F) -> DataStream<T>
    where
        F: for<'a> FnMut(T::Ref<'a>) -> bool + Clone + Send + 'static,
    {
        let schema = Arc::clone(&self.schema);
        let factory = per_subtask(function, |context, function| {
            Ok(Box::new(FilterOperator::<T, F>::new(context, function)))
        });
        self.add_operator("Filter", "Filter", schema, factory)
    }

    /// A function over each record with its event time, side outputs and operator state. State by key and timers are for keyed
    /// streams: [`KeyedStream::process`].
    pub fn process<F>(&self, function: F) -> DataStream<F::Out>
    where
        F: ProcessFunction<In = T>,
    {
        let node = DrivenNode {
            kind: "Process",
            name: "Process",
            keys: vec![None],
        };
        node.add(
            &self.graph,
            std::slice::from_ref(&self.inputs),
            function,
            Process::new,
        )
    }

    /// A function over whole batches, where speed matters: from a batch with the columns of `T` to one with those of `O`,
    /// as [`Record::schema`] has them.
    ///
    /// If the output has as many rows as the input they keep their event times; else they have none. Watermarks inside the
    /// batch move behind it.
    pub fn process_batches<O: Record, E: std::fmt::Display + 'static, F>(&self, function: F) -> DataStream<O>
    where
        F: FnMut(&RecordBatch) -> Result<RecordBatch, E> + Clone + Send + 'static,
    {
        let factory = per_subtask(function, |context, function| {
            Ok(Box::new(BatchOperator::new(context, O::schema(), function)))
        });
        self.add_operator("ProcessBatches", "Process Batches", O::schema(), factory)
    }

    /// Gives each record its event time (milliseconds since the epoch) and makes watermarks by the strategy; both replace what the
    /// source gave. Flink's `assignTimestampsAndWatermarks`.
    ///
    /// With watermark alignment it has to stand in its source's chain, because it is the source that waits. A source that reads
    /// several splits at once, as Kafka, should get the strategy itself: then each split waits for itself.
    ///
    /// ```
    /// # use thalweg_api::prelude::*;
    /// # use std::time::Duration;
    /// # fn job(clicks: DataStream<(String, i64)>) -> DataStream<(String, i64)> {
    /// let strategy = WatermarkStrategy::for_bounded_out_of_orderness(Duration::from_secs(5));
    /// clicks.assign_timestamps_and_watermarks(strategy, |(_, at)| *at)
    /// # }
    /// ```
    pub fn assign_timestamps_and_watermarks<F>(
        &self,
        strategy: WatermarkStrategy,
        timestamp: F,
    ) -> DataStream<T>
    where
        F: for<'a> FnMut(&'a T::Ref<'a>) -> i64 + Clone + Send + 'static,
    {
        let schema = Arc::clone(&self.schema);
        let alignment = strategy.alignment.clone();
        let factory = per_subtask(timestamp, move |context, function| {
            Ok(Box::new(TimestampsOperator::<T, F>::new(
                context,
                strategy.clone(),
                function,
            )))
        });
        let stream = self.add_operator(
            "TimestampsAndWatermarks",
            "Timestamps/Watermarks",
            schema,
            factory,
        );
        if let Some(alignment) = alignment {
            let node = stream.inputs[0].node;
            self.graph.borrow_mut().align_watermarks(node, &alignment);
        }
        stream
    }

    /// Groups by a computed key: rows of one key go to one subtask. The function sees the record by reference, because
    /// what it gives may borrow from it.
    ///
    /// ```
    /// # use thalweg_api::prelude::*;
    /// # fn job(words: DataStream<(String, i64)>) -> KeyedStream<String, (String, i64)> {
    /// words.key_by::<String, _>(|(word, _)| word)
    /// # }
    /// ```
    ///
    /// Where the key is a column, [`Self::key_by_field`] spares the computed copy of it.
    pub fn key_by<K: Record, F>(&self, key: F) -> KeyedStream<K, T>
    where
        F: for<'a> Fn(&'a T::Ref<'a>) -> K::Ref<'a> + Send + Sync + 'static,
    {
        let first = self.schema.fields().len();
        let fields = K::fields();
        let columns = KeyColumns {
            indices: (first..first + fields.len()).collect(),
            types: fields.iter().map(|field| field.data_type().clone()).collect(),
            names: ComputedKey::<T, K, F>::column_names(),
        };
        let selector: Arc<dyn KeySelector> = Arc::new(ComputedKey::<T, K, F>::new(&self.schema, key));
        KeyedStream::new(self.hashed(&selector), columns)
    }

    /// Groups by a column. `K` is the column's type.
    pub fn key_by_field<K: Record>(&self, field: &str) -> KeyedStream<K, T> {
        let index = self.key_field::<K>(field).unwrap_or_else(|error| {
            self.graph.borrow_mut().refuse(error);
            0
        });
        let column = self.schema.field(index);
        let columns = KeyColumns {
            indices: vec![index],
            types: vec![column.data_type().clone()],
            names: vec![column.name().clone()],
        };
        let selector: Arc<dyn KeySelector> = Arc::new(FieldKey { index });
        KeyedStream::new(self.hashed(&selector), columns)
    }

    // ---- where records go -------------------------------------------------------------------------------------

    /// The records of both streams, in any order.
    #[must_use = "a union is a stream: it does nothing until an operation follows"]
    pub fn union(&self, other: &DataStream<T>) -> DataStream<T> {
        if !Rc::ptr_eq(&self.graph, &other.graph) {
            self.graph.borrow_mut().refuse(ProgramError::ForeignStream);
            return self.clone();
        }
        let inputs = self.inputs.iter().chain(&other.inputs).cloned().collect();
        Self {
            inputs,
            view: Some("union()"),
            ..self.clone()
        }
    }

    /// To the next operator's subtasks in turn.
    #[must_use = "this says how records reach the next operation: it does nothing until one follows"]
    pub fn rebalance(&self) -> DataStream<T> {
        self.partitioned(Partitioner::Rebalance, "rebalance()")
    }

    /// In turn to a subset of the next operator's subtasks, without an all-to-all connection.
    #[must_use = "this says how records reach the next operation: it does nothing until one follows"]
    pub fn rescale(&self) -> DataStream<T> {
        self.partitioned(Partitioner::Rescale, "rescale()")
    }

    /// Every record to every subtask of the next operator.
    #[must_use = "this says how records reach the next operation: it does nothing until one follows"]
    pub fn broadcast(&self) -> DataStream<T> {
        self.partitioned(Partitioner::Broadcast, "broadcast()")
    }

    /// To the next operator's subtask of the same number; both must have the same parallelism.
    #[must_use = "this says how records reach the next operation: it does nothing until one follows"]
    pub fn forward(&self) -> DataStream<T> {
        self.partitioned(Partitioner::Forward, "forward()")
    }

    /// To a random subtask of the next operator.
    #[must_use = "this says how records reach the next operation: it does nothing until one follows"]
    pub fn shuffle(&self) -> DataStream<T> {
        self.partitioned(Partitioner::Shuffle, "shuffle()")
    }

    /// All to the next operator's first subtask.
    #[must_use = "this says how records reach the next operation: it does nothing until one follows"]
    pub fn global(&self) -> DataStream<T> {
        self.partitioned(Partitioner::Global, "global()")
    }

    // ---- the operator that this stream comes out of ------------------------------------------------------------

    /// The name that people see; a source's gets "Source: " before it.
    pub fn name(self, name: &str) -> Self {
        self.set("name", |graph, node| {
            let node = graph.node_mut(node);
            node.name = if node.kind() == NodeKind::Source {
                format!("Source: {name}")
            } else {
                name.to_owned()
            };
            Ok(())
        })
    }

    /// A stable id by which the operator's state is found again; unique in the job.
    pub fn uid(self, uid: &str) -> Self {
        self.set("uid", |graph, node| {
            graph.node_mut(node).uid = uid.to_owned();
            Ok(())
        })
    }

    /// The number of subtasks, in place of the job's default.
    pub fn set_parallelism(self, parallelism: u32) -> Self {
        self.set("set_parallelism", |graph, node| {
            let node = graph.node_mut(node);
            node.parallelism = check_parallelism("parallelism", &node.name, parallelism)?;
            Ok(())
        })
    }

    /// How far the operator can ever be scaled, in place of the job's default.
    pub fn set_max_parallelism(self, max_parallelism: u32) -> Self {
        self.set("set_max_parallelism", |graph, node| {
            let node = graph.node_mut(node);
            node.max_parallelism = check_parallelism("max parallelism", &node.name, max_parallelism)?;
            Ok(())
        })
    }

    /// Runs the operator, and those behind it that set none, in slots of this group.
    pub fn slot_sharing_group(self, group: &str) -> Self {
        self.set("slot_sharing_group", |graph, node| {
            graph.node_mut(node).slot_sharing_group = group.to_owned();
            Ok(())
        })
    }

    /// Never runs the operator in one task with another.
    pub fn disable_chaining(self) -> Self {
        self.chaining("disable_chaining", ChainingStrategy::Never)
    }

    /// Begins a new task with the operator; those behind it may join.
    pub fn start_new_chain(self) -> Self {
        self.chaining("start_new_chain", ChainingStrategy::Head)
    }

    // ---- ends -------------------------------------------------------------------------------------------------

    /// Writes the records to a sink.
    pub fn sink_to(&self, sink: impl Sink + 'static) -> DataStreamSink {
        let name = sink.kind();
        self.add_sink(Arc::new(sink), name)
    }

    /// Writes the records to the TaskManagers' standard output, as Flink's `print()`: with the subtask's number before each
    /// if there are several.
    pub fn print(&self) -> DataStreamSink {
        self.add_sink(Arc::new(PrintSink::new(PrintFormat::Value)), "Print to Std. Out")
    }

    /// Forgets the records.
    pub fn blackhole(&self) -> DataStreamSink {
        self.add_sink(Arc::new(BlackholeSink), "Blackhole")
    }

    // ---- within -----------------------------------------------------------------------------------------------

    fn row_operator<O: Record, F>(&self, kind: &'static str, name: &str, function: F) -> DataStream<O>
    where
        F: RowFunction<T, O>,
    {
        let factory = per_subtask(function, |context, function| {
            Ok(Box::new(RowOperator::<T, O, F>::new(context, function)))
        });
        self.add_operator(kind, name, O::schema(), factory)
    }

    /// An operator without key of which each subtask has its own clone of a user function.
    pub(crate) fn operator_of<O: Record, F: Clone + Send + 'static>(
        &self,
        kind: &'static str,
        name: &str,
        function: F,
        make: impl Fn(OperatorContext, F) -> Result<Box<dyn Operator>, OperatorError> + Send + Sync + 'static,
    ) -> DataStream<O> {
        self.add_operator(kind, name, O::schema(), per_subtask(function, make))
    }

    fn add_operator<O: Record>(
        &self,
        kind: &'static str,
        name: &str,
        output: SchemaRef,
        factory: OperatorFactory,
    ) -> DataStream<O> {
        let node = NewNode::operator(kind, name, &output, factory);
        let id = self.graph.borrow_mut().add_node(node, &self.inputs);
        DataStream::of_node(&self.graph, id, output)
    }

    fn add_sink(&self, sink: Arc<dyn Sink>, name: &str) -> DataStreamSink {
        let name = format!("Sink: {name}");
        let mut graph = self.graph.borrow_mut();
        if let Err(error) = sink.validate(&self.schema) {
            graph.refuse(ProgramError::Connector {
                operator: name.clone(),
                source: error,
            });
        }
        let node = graph.add_node(
            NewNode {
                kind: NodeKind::Sink,
                operator: sink.kind(),
                name,
                parallelism: 0,
                output_columns: Vec::new(),
                key_columns: Vec::new(),
                side_outputs: Vec::new(),
                factory: NodeFactory::Sink(sink),
            },
            &self.inputs,
        );
        DataStreamSink::new(&self.graph, node)
    }

    fn partitioned(&self, partitioner: Partitioner, view: &'static str) -> Self {
        let inputs = self
            .inputs
            .iter()
            .map(|input| Upstream {
                partitioner,
                key: None,
                ..input.clone()
            })
            .collect();
        Self {
            inputs,
            view: Some(view),
            ..self.clone()
        }
    }

    fn hashed(&self, key: &Arc<dyn KeySelector>) -> Self {
        let to_key = |input: &Upstream| Upstream {
            partitioner: Partitioner::Hash,
            key: Some(Arc::clone(key)),
            ..input.clone()
        };
        Self {
            inputs: self.inputs.iter().map(to_key).collect(),
            view: Some("key_by()"),
            ..self.clone()
        }
    }

    fn key_field<K: Record>(&self, field: &str) -> Result<usize, ProgramError> {
        let index = find_field("key_by_field()", &self.schema, field)?;
        let column = self.schema.field(index);
        let refuse = |found: String| ProgramError::FieldType {
            operator: "key_by_field()",
            field: field.to_owned(),
            found,
            wanted: format!("the key type {} does not fit it", std::any::type_name::<K>()),
        };
        match K::fields().as_slice() {
            [key] if key.data_type() != column.data_type() => Err(refuse(column.data_type().to_string())),
            [key] if column.is_nullable() && !key.is_nullable() => {
                Err(refuse(format!("{}, an Option", column.data_type())))
            }
            [_] => Ok(index),
            _ => Err(refuse(column.data_type().to_string())),
        }
    }

    fn chaining(self, method: &'static str, strategy: ChainingStrategy) -> Self {
        self.set(method, |graph, node| {
            graph.node_mut(node).chaining = strategy.into();
            Ok(())
        })
    }

    fn set(
        self,
        method: &'static str,
        change: impl FnOnce(&mut GraphBuilder, u32) -> Result<(), ProgramError>,
    ) -> Self {
        {
            let mut graph = self.graph.borrow_mut();
            let changed = match (self.view, self.inputs.first()) {
                (None, Some(input)) => change(&mut graph, input.node),
                (view, _) => Err(ProgramError::NoOperator {
                    method,
                    after: view.unwrap_or("nothing"),
                }),
            };
            if let Err(error) = changed {
                graph.refuse(error);
            }
        }
        self
    }
}

/// A node whose operator is a [`Driver`]: process functions, windows, joins.
pub(crate) struct DrivenNode {
    pub(crate) kind: &'static str,
    pub(crate) name: &'static str,
    /// Where each logical input has its key; `None` where it has none.
    pub(crate) keys: Vec<Option<KeyColumns>>,
}

impl DrivenNode {
    /// Adds it behind these logical inputs. Each subtask has its own clone of the function, of which `logic` makes the operator.
    pub(crate) fn add<F, L>(
        self,
        graph: &Rc<RefCell<GraphBuilder>>,
        inputs: &[Vec<Upstream>],
        function: F,
        logic: fn(F) -> L,
    ) -> DataStream<L::Out>
    where
        F: Clone + Send + 'static,
        L: Logic + 'static,
    {
        let tags = SideOutputTags::default();
        let key_columns = self.keys.iter().flatten().next().map(|key| key.names.clone());
        let factory = {
            let (keys, tags) = (self.keys, tags.clone());
            per_subtask(function, move |context, function| {
                let driver = Driver::new(context, keys.clone(), &tags, logic(function))?;
                Ok(Box::new(driver) as Box<dyn Operator>)
            })
        };
        let schema = L::Out::schema();
        let mut node = NewNode::operator(self.kind, self.name, &schema, factory);
        node.key_columns = key_columns.unwrap_or_default();
        let inputs: Vec<&[Upstream]> = inputs.iter().map(Vec::as_slice).collect();
        let id = graph.borrow_mut().add_node_of(node, &inputs);
        DataStream::of_node(graph, id, schema).with_side_outputs(tags)
    }
}

/// A factory that gives each subtask its own clone of a user function.
pub(crate) fn per_subtask<F: Clone + Send + 'static>(
    function: F,
    make: impl Fn(OperatorContext, F) -> Result<Box<dyn Operator>, OperatorError> + Send + Sync + 'static,
) -> OperatorFactory {
    let prototype = Mutex::new(function);
    Arc::new(move |context| {
        // A clone that panicked left the prototype as it was.
        let function = prototype.lock().unwrap_or_else(PoisonError::into_inner).clone();
        make(context, function)
    })
}
