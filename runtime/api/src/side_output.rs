//! Side outputs: what a function emits besides its main output. Flink's OutputTag.
//!
//! ```text
//!   graph time:  stream.get_side_output(&tag) --registers--> SideOutputTags (one a node: name -> number, columns)
//!   run time:    context.output(&tag, record) --> SideOutputs: one builder a registered tag --take--> poll_side_output
//! ```
//!
//! A tag that nobody asked for costs nothing: what is emitted to it is dropped, as in Flink. Invariants: numbers count from 1 in
//! the order of registration, which is the same in every run of `main`; a tag has one record type in a node.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Int64Array, RecordBatch};
use arrow::error::ArrowError;
use thalweg_proto::graph::v1::SideOutput;
use thalweg_types::StreamBatch;

use crate::graph::ProgramError;
use crate::record::{Record, RowsBuilder, output_columns};
use crate::stream::DataStream;

/// Names a side output of records of type `T`.
#[derive(Debug, Clone)]
pub struct OutputTag<T: Record> {
    name: Arc<str>,
    record: PhantomData<fn() -> T>,
}

impl<T: Record> OutputTag<T> {
    /// Unique among the side outputs of an operator.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            record: PhantomData,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A tag was registered with another record type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("side output {tag:?} has records of {known} and can't have records of {wanted} too: use another tag")]
pub(crate) struct TagType {
    tag: String,
    known: &'static str,
    wanted: &'static str,
}

struct Tag {
    name: Arc<str>,
    record: &'static str,
    columns: Vec<String>,
    builder: fn() -> Box<dyn SideRows>,
}

/// The tags of one node that somebody asked for; shared by the node's stream and its operators' factory.
#[derive(Clone, Default)]
pub(crate) struct SideOutputTags {
    tags: Arc<Mutex<Vec<Tag>>>,
}

impl SideOutputTags {
    /// The number of a tag, registered if it is new.
    pub(crate) fn register<T: Record>(&self, tag: &OutputTag<T>) -> Result<u32, TagType> {
        let mut tags = self.lock();
        let record = std::any::type_name::<T>();
        if let Some(place) = tags.iter().position(|known| known.name == tag.name) {
            let known = tags[place].record;
            if known != record {
                return Err(TagType {
                    tag: tag.name.to_string(),
                    known,
                    wanted: record,
                });
            }
            return Ok(place as u32 + 1);
        }
        tags.push(Tag {
            name: Arc::clone(&tag.name),
            record,
            columns: output_columns(&T::schema()),
            builder: || Box::new(TypedRows::<T>::default()),
        });
        Ok(tags.len() as u32)
    }

    /// For the graph.
    pub(crate) fn side_outputs(&self) -> Vec<SideOutput> {
        let side_output = |tag: &Tag| SideOutput {
            name: tag.name.to_string(),
            columns: tag.columns.clone(),
        };
        self.lock().iter().map(side_output).collect()
    }

