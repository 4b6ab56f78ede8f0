//! Expressions, by Calcite's precedence.
//!
//! ```text
//!   OR < AND < NOT < comparison, IS .. < IN, BETWEEN, LIKE, SIMILAR < + - < * / % || < unary + - < a[i], a.b
//! ```
//!
//! Chains of AND and OR become balanced trees, so that thousands of them are no deep tree.

use sqlparser::ast::{AccessExpr, BinaryOperator, Expr, Ident, Subscript, UnaryOperator, Value};

use super::cursor::{Parser, ident};
use super::function::call;
use super::token::TokenKind;
use super::words::{is_reserved, is_structural};
use crate::error::SqlError;

impl Parser<'_> {
    /// Any expression.
    pub(crate) fn expression(&mut self) -> Result<Expr, SqlError> {
        self.nested(Self::disjunction)
    }

    fn disjunction(&mut self) -> Result<Expr, SqlError> {
        self.joined("OR", &BinaryOperator::Or, Self::conjunction)
    }

    fn conjunction(&mut self) -> Result<Expr, SqlError> {
        self.joined("AND", &BinaryOperator::And, Self::negation)
    }

    /// `a OR b OR ..`: as high as the highest term, and the balanced tree above them.
    fn joined(
        &mut self,
        word: &'static str,
        op: &BinaryOperator,
        mut term: impl FnMut(&mut Self) -> Result<Expr, SqlError>,
    ) -> Result<Expr, SqlError> {
        let mut terms = Vec::new();
        let mut heights = self.heights();
        loop {
            terms.push(term(self)?);
            heights = self.beside(heights);
            if !self.accept(word) {
                break;
            }
        }
        self.above(heights, terms.len())?;
        Ok(balanced(terms, op))
    }

    fn negation(&mut self) -> Result<Expr, SqlError> {
        let mut negations = 0_usize;
        while self.accept("NOT") {
            self.grow()?;
            negations += 1;
        }
        let mut expr = self.comparison()?;
        for _ in 0..negations {
            expr = not(expr);
        }
        Ok(expr)
    }

    fn comparison(&mut self) -> Result<Expr, SqlError> {
        let mut left = self.predicate()?;
        loop {
            if let Some(op) = self.accept_operator(&COMPARISONS) {
                self.grow()?;
                left = self.compared(left, op)?;
            } else if self.accept("IS") {
                self.grow()?;
                left = self.is_predicate(left)?;
            } else {
                return Ok(left);
            }
        }
    }

    fn accept_operator(&mut self, operators: &[(&'static str, BinaryOperator)]) -> Option<BinaryOperator> {
        let found = operators.iter().find(|(symbol, _)| self.at_symbol(symbol))?;
        self.next();
        Some(found.1.clone())
    }

    fn compared(&mut self, left: Expr, op: BinaryOperator) -> Result<Expr, SqlError> {
        let Some(quantifier) = self.accept_one(&["ANY", "SOME", "ALL"]) else {
            return Ok(binary(left, op, self.predicate()?));
        };
        if !self.at_query_in_parentheses() {
            return Err(SqlError::unsupported(
                format!("{quantifier} of a list is not supported: expected a query in parentheses"),
                self.position(),
            ));
        }
        let right = self.in_parentheses(Self::query)?;
        let right = Box::new(Expr::Subquery(right));
        let left = Box::new(left);
        Ok(match quantifier {
            "ALL" => Expr::AllOp {
                left,
                compare_op: op,
                right,
            },
            _ => Expr::AnyOp {
                left,
                compare_op: op,
                right,
                is_some: quantifier == "SOME",
            },
        })
    }

    fn is_predicate(&mut self, left: Expr) -> Result<Expr, SqlError> {
        let negated = self.accept("NOT");
        if self.accept("DISTINCT") {
            self.expect("FROM")?;
            let right = Box::new(self.predicate()?);
            return Ok(match negated {
                true => Expr::IsNotDistinctFrom(Box::new(left), right),
                false => Expr::IsDistinctFrom(Box::new(left), right),
            });
        }
        let json = self.peek().span();
        if self.accept("JSON") {
            let kind = self.accept_one(&["VALUE", "OBJECT", "ARRAY", "SCALAR"]);
            let name = match kind {
                None | Some("VALUE") => "IS JSON".to_owned(),
                Some(kind) => format!("IS JSON {kind}"),
            };
            let test = call(&name, json, vec![left]);
            return Ok(if negated { not(test) } else { test });
        }
        let left = Box::new(left);
        Ok(
            match (self.expect_one(&["NULL", "TRUE", "FALSE", "UNKNOWN"])?, negated) {
                ("NULL", false) => Expr::IsNull(left),
                ("NULL", true) => Expr::IsNotNull(left),
                ("TRUE", false) => Expr::IsTrue(left),
                ("TRUE", true) => Expr::IsNotTrue(left),
                ("FALSE", false) => Expr::IsFalse(left),
                ("FALSE", true) => Expr::IsNotFalse(left),
                (_, false) => Expr::IsUnknown(left),
                (_, true) => Expr::IsNotUnknown(left),
            },
        )
    }

    fn predicate(&mut self) -> Result<Expr, SqlError> {
        let mut left = self.sum()?;
        loop {
            let negated = self.at_word("NOT")
                && ["IN", "BETWEEN", "LIKE", "SIMILAR"]
                    .iter()
                    .any(|word| self.peek_nth(1).is_word(word));
            if negated {
                self.next();
            }
            left = match self.accept_one(&["IN", "BETWEEN", "LIKE", "SIMILAR"]) {
                Some("IN") => self.in_predicate(left, negated)?,
                Some("BETWEEN") => self.between(left, negated)?,
                Some("LIKE") => self.like(left, negated)?,
                Some(_) => self.similar(left, negated)?,
                None if self.accept("OVERLAPS") => binary(left, BinaryOperator::Overlaps, self.sum()?),
                None => return Ok(left),
            };
            self.grow()?;
        }
    }

    fn in_predicate(&mut self, left: Expr, negated: bool) -> Result<Expr, SqlError> {
        let expr = Box::new(left);
        if self.at_query_in_parentheses() {
            let subquery = self.in_parentheses(Self::query)?;
            return Ok(Expr::InSubquery {
                expr,
                subquery,
                negated,
            });
        }
        let list = self.in_parentheses(|parser| parser.comma_separated(Self::expression))?;
        Ok(Expr::InList { expr, list, negated })
    }

    fn between(&mut self, left: Expr, negated: bool) -> Result<Expr, SqlError> {
        let symmetric = self.accept_one(&["SYMMETRIC", "ASYMMETRIC"]) == Some("SYMMETRIC");
        let low = self.sum()?;
        self.expect("AND")?;
        let high = self.sum()?;
        if !symmetric {
            return Ok(Expr::Between {
                expr: Box::new(left),
                negated,
                low: Box::new(low),
                high: Box::new(high),
            });
        }
        self.duplicate()?;
        let within = |value: Expr, low: Expr, high: Expr| {
            let above = binary(value.clone(), BinaryOperator::GtEq, low);
            binary(
                above,
                BinaryOperator::And,
                binary(value, BinaryOperator::LtEq, high),
            )
        };
        let upwards = within(left.clone(), low.clone(), high.clone());
        let either = binary(upwards, BinaryOperator::Or, within(left, high, low));
        let either = Expr::Nested(Box::new(either));
        Ok(if negated { not(either) } else { either })
    }

    fn like(&mut self, left: Expr, negated: bool) -> Result<Expr, SqlError> {
        Ok(Expr::Like {
            negated,
            any: false,
            expr: Box::new(left),
            pattern: Box::new(self.sum()?),
            escape_char: self.escape()?,
        })
    }

    fn similar(&mut self, left: Expr, negated: bool) -> Result<Expr, SqlError> {
        self.expect("TO")?;
        Ok(Expr::SimilarTo {
            negated,
            expr: Box::new(left),
            pattern: Box::new(self.sum()?),
            escape_char: self.escape()?,
        })
    }

    fn escape(&mut self) -> Result<Option<sqlparser::ast::ValueWithSpan>, SqlError> {
        match self.accept("ESCAPE") {
            true => self.string_value().map(Some),
            false => Ok(None),
        }
    }

    /// An expression without comparison: what stands before a keyword that is an operator, too.
    pub(crate) fn operand(&mut self) -> Result<Expr, SqlError> {
        self.nested(Self::sum)
    }

    fn sum(&mut self) -> Result<Expr, SqlError> {
        let mut left = self.product()?;
        while let Some(op) = self.accept_operator(&SUMS) {
            self.grow()?;
            left = binary(left, op, self.product()?);
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Expr, SqlError> {
        let mut left = self.signed()?;
        while let Some(op) = self.accept_operator(&PRODUCTS) {
            self.grow()?;
            left = binary(left, op, self.signed()?);
        }
        Ok(left)
    }

    fn signed(&mut self) -> Result<Expr, SqlError> {
        let mut signs = Vec::new();
        loop {
            if self.accept_symbol("-") {
                signs.push(UnaryOperator::Minus);
            } else if self.accept_symbol("+") {
                signs.push(UnaryOperator::Plus);
            } else {
                break;
            }
            self.grow()?;
        }
        let operand = self.accessed()?;
        Ok(signs.into_iter().rev().fold(operand, |expr, op| Expr::UnaryOp {
            op,
            expr: Box::new(expr),
        }))
    }

    /// A primary with `[i]` and `.field` behind it.
    fn accessed(&mut self) -> Result<Expr, SqlError> {
        let root = self.primary()?;
        let mut access_chain = Vec::new();
        loop {
            if self.accept_symbol("[") {
                let index = self.expression()?;
                self.expect_symbol("]")?;
                access_chain.push(AccessExpr::Subscript(Subscript::Index { index }));
            } else if self.accept_symbol(".") {
                access_chain.push(AccessExpr::Dot(Expr::Identifier(self.identifier()?)));
            } else {
                break;
            }
            self.grow()?;
        }
        Ok(match access_chain.is_empty() {
            true => root,
            false => Expr::CompoundFieldAccess {
                root: Box::new(root),
                access_chain,
            },
        })
    }

    fn primary(&mut self) -> Result<Expr, SqlError> {
        let token = self.peek();
        let value = match token.kind {
            TokenKind::Number => Value::Number(token.value.clone(), false),
            TokenKind::String => Value::SingleQuotedString(token.value.clone()),
            TokenKind::Hex => Value::HexStringLiteral(token.value.clone()),
            TokenKind::Symbol("(") => return self.parenthesized(),
            TokenKind::Quoted => return self.name_or_call(),
            TokenKind::Word => return self.word(),
            TokenKind::Symbol("?") => {
                return Err(SqlError::unsupported(
                    "Parameters (?) are not supported",
                    token.position,
                ));
            }
            _ => {
                self.wanted("expression");
                return Err(self.unexpected());
            }
        };
        self.next();
        Ok(Expr::Value(value.with_span(token.span())))
    }

    fn parenthesized(&mut self) -> Result<Expr, SqlError> {
        if self.at_query_in_parentheses() {
            return Ok(Expr::Subquery(self.in_parentheses(Self::query)?));
        }
        let mut items = self.in_parentheses(|parser| parser.comma_separated(Self::expression))?;
        match (items.pop(), items.is_empty()) {
            (Some(only), true) => Ok(Expr::Nested(Box::new(only))),
            (last, _) => {
                items.extend(last);
                Ok(Expr::Tuple(items))
            }
        }
    }

    fn word(&mut self) -> Result<Expr, SqlError> {
        let token = self.peek();
        let upper = token.value.to_ascii_uppercase();
        let literal = match upper.as_str() {
            "NULL" => Some(Value::Null),
            "TRUE" => Some(Value::Boolean(true)),
            "FALSE" => Some(Value::Boolean(false)),
            _ => None,
        };
        if let Some(literal) = literal {
            self.next();
            return Ok(Expr::Value(literal.with_span(token.span())));
        }
        if let Some(special) = self.special_form(&upper)? {
            return Ok(special);
        }
        let is_call = self.peek_nth(1).is_symbol("(") && !is_structural(&upper);
        if !is_call && is_reserved(&upper) {
            self.wanted("expression");
            self.at_identifier();
            return Err(self.unexpected());
        }
        self.name_or_call()
    }

    /// `a`, `a.b.c`, `f(..)`, `c.d.f(..)`.
    fn name_or_call(&mut self) -> Result<Expr, SqlError> {
        let mut parts = vec![ident(self.next())];
        while self.at_symbol(".") && !self.peek_nth(1).is_symbol("*") {
            self.next();
            parts.push(self.identifier()?);
            self.grow()?;
        }
        if self.at_symbol("(") {
            return self.function(parts.into());
        }
        Ok(name(parts))
    }
}

/// A name of one or more parts.
pub(crate) fn name(mut parts: Vec<Ident>) -> Expr {
    match parts.pop() {
        Some(only) if parts.is_empty() => Expr::Identifier(only),
        last => {
            parts.extend(last);
            Expr::CompoundIdentifier(parts)
        }
    }
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp {
        left: Box::new(left),
        op,
        right: Box::new(right),
    }
}

fn not(expr: Expr) -> Expr {
    match expr {
        Expr::Exists { subquery, negated } => Expr::Exists {
            subquery,
            negated: !negated,
        },
        expr => Expr::UnaryOp {
            op: UnaryOperator::Not,
            expr: Box::new(expr),
        },
    }
}

fn balanced(mut terms: Vec<Expr>, op: &BinaryOperator) -> Expr {
    while terms.len() > 1 {
        let mut pairs = Vec::with_capacity(terms.len().div_ceil(2));
        let mut rest = terms.into_iter();
        while let Some(left) = rest.next() {
            pairs.push(match rest.next() {
                Some(right) => binary(left, op.clone(), right),
                None => left,
            });
        }
        terms = pairs;
    }
    terms.pop().unwrap_or(Expr::Value(Value::Null.with_empty_span()))
}

const COMPARISONS: [(&str, BinaryOperator); 7] = [
    ("=", BinaryOperator::Eq),
    ("<>", BinaryOperator::NotEq),
    ("!=", BinaryOperator::NotEq),
    ("<=", BinaryOperator::LtEq),
    (">=", BinaryOperator::GtEq),
    ("<", BinaryOperator::Lt),
    (">", BinaryOperator::Gt),
];

const SUMS: [(&str, BinaryOperator); 2] = [("+", BinaryOperator::Plus), ("-", BinaryOperator::Minus)];

const PRODUCTS: [(&str, BinaryOperator); 4] = [
    ("*", BinaryOperator::Multiply),
    ("/", BinaryOperator::Divide),
    ("%", BinaryOperator::Modulo),
    ("||", BinaryOperator::StringConcat),
];
