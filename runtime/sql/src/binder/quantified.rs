//! Conditions with a subquery that stand anywhere: IN, EXISTS, ANY, ALL as values that may be unknown.
//!
//! ```text
//!   EXISTS q             one value: is there a row?
//!   x IN q, x = ANY q    is there a row with y = x, else: is one of them NULL?
//!   x < ANY q            is there a row, and is x < MAX(y), else: is a y NULL?
//!   x op ALL q           NOT (x other-op ANY q)
//! ```
//!
//! Each question is a scalar subquery, which is joined as those of the script are. WHERE and HAVING ask some of them by semi joins
//! instead ([`super::subquery`]). Invariant: the value is that of SQL's three-valued logic, as Flink's plan computes it.

use sqlparser::ast::{self as tree, BinaryOperator, Query, UnaryOperator};
use thalweg_plan::{DataType, Expr, Field, Schema, TypeRoot};

use super::calls::Placeholder;
use super::expression::{ExprBinder, conjunction, position_of, resolved};
use super::literal;
use super::scope::OUTER;
use super::select::{columns_of, filtered, names_of, projected};
use crate::error::{Position, SqlError};
use crate::logical::{Aggregation, Rel, RelKind};

/// A condition that asks whether a subquery has a row, or one with these values.
pub(super) struct Membership<'a> {
    /// Of IN; none: EXISTS.
    pub(super) values: Vec<&'a tree::Expr>,
    pub(super) query: &'a Query,
    pub(super) negated: bool,
    pub(super) position: Option<Position>,
}

impl<'a> Membership<'a> {
    pub(super) fn of(expr: &'a tree::Expr, negate: bool) -> Option<Self> {
        let position = position_of(expr);
        let test = |values, query, negated: bool| {
            Some(Self {
                values,
                query,
                negated: negated != negate,
                position,
            })
        };
        match expr {
            tree::Expr::Nested(inner) => Self::of(inner, negate),
            tree::Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr,
            } => Self::of(expr, !negate),
            tree::Expr::Exists { subquery, negated } => test(Vec::new(), subquery, *negated),
            tree::Expr::InSubquery {
                expr,
                subquery,
                negated,
            } => test(values_of(expr), subquery, *negated),
            _ => match Comparison::of(expr)? {
                Comparison {
                    left,
                    op: BinaryOperator::Eq,
                    query,
                    all: false,
                } => test(values_of(left), query, false),
                Comparison {
                    left,
                    op: BinaryOperator::NotEq,
                    query,
                    all: true,
                } => test(values_of(left), query, true),
                _ => None,
            },
        }
    }
}

fn values_of(expr: &tree::Expr) -> Vec<&tree::Expr> {
    match expr {
        tree::Expr::Tuple(values) => values.iter().collect(),
        tree::Expr::Nested(inner) => values_of(inner),
        expr => vec![expr],
    }
}

/// A comparison with any or all values of a subquery.
struct Comparison<'a> {
    left: &'a tree::Expr,
    op: &'a BinaryOperator,
    query: &'a Query,
    all: bool,
}

impl<'a> Comparison<'a> {
    fn of(expr: &'a tree::Expr) -> Option<Self> {
        let (left, op, right, all) = match expr {
            tree::Expr::AnyOp {
                left,
                compare_op,
                right,
                ..
            } => (left, compare_op, right, false),
            tree::Expr::AllOp {
                left,
                compare_op,
                right,
            } => (left, compare_op, right, true),
            _ => return None,
        };
        match &**right {
            tree::Expr::Subquery(query) => Some(Self { left, op, query, all }),
            _ => None,
        }
    }
}

impl ExprBinder<'_, '_> {
    /// EXISTS, IN, ANY or ALL of a subquery as a value.
    pub(super) fn quantified(&mut self, expr: &tree::Expr) -> Result<Expr, SqlError> {
        if let Some(test) = Membership::of(expr, false) {
            let found = self.membership(&test)?;
            return negated(found, test.negated, test.position);
        }
        let position = position_of(expr);
        let unsupported = || SqlError::unsupported(format!("{expr} is not supported"), position);
        let comparison = Comparison::of(expr).ok_or_else(unsupported)?;
        let op = match comparison.all {
            true => opposite(comparison.op),
            false => name_of(comparison.op),
        };
        let op = op.ok_or_else(unsupported)?;
        let found = self.any(op, comparison.left, comparison.query, position)?;
        negated(found, comparison.all, position)
    }

