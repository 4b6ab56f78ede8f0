//! What a Flink SQL job is, as data: types, expressions, operators. Nothing here runs.
//!
//! ```text
//!   sql: script -> statements -> Plan ----------------------> EXPLAIN, uids, JobGraph
//!                                 |  expressions ----------> functions: arrays
//!                                 |  operator specs -------> operators: batches and state
//!                                 +- source and sink specs > connectors: readers and writers
//! ```
//!
//! Those crates know this one and not each other. Invariants: every expression has its type, and all implicit casts are
//! written out; columns are indices into the input's schema; whoever runs a plan decides nothing that changes its results.

pub mod aggregate;
pub mod connector;
pub mod data_type;
pub mod expr;
pub mod node;
pub mod spec;

pub use data_type::{DataType, Field, Schema, TypeRoot};
pub use expr::{Expr, ExprKind, Literal};
pub use node::{ChangelogMode, Distribution, Input, Node, Plan};
pub use spec::NodeSpec;
