//! SQL's operators and constructors: what the parser makes of signs and keywords.

mod arithmetic;
mod comparison;
mod conditional;
mod constructors;
mod decimal;
mod like;
mod logic;
mod temporal;
#[cfg(test)]
mod tests;

use thalweg_plan::{DataType, Expr};

use crate::common_type::is_approximate;
use crate::registry::ScalarFunction;

pub(crate) use comparison::equality;
pub(crate) use temporal::add_months;

const GROUPS: [&[ScalarFunction]; 6] = [
    arithmetic::FUNCTIONS,
    comparison::FUNCTIONS,
    logic::FUNCTIONS,
    conditional::FUNCTIONS,
    constructors::FUNCTIONS,
    like::FUNCTIONS,
];

/// An operator by its canonical name.
pub(crate) fn find(name: &str) -> Option<&'static ScalarFunction> {
    all().find(|function| function.name == name)
}

/// All operators.
pub(crate) fn all() -> impl Iterator<Item = &'static ScalarFunction> {
    GROUPS.iter().flat_map(|group| group.iter())
}

/// Whether an operator has a value for all arguments and is quick, so that branches of it are computed for all rows.
pub(crate) fn is_total(function: &str, args: &[Expr]) -> bool {
    match function {
        "/" => args.iter().all(|arg| is_approximate(&arg.data_type.root)),
        "="
        | "<>"
        | "<"
        | "<="
        | ">"
        | ">="
        | "AND"
        | "OR"
        | "NOT"
        | "IS NULL"
        | "IS NOT NULL"
        | "IS TRUE"
        | "IS NOT TRUE"
        | "IS FALSE"
        | "IS NOT FALSE"
        | "IS DISTINCT FROM"
        | "IS NOT DISTINCT FROM"
        | "FIELD"
        | "+"
        | "-"
        | "*"
        | "UNARY -"
        | "LIKE"
        | "IN" => true,
        _ => false,
    }
}

/// Whether one of them may be null.
fn any_nullable(args: &[Expr]) -> bool {
    args.iter().any(|arg| arg.data_type.nullable)
}

/// The arguments' types.
fn types(args: &[Expr]) -> Vec<DataType> {
    args.iter().map(|arg| arg.data_type.clone()).collect()
}

/// That many arguments.
fn exactly<const N: usize>(args: &[Expr]) -> Result<&[Expr; N], String> {
    args.try_into().map_err(|_| format!("{N} arguments are needed"))
}
