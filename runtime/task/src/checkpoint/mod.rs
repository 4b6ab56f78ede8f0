//! Checkpoints as one task takes part in them.
//!
//! ```text
//!   source: trigger (mailbox) --\
//!   else:   barriers of all channels --alignment--> barrier goes on behind what was sent --> sinks flush --> snapshot (sync)
//!                                                                                                              |
//!   notify (mailbox): sinks commit, sources note  <-- coordinator <-- acknowledge | decline <-- uploads (I/O runtime)
//! ```
//!
//! Invariants: what a task's snapshot holds is what came before the barrier on every channel, and nothing behind it (with
//! `at_least_once`: may be something behind it); the barrier leaves behind everything that this brought out; each barrier
//! that a task acts on is acknowledged or declined once; what a sink prepared is in every snapshot until it is committed.

pub(crate) mod alignment;
pub(crate) mod barrier;
pub(crate) mod channels;
pub(crate) mod lists;
pub(crate) mod local;
pub(crate) mod restore;
pub(crate) mod upload;
