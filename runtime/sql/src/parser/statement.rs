//! Which statement it is; INSERT, statement sets, EXPLAIN, SET.

use sqlparser::ast::{Expr, Ident, Query};

use super::cursor::Parser;
use super::token::TokenKind;
use crate::ast::{ConflictAction, Explain, ExplainDetail, Insert, OptionEntry, Statement, Text};
use crate::error::SqlError;

/// Statements of Flink that are refused by name. Longer ones first.
const REFUSED: [&[&str]; 27] = [
    &["COMPILE", "AND", "EXECUTE", "PLAN"],
    &["COMPILE", "PLAN"],
    &["EXECUTE", "PLAN"],
    &["CREATE", "CATALOG"],
    &["CREATE", "DATABASE"],
    &["CREATE", "MODEL"],
    &["CREATE", "MATERIALIZED", "TABLE"],
    &["CREATE", "CONNECTION"],
    &["DROP", "CATALOG"],
    &["DROP", "DATABASE"],
    &["DROP", "MODEL"],
    &["DROP", "MATERIALIZED", "TABLE"],
    &["ALTER", "CATALOG"],
    &["ALTER", "DATABASE"],
    &["ALTER", "FUNCTION"],
    &["ALTER", "MODEL"],
    &["ALTER", "MATERIALIZED", "TABLE"],
    &["USE", "MODULES"],
    &["LOAD", "MODULE"],
    &["UNLOAD", "MODULE"],
    &["ADD", "JAR"],
    &["REMOVE", "JAR"],
    &["ANALYZE"],
    &["CALL"],
    &["STOP", "JOB"],
    &["UPDATE"],
    &["DELETE"],
];

const REFUSED_MORE: [&[&str]; 4] = [&["TRUNCATE"], &["MERGE"], &["UPSERT"], &["CLEAR"]];

