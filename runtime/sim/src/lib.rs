//! The control plane and its protocol in simulated worlds: every step that the real code takes, with everything failing around it.
//!
//! ```text
//!                       seed
//!                        |  one thread, one queue of events, no real time
//!   +--------------------v---------------------------------------------------------------+
//!   | JobManagers  Dispatcher, JobMaster, CheckpointCoordinator: the real ones, pure      |
//!   |   (1 to 3)   high-availability logs: the real ones too; the shell around is modelled |
//!   |      ^  messages of control.proto, delayed, cut, held up                            |
//!   |      v                                                                              |
//!   | TaskManagers with workers; tasks: sources, exchange, stateful operators, sinks that |
//!   |   (2 or 3)   commit in two phases to a broker and to files                          |
//!   | object store: create-if-absent, slow, refusing, losing answers, late writes         |
//!   +------------------------------------------------------------------------------------+
//! ```
//!
//! Faults: any process is killed at any step, paused for long and woken, cut off in one direction or both; connections break;
//! the store fails; clocks jump; transactions are open for too long. Jobs are asked for savepoints, stopped with one and started from it, or come
//! to their end. Checked at every step: each row is committed once; nothing is committed or told to be complete but what a job's
//! log has, nor that an operation or the job has ended; no earlier leader writes behind a later one; nothing is deleted that the newest logged checkpoint needs; an operator
//! sees each row once and in order. Checked when all is mended: all rows come, checkpoints are taken again, nothing restarts any
//! more; a canceled job leaves nothing behind.
//!
//! That the checks find something is tested too: [`Variant`] has mistakes that must be caught.

mod job_manager;
mod outside;
mod random;
mod shared;
mod steps;
mod store;
mod task;
mod task_manager;
mod truth;
mod world;

pub use shared::Variant;
pub use steps::{Coverage, Step};
pub use world::{Outcome, World};

/// Of the environment: which seed `replay` runs.
pub const SEED_VARIABLE: &str = "THALWEG_SIM_SEED";

/// Runs the world of a seed.
pub fn run(seed: u64, variant: Variant) -> Outcome {
    World::new(seed, variant, false).run()
}

/// The same with every line of its trace.
pub fn replay(seed: u64, variant: Variant) -> Outcome {
    World::new(seed, variant, true).run()
}

impl Outcome {
    /// What was wrong, the last steps before it, and how to see it again.
    pub fn report(&self) -> String {
        let mut report = self.trace.join("\n");
        for violation in &self.violations {
            report += &format!("\nseed {}: {violation}", self.seed);
        }
        report
            + &format!(
                "\nto see it again: {SEED_VARIABLE}={} cargo test -p thalweg-sim replay -- --nocapture",
                self.seed
            )
    }
}
