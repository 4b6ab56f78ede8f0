//! Subqueries in conditions and values: unnested to joins.
//!
//! ```text
//!   WHERE EXISTS (.. inner.a = outer.b ..)   Semi join on inner.a = outer.b        NOT: Anti
//!   WHERE x [NOT] IN (SELECT y ..)           Semi / Anti join on x = y
//!   (SELECT MAX(y) .. inner.a = outer.b)     Left join with the aggregate, grouped by inner.a
//!   (SELECT y ..)                            the same with SINGLE_VALUE(y), which fails when there are more rows
//! ```
//!
//! What a subquery takes of the query around it is pulled up out of its filters and becomes the join's condition. Whatever can't be
//! pulled up is refused.

use sqlparser::ast::{self as tree, BinaryOperator, Query};
use thalweg_plan::spec::JoinKind;
use thalweg_plan::{Expr, ExprKind};

use super::Binder;
use super::calls::{Calls, Placeholder, rewrite};
use super::correlation::{beside, grouped_by_outer, pulled, takes_of_outer};
use super::expression::{Allowed, ExprBinder, condition, conjunction, position_of, resolved};
use super::join::join_of;
use super::quantified::{Membership, one_row};
use super::scope::{OUTER, Scope};
use super::select::{columns_of, filtered, names_of, projected};
use crate::error::{Position, SqlError};
use crate::logical::{Aggregation, Rel, RelKind};

/// Fails when a second row comes.
const SINGLE_VALUE: &str = "SINGLE_VALUE";

impl ExprBinder<'_, '_> {
    /// `(SELECT ..)` as a value.
    pub(crate) fn scalar_subquery(
        &mut self,
        query: &Query,
        position: Option<Position>,
    ) -> Result<Expr, SqlError> {
        let rel = self.binder.query(query, Some(self.scope))?;
        let [field] = rel.schema.fields.as_slice() else {
            return Err(SqlError::semantic(
                format!(
                    "A subquery that is a value has one column, this one has {}",
                    rel.schema.fields.len()
                ),
                position,
            ));
        };
        let data_type = field.data_type.clone().materialized().with_nullable(true);
        self.calls.scalars.push(rel);
        Ok(Placeholder::Scalar.expr(self.calls.scalars.len() - 1, data_type, position))
    }
}

