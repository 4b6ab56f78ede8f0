//! Operators on Arrow batches.
//!
//! An operator is resumable: it takes a batch by [`Operator::push`], then gives its output piece by piece by
//! [`Operator::poll_output`], so that the task serves its mailbox (barriers, cancel) between pieces and a join that fans
//! out a million rows never builds them at once.
//!
//! ```text
//!   push(batch) -> poll_output -> poll_output -> None -> push(batch) ... end_input -> poll_output.. -> None
//! ```
//!
//! Invariant: `push` is called only after `poll_output` has returned `None`.

pub mod keyed;
mod operator;
pub mod rolling;
pub mod sql;
mod watermarks;

pub use operator::{KeySelector, Operator, OperatorContext, OperatorError, OutputLimit};
pub use thalweg_state::{KeyedState, Slot};
pub use watermarks::InputWatermarks;
