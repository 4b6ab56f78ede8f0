//! Calls with all that stands behind them: arguments, FILTER, OVER.

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgOperator,
    FunctionArgumentClause, FunctionArgumentList, FunctionArguments, Ident, NullTreatment, ObjectName,
    OrderByExpr, Value, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowSpec, WindowType,
};
use sqlparser::tokenizer::Span;

use super::cursor::Parser;
use super::token::TokenKind;
use crate::error::SqlError;

impl Parser<'_> {
    /// A call of `name`; the parenthesis comes next.
    pub(crate) fn function(&mut self, name: ObjectName) -> Result<Expr, SqlError> {
        let args = self.in_parentheses(Self::arguments)?;
        let function = Function {
            name,
            uses_odbc_syntax: false,
            parameters: FunctionArguments::None,
            args: FunctionArguments::List(args),
            filter: None,
            null_treatment: None,
            over: None,
            within_group: Vec::new(),
        };
        self.behind_call(function)
    }

    fn arguments(&mut self) -> Result<FunctionArgumentList, SqlError> {
        let mut list = FunctionArgumentList {
            duplicate_treatment: None,
            args: Vec::new(),
            clauses: Vec::new(),
        };
        if self.at_symbol(")") {
            return Ok(list);
        }
        if self.accept_symbol("*") {
            list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Wildcard));
            return Ok(list);
        }
        list.duplicate_treatment = match self.accept_one(&["DISTINCT", "ALL"]) {
            Some("DISTINCT") => Some(DuplicateTreatment::Distinct),
            Some(_) => Some(DuplicateTreatment::All),
            None => None,
        };
        list.args = self.comma_separated(Self::argument)?;
        if let Some(treatment) = self.null_treatment()? {
            list.clauses
                .push(FunctionArgumentClause::IgnoreOrRespectNulls(treatment));
        }
        if self.at_word("ORDER") {
            list.clauses
                .push(FunctionArgumentClause::OrderBy(self.order_by()?));
        }
        Ok(list)
    }

    /// Arguments of a table function, in parentheses.
    pub(crate) fn table_function_arguments(&mut self) -> Result<Vec<FunctionArg>, SqlError> {
        self.in_parentheses(|parser| match parser.at_symbol(")") {
            true => Ok(Vec::new()),
            false => parser.comma_separated(Self::argument),
        })
    }

    fn argument(&mut self) -> Result<FunctionArg, SqlError> {
        if !self.peek_nth(1).is_symbol("=>") {
            return Ok(FunctionArg::Unnamed(FunctionArgExpr::Expr(
                self.argument_value()?,
            )));
        }
        // A parameter's name is no identifier of the script: TIMECOL, SIZE, and reserved words, too.
        let token = self.peek();
        if !matches!(token.kind, TokenKind::Word | TokenKind::Quoted) {
            return Err(self.unexpected());
        }
        let name = super::cursor::ident(self.next());
        self.expect_symbol("=>")?;
        Ok(FunctionArg::Named {
            name,
            arg: FunctionArgExpr::Expr(self.argument_value()?),
            operator: FunctionArgOperator::RightArrow,
        })
    }

    fn argument_value(&mut self) -> Result<Expr, SqlError> {
        if self.at_word("DEFAULT") {
            return Err(self.no_such("DEFAULT as an argument"));
        }
        if self.at_words(&["TABLE"]) {
            return self.table_argument();
        }
        if self.at_query() {
            return Ok(Expr::Subquery(self.query()?));
        }
        self.expression()
    }

    /// `TABLE t [PARTITION BY ..] [ORDER BY ..]`.
    fn table_argument(&mut self) -> Result<Expr, SqlError> {
        let table = self.expect("TABLE")?;
        let operand = match self.at_query_in_parentheses() {
            true => Expr::Subquery(self.in_parentheses(Self::query)?),
            false => super::expression::name(self.compound_identifier()?),
        };
        let partition_by = match self.accept_all(&["PARTITION", "BY"]) {
            false => Vec::new(),
            true if self.at_symbol("(") => {
                self.in_parentheses(|parser| parser.comma_separated(Self::expression))?
            }
            true => vec![self.expression()?],
        };
        let order_by = match self.at_word("ORDER") {
            true => self.order_by()?,
            false => Vec::new(),
        };
        let mut function = plain("TABLE", table.span(), vec![operand]);
        if !partition_by.is_empty() || !order_by.is_empty() {
            function.over = Some(WindowType::WindowSpec(WindowSpec {
                window_name: None,
                partition_by,
                order_by,
                window_frame: None,
            }));
        }
        Ok(Expr::Function(function))
    }

    /// WITHIN GROUP, FILTER, OVER.
    pub(crate) fn behind_call(&mut self, mut function: Function) -> Result<Expr, SqlError> {
        if self.accept_all(&["WITHIN", "GROUP"]) {
            function.within_group = self.in_parentheses(Self::order_by)?;
        }
        if self.at_word("FILTER") && self.peek_nth(1).is_symbol("(") {
            self.next();
            function.filter = Some(self.in_parentheses(|parser| {
                parser.expect("WHERE")?;
                parser.expression().map(Box::new)
            })?);
        }
        function.null_treatment = self.null_treatment()?;
        if self.accept("OVER") {
            function.over = Some(match self.at_symbol("(") {
                true => WindowType::WindowSpec(self.window_spec()?),
                false => WindowType::NamedWindow(self.identifier()?),
            });
        }
        Ok(Expr::Function(function))
    }

    fn null_treatment(&mut self) -> Result<Option<NullTreatment>, SqlError> {
        Ok(if self.accept_all(&["IGNORE", "NULLS"]) {
            Some(NullTreatment::IgnoreNulls)
        } else if self.accept_all(&["RESPECT", "NULLS"]) {
            Some(NullTreatment::RespectNulls)
        } else {
            None
        })
    }

    /// `(w PARTITION BY .. ORDER BY .. ROWS ..)`.
    pub(crate) fn window_spec(&mut self) -> Result<WindowSpec, SqlError> {
        self.in_parentheses(|parser| {
            let window_name = match parser.at_word("PARTITION") {
                true => None,
                false => parser.accept_identifier(),
            };
            let partition_by = match parser.accept_all(&["PARTITION", "BY"]) {
                true => parser.comma_separated(Self::expression)?,
                false => Vec::new(),
            };
            let order_by = match parser.at_word("ORDER") {
                true => parser.order_by()?,
                false => Vec::new(),
            };
            Ok(WindowSpec {
                window_name,
                partition_by,
                order_by,
                window_frame: parser.window_frame()?,
            })
        })
    }

    fn window_frame(&mut self) -> Result<Option<WindowFrame>, SqlError> {
        let units = match self.accept_one(&["ROWS", "RANGE"]) {
            Some("ROWS") => WindowFrameUnits::Rows,
            Some(_) => WindowFrameUnits::Range,
            None => return Ok(None),
        };
        let (start_bound, end_bound) = match self.accept("BETWEEN") {
            true => {
                let start = self.frame_bound()?;
                self.expect("AND")?;
                (start, Some(self.frame_bound()?))
            }
            false => (self.frame_bound()?, None),
        };
        Ok(Some(WindowFrame {
            units,
            start_bound,
            end_bound,
        }))
    }

    fn frame_bound(&mut self) -> Result<WindowFrameBound, SqlError> {
        if self.accept_all(&["CURRENT", "ROW"]) {
            return Ok(WindowFrameBound::CurrentRow);
        }
        let distance = match self.accept("UNBOUNDED") {
            true => None,
            false => Some(Box::new(self.operand()?)),
        };
        Ok(match self.expect_one(&["PRECEDING", "FOLLOWING"])? {
            "PRECEDING" => WindowFrameBound::Preceding(distance),
            _ => WindowFrameBound::Following(distance),
        })
    }

    /// `ORDER BY a, b DESC NULLS LAST`.
    pub(crate) fn order_by(&mut self) -> Result<Vec<OrderByExpr>, SqlError> {
        self.expect_all(&["ORDER", "BY"])?;
        self.comma_separated(Self::order_by_item)
    }
}

/// A call of a function that isn't an identifier of the script.
pub(crate) fn call(name: &str, span: Span, args: Vec<Expr>) -> Expr {
    Expr::Function(plain(name, span, args))
}

/// The same as a [`Function`].
pub(crate) fn plain(name: &str, span: Span, args: Vec<Expr>) -> Function {
    let args = args
        .into_iter()
        .map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)));
    Function {
        name: ObjectName::from(vec![Ident {
            value: name.to_owned(),
            quote_style: None,
            span,
        }]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    }
}

/// A string that stands for a keyword.
pub(crate) fn text_literal(text: &str, span: Span) -> Expr {
    Expr::Value(Value::SingleQuotedString(text.to_owned()).with_span(span))
}

/// A place in sqlparser's tree.
pub(crate) fn attached(span: Span) -> AttachedToken {
    use sqlparser::tokenizer::{Token, TokenWithSpan};
    AttachedToken(TokenWithSpan::new(Token::EOF, span))
}
