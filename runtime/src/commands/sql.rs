//! `thalweg sql --functions PROGRAM`: the same command in a program that has functions of its own.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Context;
use thalweg_script::cli::{ConfigurationOptions, SqlArguments};

/// Becomes that program, with these arguments; comes back only if it can't be started.
pub(crate) fn run_in(program: &Path, options: &ConfigurationOptions, arguments: &SqlArguments) -> ExitCode {
    let mut command = Command::new(program);
    command.arg("sql").arg("-f").arg(&arguments.file);
    if let Some(init) = &arguments.init {
        command.arg("-i").arg(init);
    }
    if let Some(folder) = &options.conf_dir {
        command.arg("--conf-dir").arg(folder);
    }
    for define in &options.define {
        command.arg("-D").arg(define);
    }
    let not_started = Err::<(), _>(command.exec()).with_context(|| {
        let program = program.display();
        format!("the program {program} (--functions) can't be started; is it an executable for this machine?")
    });
    not_started.map_or_else(|error| thalweg_script::failed(&error), |()| ExitCode::SUCCESS)
}
