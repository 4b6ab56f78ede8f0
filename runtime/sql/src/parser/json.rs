//! Functions of JSON with their clauses; what they become is in the table of [`crate::ast`].

use sqlparser::ast::{Expr, FunctionArgumentClause, FunctionArguments, JsonReturningClause, Value};
use sqlparser::tokenizer::Span;

use super::cursor::Parser;
use super::function::{plain, text_literal};
use super::types::type_tree;
use crate::error::SqlError;

/// `NULL ON EMPTY`, as the two arguments that it becomes.
struct Behaviors {
    empty: (Expr, Expr),
    error: (Expr, Expr),
}

impl Parser<'_> {
    pub(crate) fn json_value(&mut self) -> Result<Expr, SqlError> {
        let name = self.next();
        let (args, clauses) = self.in_parentheses(|parser| {
            let input = parser.json_input()?;
            let returning = parser.json_returning()?;
            let words: Words = &[
                (&["NULL"], "NULL"),
                (&["ERROR"], "ERROR"),
                (&["DEFAULT"], "DEFAULT"),
            ];
            let behaviors = parser.json_behaviors(words, "NULL")?;
            let (empty, error) = (behaviors.empty, behaviors.error);
            Ok((
                [input, vec![empty.0, empty.1, error.0, error.1]].concat(),
                returning,
            ))
        })?;
        Ok(function("JSON_VALUE", name.span(), args, clauses))
    }

    pub(crate) fn json_query(&mut self) -> Result<Expr, SqlError> {
        let name = self.next();
        let (args, clauses) = self.in_parentheses(|parser| {
            let input = parser.json_input()?;
            let returning = parser.json_returning()?;
            let wrapper = parser.json_wrapper()?;
            let words: Words = &[
                (&["NULL"], "NULL"),
                (&["ERROR"], "ERROR"),
                (&["EMPTY", "ARRAY"], "EMPTY ARRAY"),
                (&["EMPTY", "OBJECT"], "EMPTY OBJECT"),
            ];
            let behaviors = parser.json_behaviors(words, "NULL")?;
            Ok((
                [input, vec![wrapper, behaviors.empty.0, behaviors.error.0]].concat(),
                returning,
            ))
        })?;
        Ok(function("JSON_QUERY", name.span(), args, clauses))
    }

    pub(crate) fn json_exists(&mut self) -> Result<Expr, SqlError> {
        let name = self.next();
        let args = self.in_parentheses(|parser| {
            let mut args = parser.json_input()?;
            let span = parser.peek().span();
            let behavior = parser.accept_one(&["TRUE", "FALSE", "UNKNOWN", "ERROR"]);
            if behavior.is_some() {
                parser.expect_all(&["ON", "ERROR"])?;
            }
            args.push(text_literal(behavior.unwrap_or("FALSE"), span));
            Ok(args)
        })?;
        Ok(function("JSON_EXISTS", name.span(), args, None))
    }

    /// `JSON_OBJECT(KEY k VALUE v, .. ABSENT ON NULL)`, `JSON_OBJECTAGG(..)`.
    pub(crate) fn json_object(&mut self) -> Result<Expr, SqlError> {
        let name = self.next();
        let upper = name.value.to_ascii_uppercase();
        let args = self.in_parentheses(|parser| {
            let mut entries = Vec::new();
            if !parser.at_symbol(")") && !parser.at_on_null() {
                parser.json_entry(&mut entries)?;
                while upper == "JSON_OBJECT" && parser.accept_symbol(",") {
                    parser.json_entry(&mut entries)?;
                }
            }
            parser.json_on_null("NULL", entries)
        })?;
        self.behind_call(plain(&upper, name.span(), args))
    }

    fn json_entry(&mut self, entries: &mut Vec<Expr>) -> Result<(), SqlError> {
        let behind = self.peek_nth(1);
        let is_keyword = self.at_word("KEY")
            && !behind.is_word("VALUE")
            && !behind.is_symbol(":")
            && !behind.is_symbol(".");
        if is_keyword {
            self.next();
        }
        entries.push(self.expression()?);
        if !self.accept("VALUE") {
            self.expect_symbol(":")?;
        }
        entries.push(self.expression()?);
        self.refuse_format_json()
    }

    /// `JSON_ARRAY(v, .. NULL ON NULL)`, `JSON_ARRAYAGG(v ..)`.
    pub(crate) fn json_array(&mut self) -> Result<Expr, SqlError> {
        let name = self.next();
        let upper = name.value.to_ascii_uppercase();
        let args = self.in_parentheses(|parser| {
            let mut items = Vec::new();
            if !parser.at_symbol(")") && !parser.at_on_null() {
                loop {
                    items.push(parser.expression()?);
                    parser.refuse_format_json()?;
                    if upper != "JSON_ARRAY" || !parser.accept_symbol(",") {
                        break;
                    }
                }
            }
            if parser.at_word("ORDER") {
                return Err(parser.unsupported_here("ORDER BY in JSON_ARRAYAGG"));
            }
            parser.json_on_null("ABSENT", items)
        })?;
        self.behind_call(plain(&upper, name.span(), args))
    }

    fn at_on_null(&self) -> bool {
        self.at_words(&["NULL", "ON", "NULL"]) || self.at_words(&["ABSENT", "ON", "NULL"])
    }

    fn json_on_null(&mut self, default: &'static str, mut rest: Vec<Expr>) -> Result<Vec<Expr>, SqlError> {
        let span = self.peek().span();
        let behavior = self.accept_one(&["NULL", "ABSENT"]);
        if behavior.is_some() {
            self.expect_all(&["ON", "NULL"])?;
        }
        rest.insert(0, text_literal(behavior.unwrap_or(default), span));
        Ok(rest)
    }

    fn json_input(&mut self) -> Result<Vec<Expr>, SqlError> {
        let input = self.expression()?;
        self.refuse_format_json()?;
        self.expect_symbol(",")?;
        let path = self.expression()?;
        if self.at_word("PASSING") {
            return Err(self.unsupported_here("PASSING"));
        }
        Ok(vec![input, path])
    }

    fn refuse_format_json(&self) -> Result<(), SqlError> {
        match self.at_words(&["FORMAT", "JSON"]) {
            true => Err(self.unsupported_here("FORMAT JSON")),
            false => Ok(()),
        }
    }

    fn unsupported_here(&self, what: &str) -> SqlError {
        SqlError::unsupported(format!("{what} is not supported"), self.position())
    }

    fn json_returning(&mut self) -> Result<Option<FunctionArgumentClause>, SqlError> {
        if !self.accept("RETURNING") {
            return Ok(None);
        }
        let span = self.peek().span();
        let type_def = self.data_type()?;
        self.refuse_format_json()?;
        Ok(Some(FunctionArgumentClause::JsonReturningClause(
            JsonReturningClause {
                data_type: type_tree(&type_def, span),
            },
        )))
    }

    fn json_wrapper(&mut self) -> Result<Expr, SqlError> {
        let span = self.peek().span();
        let wrapper = if self.accept("WITHOUT") {
            "WITHOUT"
        } else if self.accept("WITH") {
            self.accept_one(&["CONDITIONAL", "UNCONDITIONAL"])
                .unwrap_or("UNCONDITIONAL")
        } else {
            return Ok(text_literal("WITHOUT", span));
        };
        self.accept("ARRAY");
        self.expect("WRAPPER")?;
        Ok(text_literal(wrapper, span))
    }

    fn json_behaviors(&mut self, words: Words, default: &str) -> Result<Behaviors, SqlError> {
        let nothing = |span: Span| Expr::Value(Value::Null.with_span(span));
        let span = self.peek().span();
        let or_default = || (text_literal(default, span), nothing(span));
        let (mut empty, mut error) = (None, None);
        while let Some((_, behavior)) = words.iter().find(|(keywords, _)| self.at_words(keywords)) {
            let span = self.peek().span();
            let position = self.position();
            let value = match self.accept("DEFAULT") {
                true => self.operand()?,
                false => {
                    for _ in behavior.split(' ') {
                        self.next();
                    }
                    nothing(span)
                }
            };
            self.expect("ON")?;
            let slot = match self.expect_one(&["EMPTY", "ERROR"])? {
                "EMPTY" => &mut empty,
                _ => &mut error,
            };
            if slot.replace((text_literal(behavior, span), value)).is_some() {
                return Err(SqlError::syntax("This is said twice", position));
            }
        }
        Ok(Behaviors {
            empty: empty.unwrap_or_else(or_default),
            error: error.unwrap_or_else(or_default),
        })
    }
}

/// Keywords, and the behaviour that they are.
type Words = &'static [(&'static [&'static str], &'static str)];

fn function(name: &str, span: Span, args: Vec<Expr>, clause: Option<FunctionArgumentClause>) -> Expr {
    let mut function = plain(name, span, args);
    if let FunctionArguments::List(list) = &mut function.args {
        list.clauses.extend(clause);
    }
    Expr::Function(function)
}
