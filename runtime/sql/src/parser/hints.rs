//! Hints: `/*+ OPTIONS('k' = 'v') */` behind a table's name, `/*+ STATE_TTL('a' = '1d') */` behind SELECT.
//!
//! sqlparser's tree has expressions for the first and only text for the second; both come out as [`Hint`]s again here.

use sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, OptimizerHint,
    OptimizerHintStyle, Select, TableFactor, Value,
};
use sqlparser::tokenizer::Location;

use super::cursor::Parser;
use super::function::call;
use super::token::{Token, tokenize};
use crate::ast::{OptionEntry, Text};
use crate::error::{Position, SqlError};

/// A hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// Upper case: "OPTIONS", "STATE_TTL", "LOOKUP", "BROADCAST", ..
    pub name: String,
    /// In order.
    pub args: Vec<HintArg>,
    /// Of its name.
    pub position: Position,
}

/// An argument of a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HintArg {
    /// `'k' = 'v'`.
    Entry(OptionEntry),
    /// `t`, `'t'`.
    Name(Text),
}

/// Flink's hints of queries.
const QUERY_HINTS: [&str; 7] = [
    "STATE_TTL",
    "LOOKUP",
    "MULTI_JOIN",
    "BROADCAST",
    "SHUFFLE_HASH",
    "SHUFFLE_MERGE",
    "NEST_LOOP",
];

/// The hints of a table in FROM.
pub fn table_hints(table: &TableFactor) -> Vec<Hint> {
    match table {
        TableFactor::Table { with_hints, .. } => with_hints.iter().filter_map(from_tree).collect(),
        _ => Vec::new(),
    }
}

/// The hints of a SELECT.
pub fn select_hints(select: &Select) -> Vec<Hint> {
    select.optimizer_hints.iter().flat_map(from_text).collect()
}

impl Parser<'_> {
    /// `/*+ A(..), B */`, if it comes next.
    pub(crate) fn hints(&mut self) -> Result<Vec<Hint>, SqlError> {
        if !self.accept_symbol("/*+") {
            return Ok(Vec::new());
        }
        let hints = self.hint_list()?;
        self.expect_symbol("*/")?;
        Ok(hints)
    }

    fn hint_list(&mut self) -> Result<Vec<Hint>, SqlError> {
        let mut hints = vec![self.hint()?];
        while !self.at_end() && !self.at_symbol("*/") {
            self.accept_symbol(",");
            hints.push(self.hint()?);
        }
        Ok(hints)
    }

    fn hint(&mut self) -> Result<Hint, SqlError> {
        let position = self.position();
        let name = self.identifier()?.value.to_ascii_uppercase();
        let args = match self.at_symbol("(") && !self.peek_nth(1).is_symbol(")") {
            true => self.in_parentheses(|parser| parser.comma_separated(Self::hint_arg))?,
            false => {
                if self.accept_symbol("(") {
                    self.expect_symbol(")")?;
                }
                Vec::new()
            }
        };
        Ok(Hint { name, args, position })
    }

    fn hint_arg(&mut self) -> Result<HintArg, SqlError> {
        let key = self.hint_text()?;
        if !self.accept_symbol("=") {
            return Ok(HintArg::Name(key));
        }
        let value = self.hint_text()?;
        Ok(HintArg::Entry(OptionEntry { key, value }))
    }

    fn hint_text(&mut self) -> Result<Text, SqlError> {
        let position = self.position();
        if let Some(text) = self.accept_string() {
            return Ok(text);
        }
        let parts = self.compound_identifier()?;
        let names: Vec<String> = parts.into_iter().map(|part| part.value).collect();
        Ok(Text {
            value: names.join("."),
            position,
        })
    }

    /// Hints behind a table's name.
    pub(crate) fn table_hint_exprs(&mut self) -> Result<Vec<Expr>, SqlError> {
        Ok(self.options_hints()?.iter().map(to_tree).collect())
    }

    /// The same for the table of an INSERT.
    pub(crate) fn options_hints(&mut self) -> Result<Vec<Hint>, SqlError> {
        let hints = self.hints()?;
        for hint in &hints {
            if hint.name != "OPTIONS" {
                return Err(unknown(hint, ["OPTIONS"]));
            }
            if let Some(HintArg::Name(name)) = hint.args.iter().find(|arg| matches!(arg, HintArg::Name(_))) {
                return Err(SqlError::syntax(
                    format!("Hint OPTIONS needs entries: expected = behind '{}'", name.value),
                    name.position,
                ));
            }
        }
        Ok(hints)
    }

    /// Hints behind SELECT.
    pub(crate) fn query_hints(&mut self) -> Result<Vec<OptimizerHint>, SqlError> {
        let first: &Token = self.peek_nth(1);
        let hints = self.hints()?;
        if let Some(hint) = hints
            .iter()
            .find(|hint| !QUERY_HINTS.contains(&hint.name.as_str()))
        {
            return Err(unknown(hint, QUERY_HINTS));
        }
        if hints.is_empty() {
            return Ok(Vec::new());
        }
        let text = self.text_from(first);
        Ok(vec![OptimizerHint {
            prefix: format!("{}:{}", first.position.line, first.position.column),
            text: text.strip_suffix("*/").unwrap_or(&text).to_owned(),
            style: OptimizerHintStyle::MultiLine,
        }])
    }
}