    fn membership(&mut self, test: &Membership<'_>) -> Result<Expr, SqlError> {
        let rows = self.binder.query(test.query, Some(self.scope))?;
        if test.values.is_empty() {
            return self.is_there(rows, test.position);
        }
        let values = test.values.iter().map(|value| self.bind(value));
        let values = values.collect::<Result<Vec<_>, _>>()?;
        let columns = rows.schema.fields.len();
        if values.len() != columns {
            let message = format!(
                "IN compares {} values with a query of {columns} columns",
                values.len()
            );
            return Err(SqlError::semantic(message, test.position));
        }
        let may_be_unknown = values.iter().any(|value| value.data_type.nullable)
            || rows.schema.fields.iter().any(|field| field.data_type.nullable);
        if may_be_unknown && columns > 1 {
            return Err(SqlError::unsupported(
                "IN of several values that may be NULL is supported in WHERE, alone or joined to others by AND",
                test.position,
            ));
        }
        let equal = values.iter().zip(columns_of(&rows)).map(|(value, column)| {
            refuse_placeholders(value, test.position)?;
            resolved("=", vec![column, outer(value)], test.position)
        });
        let equal = conjunction(equal.collect::<Result<_, _>>()?)?;
        let found = self.is_there(filtered(rows.clone(), equal), test.position)?;
        match values.as_slice() {
            [value] if may_be_unknown => {
                let unknown = self.is_unknown(value, rows, test.position)?;
                or_unknown(found, unknown, test.position)
            }
            _ => Ok(found),
        }
    }

    /// Whether `value = ANY rows` can't be told, if it isn't true.
    fn is_unknown(&mut self, value: &Expr, rows: Rel, position: Option<Position>) -> Result<Expr, SqlError> {
        let mut reasons = Vec::new();
        if value.data_type.nullable {
            let is_null = resolved("IS NULL", vec![value.clone()], position)?;
            let is_there = self.is_there(rows.clone(), position)?;
            reasons.push(resolved("AND", vec![is_null, is_there], position)?);
        }
        if rows.schema.fields[0].data_type.nullable {
            reasons.push(self.has_null(rows, position)?);
        }
        let mut reasons = reasons.into_iter();
        let first = reasons.next().unwrap_or_else(|| literal::boolean(false));
        reasons.try_fold(first, |one, other| resolved("OR", vec![one, other], position))
    }

    /// `left op ANY (query)`, of an order or of `<>`.
    fn any(
        &mut self,
        op: &'static str,
        left: &tree::Expr,
        query: &Query,
        position: Option<Position>,
    ) -> Result<Expr, SqlError> {
        let value = self.bind(left)?;
        let rows = self.binder.query(query, Some(self.scope))?;
        let [field] = rows.schema.fields.as_slice() else {
            let columns = rows.schema.fields.len();
            let message = format!("ANY and ALL compare with a query of one column, this one has {columns}");
            return Err(SqlError::semantic(message, position));
        };
        let is_nullable = field.data_type.nullable;
        let extremes: &[&str] = match op {
            "<" | "<=" => &["MAX"],
            ">" | ">=" => &["MIN"],
            _ => &["MIN", "MAX"],
        };
        let mut compared = Vec::new();
        for extreme in extremes {
            let extreme = self.aggregated(extreme, rows.clone(), position);
            compared.push(resolved(op, vec![value.clone(), extreme], position)?);
        }
        let mut compared = compared.into_iter();
        let first = compared.next().unwrap_or_else(|| literal::boolean(false));
        let mut found = compared.try_fold(first, |one, other| resolved("OR", vec![one, other], position))?;
        if is_nullable {
            let unknown = self.has_null(rows.clone(), position)?;
            found = or_unknown(found, unknown, position)?;
        }
        let is_there = self.is_there(rows, position)?;
        resolved("AND", vec![is_there, found], position)
    }

