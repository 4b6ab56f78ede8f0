//! Joins: keys by a hash table of the right side, everything else by a condition.
//!
//! ```text
//!   interval join: the keys, and the difference of the times is in the interval        window join: the bounds are keys, too
//!   without keys: NestedLoopJoinExec
//! ```
//!
//! The right side is the one that is held in memory; DataFusion's joins hold the first of their inputs, so the sides are swapped.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{and, cast};
use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit, TimestampMillisecondType};
use arrow::error::ArrowError;
use datafusion_common::{JoinSide, JoinType, NullEquality, Result};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_plan::joins::utils::{ColumnIndex, JoinFilter, JoinOn};
use datafusion_physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, PartitionMode};
use datafusion_physical_plan::{ColumnarValue, ExecutionPlan};
use thalweg_functions::Evaluator;
use thalweg_plan::spec::{IntervalJoinSpec, JoinKeys, JoinKind, JoinSpec, WindowJoinSpec};
use thalweg_plan::{Expr, Node};

use super::partitions::{gathered, shared_out};
use super::{Lowered, Lowering};
use crate::budget::Appetite;
use crate::columns::{self, column};
use crate::error::{BatchError, external};
use crate::mapped::picked;

/// A regular join.
pub(super) fn joined(lowering: &Lowering<'_>, node: &Node, spec: &JoinSpec) -> Lowered {
    let sides = Sides::of(lowering, node, spec.kind)?;
    let condition = sides.condition(lowering, spec.condition.as_ref(), &spec.keys)?;
    sides.join(lowering, &spec.keys, condition)
}

/// A join of rows in the same window.
pub(super) fn by_window(lowering: &Lowering<'_>, node: &Node, spec: &WindowJoinSpec) -> Lowered {
    let sides = Sides::of(lowering, node, spec.kind)?;
    let mut keys = spec.keys.clone();
    keys.left.extend([spec.left_window.start, spec.left_window.end]);
    keys.right
        .extend([spec.right_window.start, spec.right_window.end]);
    keys.null_safe.extend([false, false]);
    let condition = sides.condition(lowering, spec.condition.as_ref(), &keys)?;
    sides.join(lowering, &keys, condition)
}

/// A join of rows whose times are near each other.
pub(super) fn by_interval(lowering: &Lowering<'_>, node: &Node, spec: &IntervalJoinSpec) -> Lowered {
    let sides = Sides::of(lowering, node, spec.kind)?;
    let mut checks = sides.condition(lowering, spec.condition.as_ref(), &spec.keys)?;
    let (left, right) = (spec.left_time, sides.left_width + spec.right_time);
    let (lower, upper) = (spec.lower_ms, spec.upper_ms);
    checks.push(Check {
        columns: vec![left, right],
        of: Arc::new(move |rows| {
            let (left, right) = (millis(rows, 0)?, millis(rows, 1)?);
            let near = left.iter().zip(&right).map(|(left, right)| {
                let difference = left?.saturating_sub(right?);
                Some((lower..=upper).contains(&difference))
            });
            Ok(near.map(|near| Some(near == Some(true))).collect())
        }),
    });
    sides.join(lowering, &spec.keys, checks)
}

fn millis(rows: &RecordBatch, place: usize) -> Result<arrow::array::TimestampMillisecondArray, ArrowError> {
    let times = cast(
        rows.column(place),
        &DataType::Timestamp(TimeUnit::Millisecond, None),
    )?;
    Ok(times.as_primitive::<TimestampMillisecondType>().clone())
}

/// The inputs of a join.
struct Sides {
    left: Arc<dyn ExecutionPlan>,
    right: Arc<dyn ExecutionPlan>,
    left_width: usize,
    right_width: usize,
    /// Left, then right columns as the plan has them.
    schema: SchemaRef,
    kind: JoinKind,
}

/// A condition over some columns of both sides, left then right.
struct Check {
    columns: Vec<usize>,
    of: Arc<CheckOf>,
}

/// For which rows of the columns it is true; never null.
type CheckOf = dyn Fn(&RecordBatch) -> Result<BooleanArray> + Send + Sync;

impl Sides {
    fn of(lowering: &Lowering<'_>, node: &Node, kind: JoinKind) -> Result<Self, BatchError> {
        let (left, right) = (lowering.input_schema(node, 0)?, lowering.input_schema(node, 1)?);
        let fields = left.fields.iter().chain(&right.fields);
        Ok(Self {
            left: lowering.input(node, 0)?,
            right: lowering.input(node, 1)?,
            left_width: left.fields.len(),
            right_width: right.fields.len(),
            schema: Arc::new(Schema::new(
                fields.map(thalweg_plan::Field::to_arrow).collect::<Vec<_>>(),
            )),
            kind,
        })
    }

