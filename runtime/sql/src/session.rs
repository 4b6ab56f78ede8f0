//! A session: statements in order, each against the catalog and configuration that those before it left.
//!
//! ```text
//!   CREATE, DROP, SET --> catalog, configuration       SHOW, DESCRIBE, EXPLAIN --> rows
//!   INSERT, SELECT, STATEMENT SET --binder, physical--> Job: a plan, for whoever runs it
//! ```
//!
//! Invariant: a statement that fails leaves the session as it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use thalweg_functions::EvaluationEnv;
use thalweg_functions::user::UserFunctions;
use thalweg_plan::connector::Connectors;
use thalweg_plan::{NodeSpec, Plan, Schema};
use thalweg_types::config::{Configuration, RuntimeMode, options};

use crate::ast::{Explain, ExplainDetail, Insert, Statement};
use crate::binder::Binder;
use crate::catalog::{Catalog, Rows};
use crate::error::{Position, SqlError};
use crate::logical::BoundStatement;
use crate::parser::Parsed;
use crate::physical::{ExplainDetails, check_user_functions, explain, plan, state_warnings};
use crate::stack::with_stack;

/// What a statement gives.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "one at a time")]
pub enum Outcome {
    /// Nothing to show.
    Done,
    /// A result.
    Rows(Rows),
    /// A text: EXPLAIN's.
    Text(String),
    /// Something to run.
    Job(SqlJob),
    /// QUIT: nothing follows.
    Quit,
}

/// A job of one or more INSERTs, or a SELECT.
#[derive(Debug, Clone)]
pub struct SqlJob {
    /// `pipeline.name`, or what Flink names it: "insert-into_default_catalog.default_database.t".
    pub name: String,
    /// Its operators.
    pub plan: Plan,
    /// The session's as it was.
    pub configuration: Configuration,
    /// The columns of a SELECT; `None`: INSERT.
    pub result: Option<Schema>,
    /// Operators whose state only grows.
    pub warnings: Vec<String>,
}

/// Statements and what they left.
#[derive(Debug)]
pub struct Session {
    catalog: Catalog,
    /// What it began with.
    initial: Configuration,
    configuration: Configuration,
    /// What SET set.
    set: BTreeMap<String, String>,
    /// When its statements are executed; `None`: now.
    statement_time_ms: Option<i64>,
    /// What packages bring along.
    functions: Arc<UserFunctions>,
}

impl Session {
    /// With that configuration.
    pub fn new(configuration: Configuration) -> Self {
        Self {
            catalog: Catalog::default(),
            initial: configuration.clone(),
            configuration,
            set: BTreeMap::new(),
            statement_time_ms: None,
            functions: Arc::default(),
        }
    }

    /// With users' functions, for CREATE FUNCTION to name.
    #[must_use]
    pub fn with_functions(self, functions: Arc<UserFunctions>) -> Self {
        Self { functions, ..self }
    }

    /// All its statements are executed at that time, in Unix milliseconds.
    #[must_use]
    pub fn at(self, statement_time_ms: i64) -> Self {
        Self {
            statement_time_ms: Some(statement_time_ms),
            ..self
        }
    }

    /// The configuration as SET left it.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// What SET set.
    pub(crate) fn changed(&self) -> &BTreeMap<String, String> {
        &self.set
    }

    /// The session's time zone and clock.
    pub fn env(&self) -> Result<EvaluationEnv, SqlError> {
        let env = env_of(&self.configuration)?;
        Ok(EvaluationEnv {
            statement_time_ms: self.statement_time_ms.unwrap_or(env.statement_time_ms),
            functions: Arc::clone(&self.functions),
            ..env
        })
    }

    /// Executes a statement; a job is planned, not run.
    pub fn execute(&mut self, parsed: &Parsed, connectors: &dyn Connectors) -> Result<Outcome, SqlError> {
        with_stack(|| self.executed(parsed, connectors))
    }

    fn executed(&mut self, parsed: &Parsed, connectors: &dyn Connectors) -> Result<Outcome, SqlError> {
        match &parsed.statement {
            Statement::Set(None) => Ok(Outcome::Rows(self.settings())),
            Statement::Set(Some(entry)) => {
                self.set(&entry.key.value, &entry.value.value, entry.key.position)?;
                Ok(Outcome::Done)
            }
            Statement::Reset(key) => {
                match key {
                    Some(key) => drop(self.set.remove(&key.value)),
                    None => self.set.clear(),
                }
                self.configuration = self.initial.clone();
                for (key, value) in &self.set {
                    self.configuration.set(key, value);
                }
                Ok(Outcome::Done)
            }
            Statement::CreateTable(create) => {
                let env = self.env()?;
                self.catalog.create_table(create, &env).map(|()| Outcome::Done)
            }
            Statement::CreateView(create) => {
                let env = self.env()?;
                self.catalog.create_view(create, &env).map(|()| Outcome::Done)
            }
            Statement::CreateFunction(create) => self.catalog.create_function(create).map(|()| Outcome::Done),
            Statement::Drop(dropped) => self.catalog.drop(dropped).map(|()| Outcome::Done),
            Statement::AlterTable(alter) => {
                let env = self.env()?;
                self.catalog.alter_table(alter, &env).map(|()| Outcome::Done)
            }
            Statement::AlterView(alter) => {
                let env = self.env()?;
                self.catalog.alter_view(alter, &env).map(|()| Outcome::Done)
            }
            Statement::Show(show) => self.catalog.show(show).map(Outcome::Rows),
            Statement::Describe(describe) => self.catalog.describe(describe).map(Outcome::Rows),
            Statement::UseCatalog(name) => {
                self.catalog.use_catalog(name)?;
                Ok(Outcome::Done)
            }
            Statement::UseDatabase(name) => {
                self.catalog.use_database(name)?;
                Ok(Outcome::Done)
            }
            Statement::Explain(wanted) => self.explain(wanted, connectors),
            Statement::Quit => Ok(Outcome::Quit),
            statement => {
                let bound = self.bind(statement, parsed.position)?;
                self.job(&bound, connectors).map(Outcome::Job)
            }
        }
    }

