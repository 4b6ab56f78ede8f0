//! A script: text with variables, several statements.
//!
//! `${key}` stands for the value of a variable that the user gave (`-D key=value`), everywhere but in comments. Invariant: a script is parsed
//! as a whole before anything of it is executed.

use std::collections::BTreeMap;

use crate::error::{Position, SqlError, SqlErrorKind};
use crate::parser::{Parsed, parse_statements};

/// A script whose every statement is understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    /// Its text, variables put in: what positions are in.
    pub text: String,
    /// In order.
    pub statements: Vec<Parsed>,
}

impl Script {
    /// Puts variables in and parses all statements.
    pub fn parse(text: &str, variables: &BTreeMap<String, String>) -> Result<Self, SqlError> {
        let text = substitute(text, variables)?;
        let statements = parse_statements(&text)?;
        Ok(Self { text, statements })
    }
}

/// Puts the values of variables in.
fn substitute(text: &str, variables: &BTreeMap<String, String>) -> Result<String, SqlError> {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    let mut quote = None;
    while let Some(next) = rest.chars().next() {
        let taken = match (quote, next) {
            (None, '-' | '/') if rest.starts_with("--") || rest.starts_with("//") => {
                rest.find('\n').unwrap_or(rest.len())
            }
            (None, '/') if rest.starts_with("/*") && !rest.starts_with("/*+") => {
                rest.find("*/").map_or(rest.len(), |end| end + 2)
            }
            (_, '$') if rest.starts_with("${") => {
                let (value, length) = variable(rest, variables).map_err(|(message, kind)| {
                    let position = position_of(text, text.len() - rest.len());
                    SqlError::new(kind, message, position).with_source(text)
                })?;
                done.push_str(value);
                rest = rest.get(length..).unwrap_or_default();
                continue;
            }
            (None, '\'' | '`') => {
                quote = Some(next);
                1
            }
            (Some(open), _) if open == next => {
                quote = None;
                1
            }
            _ => next.len_utf8(),
        };
        let (before, behind) = rest.split_at(taken);
        done.push_str(before);
        rest = behind;
    }
    Ok(done)
}

/// The value of the variable that `text` begins with, and how long `${key}` is.
fn variable<'a>(
    text: &str,
    variables: &'a BTreeMap<String, String>,
) -> Result<(&'a str, usize), (String, SqlErrorKind)> {
    let end = text.find('}').filter(|end| !text[..*end].contains('\n'));
    let Some(end) = end else {
        let message = "A variable ${ is not closed: expected }".to_owned();
        return Err((message, SqlErrorKind::Syntax));
    };
    let key = text[2..end].trim();
    match variables.get(key) {
        Some(value) => Ok((value, end + 1)),
        None => {
            let unknown = SqlError::unknown("variable", key, variables.keys().map(String::as_str), None);
            let message = format!(
                "{}; give it by -D {key}=value",
                unknown.message.trim_end_matches('?')
            );
            Err((message, SqlErrorKind::Unknown))
        }
    }
}

fn position_of(text: &str, byte: usize) -> Position {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let bounded = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Position {
        line: bounded(line),
        column: bounded(column),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> BTreeMap<String, String> {
        [("rows", "10"), ("topic", "bids")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn variables_are_put_in_everywhere_but_in_comments() {
        let text = "-- ${no}\nSELECT '${topic}', ${ rows }, `it's` /* ${no} */; -- '\nSELECT 1";
        let done = substitute(text, &variables()).unwrap();
        assert_eq!(
            done,
            "-- ${no}\nSELECT 'bids', 10, `it's` /* ${no} */; -- '\nSELECT 1"
        );
    }

    #[test]
    fn an_unknown_variable_is_named_where_it_stands() {
        let error = substitute("SELECT 1;\nSELECT ${row}", &variables()).unwrap_err();
        assert_eq!(error.position, Some(Position { line: 2, column: 8 }));
        assert_eq!(
            error.message,
            "Unknown variable 'row'; did you mean 'rows'; give it by -D row=value"
        );
    }

    #[test]
    fn statements_end_at_semicolons_outside_of_strings_comments_and_blocks() {
        let text = "SET 'a' = 'b;c';;\n-- ;\nEXECUTE STATEMENT SET BEGIN\nINSERT INTO a SELECT 1; INSERT INTO b SELECT 2;\nEND;\nSELECT 3";
        let script = Script::parse(text, &BTreeMap::new()).unwrap();
        let texts: Vec<&str> = script
            .statements
            .iter()
            .map(|parsed| parsed.text.as_str())
            .collect();
        assert_eq!(texts.len(), 3);
        assert_eq!(texts[0], "SET 'a' = 'b;c'");
        assert!(texts[1].ends_with("END"));
        assert_eq!(script.statements[2].position, Position { line: 6, column: 1 });
    }

    #[test]
    fn the_older_statement_set_is_one_statement() {
        let script = Script::parse(
            "BEGIN STATEMENT SET; INSERT INTO a SELECT 1; END;",
            &BTreeMap::new(),
        )
        .unwrap();
        assert!(
            matches!(&script.statements[0].statement, crate::ast::Statement::StatementSet(inserts) if inserts.len() == 1)
        );
    }
}