impl Binder<'_> {
    /// WHERE.
    pub(crate) fn filter(
        &self,
        mut rel: Rel,
        scope: &Scope,
        where_: &tree::Expr,
        clause: &'static str,
    ) -> Result<Rel, SqlError> {
        let mut plain = Vec::new();
        let mut calls = Calls::default();
        let width = rel.schema.fields.len();
        for conjunct in conjuncts(where_) {
            if let Some(test) = Membership::of(conjunct, false) {
                let values = test.values.iter();
                let values = values.map(|value| self.plain(scope, value, "IN"));
                let values = values.collect::<Result<Vec<_>, _>>()?;
                let right = self.query(test.query, Some(scope))?;
                rel = semi_join(rel, right, values, test.negated, test.position)?;
                continue;
            }
            let bound = ExprBinder {
                binder: self,
                scope,
                calls: &mut calls,
                allowed: Allowed::Nothing(clause),
                windows: &[],
                grouped: true,
            }
            .bind(conjunct)?;
            plain.push(condition(bound, clause, position_of(conjunct))?);
        }
        if plain.is_empty() {
            return Ok(rel);
        }
        rel = self.scalars(rel, &mut calls, &mut plain, false)?;
        rel = filtered(rel, conjunction(plain)?);
        let (mut columns, mut names) = (columns_of(&rel), names_of(&rel));
        columns.truncate(width);
        names.truncate(width);
        let position = rel.position;
        Ok(projected(rel, columns, names, position))
    }

    /// Splits HAVING into conditions and questions to subqueries, whose values may be aggregates.
    pub(crate) fn having(
        &self,
        binder: &mut ExprBinder<'_, '_>,
        having: &tree::Expr,
    ) -> Result<Having, SqlError> {
        let mut split = Having::default();
        for conjunct in conjuncts(having) {
            if let Some(test) = Membership::of(conjunct, false) {
                let values = test.values.iter().map(|value| binder.bind(value));
                split.tests.push(HavingTest {
                    values: values.collect::<Result<_, _>>()?,
                    width: test.values.len(),
                    query: self.query(test.query, Some(binder.scope))?,
                    negated: test.negated,
                    position: test.position,
                });
                continue;
            }
            let bound = binder.bind(conjunct)?;
            let bound = condition(bound, "HAVING", position_of(conjunct))?;
            split.condition = Some(match split.condition.take() {
                Some(before) => conjunction(vec![before, bound])?,
                None => bound,
            });
        }
        Ok(split)
    }

    /// Joins the scalar subqueries of `calls`, and puts their values for the placeholders. `is_grouped`: `rel` has groups' columns, not
    /// those that the subqueries' names were looked up in.
    pub(crate) fn scalars(
        &self,
        mut rel: Rel,
        calls: &mut Calls,
        exprs: &mut [Expr],
        is_grouped: bool,
    ) -> Result<Rel, SqlError> {
        if calls.scalars.is_empty() {
            return Ok(rel);
        }
        let mut values = Vec::new();
        for subquery in calls.scalars.drain(..) {
            let position = subquery.position;
            let is_correlated = takes_of_outer(&subquery);
            if is_grouped && is_correlated {
                return Err(SqlError::unsupported(
                    "A subquery that is a value can't take columns of a query with GROUP BY",
                    position,
                ));
            }
            let width = rel.schema.fields.len();
            let (joined, value) = match is_correlated {
                true => correlated_value(rel, subquery, width)?,
                false => {
                    let subquery = match is_single_row(&subquery) {
                        true => subquery,
                        false => one_row(SINGLE_VALUE, subquery),
                    };
                    let joined = join_of(rel, subquery, JoinKind::Left, None);
                    let data_type = joined.schema.fields[width].data_type.clone();
                    (joined, Expr::column(width, data_type))
                }
            };
            rel = joined;
            values.push(value);
        }
        for expr in exprs {
            *expr = rewrite(expr, &mut |expr| {
                Ok(match Placeholder::of(expr) {
                    Some((Placeholder::Scalar, index)) => Some(Expr {
                        data_type: expr.data_type.clone(),
                        ..values[index].clone()
                    }),
                    _ => None,
                })
            })?;
        }
        Ok(rel)
    }

    /// LATERAL (SELECT ..): a join on what the query takes of the left side.
    pub(crate) fn lateral_query(
        &self,
        left: Rel,
        scope: Scope,
        right: Rel,
        right_scope: Scope,
        kind: JoinKind,
        constraint: &tree::JoinConstraint,
    ) -> Result<(Rel, Scope), SqlError> {
        let position = right.position;
        let visible = right.schema.fields.len();
        let (right, correlated) = pulled(right)?;
        let width = left.schema.fields.len();
        let (rel, scope) = self.joined(left, scope, right, right_scope, kind, constraint)?;
        if correlated.is_empty() {
            return Ok((rel, scope));
        }
        let Rel {
            kind:
                RelKind::Join {
                    left,
                    right,
                    kind,
                    condition,
                    ttl_ms,
                    null_aware,
                },
            schema,
            ..
        } = rel
        else {
            return Err(SqlError::unsupported(
                "USING of a LATERAL query is not supported",
                position,
            ));
        };
        let mut conditions: Vec<Expr> = condition.into_iter().collect();
        conditions.extend(correlated.iter().map(|condition| beside(condition, width)));
        let rel = Rel {
            schema,
            position,
            kind: RelKind::Join {
                left,
                right,
                kind,
                condition: Some(conjunction(conditions)?),
                ttl_ms,
                null_aware,
            },
        };
        let (mut columns, mut names) = (columns_of(&rel), names_of(&rel));
        columns.truncate(width + visible);
        names.truncate(width + visible);
        Ok((projected(rel, columns, names, position), scope))
    }
}

