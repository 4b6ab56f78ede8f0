//! One module a verb, or a few that belong together.

pub(crate) mod client;
pub(crate) mod export;
pub(crate) mod info;
pub(crate) mod jobmanager;
pub(crate) mod run;
pub(crate) mod snapshots;
pub(crate) mod sql;
pub(crate) mod state;
pub(crate) mod taskmanager;

use std::io::Write;
use std::process::ExitCode;

/// What a command has to say, on standard output.
fn print(text: &str) -> anyhow::Result<ExitCode> {
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
