//! CASE, AND, OR and COALESCE: branches that can fail or cost are computed only for the rows that come to them.
//!
//! ```text
//!   rows still open --condition--> hits: the branch's value, taken and computed for them alone
//!                       `--------> the rest stays open for the next branch
//! ```

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Datum, UInt32Array, new_null_array};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{and_kleene, interleave, or_kleene, prep_null_mask_filter, take};
use arrow::datatypes::DataType as ArrowType;

use super::program::{Failed, Program, conform};
use crate::registry::{EvaluationEnv, Value};

/// A part of an expression that is not needed for all rows.
#[derive(Debug)]
pub(super) enum Branch {
    /// Computed for all rows nevertheless.
    Step(usize),
    /// Computed for the rows that need it, of these steps of the outer program.
    Program { captures: Vec<usize>, program: Program },
}

/// An expression with branches.
#[derive(Debug)]
pub(super) enum Lazy {
    /// Conditions with values, and the value if none is true.
    Case {
        whens: Vec<(Branch, Branch)>,
        otherwise: Branch,
        arrow_type: ArrowType,
    },
    /// AND (false decides) or OR (true decides).
    Logic { decides: bool, args: Vec<Branch> },
    /// The first value that is not null.
    Coalesce {
        args: Vec<Branch>,
        arrow_type: ArrowType,
    },
}

/// Rows, ascending; `None`: all.
type Selection = Option<Vec<u32>>;

/// A branch's values: one a row of the batch, or one a selected row.
struct Picked {
    value: Value,
    dense: bool,
}

impl Picked {
    /// Where the value of a row is, which is the `position`th of the selected.
    fn index(&self, row: u32, position: usize) -> usize {
        match self.dense {
            _ if self.value.is_scalar() => 0,
            true => position,
            false => row as usize,
        }
    }
}

impl Branch {
    fn evaluate(
        &self,
        values: &[Value],
        rows: usize,
        selection: &Selection,
        env: &EvaluationEnv,
    ) -> Result<Picked, Failed> {
        match self {
            Self::Step(step) => Ok(Picked {
                value: values[*step].clone(),
                dense: false,
            }),
            Self::Program { captures, program } => {
                let (inputs, count) = match selection {
                    None => (captures.iter().map(|&step| values[step].clone()).collect(), rows),
                    Some(selected) => (taken(captures, values, selected)?, selected.len()),
                };
                let outputs = program
                    .run(&|index| inputs[index].clone(), count, env)
                    .map_err(Failed::Inside)?;
                let value = outputs
                    .into_iter()
                    .next()
                    .ok_or_else(|| "a branch without a value".to_owned())?;
                Ok(Picked {
                    value,
                    dense: selection.is_some(),
                })
            }
        }
    }

    fn step<'a>(&self, values: &'a [Value]) -> Option<&'a Value> {
        match self {
            Self::Step(step) => Some(&values[*step]),
            Self::Program { .. } => None,
        }
    }
}

fn taken(captures: &[usize], values: &[Value], selected: &[u32]) -> Result<Vec<Value>, Failed> {
    let indices = UInt32Array::from(selected.to_vec());
    let taken = captures.iter().map(|&step| match &values[step] {
        Value::Scalar(value) => Ok(Value::Scalar(Arc::clone(value))),
        Value::Array(array) => take(array.as_ref(), &indices, None)
            .map(Value::Array)
            .map_err(|error| Failed::Here(error.to_string())),
    });
    taken.collect()
}

impl Lazy {
    pub(super) fn run(&self, values: &[Value], rows: usize, env: &EvaluationEnv) -> Result<Value, Failed> {
        match self {
            Self::Case {
                whens,
                otherwise,
                arrow_type,
            } => match zipped(whens, otherwise, values, rows, arrow_type)? {
                Some(value) => Ok(value),
                None => case(whens, otherwise, arrow_type, values, rows, env),
            },
            Self::Logic { decides, args } => logic(*decides, args, values, rows, env),
            Self::Coalesce { args, arrow_type } => coalesce(args, arrow_type, values, rows, env),
        }
    }
}