/// HAVING in parts.
#[derive(Default)]
pub(crate) struct Having {
    condition: Option<Expr>,
    tests: Vec<HavingTest>,
}

/// IN or EXISTS in HAVING.
struct HavingTest {
    values: Vec<Expr>,
    /// How many values there are.
    width: usize,
    query: Rel,
    negated: bool,
    position: Option<Position>,
}

impl Having {
    /// All its expressions over the rows before they are grouped: the condition first.
    pub(crate) fn take_exprs(&mut self) -> Vec<Expr> {
        let values = self
            .tests
            .iter_mut()
            .flat_map(|test| std::mem::take(&mut test.values));
        self.condition.iter().cloned().chain(values).collect()
    }

    /// Keeps the groups that pass; `exprs` are those of [`Self::take_exprs`] over the groups.
    pub(crate) fn apply(self, mut groups: Rel, mut exprs: Vec<Expr>) -> Result<Rel, SqlError> {
        let mut values = exprs.split_off(usize::from(self.condition.is_some()));
        if let Some(condition) = exprs.pop() {
            groups = filtered(groups, condition);
        }
        for test in self.tests {
            if takes_of_outer(&test.query) {
                return Err(SqlError::unsupported(
                    "A subquery in HAVING can't take columns of the query around it",
                    test.position,
                ));
            }
            let width = test.width;
            let rest = values.split_off(width);
            groups = semi_join(groups, test.query, values, test.negated, test.position)?;
            values = rest;
        }
        Ok(groups)
    }
}

/// Rows of `left` for which `right` has (or hasn't) a row, with these values if there are any.
fn semi_join(
    left: Rel,
    right: Rel,
    values: Vec<Expr>,
    negated: bool,
    position: Option<Position>,
) -> Result<Rel, SqlError> {
    let columns = right.schema.fields.len();
    if !values.is_empty() && values.len() != columns {
        let message = format!(
            "IN compares {} values with a query of {columns} columns",
            values.len()
        );
        return Err(SqlError::semantic(message, position));
    }
    let (right, correlated) = pulled(right)?;
    let width = left.schema.fields.len();
    let mut conditions = Vec::new();
    let mut may_be_null = false;
    for (index, value) in values.into_iter().enumerate() {
        let other = Expr::column(width + index, right.schema.fields[index].data_type.clone());
        let nullable: Vec<Expr> = [&value, &other]
            .into_iter()
            .filter(|side| side.data_type.nullable)
            .cloned()
            .collect();
        may_be_null |= !nullable.is_empty();
        let mut equal = resolved("=", vec![value, other], position)?;
        // What can't be told apart because of a null is as if it were in the list.
        for side in nullable.into_iter().filter(|_| negated) {
            let is_null = resolved("IS NULL", vec![side], position)?;
            equal = resolved("OR", vec![equal, is_null], position)?;
        }
        conditions.push(equal);
    }
    conditions.extend(correlated.iter().map(|condition| beside(condition, width)));
    let kind = if negated { JoinKind::Anti } else { JoinKind::Semi };
    let on = match conditions.is_empty() {
        true => None,
        false => Some(conjunction(conditions)?),
    };
    let mut rel = join_of(left, right, kind, on);
    if let RelKind::Join { null_aware, .. } = &mut rel.kind {
        *null_aware = negated && may_be_null;
    }
    Ok(rel)
}

