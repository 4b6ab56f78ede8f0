//! From what a query means to how it runs.
//!
//! ```text
//!   Rel --rewrite--> Rel --lower--> drafts: operators, kinds of changes, keys
//!       --sink, changelog--> drafts: -U where it is wanted
//!       --share--> Plan: equal operators once, names, uids
//! ```
//!
//! Nothing here reads a table or runs an expression but for constants. Invariants: what is planned gives Flink's rows; what isn't
//! supported is refused by name, with its place in the script.

mod access;
mod aggregate;
mod batch;
mod calc;
mod changelog;
mod draft;
mod explain;
mod expr;
mod interval;
mod join;
mod lookup;
mod lower;
mod names;
mod over;
mod program;
mod rewrite;
mod scan;
mod settings;
mod share;
mod sink;
mod sort;
#[cfg(test)]
mod tests;
mod time_join;
mod top_n;
mod upsert_keys;
mod user_functions;
mod warnings;
mod windows;

use thalweg_functions::EvaluationEnv;
use thalweg_plan::connector::Connectors;
use thalweg_plan::{Expr, Literal, Plan};
use thalweg_types::config::Configuration;

use crate::error::SqlError;
use crate::logical::{BoundStatement, Rel};
use access::Scans;
pub use explain::{ExplainDetails, explain, tree};
use lower::Planner;
use settings::Settings;
pub use user_functions::check_user_functions;
pub use warnings::state_warnings;

/// The operators of one job: all of `statements` at once.
pub fn plan(
    statements: &[BoundStatement],
    connectors: &dyn Connectors,
    configuration: &Configuration,
) -> Result<Plan, SqlError> {
    let settings = Settings::of(configuration)?;
    let env = settings.env();
    let queries: Vec<Rel> = statements
        .iter()
        .map(|statement| rewrite::rewrite(query(statement).clone(), &env))
        .collect::<Result<_, _>>()?;
    let mut scans = Scans::default();
    queries.iter().for_each(|query| scans.collect(query));
    let planner = Planner {
        connectors,
        settings,
        scans,
    };
    let mut sinks = Vec::with_capacity(statements.len());
    for (statement, query) in statements.iter().zip(&queries) {
        let draft = planner.lower(query)?;
        sinks.push(sink::lower(&planner, statement, draft)?);
    }
    Ok(share::shared(&sinks, planner.settings.parallelism))
}

fn query(statement: &BoundStatement) -> &Rel {
    match statement {
        BoundStatement::Insert { query, .. } | BoundStatement::Select { query, .. } => query,
    }
}

/// The value of an expression without columns; `None`: it has none that is the same for all rows, or it can't be computed.
fn constant(expr: &Expr, env: &EvaluationEnv) -> Option<Literal> {
    thalweg_functions::fold_constant(expr, env).ok()
}
