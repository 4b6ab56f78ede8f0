//! `thalweg sql`: a script in this process.
//!
//! ```text
//!   script -> statements --Session--> rows to show | SqlJob -> JobProgram -> LocalRun
//! ```
//!
//! Statements are executed in order. An INSERT's job runs on while later statements are executed, unless `table.dml-sync` is set; the
//! command ends when all jobs have. The first error ends it: running jobs are canceled.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use thalweg_connectors::table::TableConnectors;
use thalweg_functions::EvaluationEnv;
use thalweg_sql::script::Script;
use thalweg_sql::session::{Outcome, Session, SqlJob};
use thalweg_table::{Collector, Console, ConsoleOptions, LocalRun, ResultMode, job_program, render};
use thalweg_types::config::{Configuration, RuntimeMode, SqlResultMode, options};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cli::SqlArguments;
use crate::functions::UserFunctions;
use crate::signals;

/// The shell's code for "ended by SIGINT".
const INTERRUPTED: u8 = 130;

/// Runs a script, with functions for CREATE FUNCTION to name; an error is shown with its line.
///
/// # Errors
/// Whatever is not the script's: files, the console, a job that failed.
pub async fn run(
    configuration: Configuration,
    variables: &BTreeMap<String, String>,
    arguments: &SqlArguments,
    functions: Arc<UserFunctions>,
) -> anyhow::Result<ExitCode> {
    let mut runner = Runner::new(configuration, functions);
    for file in arguments.init.iter().chain([&arguments.file]) {
        let script = match Script::parse(&text_of(file)?, variables) {
            Ok(script) => script,
            Err(error) => return Ok(refused(&error.render())),
        };
        for parsed in &script.statements {
            let outcome = match runner.session.execute(parsed, &TableConnectors) {
                Ok(outcome) => outcome,
                Err(error) => return Ok(refused(&error.with_source(&script.text).render())),
            };
            match outcome {
                Outcome::Done => {}
                Outcome::Rows(rows) => print(&render(&rows.names, &rows.rows))?,
                Outcome::Text(text) => print(&text)?,
                Outcome::Quit => return runner.finish().await,
                Outcome::Job(job) => {
                    if let Some(code) = runner.job(job).await? {
                        return Ok(code);
                    }
                }
            }
        }
    }
    runner.finish().await
}

fn print(text: &str) -> std::io::Result<()> {
    std::io::stdout().lock().write_all(text.as_bytes())
}

fn refused(message: &str) -> ExitCode {
    eprintln!("thalweg: {message}");
    ExitCode::FAILURE
}

fn text_of(file: &Path) -> anyhow::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("standard input can't be read")?;
        return Ok(text);
    }
    std::fs::read_to_string(file).with_context(|| format!("{} can't be read", file.display()))
}

/// The script's session and jobs.
struct Runner {
    session: Session,
    jobs: JoinSet<anyhow::Result<()>>,
    cancel: watch::Sender<bool>,
}

impl Runner {
    fn new(configuration: Configuration, functions: Arc<UserFunctions>) -> Self {
        Self {
            session: Session::new(configuration).with_functions(functions),
            jobs: JoinSet::new(),
            cancel: watch::Sender::new(false),
        }
    }

    /// Starts a job, and waits for it if it has to; an exit code ends the script.
    async fn job(&mut self, job: SqlJob) -> anyhow::Result<Option<ExitCode>> {
        for warning in &job.warnings {
            eprintln!("thalweg: warning: {warning}");
        }
        let waits = job.result.is_some() || job.configuration.get(&options::TABLE_DML_SYNC)?;
        let env = Arc::new(self.session.env().map_err(|error| anyhow!(error.render()))?);
        let mut canceled = self.cancel.subscribe();
        let done = async move {
            let console = console(&job, &env)?;
            let collector = console.clone().map(|console| console as Arc<dyn Collector>);
            let program = job_program(&job.plan, &job.name, &job.configuration, &env, collector)?;
            let run = LocalRun::new(program, &job.configuration).await?;
            run.run(async move { drop(canceled.wait_for(|canceled| *canceled).await) })
                .await?;
            if let Some(console) = console {
                console.finish()?;
            }
            anyhow::Ok(())
        };
        self.jobs.spawn(done);
        match waits {
            true => self.until_ended().await,
            false => Ok(None),
        }
    }

    /// Until no job runs. The first failure cancels the others.
    async fn until_ended(&mut self) -> anyhow::Result<Option<ExitCode>> {
        let mut interrupted = false;
        let mut failure = None;
        loop {
            tokio::select! {
                ended = self.jobs.join_next() => match ended {
                    None => break,
                    Some(Ok(Ok(()))) => {}
                    Some(Ok(Err(error))) => {
                        failure.get_or_insert(error);
                        self.cancel.send_replace(true);
                    }
                    Some(Err(panic)) => {
                        failure.get_or_insert(anyhow!("a job's thread ended: {panic}"));
                        self.cancel.send_replace(true);
                    }
                },
                signal = signals::shutdown(), if !interrupted => {
                    signal?;
                    interrupted = true;
                    self.cancel.send_replace(true);
                }
            }
        }
        match failure {
            _ if interrupted => Ok(Some(ExitCode::from(INTERRUPTED))),
            Some(error) => Err(error),
            None => Ok(None),
        }
    }

    async fn finish(mut self) -> anyhow::Result<ExitCode> {
        Ok(self.until_ended().await?.unwrap_or(ExitCode::SUCCESS))
    }
}

/// What shows a SELECT's rows.
fn console(job: &SqlJob, env: &Arc<EvaluationEnv>) -> anyhow::Result<Option<Arc<Console>>> {
    let Some(schema) = &job.result else {
        return Ok(None);
    };
    let configuration = &job.configuration;
    let options = ConsoleOptions {
        mode: match configuration.get(&options::SQL_RESULT_MODE)? {
            SqlResultMode::Table => ResultMode::Table,
            SqlResultMode::Changelog => ResultMode::Changelog,
            SqlResultMode::Tableau => ResultMode::Tableau,
        },
        with_kind: configuration.get(&options::RUNTIME_MODE)? != RuntimeMode::Batch,
        max_column_width: configuration.get(&options::TABLE_DISPLAY_MAX_COLUMN_WIDTH)? as usize,
        max_table_rows: usize::try_from(configuration.get(&options::SQL_MAX_TABLE_RESULT_ROWS)?)
            .unwrap_or(usize::MAX),
    };
    let console = Console::new(schema, options, Arc::clone(env), Box::new(std::io::stdout()))?;
    Ok(Some(Arc::new(console)))
}
