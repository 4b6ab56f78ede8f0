//! The command line. Verbs and `-D` are Flink's.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use thalweg_script::cli::{ConfigurationOptions, SqlArguments, SqlJobArguments};

/// Stateful stream processing: Flink's job, without the JVM.
#[derive(Debug, Parser)]
#[command(name = "thalweg", version)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) options: ConfigurationOptions,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs a JobManager: Dispatcher, ResourceManager, REST.
    Jobmanager(JobManagerArguments),
    /// Runs a TaskManager: slots for a JobManager.
    Taskmanager(TaskManagerArguments),
    /// Runs a job package here, in one process tree, until it ends.
    Run(RunArguments),
    /// Runs a SQL script here, in this process, until its jobs have ended.
    Sql(SqlCommand),
    /// A script as the program of a job; the engine starts it.
    #[command(hide = true)]
    SqlJob(SqlJobArguments),
    /// Prints the job graph of a package.
    Info(PackageArguments),
    /// Lists a cluster's jobs.
    List(ClientArguments),
    /// Cancels a job.
    Cancel(JobArguments),
    /// Takes a checkpoint of a job now and prints its path.
    Checkpoint(CheckpointArguments),
    /// Takes a savepoint of a job and prints its path, or disposes of one.
    Savepoint(SavepointArguments),
    /// Ends a job behind a savepoint and prints the savepoint's path.
    Stop(StopArguments),
    /// Lists a job's newest checkpoints and savepoints, the newest first.
    Checkpoints(JobArguments),
    /// Looks into checkpoints and savepoints.
    State {
        #[command(subcommand)]
        command: StateCommand,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum StateCommand {
    /// Shows which state a checkpoint or savepoint holds: operators, their states, sizes, spread over key groups.
    Inspect {
        /// The folder of a checkpoint or savepoint, or its _metadata.
        path: String,
    },
    /// Writes an operator's state as Parquet files, one a state: what a restore would begin with, deletes applied.
    Export(ExportArguments),
}

impl PackageArguments {
    /// Whether it is a bare script, whose variables `-D` may give.
    pub(crate) fn is_script(&self) -> bool {
        self.package.ends_with(".sql")
    }

    /// With variables of a script among its arguments.
    #[must_use]
    pub(crate) fn with_variables(mut self, variables: BTreeMap<String, String>) -> Self {
        let definitions = variables
            .into_iter()
            .map(|(key, value)| format!("-D{key}={value}"));
        self.arguments.extend(definitions);
        self
    }
}

impl Command {
    /// Whether `-D` may say something that is no configuration: a script's variables.
    pub(crate) fn takes_variables(&self) -> bool {
        match self {
            Self::Sql(_) => true,
            Self::Run(arguments) => arguments.package.is_script(),
            Self::Info(package) => package.is_script(),
            _ => false,
        }
    }

    /// Whether it is a long-running process whose log is its output.
    pub(crate) fn is_service(&self) -> bool {
        matches!(self, Self::Jobmanager(_) | Self::Taskmanager(_))
    }
}

#[derive(Debug, Args)]
pub(crate) struct JobManagerArguments {
    /// Dedicated to one job: the package given by --package.
    #[arg(long, requires = "package")]
    pub(crate) application: bool,
    /// The job package: a path, local://, file://, s3:// or https://.
    #[arg(long)]
    pub(crate) package: Option<String>,
    /// The sha256 that the package must have.
    #[arg(long)]
    pub(crate) package_sha256: Option<String>,
    /// Default parallelism of the job.
    #[arg(long)]
    pub(crate) parallelism: Option<u32>,
    /// Name of the job, instead of the package's.
    #[arg(long)]
    pub(crate) job_name: Option<String>,
    /// Names this start: the same id gives the same job.
    #[arg(long)]
    pub(crate) operation_id: Option<String>,
    /// The address at which others reach it, with high availability; else jobmanager.rpc.address is.
    #[arg(long, env = "POD_IP")]
    pub(crate) host: Option<String>,
    /// For the job's main.
    #[arg(last = true)]
    pub(crate) arguments: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TaskManagerArguments {
    /// Unique name in the cluster.
    #[arg(long, env = "POD_NAME")]
    pub(crate) resource_id: Option<String>,
    /// The address at which others reach its workers.
    #[arg(long, env = "POD_IP")]
    pub(crate) host: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PackageArguments {
    /// A folder or archive with job.yaml, or a SQL script that ends in .sql.
    pub(crate) package: String,
    /// Default parallelism of the job.
    #[arg(short, long)]
    pub(crate) parallelism: Option<u32>,
    /// For the job's main; a script takes -D KEY=VALUE, which are its variables.
    #[arg(last = true)]
    pub(crate) arguments: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SqlCommand {
    #[command(flatten)]
    pub(crate) script: SqlArguments,
    /// A program that brings functions along for CREATE FUNCTION, which runs the script in place of this one.
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) functions: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    pub(crate) package: PackageArguments,
    /// Starts from this savepoint or retained checkpoint.
    #[arg(
        short = 's',
        long = "from-savepoint",
        visible_alias = "fromSavepoint",
        value_name = "PATH"
    )]
    pub(crate) from_savepoint: Option<String>,
    /// Leaves state behind whose operator the job no longer has.
    #[arg(
        short = 'n',
        long = "allow-non-restored-state",
        visible_alias = "allowNonRestoredState",
        requires = "from_savepoint"
    )]
    pub(crate) allow_non_restored_state: bool,
    /// NO_CLAIM: the savepoint stays as it is. CLAIM: the job owns it and deletes it when it needs it no more.
    #[arg(
        long = "claim-mode",
        visible_alias = "claimMode",
        value_name = "MODE",
        requires = "from_savepoint"
    )]
    pub(crate) claim_mode: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct JobArguments {
    /// 32 hex digits, as `list` prints them.
    pub(crate) job_id: String,
    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// The folder of a checkpoint or savepoint, or its _metadata.
    pub(crate) path: String,
    /// The operator's uid; where it has none its name or id, as `state inspect` prints them.
    #[arg(long, value_name = "UID")]
    pub(crate) operator: String,
    /// One state of it; without it all.
    #[arg(long, value_name = "NAME")]
    pub(crate) state: Option<String>,
    /// A folder for a file a state, or, for one state, a file that ends in .parquet.
    #[arg(long, short, value_name = "DIR|FILE.parquet")]
    pub(crate) output: PathBuf,
    /// Adds the column $key_group to keyed states.
    #[arg(long)]
    pub(crate) key_groups: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckpointArguments {
    /// 32 hex digits, as `list` prints them.
    pub(crate) job_id: String,
    /// One that refers to no file of an earlier one; without it as the job is configured.
    #[arg(short, long)]
    pub(crate) full: bool,
    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

#[derive(Debug, Args)]
pub(crate) struct SavepointArguments {
    /// 32 hex digits, as `list` prints them.
    pub(crate) job_id: Option<String>,
    /// Folder for the savepoint; without it execution.checkpointing.savepoint-dir of the job.
    pub(crate) directory: Option<String>,
    /// Deletes this savepoint.
    #[arg(short, long, value_name = "PATH", conflicts_with_all = ["job_id", "directory"])]
    pub(crate) dispose: Option<String>,
    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

#[derive(Debug, Args)]
pub(crate) struct StopArguments {
    /// 32 hex digits, as `list` prints them.
    pub(crate) job_id: String,
    /// Folder for the savepoint; without it execution.checkpointing.savepoint-dir of the job.
    #[arg(
        short = 'p',
        long = "savepoint-path",
        visible_alias = "savepointPath",
        value_name = "DIR"
    )]
    pub(crate) savepoint_path: Option<String>,
    /// Lets event time run to its end first: all windows fire.
    #[arg(short, long)]
    pub(crate) drain: bool,
    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ClientArguments {
    /// The JobManager's REST address.
    #[arg(short = 'm', long, default_value = "http://127.0.0.1:8081")]
    pub(crate) jobmanager: String,
}
