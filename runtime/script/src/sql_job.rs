//! `sql-job`: a script as a job's program, started by a JobManager to learn its graph and by TaskManagers as the job's worker.
//!
//! ```text
//!   script, its variables, the recorded session --> plan --> JobProgram --> as what `main` of a packaged program builds
//! ```
//!
//! Invariant: what it builds depends on nothing but these three, so that each worker has the graph that the JobManager has.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use thalweg_api::entry;
use thalweg_connectors::table::TableConnectors;
use thalweg_proto::script::ScriptSession;
use thalweg_sql::SqlError;
use thalweg_sql::script::Script;
use thalweg_sql::script_job::{ScriptJob, script_job};
use thalweg_sql::session::Session;
use thalweg_table::job_program;
use thalweg_task::JobProgram;
use thalweg_types::config::Configuration;

use crate::cli::SqlJobArguments;
use crate::conf;
use crate::functions::UserFunctions;

/// Does what the process was started for; comes back only if there is no program.
pub fn run(arguments: &SqlJobArguments, functions: &Arc<UserFunctions>) -> ExitCode {
    entry::run_main(|| -> Result<(), Infallible> {
        match program(arguments, functions) {
            Ok(program) => entry::serve(program),
            Err(error) => refuse(arguments, &error),
        }
    })
}

/// Of what is wrong with the script its line is shown.
fn refuse(arguments: &SqlJobArguments, error: &anyhow::Error) -> ! {
    let Some(in_script) = error.downcast_ref::<SqlError>() else {
        entry::refuse(&format!("{error:#}"), "")
    };
    let rendered = in_script.render();
    let excerpt = rendered.split_once('\n').map_or("", |(_, excerpt)| excerpt);
    entry::refuse(&format!("{}: {in_script}", arguments.script.display()), excerpt)
}

fn program(arguments: &SqlJobArguments, functions: &Arc<UserFunctions>) -> anyhow::Result<JobProgram> {
    let name = arguments.script.display().to_string();
    let session = ScriptSession::from_environment(&name)?;
    let text = std::fs::read_to_string(&arguments.script).with_context(|| format!("{name} can't be read"))?;
    let variables = variables(&arguments.arguments)?;
    let own = conf::known(&variables);
    let script = Script::parse(&text, &variables)?;
    let configuration = Configuration::from_map(session.configuration).merged_with(&own);
    let session = Session::new(configuration)
        .at(session.statement_time_ms)
        .with_functions(Arc::clone(functions));
    let ScriptJob { job, set, env } = script_job(&script, session, &TableConnectors)?;
    if entry::is_extraction() {
        for warning in &job.warnings {
            eprintln!("warning: {warning}");
        }
    }
    let configured = own.merged_with(&Configuration::from_map(set));
    Ok(job_program(
        &job.plan,
        &job.name,
        &configured,
        &Arc::new(env),
        None,
    )?)
}

/// Of `-D KEY=VALUE` and `-DKEY=VALUE`, which is all that a script takes.
fn variables(arguments: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut definitions = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let definition = argument.strip_prefix("-D").with_context(|| {
            format!("the argument {argument:?} is not -D KEY=VALUE: a script takes no others")
        })?;
        definitions.push(match definition {
            "" => rest.next().cloned().unwrap_or_default(),
            definition => definition.to_owned(),
        });
    }
    Ok(conf::definitions(&definitions)?.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(arguments: &[&str]) -> Vec<String> {
        arguments.iter().map(|&argument| argument.to_owned()).collect()
    }

    #[test]
    fn a_scripts_arguments_are_its_variables() {
        let variables = variables(&texts(&["-D", "topic=bids", "-Drows=a=b"])).unwrap();
        let expected = [("topic", "bids"), ("rows", "a=b")];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(variables, BTreeMap::from(expected));
    }

    #[test]
    fn other_arguments_are_refused_by_name() {
        for arguments in [&["--topic"][..], &["-D", "topic"], &["-D"]] {
            let error = variables(&texts(arguments)).unwrap_err().to_string();
            assert!(error.contains("KEY=VALUE"), "{error}");
        }
    }
}