/// The value of a subquery for each row of the query around it: an aggregate without GROUP BY, which is grouped by what conditions compare
/// with the query around. A row without a group has what the aggregate of no rows is: 0 of COUNT, else NULL.
fn correlated_value(left: Rel, subquery: Rel, width: usize) -> Result<(Rel, Expr), SqlError> {
    let subquery_at = subquery.position;
    let OneRow {
        value,
        input,
        calls,
        position,
    } = OneRow::of(subquery);
    let (input, correlated) = pulled(input)?;
    let (right, conditions, first_call) =
        grouped_by_outer(input, &correlated, calls.clone(), width, position)?;
    let on = match conditions.is_empty() {
        true => None,
        false => Some(conjunction(conditions)?),
    };
    let joined = join_of(left, right, JoinKind::Left, on);
    let value = rewrite(&value, &mut |expr| {
        Ok(match &expr.kind {
            ExprKind::Call { function, args } if &**function == OUTER => Some(args[0].clone()),
            ExprKind::Column(call) => {
                let column = width + first_call + call;
                let data_type = joined.schema.fields[column].data_type.clone();
                let column = Expr::column(column, data_type).at(expr.position);
                Some(match calls[*call].function.as_str() {
                    "COUNT" => resolved("COALESCE", vec![column, super::literal::int(0)], subquery_at)?,
                    _ => column,
                })
            }
            _ => None,
        })
    })?;
    Ok((joined, value))
}

/// A subquery of one row: calls of aggregate functions over all rows, and a value that is made of their results.
struct OneRow {
    value: Expr,
    input: Rel,
    calls: Vec<Aggregation>,
    position: Option<Position>,
}

impl OneRow {
    /// A query that may have more rows fails when it has.
    fn of(subquery: Rel) -> Self {
        let subquery = match is_ungrouped(&subquery) {
            true => subquery,
            false => one_row(SINGLE_VALUE, subquery),
        };
        let data_type = subquery.schema.fields[0].data_type.clone();
        let (value, aggregate) = match subquery.kind {
            RelKind::Project { input, mut exprs } => (exprs.swap_remove(0), *input),
            kind => (Expr::column(0, data_type), Rel { kind, ..subquery }),
        };
        match aggregate.kind {
            RelKind::Aggregate { input, calls, .. } => Self {
                value,
                input: *input,
                calls,
                position: aggregate.position,
            },
            kind => Self {
                value,
                position: aggregate.position,
                input: Rel { kind, ..aggregate },
                calls: Vec::new(),
            },
        }
    }
}

/// Whether it is an aggregate without GROUP BY, or an expression over its results.
fn is_ungrouped(rel: &Rel) -> bool {
    let rel = match &rel.kind {
        RelKind::Project { input, .. } => &**input,
        _ => rel,
    };
    match &rel.kind {
        RelKind::Aggregate {
            groups, sets, window, ..
        } => groups.is_empty() && sets.len() <= 1 && window.is_none(),
        _ => false,
    }
}

/// What AND joins.
fn conjuncts(expr: &tree::Expr) -> Vec<&tree::Expr> {
    match expr {
        tree::Expr::BinaryOp {
            left,
            op: BinaryOperator::And,
            right,
        } => {
            let mut all = conjuncts(left);
            all.extend(conjuncts(right));
            all
        }
        tree::Expr::Nested(inner)
            if matches!(
                &**inner,
                tree::Expr::BinaryOp {
                    op: BinaryOperator::And,
                    ..
                }
            ) =>
        {
            conjuncts(inner)
        }
        expr => vec![expr],
    }
}

/// Whether there is at most one row.
fn is_single_row(rel: &Rel) -> bool {
    match &rel.kind {
        RelKind::Project { input, .. } | RelKind::Filter { input, .. } => is_single_row(input),
        RelKind::Aggregate { groups, sets, .. } => groups.is_empty() && sets.len() <= 1,
        RelKind::Values(rows) => rows.len() <= 1,
        RelKind::Sort { fetch, .. } => fetch.is_some_and(|fetch| fetch <= 1),
        _ => false,
    }
}