    /// Whether a row has NULL as its first column.
    fn has_null(&mut self, rows: Rel, position: Option<Position>) -> Result<Expr, SqlError> {
        let column = Expr::column(0, rows.schema.fields[0].data_type.clone());
        let is_null = resolved("IS NULL", vec![column], position)?;
        self.is_there(filtered(rows, is_null), position)
    }

    fn is_there(&mut self, rows: Rel, position: Option<Position>) -> Result<Expr, SqlError> {
        let (columns, names) = (columns_of(&rows), names_of(&rows));
        let at = rows.position;
        let mark = [vec![literal::boolean(true)], columns].concat();
        let names = [vec!["$mark".to_owned()], names].concat();
        // Not COUNT: one more row changes nothing.
        let mark = self.aggregated("MIN", projected(rows, mark, names, at), position);
        resolved("IS NOT NULL", vec![mark], position)
    }

    /// The value of an aggregate function over the first column of all rows.
    fn aggregated(&mut self, function: &str, rows: Rel, position: Option<Position>) -> Expr {
        let rel = one_row(function, rows);
        let data_type = rel.schema.fields[0].data_type.clone();
        self.calls.scalars.push(rel);
        Placeholder::Scalar.expr(self.calls.scalars.len() - 1, data_type, position)
    }
}

/// One row: what a function makes of the first column.
pub(super) fn one_row(function: &str, rows: Rel) -> Rel {
    let position = rows.position;
    let data_type = rows.schema.fields[0].data_type.clone();
    let data_type = data_type.materialized().with_nullable(true);
    Rel {
        schema: Schema {
            fields: vec![Field::new("EXPR$0".to_owned(), data_type.clone())],
        },
        position,
        kind: RelKind::Aggregate {
            input: Box::new(rows),
            groups: Vec::new(),
            sets: Vec::new(),
            grouping_ids: Vec::new(),
            calls: vec![Aggregation {
                function: function.to_owned(),
                args: vec![0],
                distinct: false,
                filter: None,
                data_type,
                name: "EXPR$0".to_owned(),
                position,
            }],
            window: None,
            ttl_ms: None,
        },
    }
}

fn outer(value: &Expr) -> Expr {
    Expr::call(OUTER, vec![value.clone()], value.data_type.clone())
}

/// TRUE, else NULL where it is unknown, else FALSE.
fn or_unknown(found: Expr, unknown: Expr, position: Option<Position>) -> Result<Expr, SqlError> {
    let null = literal::null().cast(DataType::nullable(TypeRoot::Boolean));
    let unknown = resolved("AND", vec![unknown, null], position)?;
    resolved("OR", vec![found, unknown], position)
}

fn negated(found: Expr, negate: bool, position: Option<Position>) -> Result<Expr, SqlError> {
    match negate {
        true => resolved("NOT", vec![found], position),
        false => Ok(found),
    }
}

fn refuse_placeholders(value: &Expr, position: Option<Position>) -> Result<(), SqlError> {
    let mut found = false;
    value.visit(&mut |expr| found |= Placeholder::of(expr).is_some());
    match found {
        true => Err(SqlError::unsupported(
            "IN of an aggregate, an OVER window or a subquery is not supported here: compute it in a query below",
            position,
        )),
        false => Ok(()),
    }
}

fn name_of(op: &BinaryOperator) -> Option<&'static str> {
    Some(match op {
        BinaryOperator::Lt => "<",
        BinaryOperator::LtEq => "<=",
        BinaryOperator::Gt => ">",
        BinaryOperator::GtEq => ">=",
        BinaryOperator::NotEq => "<>",
        _ => return None,
    })
}

fn opposite(op: &BinaryOperator) -> Option<&'static str> {
    Some(match op {
        BinaryOperator::Lt => ">=",
        BinaryOperator::LtEq => ">",
        BinaryOperator::Gt => "<=",
        BinaryOperator::GtEq => "<",
        BinaryOperator::Eq => "<>",
        _ => return None,
    })
}