    /// The key must be known and the value one of its type.
    fn set(&mut self, key: &str, value: &str, position: Position) -> Result<(), SqlError> {
        let mut changed = self.configuration.clone();
        changed.set(key, value);
        changed
            .check()
            .map_err(|error| SqlError::option(error.to_string(), position))?;
        env_of(&changed).map_err(|error| error.or_at(position))?;
        self.configuration = changed;
        self.set.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    fn settings(&self) -> Rows {
        let row = |(key, value): (&str, &str)| vec![key.to_owned(), value.to_owned()];
        let mut rows: Vec<Vec<String>> = self.configuration.iter().map(row).collect();
        rows.sort_unstable();
        Rows {
            names: vec!["key".to_owned(), "value".to_owned()],
            rows,
        }
    }

    pub(crate) fn bind(
        &self,
        statement: &Statement,
        position: Position,
    ) -> Result<Vec<BoundStatement>, SqlError> {
        let hints = self.configuration.get(&options::TABLE_DYNAMIC_OPTIONS_ENABLED);
        let hints = hints.map_err(|error| SqlError::option(error.to_string(), None))?;
        let binder = Binder::new(&self.catalog, self.env()?, hints);
        match statement {
            Statement::Query(query) => Ok(vec![binder.console(query)?]),
            Statement::Insert(insert) => Ok(vec![binder.insert(insert)?]),
            Statement::StatementSet(inserts) if inserts.is_empty() => {
                Err(SqlError::semantic("A statement set needs an INSERT", position))
            }
            Statement::StatementSet(inserts) => inserts
                .iter()
                .map(|insert: &Insert| binder.insert(insert))
                .collect(),
            _ => Err(SqlError::unsupported(
                "This statement can't be explained or run",
                position,
            )),
        }
    }

    pub(crate) fn job(
        &self,
        bound: &[BoundStatement],
        connectors: &dyn Connectors,
    ) -> Result<SqlJob, SqlError> {
        let plan = plan(bound, connectors, &self.configuration)?;
        check_user_functions(&plan, &self.functions)?;
        let name = self.configuration.get(&options::PIPELINE_NAME);
        let name = name.map_err(|error| SqlError::option(error.to_string(), None))?;
        let result = match bound {
            [BoundStatement::Select { .. }] => plan.nodes.iter().find_map(|node| match &node.spec {
                NodeSpec::Sink(sink) => Some(sink.schema.clone()),
                _ => None,
            }),
            _ => None,
        };
        Ok(SqlJob {
            name: name.unwrap_or_else(|| job_name(bound)),
            warnings: match self.env()?.is_batch {
                true => Vec::new(),
                false => state_warnings(&plan),
            },
            configuration: self.configuration.clone(),
            result,
            plan,
        })
    }

    fn explain(&self, wanted: &Explain, connectors: &dyn Connectors) -> Result<Outcome, SqlError> {
        let bound = self.bind(&wanted.statement, Position::START)?;
        let details = ExplainDetails {
            changelog_mode: wanted.details.contains(&ExplainDetail::ChangelogMode),
        };
        explain(&bound, connectors, &self.configuration, details).map(Outcome::Text)
    }
}

fn job_name(bound: &[BoundStatement]) -> String {
    let names = bound.iter().filter_map(|statement| match statement {
        BoundStatement::Insert { table, .. } => Some(table.path.to_string()),
        BoundStatement::Select { .. } => None,
    });
    let names: Vec<String> = names.collect();
    match names.is_empty() {
        true => "collect".to_owned(),
        false => format!("insert-into_{}", names.join(",")),
    }
}

fn env_of(configuration: &Configuration) -> Result<EvaluationEnv, SqlError> {
    let zone = configuration.get(&options::TABLE_LOCAL_TIME_ZONE);
    let zone = zone.map_err(|error| SqlError::option(error.to_string(), None))?;
    let time_zone = if zone == "default" { "UTC".to_owned() } else { zone };
    let mode = configuration.get(&options::RUNTIME_MODE);
    let mode = mode.map_err(|error| SqlError::option(error.to_string(), None))?;
    let now = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |since| since.as_millis() as i64)
    };
    Ok(EvaluationEnv {
        time_zone,
        clock: Arc::new(now),
        statement_time_ms: now(),
        is_batch: mode == RuntimeMode::Batch,
        functions: Arc::default(),
    })
}
