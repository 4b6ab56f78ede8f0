//! Batch plans: the relational part of a bounded SQL job, run by DataFusion's operators.
//!
//! ```text
//!   Plan --BatchPlan::of--> what lies between the sources and one sink --lower--> DataFusion's ExecutionPlan
//!   sources' batches --BatchOperator::push--> queues --> ExecutionPlan --> BatchOperator::poll_output --> the sink
//! ```
//!
//! Sources and sinks are those of streams; all between them is one operator of one subtask. Joins, sorts, hash aggregation and limits are
//! DataFusion's, within a memory pool and with its spilling; expressions, table functions and aggregate functions are ours, so that types
//! and values are Flink's ([`lower`]).
//!
//! Invariants: all rows are inserts; row kinds, watermarks and time-outs of state mean nothing here; whatever isn't supported is refused
//! when the plan is made.

mod budget;
mod chained;
mod columns;
mod error;
mod function;
mod input;
mod lower;
mod mapped;
mod operator;
mod plan;
mod run;
mod stepped;

pub use error::BatchError;
pub use operator::BatchOperator;
pub use plan::{BatchPlan, unsupported};

#[cfg(test)]
mod tests;
