//! Rows of a table function beside the row that they are of: UNNEST of arrays, maps and multisets, functions of users.
//!
//! ```text
//!   batch --UNNEST's argument--> a collection a row: offsets into its elements
//!         --slices, a user's function--> rows with the row that each is for: the same offsets
//!         --walk, at most one piece's rows at a time--> (row, element) pairs --take--> input columns | element columns
//! ```
//!
//! A user's function is called for [`CALL_ROWS`] rows at a time: what it gives for them is in memory at once.
//!
//! A ROW element gives its fields as columns. An element of a multiset comes as often as it is in it. A null collection is an
//! empty one; a row without elements stays with nulls if the join is LEFT.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, UInt32Array, new_empty_array,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, Int32Type, SchemaRef};
use arrow::error::ArrowError;
use thalweg_functions::Evaluator;
use thalweg_functions::user::{UserTableFunction, is_user};
use thalweg_plan::spec::CorrelateSpec;
use thalweg_plan::{DataType as SqlType, TypeRoot};
use thalweg_types::{StreamBatch, WatermarkCut};

use super::SqlOperator;
use super::output::{Output, arrow_error, evaluation_error, filtered, record_batch, unsupported};
use crate::{Operator, OperatorContext, OperatorError, OutputLimit};

/// For how many rows a user's function is called at once.
const CALL_ROWS: usize = 256;

/// What gives a row its elements.
enum Function {
    /// Whether elements come as often as their number says.
    Unnest {
        multiset: bool,
    },
    User(UserTableFunction),
}

/// [`thalweg_plan::NodeSpec::Correlate`].
pub struct Correlate {
    context: OperatorContext,
    arguments: Evaluator,
    function: Function,
    left_outer: bool,
    ordinality: Option<DataType>,
    condition: Option<Evaluator>,
    input_width: usize,
    /// Of the input's columns and the function's.
    schema: SchemaRef,
    pending: Option<Walk>,
    /// Of a batch that a function is called for in slices.
    slices: VecDeque<StreamBatch>,
    output: Output,
}

/// A batch that is worked off.
struct Walk {
    batch: StreamBatch,
    elements: Elements,
    next_row: usize,
    /// In the row's collection.
    next_element: usize,
    /// How often that one has come.
    repeated: usize,
    next_cut: usize,
}

/// The collections of a batch.
#[derive(Default)]
struct Elements {
    /// First element of each row, and behind its last.
    ranges: Vec<(usize, usize)>,
    columns: Vec<ArrayRef>,
    counts: Option<Int32Array>,
}

impl Correlate {
    /// An operator; refuses functions that are not there, and LEFT with a condition.
    pub fn new(
        spec: &CorrelateSpec,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
    ) -> Result<Self, OperatorError> {
        let function = Function::of(spec, operator).map_err(|message| unsupported(&context, message))?;
        if spec.left_outer && spec.condition.is_some() {
            let message = "LEFT JOIN of a table function takes no condition but TRUE".to_owned();
            return Err(unsupported(&context, message));
        }
        let evaluator = |exprs: &[thalweg_plan::Expr], schema: &SchemaRef| {
            Evaluator::new(exprs, schema, Arc::clone(&operator.env))
                .map_err(|error| evaluation_error(&context, &error))
        };
        let schema = operator.output.to_arrow();
        let arguments = evaluator(&spec.args, &operator.inputs[0].to_arrow())?;
        let condition = spec.condition.as_ref();
        let condition = condition.map(|condition| evaluator(std::slice::from_ref(condition), &schema));
        let last = spec.columns.last().map(SqlType::to_arrow);
        Ok(Self {
            arguments,
            function,
            left_outer: spec.left_outer,
            ordinality: last.filter(|_| spec.with_ordinality),
            condition: condition.transpose()?,
            input_width: operator.inputs[0].fields.len(),
            schema,
            pending: None,
            slices: VecDeque::new(),
            output: Output::default(),
            context,
        })
    }

    fn begin(&self, batch: StreamBatch) -> Result<Walk, OperatorError> {
        let arguments = self
            .arguments
            .evaluate(&batch.rows)
            .map_err(|error| evaluation_error(&self.context, &error))?;
        let elements = match &self.function {
            Function::Unnest { multiset } => {
                Elements::of(&arguments[0], *multiset).map_err(|error| arrow_error(&self.context, error))?
            }
            Function::User(function) => self.called(function, &arguments, batch.num_rows())?,
        };
        Ok(Walk {
            elements,
            batch,
            next_row: 0,
            next_element: 0,
            repeated: 0,
            next_cut: 0,
        })
    }

