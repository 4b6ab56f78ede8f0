//! Compiled steps and how they run.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, make_array, new_empty_array};
use arrow::datatypes::DataType as ArrowType;
use thalweg_plan::DataType;

use super::lazy::Lazy;
use crate::casts::Cast;
use crate::registry::{Call, EvaluationEnv, EvaluationError, Kernel, Value};
use crate::user::ScalarFunction;

/// Steps in an order in which each comes behind those that it needs.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub(super) steps: Vec<Step>,
    /// The steps whose values are the results.
    pub(super) outputs: Vec<usize>,
}

/// One value of a program.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) operation: Operation,
    /// Of the values.
    pub(super) arrow_type: ArrowType,
    /// For errors.
    pub(super) name: Arc<str>,
    pub(super) position: Option<(u32, u32)>,
}

/// What a step does.
#[derive(Debug)]
pub(super) enum Operation {
    /// An input of the program.
    Input(usize),
    /// One value.
    Constant(ArrayRef),
    /// A kernel over earlier steps.
    Call(CallStep),
    /// CAST or TRY_CAST of a step.
    Cast { cast: Cast, arg: usize },
    /// Branches, as far as rows need them.
    Lazy(Lazy),
}

/// What computes a call's values.
pub(super) enum Code {
    /// A function of Flink's.
    BuiltIn(Kernel),
    /// One of a package.
    User(Arc<dyn ScalarFunction>),
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::BuiltIn(_) => "BuiltIn",
            Self::User(_) => "User",
        })
    }
}

impl Code {
    fn run(&self, call: &Call<'_>) -> Result<ArrayRef, String> {
        match self {
            Self::BuiltIn(kernel) => kernel(call),
            Self::User(function) => {
                let args: Vec<ArrayRef> = call.args.iter().map(|arg| arg.to_array(call.rows)).collect();
                function.evaluate(&args, call.rows)
            }
        }
    }
}

/// A call of a function.
#[derive(Debug)]
pub(super) struct CallStep {
    pub(super) code: Code,
    pub(super) args: Vec<usize>,
    pub(super) arg_types: Vec<DataType>,
    pub(super) data_type: DataType,
    pub(super) is_deterministic: bool,
}

impl Program {
    /// The outputs for these inputs.
    pub(super) fn run(
        &self,
        inputs: &dyn Fn(usize) -> Value,
        rows: usize,
        env: &EvaluationEnv,
    ) -> Result<Vec<Value>, EvaluationError> {
        let mut values: Vec<Value> = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let value = step
                .run(inputs, &values, rows, env)
                .map_err(|failed| failed.at(step))?;
            values.push(value);
        }
        Ok(self
            .outputs
            .iter()
            .map(|&output| values[output].clone())
            .collect())
    }
}

/// Why a step failed: here, or in a branch that named itself already.
pub(super) enum Failed {
    Here(String),
    Inside(EvaluationError),
}

impl From<String> for Failed {
    fn from(message: String) -> Self {
        Self::Here(message)
    }
}

impl Failed {
    fn at(self, step: &Step) -> EvaluationError {
        match self {
            Self::Inside(error) => error,
            Self::Here(message) => EvaluationError {
                function: step.name.to_string(),
                message,
                position: step.position,
            },
        }
    }
}

impl Step {
    fn run(
        &self,
        inputs: &dyn Fn(usize) -> Value,
        values: &[Value],
        rows: usize,
        env: &EvaluationEnv,
    ) -> Result<Value, Failed> {
        match &self.operation {
            Operation::Input(index) => Ok(inputs(*index)),
            Operation::Constant(value) => Ok(Value::Scalar(Arc::clone(value))),
            // Kernels of scalars would fail or draw a number for no row.
            _ if rows == 0 => Ok(Value::Array(new_empty_array(&self.arrow_type))),
            Operation::Call(call) => {
                let args: Vec<Value> = call.args.iter().map(|&arg| values[arg].clone()).collect();
                let scalars = args.iter().all(Value::is_scalar);
                let asked = if scalars && call.is_deterministic { 1 } else { rows };
                let array = call.code.run(&Call {
                    args: &args,
                    rows: asked,
                    arg_types: &call.arg_types,
                    data_type: &call.data_type,
                    env,
                })?;
                let one = scalars && array.len() == 1;
                if !one && array.len() != rows {
                    return Err(format!("{} values for {rows} rows", array.len()).into());
                }
                let array = conform(array, &self.arrow_type)?;
                Ok(if one {
                    Value::Scalar(array)
                } else {
                    Value::Array(array)
                })
            }
            Operation::Cast { cast, arg } => {
                let array = conform(cast.apply(values[*arg].array(), env)?, &self.arrow_type)?;
                Ok(match values[*arg] {
                    Value::Scalar(_) => Value::Scalar(array),
                    Value::Array(_) => Value::Array(array),
                })
            }
            Operation::Lazy(lazy) => {
                let value = lazy.run(values, rows, env)?;
                let array = conform(Arc::clone(value.array()), &self.arrow_type)?;
                Ok(match value {
                    Value::Scalar(_) => Value::Scalar(array),
                    Value::Array(_) => Value::Array(array),
                })
            }
        }
    }
}

/// The same values with exactly this type: kernels may leave nested fields' nullability, names, or a decimal's precision as they were.
pub(crate) fn conform(array: ArrayRef, wanted: &ArrowType) -> Result<ArrayRef, String> {
    if array.data_type() == wanted {
        return Ok(array);
    }
    if *array.data_type() == ArrowType::Null {
        return Ok(arrow::array::new_null_array(wanted, array.len()));
    }
    if !same_layout(array.data_type(), wanted) {
        return Err(format!("gave {} instead of {wanted}", array.data_type()));
    }
    relabel(array.to_data(), wanted)
        .map(make_array)
        .map_err(|error| error.to_string())
}

fn same_layout(left: &ArrowType, right: &ArrowType) -> bool {
    match (left, right) {
        (ArrowType::Decimal128(_, s), ArrowType::Decimal128(_, t)) => s == t,
        (ArrowType::List(a), ArrowType::List(b)) | (ArrowType::Map(a, _), ArrowType::Map(b, _)) => {
            same_layout(a.data_type(), b.data_type())
        }
        (ArrowType::Struct(a), ArrowType::Struct(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|(a, b)| same_layout(a.data_type(), b.data_type()))
        }
        (a, b) => a == b || *a == ArrowType::Null,
    }
}

fn relabel(
    data: arrow::array::ArrayData,
    wanted: &ArrowType,
) -> Result<arrow::array::ArrayData, arrow::error::ArrowError> {
    if data.data_type() == wanted {
        return Ok(data);
    }
    if *data.data_type() == ArrowType::Null {
        return Ok(arrow::array::new_null_array(wanted, data.len()).to_data());
    }
    let children = match wanted {
        ArrowType::List(field) | ArrowType::Map(field, _) => vec![field.data_type().clone()],
        ArrowType::Struct(fields) => fields.iter().map(|field| field.data_type().clone()).collect(),
        _ => Vec::new(),
    };
    let children = data
        .child_data()
        .iter()
        .zip(&children)
        .map(|(child, wanted)| relabel(child.clone(), wanted))
        .collect::<Result<Vec<_>, _>>()?;
    data.into_builder()
        .data_type(wanted.clone())
        .child_data(children)
        .build()
}
