//! Flink SQL: from a script's text to plans.
//!
//! ```text
//!   script --script--> statements' text --parser--> ast::Statement --session--> catalog (DDL), configuration (SET)
//!                                                        |                          |
//!                                                        +--- INSERT, SELECT -----> planner --> thalweg_plan::Plan
//! ```
//!
//! Nothing here runs a job or knows a connector. Invariant: what isn't understood is an [`SqlError`] with its place in the script, never
//! left out.

pub mod ast;
mod binder;
mod catalog;
pub mod error;
pub mod logical;
pub mod parser;
pub mod physical;
pub mod script;
pub mod script_job;
pub mod session;
mod stack;

pub use catalog::Rows;
pub use error::{Position, SqlError, SqlErrorKind};
