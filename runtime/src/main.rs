//! The binary `thalweg`: every process of a cluster and the commands that people type.
//!
//! ```text
//!   cli (arguments) -> conf (config.yaml, -D, environment; checked) -> commands/*
//! ```
//!
//! An error is one line on standard error and a non-zero exit code.

mod cli;
mod commands;
mod conf;
mod lease_election;
mod logging;
mod rest_client;
mod signals;
mod temp_folder;

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Parser;

use thalweg_api::alloc::CountingAllocator;

use crate::cli::{Cli, Command, StateCommand};

/// The worker of a script's job keeps to its budget as those of packaged programs do.
#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

fn main() -> ExitCode {
    let cli = Cli::parse();
    // It has the environment of a job's program, and neither configuration nor log of its own.
    if let Command::SqlJob(arguments) = &cli.command {
        return commands::sql_job::run(arguments);
    }
    logging::start(cli.command.is_service());
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("thalweg: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let (configuration, variables) = match cli.command.takes_variables() {
        true => conf::load_with_variables(&cli.options)?,
        false => (conf::load(&cli.options)?, BTreeMap::new()),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        match cli.command {
            Command::Jobmanager(arguments) => commands::jobmanager::run(configuration, arguments).await,
            Command::Taskmanager(arguments) => commands::taskmanager::run(configuration, arguments).await,
            Command::Run(mut arguments) => {
                arguments.package = arguments.package.with_variables(conf::unknown(variables));
                commands::run::run(configuration, arguments).await
            }
            Command::Sql(arguments) => commands::sql::run(configuration, &variables, &arguments).await,
            Command::SqlJob(arguments) => Ok(commands::sql_job::run(&arguments)),
            Command::Info(package) => {
                let package = package.with_variables(conf::unknown(variables));
                commands::info::run(configuration, package).await
            }
            Command::List(client) => commands::client::list(&client).await,
            Command::Cancel(job) => commands::client::cancel(&job.job_id, &job.client).await,
            Command::Checkpoint(arguments) => commands::snapshots::checkpoint(&arguments).await,
            Command::Savepoint(arguments) => commands::snapshots::savepoint(&arguments).await,
            Command::Stop(arguments) => commands::snapshots::stop(&arguments).await,
            Command::Checkpoints(job) => commands::snapshots::checkpoints(&job.job_id, &job.client).await,
            Command::State {
                command: StateCommand::Inspect { path },
            } => commands::state::inspect(&configuration, &path).await,
            Command::State {
                command: StateCommand::Export(arguments),
            } => commands::export::run(&configuration, &arguments).await,
        }
    });
    if result.is_err() {
        // What hangs in storage must not keep a process alive that has failed.
        runtime.shutdown_background();
    }
    result
}

/// The error and its causes in one line, each said once.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !line.contains(&cause) {
            line.push_str(": ");
            line.push_str(&cause);
        }
    }
    line.replace('\n', " ")
}
