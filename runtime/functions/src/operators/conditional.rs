//! CASE, IF, COALESCE: types only; the evaluator computes their branches for the rows that need them.

use arrow::array::ArrayRef;
use thalweg_plan::{DataType, Expr, TypeRoot};

use super::types;
use crate::common_type::{common_type, merged_type};
use crate::registry::{Call, ScalarFunction, Signature};

pub(super) const FUNCTIONS: &[ScalarFunction] = &[
    ScalarFunction {
        name: "CASE",
        usage: "CASE WHEN condition THEN value .. ELSE value END",
        infer: infer_case,
        kernel: by_branches,
        is_deterministic: true,
    },
    ScalarFunction {
        name: "IF",
        usage: "IF(condition, value, otherwise)",
        infer: infer_if,
        kernel: by_branches,
        is_deterministic: true,
    },
    ScalarFunction {
        name: "COALESCE",
        usage: "COALESCE(value, ..)",
        infer: infer_coalesce,
        kernel: by_branches,
        is_deterministic: true,
    },
];

const IF_FITTING: &str = "(<BOOLEAN>, <value>, <value>) with values of one type that is not nested";

fn by_branches(_: &Call<'_>) -> Result<ArrayRef, String> {
    Err("is computed by its branches".into())
}

fn infer_if(args: &[Expr]) -> Result<Signature, String> {
    let is_nested = |arg: &Expr| {
        matches!(
            arg.data_type.root,
            TypeRoot::Array(_) | TypeRoot::Map(..) | TypeRoot::Multiset(_) | TypeRoot::Row(_)
        )
    };
    if args.len() != 3 || args.iter().any(is_nested) {
        return Err(IF_FITTING.into());
    }
    infer_case(args).map_err(|_| IF_FITTING.into())
}

fn infer_case(args: &[Expr]) -> Result<Signature, String> {
    let is_value = |position: usize| position % 2 == 1 || position + 1 == args.len();
    if args.len() < 3 || args.len().is_multiple_of(2) {
        return Err("(BOOLEAN, value, .., value)".into());
    }
    let values: Vec<DataType> = args
        .iter()
        .enumerate()
        .filter(|(position, _)| is_value(*position))
        .map(|(_, arg)| arg.data_type.clone())
        .collect();
    let common = common_type(&values).ok_or("Illegal mixing of types in CASE or COALESCE statement")?;
    if common.root == TypeRoot::Null {
        return Err("ELSE clause or at least one THEN clause must be non-NULL".into());
    }
    let to = |(position, arg): (usize, &Expr)| match is_value(position) {
        true => Ok(branch_type(&common, arg)),
        false => match arg.data_type.root {
            TypeRoot::Boolean | TypeRoot::Null => Ok(DataType {
                root: TypeRoot::Boolean,
                nullable: arg.data_type.nullable,
            }),
            _ => Err("(BOOLEAN, value, .., value)".to_owned()),
        },
    };
    Ok(Signature {
        args: args.iter().enumerate().map(to).collect::<Result<_, _>>()?,
        result: common,
    })
}

/// A branch is cast to the common type; its nulls are its own.
fn branch_type(common: &DataType, arg: &Expr) -> DataType {
    common.clone().with_nullable(arg.data_type.nullable)
}

fn infer_coalesce(args: &[Expr]) -> Result<Signature, String> {
    let common =
        merged_type(&types(args)).ok_or("Invalid input arguments: COALESCE takes values of one type")?;
    Ok(Signature {
        args: args.iter().map(|arg| branch_type(&common, arg)).collect(),
        result: common.with_nullable(args.iter().all(|arg| arg.data_type.nullable)),
    })
}
