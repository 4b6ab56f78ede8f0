//! A script as one job: what a package on a cluster is.
//!
//! ```text
//!   SET, CREATE, .. --Session--> configuration, catalog
//!   INSERT, STATEMENT SET ----> bound where they stand ----> one plan, behind the last statement
//! ```
//!
//! A package is one job, so its INSERTs are, too, as if a statement set held them all: sources that several of them read are read once. What
//! needs a console, or one configuration for one INSERT and another for the next, is refused where it stands. Invariant: the same script,
//! configuration and time give the same job, in whichever process.

use std::collections::BTreeMap;

use thalweg_functions::EvaluationEnv;
use thalweg_plan::connector::Connectors;

use crate::ast::Statement;
use crate::error::{Position, SqlError};
use crate::logical::BoundStatement;
use crate::parser::Parsed;
use crate::script::Script;
use crate::session::{Outcome, Session, SqlJob};
use crate::stack::with_stack;

/// A script's job.
#[derive(Debug)]
pub struct ScriptJob {
    /// What is run.
    pub job: SqlJob,
    /// What the script configures, beside what it was given.
    pub set: BTreeMap<String, String>,
    /// The time zone and clock that its expressions see.
    pub env: EvaluationEnv,
}

/// The job of a script that is executed in a new session.
///
/// # Errors
/// Whatever is wrong with the script, with its line.
pub fn script_job(
    script: &Script,
    session: Session,
    connectors: &dyn Connectors,
) -> Result<ScriptJob, SqlError> {
    let planned = with_stack(|| planned(script, session, connectors));
    planned.map_err(|error| error.with_source(&script.text))
}

fn planned(
    script: &Script,
    mut session: Session,
    connectors: &dyn Connectors,
) -> Result<ScriptJob, SqlError> {
    let mut inserts: Vec<BoundStatement> = Vec::new();
    let mut changed = None;
    for parsed in &script.statements {
        match &parsed.statement {
            Statement::Insert(_) | Statement::StatementSet(_) => {
                if let Some(position) = changed {
                    return Err(two_configurations(position));
                }
                inserts.extend(session.bind(&parsed.statement, parsed.position)?);
            }
            Statement::Query(_) => return Err(no_console(parsed)),
            Statement::Set(Some(_)) | Statement::Reset(_) if !inserts.is_empty() => {
                changed.get_or_insert(parsed.position);
            }
            // What SHOW, DESCRIBE and EXPLAIN show has no reader; they change nothing.
            _ => match session.execute(parsed, connectors)? {
                Outcome::Quit => break,
                Outcome::Done | Outcome::Rows(_) | Outcome::Text(_) | Outcome::Job(_) => {}
            },
        }
    }
    if inserts.is_empty() {
        return Err(SqlError::semantic(
            "The script has no INSERT: there is nothing to run",
            None,
        ));
    }
    Ok(ScriptJob {
        job: session.job(&inserts, connectors)?,
        set: session.changed().clone(),
        env: session.env()?,
    })
}

fn no_console(parsed: &Parsed) -> SqlError {
    SqlError::unsupported(
        "A SELECT shows its rows on a console, which a job on a cluster has not; write INSERT INTO a table, as one of connector 'print'",
        parsed.position,
    )
}

