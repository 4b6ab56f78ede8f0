//! Windows of Flink SQL: which there are ([`assigner`]), when they are over ([`zone`]), their rows ([`table_function`]) and their
//! aggregates ([`aggregate`]).
//!
//! ```text
//!   rows --WindowTableFunction--> rows with window_start, window_end, window_time
//!   rows --WindowAggregate------> keys, aggregates, window columns: once, when the watermark (or the clock) has passed the window
//! ```
//!
//! Times of windows are local: those of the rowtime itself, or of the session's time zone if the time attribute is a TIMESTAMP_LTZ, so
//! that windows of a day begin at midnight there.

pub(crate) mod aggregate;
pub(crate) mod assigner;
mod session_rows;
mod sessions;
pub(crate) mod slice_key;
pub(crate) mod table_function;
pub(crate) mod zone;

pub use aggregate::WindowAggregate;
pub use session_rows::SessionRows;
pub use table_function::WindowTableFunction;