impl Parser<'_> {
    /// A statement, without the `;` behind it.
    pub(crate) fn statement(&mut self) -> Result<Statement, SqlError> {
        self.refuse_statement()?;
        if self.at_query() {
            return self.query().map(Statement::Query);
        }
        let first = self.peek();
        if self.at_word("INSERT") {
            return Ok(Statement::Insert(Box::new(self.insert()?)));
        }
        if self.accept("EXECUTE") {
            return self.executed();
        }
        if self.accept_all(&["BEGIN", "STATEMENT", "SET"]) {
            self.expect_symbol(";")?;
            return self.inserts_until_end();
        }
        if self.accept("CREATE") {
            return self.create(first.position);
        }
        if self.accept("DROP") {
            return self.drop_object();
        }
        if self.accept("ALTER") {
            return self.alter();
        }
        if self.accept("SHOW") {
            return self.show(first.position);
        }
        if self.accept("DESCRIBE") || self.accept("DESC") {
            return self.describe();
        }
        if self.accept("EXPLAIN") {
            return self.explain();
        }
        if self.accept("SET") {
            return self.set();
        }
        if self.accept("RESET") {
            return Ok(Statement::Reset(self.accept_string()));
        }
        if self.accept_all(&["USE", "CATALOG"]) {
            return Ok(Statement::UseCatalog(self.identifier()?));
        }
        if self.accept("USE") {
            return Ok(Statement::UseDatabase(self.object_name()?));
        }
        if self.accept("QUIT") || self.accept("EXIT") {
            return Ok(Statement::Quit);
        }
        ["SELECT", "WITH", "VALUES"]
            .into_iter()
            .for_each(|word| self.wanted(word));
        Err(self.unexpected())
    }

    fn refuse_statement(&self) -> Result<(), SqlError> {
        let is_here = |words: &&&[&str]| {
            words
                .iter()
                .enumerate()
                .all(|(n, word)| self.peek_nth(n).is_word(word))
        };
        match REFUSED.iter().chain(&REFUSED_MORE).find(is_here) {
            Some(words) => Err(SqlError::unsupported(
                format!("{} is not supported", words.join(" ")),
                self.position(),
            )),
            None => Ok(()),
        }
    }

    fn executed(&mut self) -> Result<Statement, SqlError> {
        if self.accept_all(&["STATEMENT", "SET"]) {
            return self.statement_set();
        }
        if self.at_word("INSERT") {
            return Ok(Statement::Insert(Box::new(self.insert()?)));
        }
        self.query().map(Statement::Query)
    }

    /// `BEGIN INSERT ..; INSERT ..; END`.
    fn statement_set(&mut self) -> Result<Statement, SqlError> {
        self.expect("BEGIN")?;
        self.inserts_until_end()
    }

    fn inserts_until_end(&mut self) -> Result<Statement, SqlError> {
        let mut inserts = Vec::new();
        loop {
            if !inserts.is_empty() && self.accept("END") {
                return Ok(Statement::StatementSet(inserts));
            }
            inserts.push(self.insert()?);
            self.expect_symbol(";")?;
        }
    }

    fn insert(&mut self) -> Result<Insert, SqlError> {
        let first = self.expect("INSERT")?;
        let overwrite = self.expect_one(&["INTO", "OVERWRITE"])? == "OVERWRITE";
        let table = self.object_name()?;
        let hints = self.options_hints()?;
        let partition = match self.accept("PARTITION") {
            true => self.in_parentheses(|parser| parser.comma_separated(Self::partition_value))?,
            false => Vec::new(),
        };
        let columns = match self.at_symbol("(") && !self.at_query() && !self.at_query_in_parentheses() {
            true => self.identifiers_in_parentheses()?,
            false => Vec::new(),
        };
        let query = self.query()?;
        let on_conflict = self.on_conflict()?;
        Ok(Insert {
            table,
            hints,
            partition,
            columns,
            overwrite,
            query,
            on_conflict,
            position: first.position,
            text: self.text_from(first),
        })
    }

    fn partition_value(&mut self) -> Result<(Ident, Expr), SqlError> {
        let column = self.identifier()?;
        self.expect_symbol("=")?;
        Ok((column, self.operand()?))
    }

    fn on_conflict(&mut self) -> Result<Option<ConflictAction>, SqlError> {
        if !self.accept_all(&["ON", "CONFLICT"]) {
            return Ok(None);
        }
        self.expect("DO")?;
        Ok(Some(
            match self.expect_one(&["ERROR", "NOTHING", "DEDUPLICATE"])? {
                "ERROR" => ConflictAction::Error,
                "NOTHING" => ConflictAction::Nothing,
                _ => ConflictAction::Deduplicate,
            },
        ))
    }

    /// `PLAN FOR statement`, `CHANGELOG_MODE, .. statement`.
    fn explain(&mut self) -> Result<Statement, SqlError> {
        let mut details = Vec::new();
        if !self.accept_all(&["PLAN", "FOR"]) {
            while let Some(detail) = self.explain_detail() {
                details.push(detail);
                if !self.accept_symbol(",") {
                    break;
                }
            }
        }
        let statement = Box::new(self.explained()?);
        Ok(Statement::Explain(Explain { details, statement }))
    }

    fn explain_detail(&mut self) -> Option<ExplainDetail> {
        let word = self.accept_one(&[
            "ESTIMATED_COST",
            "CHANGELOG_MODE",
            "JSON_EXECUTION_PLAN",
            "PLAN_ADVICE",
        ])?;
        Some(match word {
            "ESTIMATED_COST" => ExplainDetail::EstimatedCost,
            "CHANGELOG_MODE" => ExplainDetail::ChangelogMode,
            "JSON_EXECUTION_PLAN" => ExplainDetail::JsonExecutionPlan,
            _ => ExplainDetail::PlanAdvice,
        })
    }

    fn explained(&mut self) -> Result<Statement, SqlError> {
        if self.at_query() {
            return self.query().map(Statement::Query);
        }
        if self.accept_all(&["STATEMENT", "SET"]) {
            return self.statement_set();
        }
        if self.accept("EXECUTE") {
            return self.executed();
        }
        if self.at_word("INSERT") {
            return Ok(Statement::Insert(Box::new(self.insert()?)));
        }
        ["SELECT", "WITH", "VALUES"]
            .into_iter()
            .for_each(|word| self.wanted(word));
        Err(self.unexpected())
    }

    fn set(&mut self) -> Result<Statement, SqlError> {
        if self.at_end() || self.at_symbol(";") {
            return Ok(Statement::Set(None));
        }
        if self.peek().kind == TokenKind::Word {
            return Err(SqlError::syntax(
                "SET needs a key and a value in quotes: SET 'key' = 'value'",
                self.position(),
            ));
        }
        Ok(Statement::Set(Some(self.option_entry()?)))
    }

    /// `'key' = 'value'`.
    pub(crate) fn option_entry(&mut self) -> Result<OptionEntry, SqlError> {
        let key = self.string()?;
        self.expect_symbol("=")?;
        Ok(OptionEntry {
            key,
            value: self.string()?,
        })
    }

    /// `('key' = 'value', ..)`.
    pub(crate) fn option_entries(&mut self) -> Result<Vec<OptionEntry>, SqlError> {
        self.in_parentheses(|parser| match parser.at_symbol(")") {
            true => Ok(Vec::new()),
            false => parser.comma_separated(Self::option_entry),
        })
    }

    /// `('key', ..)`.
    pub(crate) fn option_keys(&mut self) -> Result<Vec<Text>, SqlError> {
        self.in_parentheses(|parser| parser.comma_separated(Self::string))
    }

    /// A query and its text.
    pub(crate) fn query_with_text(&mut self) -> Result<(Box<Query>, String), SqlError> {
        let first = self.peek();
        let query = self.query()?;
        Ok((query, self.text_from(first)))
    }
}
