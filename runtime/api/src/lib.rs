//! The DataStream API: what packaged Rust jobs compile against.
//!
//! A job is an ordinary program. Its `main` builds a graph of sources, operations and sinks, and [`execute`] hands it to
//! the engine:
//!
//! ```no_run
//! use thalweg_api::prelude::*;
//!
//! #[derive(Clone, Record)]
//! struct WordCount {
//!     word: String,
//!     count: i64,
//! }
//!
//! #[thalweg_api::main]
//! fn main() {
//!     let env = StreamExecutionEnvironment::new();
//!     env.from_elements(["to be or".to_owned(), "not to be".to_owned()])
//!         .flat_map(|line, out: &mut Collector<WordCount>| {
//!             for word in line.split(' ') {
//!                 out.collect(WordCountRef { word, count: 1 });
//!             }
//!         })
//!         .key_by_field::<String>("word")
//!         .sum("count")
//!         .print();
//!     env.execute("word count")
//! }
//! ```
//!
//! ```text
//!   main --StreamExecutionEnvironment, DataStream, KeyedStream--> graph + code
//!                                                                   |
//!      extraction (JobManager): the graph goes to a socket <--------+-------> worker (TaskManager): the code runs
//! ```
//!
//! The same program runs several times: once so that the JobManager learns the graph, then as a worker process on each
//! TaskManager. So `main` must build the same graph each time: from its arguments and declared environment, not from the time or
//! from files that differ. A worker whose graph differs refuses to start.
//!
//! [`execute`]: StreamExecutionEnvironment::execute

pub mod alloc;
#[doc(hidden)]
pub mod entry;
mod environment;
mod function;
mod graph;
mod keyed;
pub mod record;
mod sink;
mod stream;

#[cfg(test)]
extern crate self as thalweg_api; // the derive's output names the crate

pub use arrow;
pub use environment::{DatagenOptions, StreamExecutionEnvironment};
pub use function::Collector;
pub use graph::ProgramError;
pub use keyed::KeyedStream;
pub use record::{Record, Timestamp};
pub use sink::DataStreamSink;
pub use stream::DataStream;
/// Implements [`Record`](trait@Record) for a struct, and makes its borrowed twin `FooRef<'a>`.
///
/// The struct's fields are the columns. `FooRef<'a>` has the same fields, borrowed (`&'a str` for a `String`); it is what user
/// functions get and what [`Collector::collect`] takes, and `Foo::from(foo_ref)` makes it owned.
///
/// Limits, each refused with a message when the job is compiled:
/// - structs with named fields only: no enums, no tuple structs (a tuple is a record without derive), no unions;
/// - no type parameters and no lifetimes;
/// - fields are `bool`, `i8`..`i64`, `u8`..`u64`, `f32`, `f64`, `String`, `Vec<u8>`, [`Timestamp`], `Option` of these, tuples
///   of up to six of them, and structs that derive `Record` themselves (one `Struct` column);
/// - the struct is `Clone`, and the crate is known as `thalweg_api` (not renamed in `Cargo.toml`).
pub use thalweg_api_derive::Record;
/// Goes on a job's `fn main()`: installs the counting allocator ([`alloc`]) and hands panics and errors of `main` to the
/// engine. `main` may return nothing or `Result<(), E>` with `E: Display`.
pub use thalweg_api_derive::main;

/// Sources and sinks.
pub mod connectors {
    pub use thalweg_connectors::*;
}

/// What a job's program usually needs.
pub mod prelude {
    pub use crate::{
        Collector, DataStream, DataStreamSink, DatagenOptions, KeyedStream, Record,
        StreamExecutionEnvironment, Timestamp,
    };
}