fn unknown<'a>(hint: &Hint, known: impl IntoIterator<Item = &'a str>) -> SqlError {
    SqlError::unknown("hint", &hint.name, known, hint.position)
}

fn from_text(hint: &OptimizerHint) -> Vec<Hint> {
    let position = hint.prefix.split_once(':').and_then(|(line, column)| {
        let (line, column) = (line.parse().ok()?, column.parse().ok()?);
        Some(Position { line, column })
    });
    // The parser took this text for hints before.
    let Ok(tokens) = tokenize(&hint.text, position.unwrap_or(Position::START)) else {
        return Vec::new();
    };
    let Some((end, tokens)) = tokens.split_last() else {
        return Vec::new();
    };
    Parser::new(&hint.text, tokens, end)
        .hint_list()
        .unwrap_or_default()
}

fn to_tree(hint: &Hint) -> Expr {
    let args = hint.args.iter().map(|arg| match arg {
        HintArg::Name(name) => text_tree(name),
        HintArg::Entry(entry) => Expr::BinaryOp {
            left: Box::new(text_tree(&entry.key)),
            op: BinaryOperator::Eq,
            right: Box::new(text_tree(&entry.value)),
        },
    });
    let start = Location::from(hint.position);
    call(&hint.name, start.span_to(start), args.collect())
}

fn text_tree(text: &Text) -> Expr {
    let start = Location::from(text.position);
    Expr::Value(Value::SingleQuotedString(text.value.clone()).with_span(start.span_to(start)))
}

fn from_tree(tree: &Expr) -> Option<Hint> {
    let Expr::Function(function) = tree else {
        return None;
    };
    let Ident { value, span, .. } = function.name.0.first()?.as_ident()?;
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    let args = list.args.iter().map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::BinaryOp { left, right, .. })) => {
            let (key, value) = (text_of(left)?, text_of(right)?);
            Some(HintArg::Entry(OptionEntry { key, value }))
        }
        FunctionArg::Unnamed(FunctionArgExpr::Expr(name)) => text_of(name).map(HintArg::Name),
        _ => None,
    });
    Some(Hint {
        name: value.clone(),
        args: args.collect::<Option<_>>()?,
        position: Position::of_span(*span)?,
    })
}

fn text_of(tree: &Expr) -> Option<Text> {
    let Expr::Value(value) = tree else {
        return None;
    };
    let Value::SingleQuotedString(text) = &value.value else {
        return None;
    };
    Some(Text {
        value: text.clone(),
        position: Position::of_span(value.span)?,
    })
}
