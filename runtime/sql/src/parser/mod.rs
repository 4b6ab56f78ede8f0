//! The parser of Flink's dialect.
//!
//! ```text
//!   text --token--> tokens --cursor--> statement | create | alter | show ---> ast::Statement
//!                                        query, table, hints                    sqlparser's Query
//!                                        expression, function, json, types      sqlparser's Expr
//! ```
//!
//! sqlparser has the trees of queries and expressions; its grammar is the sum of all dialects and has neither Flink's clauses nor a position for
//! every error, so the grammar here is our own. Invariants: a clause that isn't understood is an error at its place; no input makes the
//! parser panic, recurse without bound or take more than linear space.

mod alter;
mod create;
mod cursor;
mod expression;
mod function;
#[cfg(test)]
mod fuzz;
pub mod hints;
mod json;
mod query;
mod show;
mod special;
mod statement;
mod table;
#[cfg(test)]
mod tests;
pub(crate) mod token;
pub mod types;
mod units;
pub(crate) mod words;

use sqlparser::ast::{Expr, Query};

use crate::ast::Statement;
use crate::error::{Position, SqlError};
use crate::stack::with_stack;
use cursor::Parser;
use token::tokenize;

/// A statement of a script, where it stands, and its text.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// What it is.
    pub statement: Statement,
    /// Of its first word.
    pub position: Position,
    /// From its first word to its last, without `;`.
    pub text: String,
}

/// All statements of a text, `;` between them.
pub fn parse_statements(text: &str) -> Result<Vec<Parsed>, SqlError> {
    within(text, Position::START, |parser| {
        let mut statements = Vec::new();
        loop {
            while parser.accept_symbol(";") {}
            if parser.at_end() {
                return Ok(statements);
            }
            let first = parser.peek();
            let statement = parser.statement()?;
            statements.push(Parsed {
                statement,
                position: first.position,
                text: parser.text_from(first),
            });
            if !parser.at_end() {
                parser.expect_symbol(";")?;
            }
        }
    })
}

/// A text that is one statement.
pub fn parse_statement(text: &str) -> Result<Statement, SqlError> {
    within(text, Position::START, |parser| {
        let statement = parser.statement()?;
        parser.accept_symbol(";");
        Ok(statement)
    })
}

/// A text that is a query; its first character is at `position`.
pub fn parse_query(text: &str, position: Position) -> Result<Box<Query>, SqlError> {
    within(text, position, |parser| parser.query())
}

/// A text that is an expression; its first character is at `position`.
pub fn parse_expression(text: &str, position: Position) -> Result<Expr, SqlError> {
    within(text, position, |parser| parser.expression())
}

/// Parses a whole text.
fn within<T>(
    text: &str,
    position: Position,
    parse: impl FnOnce(&mut Parser<'_>) -> Result<T, SqlError>,
) -> Result<T, SqlError> {
    let parsed = tokenize(text, position).and_then(|tokens| match tokens.split_last() {
        Some((end, tokens)) => {
            let mut parser = Parser::new(text, tokens, end);
            let parsed = with_stack(|| parse(&mut parser))?;
            parser.expect_end()?;
            Ok(parsed)
        }
        None => Err(SqlError::syntax("There is nothing", position)),
    });
    parsed.map_err(|error| match position {
        Position::START => error.with_source(text),
        _ => error,
    })
}
