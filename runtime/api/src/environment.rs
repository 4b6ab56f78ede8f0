//! The environment: where a job's sources begin and its execution is asked for.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use thalweg_connectors::{CollectionSource, DatagenSource, Source};
use thalweg_proto::graph::v1::NodeKind;
use thalweg_task::{JobProgram, NodeFactory};

use crate::graph::{GraphBuilder, NewNode, ProgramError, check_parallelism};
use crate::record::{Record, RowsBuilder, check_schema, output_columns};
use crate::stream::DataStream;

/// Environments made in this process; a package's program makes one.
static ENVIRONMENTS: AtomicUsize = AtomicUsize::new(0);

/// Builds one job. Flink's StreamExecutionEnvironment.
///
/// ```no_run
/// use thalweg_api::prelude::*;
///
/// # fn job() {
/// let env = StreamExecutionEnvironment::new();
/// env.from_elements([1_i64, 2, 3]).map(|n| n * n).print();
/// env.execute("squares");
/// # }
/// ```
pub struct StreamExecutionEnvironment {
    graph: Rc<RefCell<GraphBuilder>>,
}

impl StreamExecutionEnvironment {
    /// The job's environment. A program makes one: one package is one job.
    #[allow(clippy::new_without_default)] // a default would hide that it is counted
    pub fn new() -> Self {
        ENVIRONMENTS.fetch_add(1, Ordering::Relaxed);
        Self {
            graph: Rc::new(RefCell::new(GraphBuilder::default())),
        }
    }

    /// Flink's name for [`Self::new`].
    pub fn get_execution_environment() -> Self {
        Self::new()
    }

    /// The program's arguments, as the package, the resource or the command line give them.
    pub fn args(&self) -> Vec<String> {
        std::env::args().skip(1).collect()
    }

    /// Sets one of Flink's or our configuration keys for this job (`parallelism.default`,
    /// `execution.buffer-timeout.interval`, ..). The cluster's and the submission's configuration go over it.
    #[allow(clippy::needless_pass_by_value)] // callers write literals and numbers
    pub fn configure(&self, key: &str, value: impl ToString) -> &Self {
        self.graph.borrow_mut().configure(key, &value.to_string());
        self
    }

    /// The parallelism of operators that set none: `parallelism.default`.
    pub fn set_parallelism(&self, parallelism: u32) -> &Self {
        self.set_checked("parallelism", "parallelism.default", parallelism)
    }

    /// How far the job can ever be scaled, and so the number of key groups: `pipeline.max-parallelism`.
    pub fn set_max_parallelism(&self, max_parallelism: u32) -> &Self {
        self.set_checked("max parallelism", "pipeline.max-parallelism", max_parallelism)
    }

    /// Makes each operator a task of its own: `pipeline.operator-chaining.enabled: false`.
    pub fn disable_operator_chaining(&self) -> &Self {
        self.configure("pipeline.operator-chaining.enabled", false)
    }

    /// A stream of what a source gives: a Kafka topic's values, a file's lines.
    ///
    /// `T` must fit the source's columns, by position; for a struct by name too.
    pub fn from_source<T: Record>(&self, source: impl Source + 'static) -> DataStream<T> {
        let name = format!("Source: {}", source.kind());
        self.add_source(Arc::new(source), name, 0)
    }

    /// A stream of these values, in their order: a source of parallelism 1.
    pub fn from_elements<T: Record>(&self, elements: impl IntoIterator<Item = T>) -> DataStream<T> {
        let mut rows = RowsBuilder::<T>::with_capacity(0);
        for element in elements {
            rows.push(&element);
        }
        let batch = rows.finish().unwrap_or_else(|error| {
            let message = error.to_string();
            self.graph.borrow_mut().refuse(ProgramError::Elements {
                operator: "from_elements()",
                message,
            });
            arrow::array::RecordBatch::new_empty(T::schema())
        });
        let source = CollectionSource::from_elements(batch);
        self.add_source(Arc::new(source), "Source: Collection Source".to_owned(), 1)
    }

    /// A stream of generated values: `generator` makes the value of an index 0, 1, ..; the indices are shared out to the
    /// subtasks in contiguous ranges. Flink's DataGeneratorSource.
    pub fn datagen<T: Record>(
        &self,
        options: DatagenOptions,
        generator: impl Fn(u64) -> T + Send + Sync + 'static,
    ) -> DataStream<T> {
        let generate = move |indices: std::ops::Range<u64>| {
            let mut rows = RowsBuilder::<T>::with_capacity((indices.end - indices.start) as usize);
            for index in indices {
                rows.push(&generator(index));
            }
            // Too few rows are an error of the source: it names the indices.
            rows.finish()
                .unwrap_or_else(|_| arrow::array::RecordBatch::new_empty(T::schema()))
        };
        let mut source = DatagenSource::new(T::schema(), Arc::new(generate));
        if let Some(rate) = options.rows_per_second {
            source = source.rows_per_second(rate);
        }
        if let Some(count) = options.number_of_rows {
            source = source.number_of_rows(count);
        }
        self.add_source(Arc::new(source), "Source: Data Generator".to_owned(), 0)
    }

    /// Hands the job to the engine and does not return.
    ///
    /// What happens is the engine's choice, told by the program's environment: the graph is handed out (extraction), or
    /// this process becomes the job's worker. Started by hand, the program says how to run it and exits with code 2; a
    /// mistake in the graph is one line and exit code 1.
    pub fn execute(self, job_name: &str) -> ! {
        let made = ENVIRONMENTS.load(Ordering::Relaxed);
        let program = if made > 1 {
            Err(ProgramError::SecondEnvironment(made))
        } else {
            self.into_program(job_name)
        };
        crate::entry::run_program(program)
    }

    /// The job as the engine gets it, without running anything: for tests and tools.
    pub fn into_program(self, job_name: &str) -> Result<JobProgram, ProgramError> {
        self.graph.take().into_program(job_name)
    }

    fn add_source<T: Record>(
        &self,
        source: Arc<dyn Source>,
        name: String,
        parallelism: u32,
    ) -> DataStream<T> {
        let schema = source.schema();
        let mut graph = self.graph.borrow_mut();
        if let Err(error) = check_schema::<T>(&schema) {
            graph.refuse(ProgramError::SourceType {
                kind: source.kind(),
                record: std::any::type_name::<T>(),
                source: error,
            });
        }
        if let Err(error) = source.validate() {
            graph.refuse(ProgramError::Connector {
                operator: name.clone(),
                source: error,
            });
        }
        let alignment = source.watermark_alignment().cloned();
        let node = graph.add_node(
            NewNode {
                kind: NodeKind::Source,
                operator: source.kind(),
                name,
                parallelism,
                output_columns: output_columns(&schema),
                key_columns: Vec::new(),
                side_outputs: Vec::new(),
                factory: NodeFactory::Source(source),
            },
            &[],
        );
        if let Some(alignment) = alignment {
            graph.align_watermarks(node, &alignment);
        }
        DataStream::of_node(&self.graph, node, schema)
    }

    fn set_checked(&self, what: &'static str, key: &str, value: u32) -> &Self {
        match check_parallelism(what, "the job", value) {
            Ok(value) => self.configure(key, value),
            Err(error) => {
                self.graph.borrow_mut().refuse(error);
                self
            }
        }
    }
}

/// How much [`StreamExecutionEnvironment::datagen`] generates, and how fast; the default is without end and without limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct DatagenOptions {
    /// At most so many a second, over all subtasks.
    pub rows_per_second: Option<f64>,
    /// So many in all; then the source ends.
    pub number_of_rows: Option<u64>,
}