    fn called(
        &self,
        function: &UserTableFunction,
        arguments: &[ArrayRef],
        rows: usize,
    ) -> Result<Elements, OperatorError> {
        // Watermarks may come without rows.
        if rows == 0 {
            let columns = self.schema.fields().iter().skip(self.input_width);
            return Ok(Elements {
                columns: columns.map(|field| new_empty_array(field.data_type())).collect(),
                ..Elements::default()
            });
        }
        let given = function
            .evaluate(arguments, rows)
            .map_err(|message| OperatorError::Value {
                operator: self.context.operator_name.to_string(),
                message,
            })?;
        let mut ends = given.rows.values().iter().enumerate().peekable();
        let mut begin = 0;
        let ranges = (0..rows).map(|row| {
            let mut end = begin;
            while let Some((place, _)) = ends.next_if(|(_, of)| **of as usize == row) {
                end = place + 1;
            }
            (std::mem::replace(&mut begin, end), end)
        });
        Ok(Elements {
            ranges: ranges.collect(),
            columns: given.columns,
            counts: None,
        })
    }

    /// The next rows, at most so many.
    fn piece(&self, walk: &mut Walk, rows: usize) -> Result<StreamBatch, OperatorError> {
        let (pairs, watermarks) = walk.pairs(rows, self.left_outer);
        let failed = |error| arrow_error(&self.context, error);
        let piece = self.columns(walk, &pairs).map_err(failed)?;
        let kinds = walk
            .batch
            .kinds
            .as_ref()
            .map(|kinds| take(kinds, &pairs.rows, None));
        let kinds = kinds.transpose().map_err(failed)?;
        let piece = StreamBatch {
            kinds: kinds.map(|kinds| kinds.to_data().into()),
            watermarks,
            ..StreamBatch::new(record_batch(&self.schema, piece, pairs.rows.len()).map_err(failed)?)
        };
        let Some(condition) = &self.condition else {
            return Ok(piece);
        };
        let mask = condition
            .evaluate_filter(&piece.rows)
            .map_err(|error| evaluation_error(&self.context, &error))?;
        filtered(piece, &mask).map_err(failed)
    }

    fn columns(&self, walk: &Walk, pairs: &Pairs) -> Result<Vec<ArrayRef>, ArrowError> {
        let input = walk.batch.rows.columns().iter();
        let mut columns: Vec<ArrayRef> = input
            .map(|column| take(column, &pairs.rows, None))
            .collect::<Result<_, _>>()?;
        for column in &walk.elements.columns {
            columns.push(take(column, &pairs.elements, None)?);
        }
        if let Some(data_type) = &self.ordinality {
            let ordinals = Int64Array::from_iter(pairs.ordinals.iter().copied());
            columns.push(arrow::compute::cast(&ordinals, data_type)?);
        }
        Ok(columns)
    }
}

/// The rows of a piece, in order.
struct Pairs {
    rows: UInt32Array,
    /// Null: the row has no elements.
    elements: UInt32Array,
    /// From 1.
    ordinals: Vec<Option<i64>>,
}

impl Function {
    fn of(spec: &CorrelateSpec, operator: &SqlOperator<'_>) -> Result<Self, String> {
        match spec.args.as_slice() {
            [only] if spec.function == "UNNEST" => Ok(Self::Unnest {
                multiset: matches!(only.data_type.root, TypeRoot::Multiset(_)),
            }),
            args if is_user(&spec.function) && !spec.with_ordinality => {
                let types: Vec<SqlType> = args.iter().map(|arg| arg.data_type.clone()).collect();
                let functions = &operator.env.functions;
                Ok(Self::User(functions.table_function(&spec.function, &types)?))
            }
            _ => Err(format!("the table function {} is not supported", spec.function)),
        }
    }
}