/// CASE whose branches are all there: chosen column by column. `None` if some are not, or nothing is a column.
fn zipped(
    whens: &[(Branch, Branch)],
    otherwise: &Branch,
    values: &[Value],
    rows: usize,
    arrow_type: &ArrowType,
) -> Result<Option<Value>, Failed> {
    let Some(last) = otherwise.step(values) else {
        return Ok(None);
    };
    let steps: Option<Vec<(&Value, &Value)>> = whens
        .iter()
        .map(|(condition, value)| Some((condition.step(values)?, value.step(values)?)))
        .collect();
    let Some(steps) = steps.filter(|steps| steps.iter().all(|(condition, _)| !condition.is_scalar())) else {
        return Ok(None);
    };
    let mut result = conformed(last, arrow_type)?;
    for (condition, value) in steps.into_iter().rev() {
        let mask = condition.array().as_boolean();
        // Unknown is not true; the function wants nulls.
        let mask = if mask.null_count() > 0 {
            prep_null_mask_filter(mask)
        } else {
            mask.clone()
        };
        let value = conformed(value, arrow_type)?;
        let datum = |value: &Value| -> Box<dyn Datum> { Box::new(value.clone()) };
        let chosen = match (&value, &result) {
            // `zip` of two scalars goes by the mask's length.
            _ if mask.len() == rows => zip(&mask, datum(&value).as_ref(), datum(&result).as_ref()),
            _ => return Ok(None),
        };
        result = Value::Array(chosen.map_err(|error| error.to_string())?);
    }
    Ok(Some(result))
}

fn conformed(value: &Value, arrow_type: &ArrowType) -> Result<Value, String> {
    Ok(match value {
        Value::Array(array) => Value::Array(conform(Arc::clone(array), arrow_type)?),
        Value::Scalar(array) => Value::Scalar(conform(Arc::clone(array), arrow_type)?),
    })
}

/// Puts branches' values together: for each row, which of the sources and where in it.
struct Merge<'a> {
    sources: Vec<ArrayRef>,
    indices: Vec<(usize, usize)>,
    arrow_type: &'a ArrowType,
}

impl<'a> Merge<'a> {
    /// All null at first.
    fn new(arrow_type: &'a ArrowType, rows: usize) -> Self {
        Self {
            sources: vec![new_null_array(arrow_type, 1)],
            indices: vec![(0, 0); rows],
            arrow_type,
        }
    }

