//! Functions of Flink SQL: their types, their values over Arrow columns, and whole expressions of them.
//!
//! ```text
//!   name, typed arguments --resolve--> plan::Expr, casts written out        (planner)
//!   plan::Expr* --Evaluator::new--> steps --evaluate(batch)--> arrays       (operators)
//! ```
//!
//! What is computed is what Flink 2.3 computes, value for value; what can't be is refused by name when a statement is planned.

mod aggregates;
mod casts;
mod common_type;
#[cfg(test)]
mod documentation;
mod evaluator;
mod kernel;
mod operators;
mod registry;
mod resolve;
mod scalar;
mod table_functions;
#[cfg(test)]
mod testing;
pub mod user;
mod zone;

pub use aggregates::{AggregateSignature, resolve_aggregate};
pub use common_type::common_type;
pub use evaluator::{Evaluator, fold_constant};
pub use registry::{EvaluationEnv, EvaluationError, ResolveError, ResolveErrorKind};
pub use resolve::{
    FunctionInfo, FunctionKind, all_functions, cast, implicit_cast, is_deterministic, is_known,
    resolve_scalar,
};
pub use table_functions::{TableFunctionSignature, resolve_table_function};