    /// The plan's condition, and that keys are not null where only some of them may be equal so.
    fn condition(
        &self,
        lowering: &Lowering<'_>,
        condition: Option<&Expr>,
        keys: &JoinKeys,
    ) -> Result<Vec<Check>, BatchError> {
        let mut checks = Vec::new();
        if let Some(condition) = condition {
            let used = used_columns(condition);
            let schema = Arc::new(
                self.schema
                    .project(&used)
                    .map_err(|error| BatchError::Malformed(error.to_string()))?,
            );
            let place = |column: usize| used.binary_search(&column).unwrap_or(column);
            let condition = condition
                .clone()
                .map_columns(&mut |column, data_type| Expr::column(place(column), data_type));
            let evaluator = Evaluator::new(&[condition], &schema, Arc::clone(lowering.env))?;
            checks.push(Check {
                columns: used,
                of: Arc::new(move |rows| evaluator.evaluate_filter(rows).map_err(external)),
            });
        }
        if null_equality(keys) == NullEquality::NullEqualsNull && !keys.null_safe.iter().all(|safe| *safe) {
            let strict = keys.left.iter().zip(&keys.null_safe).filter(|(_, safe)| !**safe);
            checks.push(Check {
                columns: strict.map(|(column, _)| *column).collect(),
                of: Arc::new(|rows| {
                    let valid = |row: usize| rows.columns().iter().all(|column| column.is_valid(row));
                    Ok((0..rows.num_rows()).map(|row| Some(valid(row))).collect())
                }),
            });
        }
        Ok(checks)
    }

    fn join(self, lowering: &Lowering<'_>, keys: &JoinKeys, checks: Vec<Check>) -> Lowered {
        let filter = self.filter(checks);
        let join_type = match self.kind {
            JoinKind::Inner => JoinType::Inner,
            JoinKind::Left => JoinType::Right,
            JoinKind::Right => JoinType::Left,
            JoinKind::Full => JoinType::Full,
            JoinKind::Semi => JoinType::RightSemi,
            JoinKind::Anti => JoinType::RightAnti,
        };
        let places = match self.kind {
            JoinKind::Semi | JoinKind::Anti => (0..self.left_width).collect(),
            _ => {
                let left = self.right_width..self.right_width + self.left_width;
                left.chain(0..self.right_width).collect()
            }
        };
        let joined: Arc<dyn ExecutionPlan> = if keys.left.is_empty() {
            Arc::new(NestedLoopJoinExec::try_new(
                self.right, self.left, filter, &join_type, None,
            )?)
        } else {
            let pairs = keys.left.iter().zip(&keys.right);
            let on: JoinOn = pairs
                .map(|(left, right)| (column(*right), column(*left)))
                .collect();
            let mode = match lowering.partitions {
                1 => PartitionMode::CollectLeft,
                _ => PartitionMode::Partitioned,
            };
            Arc::new(HashJoinExec::try_new(
                shared_out(self.right, &keys.right, lowering.partitions)?,
                shared_out(self.left, &keys.left, lowering.partitions)?,
                on,
                filter,
                &join_type,
                None,
                mode,
                null_equality(keys),
                false,
            )?)
        };
        let joined = lowering.budget.of(Appetite::Holds, joined);
        Ok(picked(gathered(joined), places))
    }

    fn filter(&self, checks: Vec<Check>) -> Option<JoinFilter> {
        if checks.is_empty() {
            return None;
        }
        let places = checks.iter().flat_map(|check| check.columns.iter().copied());
        let places: Vec<usize> = places.collect();
        let index = |place: &usize| match place.checked_sub(self.left_width) {
            Some(index) => ColumnIndex {
                index,
                side: JoinSide::Left,
            },
            None => ColumnIndex {
                index: *place,
                side: JoinSide::Right,
            },
        };
        let types = places.iter().map(|place| self.schema.field(*place).data_type());
        let schema = columns::positional(types);
        let condition = Condition {
            schema: Arc::clone(&schema),
            checks: checks.into(),
        };
        let indices = places.iter().map(index).collect();
        Some(JoinFilter::new(Arc::new(condition), indices, schema))
    }
}

/// How keys that are null compare, if all compare alike; else nulls are equal, and a condition says where not.
fn null_equality(keys: &JoinKeys) -> NullEquality {
    match keys.null_safe.iter().any(|safe| *safe) {
        true => NullEquality::NullEqualsNull,
        false => NullEquality::NullEqualsNothing,
    }
}

fn used_columns(expr: &Expr) -> Vec<usize> {
    let mut used = Vec::new();
    expr.visit(&mut |expr| {
        if let thalweg_plan::ExprKind::Column(column) = expr.kind {
            used.push(column);
        }
    });
    used.sort_unstable();
    used.dedup();
    used
}

/// Checks as an expression: their columns one behind the other.
struct Condition {
    schema: SchemaRef,
    checks: Arc<[Check]>,
}

impl Condition {
    fn mask(&self, rows: &RecordBatch) -> Result<BooleanArray> {
        let mut first = 0;
        let mut mask: Option<BooleanArray> = None;
        for check in self.checks.iter() {
            let places: Vec<usize> = (first..first + check.columns.len()).collect();
            first += check.columns.len();
            let own = (check.of)(&rows.project(&places)?)?;
            mask = Some(match mask {
                Some(mask) => and(&mask, &own)?,
                None => own,
            });
        }
        Ok(mask.unwrap_or_else(|| std::iter::repeat_n(Some(true), rows.num_rows()).collect()))
    }
}

impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.checks, &other.checks)
    }
}

impl Eq for Condition {}

impl Hash for Condition {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.checks.as_ptr() as usize).hash(state);
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition").field("schema", &self.schema).finish()
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} conditions", self.checks.len())
    }
}

impl PhysicalExpr for Condition {
    fn data_type(&self, _input_schema: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, _input_schema: &Schema) -> Result<bool> {
        Ok(false)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Array(Arc::new(self.mask(batch)?)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        Vec::new()
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(self)
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
