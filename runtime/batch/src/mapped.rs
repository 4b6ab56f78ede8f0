//! Steps of ours between DataFusion's operators that turn a batch into a batch.
//!
//! ```text
//!   picked: columns at other places        numbered: one column more        ranked: of rows that are sorted by partition, those of certain ranks
//! ```

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{concat, filter_record_batch, partition};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use arrow::error::ArrowError;
use datafusion_common::Result;
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_physical_plan::{ExecutionPlan, PlanProperties};
use futures::StreamExt;
use thalweg_plan::spec::{RankEnd, RankSpec};

use crate::columns;
use crate::input::leaf_methods;
use crate::stepped::properties;

/// One run of a step.
type Step = Box<dyn FnMut(&RecordBatch) -> Result<RecordBatch> + Send>;

/// A step over each batch, in order.
pub(crate) struct MappedExec {
    name: &'static str,
    input: Arc<dyn ExecutionPlan>,
    make: Arc<dyn Fn() -> Step + Send + Sync>,
    properties: Arc<PlanProperties>,
}

impl MappedExec {
    /// Rows of `schema` from these.
    pub(crate) fn over(
        name: &'static str,
        input: Arc<dyn ExecutionPlan>,
        schema: SchemaRef,
        make: impl Fn() -> Step + Send + Sync + 'static,
    ) -> Arc<dyn ExecutionPlan> {
        let properties = properties(&input, schema);
        Arc::new(Self {
            name,
            input,
            make: Arc::new(make),
            properties,
        })
    }
}

/// These columns of the input, in this order, under positional names.
pub(crate) fn picked(input: Arc<dyn ExecutionPlan>, places: Vec<usize>) -> Arc<dyn ExecutionPlan> {
    let fields = input.schema();
    let types: Vec<DataType> = places
        .iter()
        .map(|place| fields.field(*place).data_type().clone())
        .collect();
    let schema = columns::positional(&types);
    let to = Arc::clone(&schema);
    MappedExec::over("PickedExec", input, schema, move || {
        let (to, places) = (Arc::clone(&to), places.clone());
        Box::new(move |batch| {
            let picked = places.iter().map(|place| Arc::clone(batch.column(*place)));
            Ok(columns::of_columns(&to, picked.collect(), batch.num_rows())?)
        })
    })
}

/// The input's columns and the number of each row, in the order in which they come.
pub(crate) fn numbered(input: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    let fields = input.schema();
    let types = fields.fields().iter().map(|field| field.data_type());
    let schema = columns::positional(types.chain([&DataType::Int64]));
    let to = Arc::clone(&schema);
    MappedExec::over("NumberedExec", input, schema, move || {
        let (to, mut next) = (Arc::clone(&to), 0);
        Box::new(move |batch| {
            let first = next;
            next += batch.num_rows() as i64;
            let numbers = Int64Array::from_iter_values(first..next);
            let columns = batch
                .columns()
                .iter()
                .cloned()
                .chain([Arc::new(numbers) as ArrayRef]);
            Ok(columns::of_columns(&to, columns.collect(), batch.num_rows())?)
        })
    })
}

/// Top-N of rows that are sorted by the partition's columns and then by the order.
pub(crate) fn ranked(input: Arc<dyn ExecutionPlan>, spec: &RankSpec) -> Arc<dyn ExecutionPlan> {
    let fields = input.schema();
    let mut types: Vec<DataType> = fields
        .fields()
        .iter()
        .map(|field| field.data_type().clone())
        .collect();
    if spec.with_rank {
        types.push(DataType::Int64);
    }
    let schema = columns::positional(&types);
    let (to, spec) = (Arc::clone(&schema), spec.clone());
    MappedExec::over("RankedExec", input, schema, move || {
        let (to, mut ranks) = (Arc::clone(&to), Ranks::new(&spec));
        Box::new(move |batch| Ok(ranks.rows(&to, batch)?))
    })
}

/// How far the ranks of the last partition are.
struct Ranks {
    partition: Vec<usize>,
    start: i64,
    end: RankEnd,
    with_rank: bool,
    /// The partition's columns of the last row.
    last: Option<Vec<ArrayRef>>,
    /// The last row's.
    rank: i64,
}

impl Ranks {
    fn new(spec: &RankSpec) -> Self {
        Self {
            partition: spec.partition.clone(),
            start: i64::try_from(spec.start).unwrap_or(i64::MAX),
            end: spec.end,
            with_rank: spec.with_rank,
            last: None,
            rank: 0,
        }
    }

    fn rows(&mut self, schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let ranks = self.ranks(batch)?;
        let is_wanted = |row: usize| {
            let end = match self.end {
                RankEnd::Constant(end) => i64::try_from(end).unwrap_or(i64::MAX),
                RankEnd::Column(column) => batch.column(column).as_primitive::<Int64Type>().value(row),
            };
            (self.start..=end).contains(&ranks.value(row))
        };
        let mask: BooleanArray = (0..batch.num_rows()).map(|row| Some(is_wanted(row))).collect();
        let mut columns = batch.columns().to_vec();
        if self.with_rank {
            columns.push(Arc::new(ranks));
        }
        let rows = columns::of_columns(schema, columns, batch.num_rows())?;
        filter_record_batch(&rows, &mask)
    }

    fn ranks(&mut self, batch: &RecordBatch) -> Result<Int64Array, ArrowError> {
        let rows = batch.num_rows();
        let mut ranks = Vec::with_capacity(rows);
        let columns: Vec<ArrayRef> = self
            .partition
            .iter()
            .map(|column| Arc::clone(batch.column(*column)))
            .collect();
        let ranges = match columns.is_empty() || rows == 0 {
            true => std::iter::once(0..rows).collect(),
            false => partition(&columns)?.ranges(),
        };
        for range in ranges {
            if range.is_empty() {
                continue;
            }
            if !self.continues(&columns, range.start)? {
                self.rank = 0;
            }
            for _ in range.clone() {
                self.rank += 1;
                ranks.push(self.rank);
            }
            let last = |column: &ArrayRef| column.slice(range.end - 1, 1);
            self.last = Some(columns.iter().map(last).collect());
        }
        Ok(Int64Array::from(ranks))
    }

    /// Whether this row is of the last row's partition.
    fn continues(&self, columns: &[ArrayRef], row: usize) -> Result<bool, ArrowError> {
        let Some(last) = &self.last else {
            return Ok(false);
        };
        if columns.is_empty() {
            return Ok(true);
        }
        let pairs = columns.iter().zip(last).map(|(column, last)| {
            let this = column.slice(row, 1);
            concat(&[last.as_ref() as &dyn Array, this.as_ref()])
        });
        let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
        Ok(partition(&pairs)?.len() == 1)
    }
}

impl ExecutionPlan for MappedExec {
    fn name(&self) -> &str {
        self.name
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: datafusion_physical_plan::ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().unwrap_or_else(|| Arc::clone(&self.input));
        Ok(Arc::new(Self {
            name: self.name,
            properties: properties(&input, self.schema()),
            input,
            make: Arc::clone(&self.make),
        }))
    }

    leaf_methods!();

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut step = (self.make)();
        let input = self.input.execute(partition, context)?;
        let rows = input.map(move |batch| step(&batch?));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

impl fmt::Debug for MappedExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(self.name).field("input", &self.input).finish()
    }
}

impl datafusion_physical_plan::DisplayAs for MappedExec {
    fn fmt_as(
        &self,
        _format: datafusion_physical_plan::DisplayFormatType,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        f.write_str(self.name)
    }
}
