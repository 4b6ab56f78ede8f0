//! The binary `thalweg`: every process of a cluster and the commands that people type.
//!
//! ```text
//!   cli (arguments) -> thalweg_script::conf (config.yaml, -D, environment; checked) -> commands/*, thalweg_script::{sql, sql_job}
//! ```
//!
//! An error is one line on standard error and a non-zero exit code.

mod cli;
mod commands;
mod lease_election;
mod rest_client;
mod temp_folder;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;

use thalweg_script::{conf, failed, sql, sql_job, start_logging};

use crate::cli::{Cli, Command, SqlCommand, StateCommand};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match &cli.command {
        // It has the environment of a job's program, and neither configuration nor log of its own.
        Command::SqlJob(arguments) => return sql_job::run(arguments, &Arc::default()),
        Command::Sql(SqlCommand {
            script,
            functions: Some(program),
        }) => return commands::sql::run_in(program, &cli.options, script),
        _ => {}
    }
    start_logging(cli.command.is_service());
    run(cli).unwrap_or_else(|error| failed(&error))
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
            Command::Sql(arguments) => {
                sql::run(configuration, &variables, &arguments.script, Arc::default()).await
            }
            Command::SqlJob(arguments) => Ok(sql_job::run(&arguments, &Arc::default())),
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
