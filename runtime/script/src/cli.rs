//! The command line of scripts, which `thalweg` and functions programs share.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// SQL scripts with this program's functions.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct FunctionsCli {
    #[command(flatten)]
    pub(crate) options: ConfigurationOptions,
    #[command(subcommand)]
    pub(crate) command: FunctionsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FunctionsCommand {
    /// Runs a SQL script here, in this process, until its jobs have ended.
    Sql(SqlArguments),
    /// A script as the program of a job; the engine starts it.
    #[command(hide = true)]
    SqlJob(SqlJobArguments),
}

/// Where configuration comes from.
#[derive(Debug, Args)]
pub struct ConfigurationOptions {
    /// Folder with config.yaml.
    #[arg(long, env = "THALWEG_CONF_DIR", global = true, value_name = "DIR")]
    pub conf_dir: Option<PathBuf>,
    /// Sets one configuration key; wins over config.yaml.
    #[arg(short = 'D', global = true, value_name = "KEY=VALUE")]
    pub define: Vec<String>,
}

/// Of `sql`.
#[derive(Debug, Args)]
pub struct SqlArguments {
    /// The script; `-` for standard input. `${KEY}` in it is what -D KEY=VALUE says.
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// A script that is run before it: SET, CREATE.
    #[arg(short, long, value_name = "FILE")]
    pub init: Option<PathBuf>,
}

/// Of `sql-job`.
#[derive(Debug, Args)]
pub struct SqlJobArguments {
    /// The script.
    pub script: PathBuf,
    /// The job's arguments: -D KEY=VALUE.
    #[arg(last = true)]
    pub arguments: Vec<String>,
}