    fn set(&mut self, picked: &Picked, selection: &Selection) -> Result<(), Failed> {
        let source = self.sources.len();
        self.sources
            .push(conform(Arc::clone(picked.value.array()), self.arrow_type)?);
        match selection {
            None => {
                for (row, index) in self.indices.iter_mut().enumerate() {
                    *index = (source, picked.value.index(row));
                }
            }
            Some(selected) => {
                for (position, &row) in selected.iter().enumerate() {
                    self.indices[row as usize] = (source, picked.index(row, position));
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Value, Failed> {
        let sources: Vec<&dyn Array> = self.sources.iter().map(AsRef::as_ref).collect();
        interleave(&sources, &self.indices)
            .map(Value::Array)
            .map_err(|error| Failed::Here(error.to_string()))
    }
}

fn case(
    whens: &[(Branch, Branch)],
    otherwise: &Branch,
    arrow_type: &ArrowType,
    values: &[Value],
    rows: usize,
    env: &EvaluationEnv,
) -> Result<Value, Failed> {
    let mut merge = Merge::new(arrow_type, rows);
    let mut open: Selection = None;
    for (condition, value) in whens {
        let condition = condition.evaluate(values, rows, &open, env)?;
        let (hits, rest) = split(&condition, &open, rows);
        if hits.as_ref().is_none_or(|hits| !hits.is_empty()) {
            let picked = value.evaluate(values, rows, &hits, env)?;
            if hits.is_none() {
                return conformed(&picked.value, arrow_type).map_err(Failed::Here);
            }
            merge.set(&picked, &hits)?;
        }
        open = rest;
        if open.as_ref().is_some_and(Vec::is_empty) {
            return merge.finish();
        }
    }
    let picked = otherwise.evaluate(values, rows, &open, env)?;
    if open.is_none() {
        return conformed(&picked.value, arrow_type).map_err(Failed::Here);
    }
    merge.set(&picked, &open)?;
    merge.finish()
}

/// The open rows for which a condition is true, and the others. All rows stay `None`.
fn split(condition: &Picked, open: &Selection, rows: usize) -> (Selection, Selection) {
    let mask = condition.value.array().as_boolean();
    let holds = |index: usize| mask.is_valid(index) && mask.value(index);
    if condition.value.is_scalar() {
        return match holds(0) {
            true => (open.clone(), Some(Vec::new())),
            false => (Some(Vec::new()), open.clone()),
        };
    }
    let (mut hits, mut rest) = (Vec::new(), Vec::new());
    let mut put = |row: u32, position: usize| {
        let side = if holds(condition.index(row, position)) {
            &mut hits
        } else {
            &mut rest
        };
        side.push(row);
    };
    match open {
        None => (0..rows as u32).for_each(|row| put(row, row as usize)),
        Some(open) => open
            .iter()
            .enumerate()
            .for_each(|(position, &row)| put(row, position)),
    }
    match open {
        None if rest.is_empty() => (None, Some(rest)),
        None if hits.is_empty() => (Some(hits), None),
        _ => (Some(hits), Some(rest)),
    }
}

fn logic(
    decides: bool,
    args: &[Branch],
    values: &[Value],
    rows: usize,
    env: &EvaluationEnv,
) -> Result<Value, Failed> {
    let mut result: Option<Value> = None;
    for arg in args {
        let Some(so_far) = result.take() else {
            result = Some(arg.evaluate(values, rows, &None, env)?.value);
            continue;
        };
        let known = so_far.array().as_boolean();
        let is_open = |index: usize| known.is_null(index) || known.value(index) != decides;
        let open: Selection = match (arg, so_far.is_scalar()) {
            (_, true) if !is_open(0) => return Ok(so_far),
            (Branch::Program { .. }, false) => {
                let open: Vec<u32> = (0..rows as u32).filter(|&row| is_open(row as usize)).collect();
                (open.len() < rows).then_some(open)
            }
            _ => None,
        };
        if open.as_ref().is_some_and(Vec::is_empty) {
            result = Some(so_far);
            continue;
        }
        let picked = arg.evaluate(values, rows, &open, env)?;
        let next = match &open {
            None => picked.value,
            Some(open) => {
                // Where the result is decided already, any value will do.
                let mut places = vec![None; rows];
                let array = picked.value.array().as_boolean();
                for (position, &row) in open.iter().enumerate() {
                    let index = picked.index(row, position);
                    places[row as usize] = array.is_valid(index).then(|| array.value(index));
                }
                Value::Array(Arc::new(BooleanArray::from(places)))
            }
        };
        result = Some(combine(decides, &so_far, &next, rows)?);
    }
    result.ok_or_else(|| Failed::Here("no arguments".into()))
}

/// AND or OR of three-valued truths.
fn combine(decides: bool, left: &Value, right: &Value, rows: usize) -> Result<Value, String> {
    let both = left.is_scalar() && right.is_scalar();
    let rows = if both { 1 } else { rows };
    let (left, right) = (left.to_array(rows), right.to_array(rows));
    let (left, right) = (left.as_boolean(), right.as_boolean());
    let combined = if decides {
        or_kleene(left, right)
    } else {
        and_kleene(left, right)
    };
    let combined: ArrayRef = Arc::new(combined.map_err(|error| error.to_string())?);
    Ok(if both {
        Value::Scalar(combined)
    } else {
        Value::Array(combined)
    })
}

fn coalesce(
    args: &[Branch],
    arrow_type: &ArrowType,
    values: &[Value],
    rows: usize,
    env: &EvaluationEnv,
) -> Result<Value, Failed> {
    let mut merge = Merge::new(arrow_type, rows);
    let mut open: Selection = None;
    for (position, arg) in args.iter().enumerate() {
        let picked = arg.evaluate(values, rows, &open, env)?;
        if picked.value.is_null_scalar() {
            continue;
        }
        let has_null = picked.value.array().logical_null_count() > 0;
        if open.is_none() && (!has_null || position + 1 == args.len()) {
            return conformed(&picked.value, arrow_type).map_err(Failed::Here);
        }
        merge.set(&picked, &open)?;
        if !has_null {
            return merge.finish();
        }
        let is_null = |row: u32, position: usize| picked.value.array().is_null(picked.index(row, position));
        open = Some(match &open {
            None => (0..rows as u32)
                .filter(|&row| is_null(row, row as usize))
                .collect(),
            Some(open) => {
                let still = open
                    .iter()
                    .enumerate()
                    .filter(|&(position, &row)| is_null(row, position));
                still.map(|(_, &row)| row).collect()
            }
        });
        if open.as_ref().is_some_and(Vec::is_empty) {
            break;
        }
    }
    merge.finish()
}
