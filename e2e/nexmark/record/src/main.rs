//! `nexmark-record`: Nexmark's events, made once and written to files, for Flink and Thalweg to read the same bytes.

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use thalweg_connectors::table::nexmark::recorded::record;

/// Writes Nexmark events to the files events-0, events-1, .. of a folder.
#[derive(Parser)]
struct Arguments {
    /// Where the files go.
    folder: PathBuf,
    /// How many events.
    #[arg(long, default_value_t = 10_000_000)]
    events: u64,
    /// Files: event n is in file n modulo this.
    #[arg(long, default_value_t = 2)]
    files: u64,
    /// Events of another seed are others.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// `first-event.rate`: events a second of their own time.
    #[arg(long, default_value_t = 100_000)]
    rate: u32,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let folder = &arguments.folder;
    record(
        folder,
        arguments.files.max(1),
        arguments.events,
        arguments.seed,
        arguments.rate.max(1),
    )
    .with_context(|| format!("{} can't be written", folder.display()))
}
