//! SQL jobs that run: a plan becomes a program, and a program runs here or in a cluster.
//!
//! ```text
//!   Plan --job_program--> JobProgram --+--> a worker of a cluster: the same script gives the same program there
//!                                      +--> LocalRun: tasks in this process, no JobManager, for `thalweg sql`
//!                                           SELECT: Collector -> Console
//! ```

pub mod collect;
mod console;
mod local;
mod program;
mod tableau;
mod watermark;

pub use collect::Collector;
pub use console::{Console, ConsoleOptions, ResultMode};
pub use local::{LocalError, LocalRun};
pub use program::{TableError, job_program};
pub use tableau::render;