fn two_configurations(position: Position) -> SqlError {
    SqlError::unsupported(
        "All INSERTs of a script run as one job on a cluster, which has one configuration; put SET and RESET before the first INSERT",
        position,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::SqlErrorKind;
    use thalweg_plan::connector::{CatalogTable, ConnectorProblem, SinkAbilities, SourceAbilities};
    use thalweg_plan::{ChangelogMode, NodeSpec};
    use thalweg_types::config::Configuration;

    /// A connector that can do all that these scripts need.
    struct Anything;

    impl Connectors for Anything {
        fn source(&self, _table: &CatalogTable) -> Result<SourceAbilities, ConnectorProblem> {
            Ok(SourceAbilities {
                changelog: ChangelogMode::INSERT_ONLY,
                bounded: true,
                metadata: Vec::new(),
                projection: true,
                nested_projection: false,
                filters: false,
                limit: false,
                watermark: false,
                lookup: false,
            })
        }

        fn sink(&self, _table: &CatalogTable) -> Result<SinkAbilities, ConnectorProblem> {
            Ok(SinkAbilities {
                changelog: ChangelogMode::ALL,
                metadata: Vec::new(),
                overwrite: false,
                parallelism: None,
            })
        }

        fn names(&self) -> Vec<&'static str> {
            vec!["any"]
        }
    }

    const TABLES: &str = "CREATE TABLE t (k BIGINT, v INT) WITH ('connector' = 'any');\n\
                          CREATE TABLE a (k BIGINT, n BIGINT) WITH ('connector' = 'any');\n\
                          CREATE TABLE b (k BIGINT, v INT) WITH ('connector' = 'any');\n";

    fn job(statements: &str) -> Result<ScriptJob, SqlError> {
        let script = Script::parse(&format!("{TABLES}{statements}"), &BTreeMap::new())?;
        script_job(
            &script,
            Session::new(Configuration::default()).at(1_000),
            &Anything,
        )
    }

    #[test]
    fn all_inserts_are_one_job_that_reads_a_table_once() {
        let job = job("SET 'pipeline.name' = 'both';\n\
                       INSERT INTO a SELECT k, COUNT(*) FROM t GROUP BY k;\n\
                       CREATE VIEW w AS SELECT k, v FROM t;\n\
                       INSERT INTO b SELECT * FROM w;")
        .unwrap();
        let kinds = |wanted: fn(&NodeSpec) -> bool| {
            let nodes = job.job.plan.nodes.iter();
            nodes.filter(|node| wanted(&node.spec)).count()
        };
        let sinks = kinds(|spec| matches!(spec, NodeSpec::Sink(_)));
        let sources = kinds(|spec| matches!(spec, NodeSpec::Source(_)));
        assert_eq!((sinks, sources), (2, 1));
        assert_eq!(job.job.name, "both");
        let set = [("pipeline.name".to_owned(), "both".to_owned())];
        assert_eq!(job.set, BTreeMap::from(set));
        assert_eq!(job.env.statement_time_ms, 1_000);
    }

    #[test]
    fn the_same_script_gives_the_same_plan_each_time() {
        let script = "INSERT INTO a SELECT x.k, COUNT(DISTINCT y.v) FROM t x JOIN t y ON x.k = y.k AND x.v < y.v GROUP BY x.k;\n\
                      INSERT INTO b SELECT k, v FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v) r FROM t) WHERE r < 3;";
        let first = format!("{:?}", job(script).unwrap().job.plan);
        for _ in 0..20 {
            assert_eq!(format!("{:?}", job(script).unwrap().job.plan), first);
        }
    }

    #[test]
    fn a_select_is_refused_where_it_stands() {
        let error = job("INSERT INTO b SELECT * FROM t;\nSELECT * FROM t;").unwrap_err();
        assert_eq!(error.kind, SqlErrorKind::Unsupported);
        assert_eq!(error.position, Some(Position { line: 5, column: 1 }));
        assert!(error.message.contains("INSERT INTO"), "{error}");
        assert!(error.render().contains("SELECT * FROM t"), "{}", error.render());
    }

    #[test]
    fn set_between_inserts_is_refused_and_behind_them_means_nothing() {
        let between =
            "INSERT INTO b SELECT * FROM t;\nSET 'pipeline.name' = 'x';\nINSERT INTO b SELECT * FROM t;";
        let error = job(between).unwrap_err();
        assert_eq!(error.position, Some(Position { line: 5, column: 1 }));
        assert!(error.message.contains("before the first INSERT"), "{error}");
        let behind = job("INSERT INTO b SELECT * FROM t;\nSET 'pipeline.name' = 'x';").unwrap();
        assert!(behind.set.is_empty());
    }

    #[test]
    fn a_script_that_runs_nothing_is_refused() {
        let error = job("SHOW TABLES; QUIT; INSERT INTO b SELECT * FROM t;").unwrap_err();
        assert!(error.message.contains("no INSERT"), "{error}");
    }
}
