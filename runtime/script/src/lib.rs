//! What runs SQL scripts: the verbs `sql` and `sql-job` of the binary `thalweg`, and of programs that bring functions along.
//!
//! ```text
//!   fn main() --main(functions)--> sql      a script in this process           (`thalweg sql --functions PROGRAM` starts it)
//!                                  sql-job  a script as the program of a job   (a package with `entry.program` starts it)
//! ```
//!
//! A functions program is this crate and columnar functions under the names that `CREATE FUNCTION .. AS 'name'` gives them:
//!
//! ```no_run
//! use std::process::ExitCode;
//! use std::sync::Arc;
//!
//! use thalweg_script::arrow::array::{ArrayRef, AsArray, Int64Array};
//! use thalweg_script::functions::{FunctionTypes, ScalarFunction, UserFunctions};
//! use thalweg_script::types::{DataType, TypeRoot};
//!
//! /// How many bytes a text has.
//! struct Length;
//!
//! impl ScalarFunction for Length {
//!     fn types(&self, _args: &[DataType]) -> Result<FunctionTypes, String> {
//!         Ok(FunctionTypes { args: vec![DataType::string()], result: DataType::nullable(TypeRoot::BigInt) })
//!     }
//!
//!     fn evaluate(&self, args: &[ArrayRef], _rows: usize) -> Result<ArrayRef, String> {
//!         let lengths = args[0].as_string::<i32>().iter().map(|text| text.map(|text| text.len() as i64));
//!         Ok(Arc::new(lengths.collect::<Int64Array>()))
//!     }
//! }
//!
//! fn main() -> ExitCode {
//!     thalweg_script::main(UserFunctions::default().scalar("com.example.Length", Length))
//! }
//! ```
//!
//! Invariant: whatever starts such a program finds the same verbs, arguments and protocol as in `thalweg` itself.

pub mod cli;
pub mod conf;
mod logging;
pub mod signals;
pub mod sql;
pub mod sql_job;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use thalweg_api::alloc::CountingAllocator;

pub use arrow;
pub use logging::start as start_logging;

/// What a program registers.
pub mod functions {
    pub use thalweg_functions::user::{
        AggregateFunction, AggregateFunctionTypes, FunctionTypes, ScalarFunction, TableFunction,
        TableFunctionTypes, TableRows, UserFunctions,
    };
}

/// SQL's types.
pub mod types {
    pub use thalweg_plan::{DataType, Field, TypeRoot};
}

use crate::cli::{FunctionsCli, FunctionsCommand};
use crate::functions::UserFunctions;

/// The worker of a script's job keeps to its budget as those of packaged programs do.
#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// The `main` of a program that brings functions along.
pub fn main(functions: UserFunctions) -> ExitCode {
    let functions = Arc::new(functions);
    let cli = FunctionsCli::parse();
    match cli.command {
        // It has the environment of a job's program, and neither configuration nor log of its own.
        FunctionsCommand::SqlJob(arguments) => sql_job::run(&arguments, &functions),
        FunctionsCommand::Sql(arguments) => {
            logging::start(false);
            let ran = conf::load_with_variables(&cli.options).and_then(|(configuration, variables)| {
                let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
                let ran = runtime.block_on(sql::run(configuration, &variables, &arguments, functions));
                if ran.is_err() {
                    // What hangs in storage must not keep a process alive that has failed.
                    runtime.shutdown_background();
                }
                ran
            });
            ran.unwrap_or_else(|error| failed(&error))
        }
    }
}

/// Says on standard error what went wrong: the error and its causes in one line, each said once.
pub fn failed(error: &anyhow::Error) -> ExitCode {
    let mut line = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !line.contains(&cause) {
            line.push_str(": ");
            line.push_str(&cause);
        }
    }
    eprintln!("thalweg: {}", line.replace('\n', " "));
    ExitCode::FAILURE
}