    /// For one subtask's operator.
    pub(crate) fn open(&self) -> SideOutputs {
        let open = |tag: &Tag| (Arc::clone(&tag.name), (tag.builder)());
        SideOutputs {
            outputs: self.lock().iter().map(open).collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Tag>> {
        self.tags.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Record> DataStream<T> {
    /// What a process function emits to a side output by `ctx.output(&tag, ..)`. Call it on the stream that `process` gives.
    ///
    /// ```
    /// # use thalweg_api::prelude::*;
    /// # fn job<F: ProcessFunction<In = i64, Out = i64>>(numbers: DataStream<i64>, function: F) {
    /// let rejected = OutputTag::<String>::new("rejected");
    /// let accepted = numbers.process(function);
    /// accepted.get_side_output(&rejected).print();
    /// # }
    /// ```
    #[must_use = "a side output is a stream: what is emitted to it goes nowhere until an operation follows"]
    pub fn get_side_output<S: Record>(&self, tag: &OutputTag<S>) -> DataStream<S> {
        let mut graph = self.graph.borrow_mut();
        let registered = match (&self.side_outputs, self.view, self.inputs.first()) {
            (Some(tags), None, Some(input)) => tags
                .register(tag)
                .map(|number| {
                    graph.node_mut(input.node).side_outputs = tags.side_outputs();
                    (input.node, number)
                })
                .map_err(|error| ProgramError::SideOutput(error.to_string())),
            (_, view, _) => Err(ProgramError::SideOutput(format!(
                "get_side_output({:?}) follows {}, which has no side outputs: call it on what process(..) gives",
                tag.name(),
                view.unwrap_or("an operator")
            ))),
        };
        let (node, side_output) = registered.unwrap_or_else(|error| {
            graph.refuse(error);
            (1, 0)
        });
        let mut stream = DataStream::of_node(&self.graph, node, S::schema());
        stream.inputs[0].side_output = side_output;
        stream.view = Some("get_side_output()");
        stream
    }
}

/// What one operator has emitted to its side outputs and not handed on yet.
pub(crate) struct SideOutputs {
    outputs: Vec<(Arc<str>, Box<dyn SideRows>)>,
}

impl SideOutputs {
    /// Emits a record with its event time.
    pub(crate) fn collect<T: Record>(
        &mut self,
        tag: &OutputTag<T>,
        record: T::Ref<'_>,
        timestamp: Option<i64>,
    ) {
        let output = self.outputs.iter_mut().find(|(name, _)| *name == tag.name);
        let rows = output.and_then(|(_, rows)| rows.as_any().downcast_mut::<TypedRows<T>>());
        if let Some(rows) = rows {
            rows.builder.push_ref(record);
            rows.timestamps.push(timestamp);
        }
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.outputs.iter().map(|(_, rows)| rows.bytes()).sum()
    }

    /// The next output that has something, with its number.
    pub(crate) fn take(&mut self) -> Result<Option<(u32, StreamBatch)>, ArrowError> {
        for (number, (_, rows)) in (1..).zip(&mut self.outputs) {
            if let Some(batch) = rows.take()? {
                return Ok(Some((number, batch)));
            }
        }
        Ok(None)
    }
}

/// Rows of some type.
trait SideRows: Send {
    fn as_any(&mut self) -> &mut dyn Any;
    fn bytes(&self) -> usize;
    fn take(&mut self) -> Result<Option<StreamBatch>, ArrowError>;
}

struct TypedRows<T: Record> {
    builder: RowsBuilder<T>,
    timestamps: Vec<Option<i64>>,
}

impl<T: Record> Default for TypedRows<T> {
    fn default() -> Self {
        Self {
            builder: RowsBuilder::with_capacity(0),
            timestamps: Vec::new(),
        }
    }
}

impl<T: Record> SideRows for TypedRows<T> {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn bytes(&self) -> usize {
        self.builder.bytes()
    }

    fn take(&mut self) -> Result<Option<StreamBatch>, ArrowError> {
        if self.builder.is_empty() {
            return Ok(None);
        }
        let rows: RecordBatch = self.builder.finish()?;
        let timestamps = std::mem::take(&mut self.timestamps);
        Ok(Some(StreamBatch {
            timestamps: timestamps
                .iter()
                .any(Option::is_some)
                .then(|| Int64Array::from(timestamps)),
            ..StreamBatch::new(rows)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Rows;

    #[test]
    fn a_tag_gets_what_was_emitted_to_it_and_what_nobody_asked_for_is_dropped() {
        let (late, odd) = (OutputTag::<i64>::new("late"), OutputTag::<String>::new("odd"));
        let tags = SideOutputTags::default();
        assert_eq!(tags.register(&late), Ok(1));
        assert_eq!(tags.register(&late), Ok(1), "asked for twice");
        let mut outputs = tags.open();
        outputs.collect(&late, 7, Some(70));
        outputs.collect(&odd, "seven", None);
        let (number, batch) = outputs.take().unwrap().unwrap();
        assert_eq!(number, 1);
        assert_eq!(Rows::<i64>::of(&batch.rows).unwrap().get(0), 7);
        assert_eq!(batch.timestamps.unwrap().value(0), 70);
        assert!(outputs.take().unwrap().is_none());
    }

    #[test]
    fn one_name_with_two_types_is_refused() {
        let tags = SideOutputTags::default();
        tags.register(&OutputTag::<i64>::new("late")).unwrap();
        let error = tags
            .register(&OutputTag::<String>::new("late"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("side output \"late\" has records of i64"),
            "{error}"
        );
    }
}