impl Elements {
    fn of(collections: &ArrayRef, multiset: bool) -> Result<Self, ArrowError> {
        let (offsets, entries) = match collections.data_type() {
            DataType::List(_) => {
                let list = collections.as_list::<i32>();
                (list.value_offsets(), vec![Arc::clone(list.values())])
            }
            DataType::Map(..) => {
                let map = collections.as_map();
                (map.value_offsets(), map.entries().columns().to_vec())
            }
            other => {
                return Err(ArrowError::InvalidArgumentError(format!(
                    "UNNEST of {other}, which is no collection"
                )));
            }
        };
        let mut counts = None;
        let mut columns = entries;
        if multiset && let Some(numbers) = columns.pop() {
            counts = Some(numbers.as_primitive::<Int32Type>().clone());
        }
        // A row is laid out in its fields; nulls of the row itself are nulls of all of them.
        if let [only] = columns.as_slice()
            && matches!(only.data_type(), DataType::Struct(_))
        {
            let row = only.as_struct();
            let is_null = row.nulls().map(|nulls| BooleanArray::new(!nulls.inner(), None));
            let field = |column: &ArrayRef| match &is_null {
                Some(is_null) => arrow::compute::nullif(column, is_null),
                None => Ok(Arc::clone(column)),
            };
            columns = row.columns().iter().map(field).collect::<Result<_, _>>()?;
        }
        // Null collections may have elements below them.
        let range = |row: usize| match collections.is_null(row) {
            true => (0, 0),
            false => (offsets[row] as usize, offsets[row + 1] as usize),
        };
        Ok(Self {
            ranges: (0..collections.len()).map(range).collect(),
            columns,
            counts,
        })
    }

    fn count(&self, element: usize) -> usize {
        self.counts
            .as_ref()
            .map_or(1, |counts| usize::try_from(counts.value(element)).unwrap_or(0))
    }
}

impl Walk {
    fn is_done(&self) -> bool {
        self.next_row == self.batch.num_rows() && self.next_cut == self.batch.watermarks.len()
    }

    /// The next pairs, and the watermarks between them.
    fn pairs(&mut self, limit: usize, left_outer: bool) -> (Pairs, Vec<WatermarkCut>) {
        let (mut rows, mut elements, mut ordinals) = (Vec::new(), Vec::new(), Vec::new());
        let mut cuts = Vec::new();
        loop {
            self.take_cuts(rows.len(), &mut cuts);
            if self.next_row == self.batch.num_rows() {
                break;
            }
            let (first, end) = self.elements.ranges[self.next_row];
            if rows.len() == limit {
                break;
            }
            let row = self.next_row as u32;
            if first + self.next_element < end {
                let element = first + self.next_element;
                if self.repeated < self.elements.count(element) {
                    self.repeated += 1;
                    rows.push(row);
                    elements.push(Some(element as u32));
                    ordinals.push(Some(self.next_element as i64 + 1));
                } else {
                    self.next_element += 1;
                    self.repeated = 0;
                }
                continue;
            }
            if left_outer && first == end {
                rows.push(row);
                elements.push(None);
                ordinals.push(None);
            }
            self.next_row += 1;
            self.next_element = 0;
        }
        let pairs = Pairs {
            rows: rows.into(),
            elements: elements.into(),
            ordinals,
        };
        (pairs, cuts)
    }

    /// The watermarks before the next row, behind so many rows of output. Not in the middle of a row's elements.
    fn take_cuts(&mut self, rows: usize, cuts: &mut Vec<WatermarkCut>) {
        while let Some(cut) = self.batch.watermarks.get(self.next_cut)
            && cut.row as usize <= self.next_row
            && self.next_element == 0
            && self.repeated == 0
        {
            cuts.push(WatermarkCut {
                row: rows as u32,
                ..*cut
            });
            self.next_cut += 1;
        }
    }
}

impl Operator for Correlate {
    fn push(&mut self, _input: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        let rows = batch.num_rows();
        if matches!(self.function, Function::Unnest { .. }) || rows <= CALL_ROWS {
            self.slices.push_back(batch);
            return Ok(());
        }
        let slice = |from: usize| batch.slice(from, CALL_ROWS.min(rows - from));
        self.slices.extend((0..rows).step_by(CALL_ROWS).map(slice));
        Ok(())
    }

    fn poll_output(&mut self, limit: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        while self.output.is_empty() {
            let mut walk = match self.pending.take() {
                Some(walk) => walk,
                None => match self.slices.pop_front() {
                    Some(slice) => self.begin(slice)?,
                    None => break,
                },
            };
            let piece = self.piece(&mut walk, limit.rows.max(1))?;
            self.output.push(piece);
            if !walk.is_done() {
                self.pending = Some(walk);
            }
        }
        Ok(self.output.pop(limit))
    }
}

#[cfg(test)]
mod tests;
