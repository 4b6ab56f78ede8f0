//! From the trees of the parser to relations: what each name means, which type everything has.
//!
//! ```text
//!   mod      queries: WITH, set operations, VALUES, ORDER BY, LIMIT     insert  what is written into a table
//!   from     tables, joins, functions    window  TUMBLE and its like    select  one SELECT
//!   aggregate GROUP BY     over  OVER     subquery  IN, EXISTS, values   expression, call, literal   scope  names
//! ```
//!
//! Invariants: nothing is guessed: a name that means nothing or two things is an error at its place; a relation that comes out has no
//! subqueries, no placeholders and nothing of a query around it.

mod aggregate;
mod call;
mod calls;
mod correlation;
mod expression;
mod from;
mod insert;
mod join;
pub(crate) mod literal;
mod over;
mod quantified;
pub(crate) mod scope;
mod select;
mod subquery;
#[cfg(test)]
mod tests;
mod window;

use std::cell::{Cell, RefCell};

use sqlparser::ast::{
    self as tree, LimitClause, OrderBy, OrderByExpr, OrderByKind, Query, SetExpr, SetOperator, SetQuantifier,
    Values,
};
use thalweg_functions::{EvaluationEnv, common_type, implicit_cast};
use thalweg_plan::spec::SortKey;
use thalweg_plan::{DataType, Expr, ExprKind, Field, Literal, Schema};

use crate::catalog::Catalog;
use crate::error::{Position, SqlError};
use crate::logical::{Rel, RelKind};
pub(crate) use expression::position_of;
use scope::Scope;
use select::{by_position_or_alias, columns_of, distinct, names_of, projected};

/// Queries and views in one another; the parser allows no more either.
const MAX_DEPTH: usize = 100;

/// Binds queries against a catalog.
pub(crate) struct Binder<'a> {
    catalog: &'a Catalog,
    env: EvaluationEnv,
    hints: bool,
    /// WITH's queries, the innermost last.
    common_tables: RefCell<Vec<(String, Rel)>>,
    /// STATE_TTL of the SELECT whose FROM is bound.
    ttls: RefCell<Vec<Ttl>>,
    depth: Cell<usize>,
}

/// One entry of STATE_TTL.
struct Ttl {
    /// Of a table of FROM.
    table: String,
    ms: u64,
    position: Position,
    is_used: bool,
}

impl<'a> Binder<'a> {
    /// `hints`: `table.dynamic-table-options.enabled`.
    pub(crate) fn new(catalog: &'a Catalog, env: EvaluationEnv, hints: bool) -> Self {
        Self {
            catalog,
            env,
            hints,
            common_tables: RefCell::default(),
            ttls: RefCell::default(),
            depth: Cell::new(0),
        }
    }

    fn catalog(&self) -> &Catalog {
        self.catalog
    }

    fn env(&self) -> &EvaluationEnv {
        &self.env
    }

    fn time_zone(&self) -> &str {
        &self.env.time_zone
    }

    fn allows_hints(&self) -> bool {
        self.hints
    }

    /// Binds something one level deeper.
    fn nested<T>(
        &self,
        position: Option<Position>,
        bind: impl FnOnce() -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        if self.depth.get() >= MAX_DEPTH {
            return Err(SqlError::semantic(
                format!("More than {MAX_DEPTH} queries in one another"),
                position,
            ));
        }
        self.depth.set(self.depth.get() + 1);
        let bound = bind();
        self.depth.set(self.depth.get() - 1);
        bound
    }

    /// A view's query: it sees no WITH of the query that reads it.
    fn view(&self, query: &Query) -> Result<Rel, SqlError> {
        let around = self.common_tables.take();
        let bound = self.query(query, None);
        self.common_tables.replace(around);
        bound
    }

    fn common_table(&self, name: &str) -> Option<Rel> {
        let tables = self.common_tables.borrow();
        tables
            .iter()
            .rev()
            .find(|(known, _)| known == name)
            .map(|(_, rel)| rel.clone())
    }

    /// A whole query; `outer`: the names of the query around it.
    pub(crate) fn query(&self, query: &Query, outer: Option<&Scope>) -> Result<Rel, SqlError> {
        self.nested(Position::of(query), || {
            let before = self.common_tables.borrow().len();
            let bound = self.with(query, outer);
            self.common_tables.borrow_mut().truncate(before);
            bound
        })
    }

    fn with(&self, query: &Query, outer: Option<&Scope>) -> Result<Rel, SqlError> {
        for table in query.with.iter().flat_map(|with| &with.cte_tables) {
            let mut rel = self.query(&table.query, None)?;
            from::rename(&mut rel, &table.alias)?;
            self.common_tables
                .borrow_mut()
                .push((table.alias.name.value.clone(), rel));
        }
        let no_order = Vec::new();
        let order_by = match &query.order_by {
            Some(OrderBy {
                kind: OrderByKind::Expressions(items),
                ..
            }) => items,
            _ => &no_order,
        };
        let (rel, width, order) = match &*query.body {
            SetExpr::Select(select) => {
                let block = self.select(select, order_by, outer)?;
                (block.rel, block.width, block.order)
            }
            body => {
                let rel = self.body(body, outer)?;
                let order = self.order_of(&rel, order_by)?;
                (rel.clone(), rel.schema.fields.len(), order)
            }
        };
        let (offset, fetch) = self.limits(query)?;
        Ok(sorted(rel, width, order, offset, fetch))
    }

    fn body(&self, body: &SetExpr, outer: Option<&Scope>) -> Result<Rel, SqlError> {
        match body {
            SetExpr::Select(select) => Ok(self.select(select, &[], outer)?.rel),
            SetExpr::Query(query) => self.query(query, outer),
            SetExpr::Values(values) => self.values(values, outer),
            SetExpr::SetOperation {
                op,
                set_quantifier,
                left,
                right,
            } => {
                let position = Position::of(body);
                self.nested(position, || {
                    let (left, right) = (self.body(left, outer)?, self.body(right, outer)?);
                    set_operation(left, right, *op, *set_quantifier == SetQuantifier::All, position)
                })
            }
            other => Err(SqlError::unsupported(
                format!("{other} is not supported here"),
                Position::of(other),
            )),
        }
    }

    /// ORDER BY of a set operation or VALUES: by what it puts out.
    fn order_of(&self, rel: &Rel, items: &[OrderByExpr]) -> Result<Vec<(usize, bool, bool)>, SqlError> {
        let names = names_of(rel);
        let scope = Scope::of_table(None, Vec::new(), &rel.schema);
        let keys = items.iter().map(|item| {
            let descending = item.options.asc == Some(false);
            let nulls_first = item.options.nulls_first.unwrap_or(!descending);
            if let Some(column) = by_position_or_alias(&item.expr, &names)? {
                return Ok((column, descending, nulls_first));
            }
            match self.plain(&scope, &item.expr, "ORDER BY")?.kind {
                ExprKind::Column(column) => Ok((column, descending, nulls_first)),
                _ => Err(SqlError::unsupported(
                    "ORDER BY of UNION, INTERSECT, EXCEPT or VALUES sorts by columns",
                    position_of(&item.expr),
                )),
            }
        });
        keys.collect()
    }

    /// OFFSET and LIMIT or FETCH.
    fn limits(&self, query: &Query) -> Result<(u64, Option<u64>), SqlError> {
        let (mut offset, mut fetch) = (0, None);
        if let Some(LimitClause::LimitOffset {
            limit,
            offset: skipped,
            ..
        }) = &query.limit_clause
        {
            fetch = limit
                .as_ref()
                .map(|limit| self.row_count(limit, "LIMIT"))
                .transpose()?;
            if let Some(skipped) = skipped {
                offset = self.row_count(&skipped.value, "OFFSET")?;
            }
        }
        if let Some(clause) = &query.fetch {
            fetch = Some(match &clause.quantity {
                Some(quantity) => self.row_count(quantity, "FETCH")?,
                None => 1,
            });
        }
        Ok((offset, fetch))
    }

    fn row_count(&self, expr: &tree::Expr, clause: &'static str) -> Result<u64, SqlError> {
        match self.plain(&Scope::default(), expr, clause)?.kind {
            ExprKind::Literal(Literal::Int(count)) if count >= 0 => Ok(count as u64),
            _ => Err(SqlError::of_type(
                format!("{clause} needs a whole number of rows"),
                position_of(expr),
            )),
        }
    }

    fn values(&self, values: &Values, outer: Option<&Scope>) -> Result<Rel, SqlError> {
        let mut scope = Scope::default();
        scope.outer = outer.map(|scope| Box::new(scope.clone()));
        let mut rows = Vec::with_capacity(values.rows.len());
        for row in &values.rows {
            let exprs = row.content.iter().map(|expr| self.plain(&scope, expr, "VALUES"));
            rows.push(exprs.collect::<Result<Vec<_>, _>>()?);
        }
        let position = values
            .rows
            .first()
            .and_then(|row| Position::of_span(row.opening_token.0.span));
        let width = rows.first().map_or(0, Vec::len);
        if let Some(row) = rows.iter().find(|row| row.len() != width) {
            let message = format!("Rows of VALUES have as many values: {width} and {}", row.len());
            return Err(SqlError::of_type(message, position));
        }
        let mut fields = Vec::with_capacity(width);
        for column in 0..width {
            let types: Vec<DataType> = rows.iter().map(|row| row[column].data_type.clone()).collect();
            let Some(common) = common_type(&types) else {
                let message = format!("Values of column {} have no type in common", column + 1);
                return Err(SqlError::of_type(message, position));
            };
            for row in &mut rows {
                let value = std::mem::replace(&mut row[column], literal::null());
                row[column] = cast_to(value, &common)?;
            }
            fields.push(Field::new(format!("EXPR${column}"), common));
        }
        Ok(Rel {
            kind: RelKind::Values(rows),
            schema: Schema { fields },
            position,
        })
    }
}

/// A value as another type that it may become by itself.
pub(crate) fn cast_to(value: Expr, to: &DataType) -> Result<Expr, SqlError> {
    let position = value.position.map(|(line, column)| Position { line, column });
    implicit_cast(value, to).map_err(|error| SqlError::of_type(error.message, position))
}

/// ORDER BY, OFFSET, LIMIT; columns behind `width` were there to sort by.
fn sorted(rel: Rel, width: usize, order: Vec<(usize, bool, bool)>, offset: u64, fetch: Option<u64>) -> Rel {
    if order.is_empty() && offset == 0 && fetch.is_none() {
        return rel;
    }
    let position = rel.position;
    let keys = order
        .into_iter()
        .map(|(column, descending, nulls_first)| SortKey {
            column,
            descending,
            nulls_first,
        });
    let rel = Rel {
        schema: rel.schema.clone(),
        position,
        kind: RelKind::Sort {
            input: Box::new(rel),
            keys: keys.collect(),
            offset,
            fetch,
        },
    };
    let (mut columns, mut names) = (columns_of(&rel), names_of(&rel));
    columns.truncate(width);
    names.truncate(width);
    projected(rel, columns, names, position)
}

/// UNION, INTERSECT, EXCEPT of columns that have types in common.
fn set_operation(
    left: Rel,
    right: Rel,
    op: SetOperator,
    all: bool,
    position: Option<Position>,
) -> Result<Rel, SqlError> {
    let (count, other) = (left.schema.fields.len(), right.schema.fields.len());
    if count != other {
        let message = format!("Column count mismatch in {op}: {count} and {other}");
        return Err(SqlError::semantic(message, position));
    }
    let mut fields = Vec::with_capacity(count);
    for (a, b) in left.schema.fields.iter().zip(&right.schema.fields) {
        let types = [a.data_type.clone(), b.data_type.clone()];
        let Some(common) = common_type(&types) else {
            let message = format!(
                "Type mismatch in column '{}' of {op}: {} and {}",
                a.name, a.data_type, b.data_type
            );
            return Err(SqlError::of_type(message, position));
        };
        fields.push(Field::new(a.name.clone(), common));
    }
    let schema = Schema { fields };
    let (left, right) = (cast_columns(left, &schema)?, cast_columns(right, &schema)?);
    let kind = match op {
        SetOperator::Union => {
            let mut branches = Vec::new();
            for side in [left, right] {
                match side.kind {
                    RelKind::Union(inner) => branches.extend(inner),
                    _ => branches.push(side),
                }
            }
            RelKind::Union(branches)
        }
        op => RelKind::SetOperation {
            except: op != SetOperator::Intersect,
            all,
            left: Box::new(left),
            right: Box::new(right),
        },
    };
    let rel = Rel {
        kind,
        schema,
        position,
    };
    Ok(if op == SetOperator::Union && !all {
        distinct(rel)
    } else {
        rel
    })
}

fn cast_columns(rel: Rel, to: &Schema) -> Result<Rel, SqlError> {
    let columns = columns_of(&rel).into_iter().zip(&to.fields);
    let columns = columns.map(
        |(column, field)| match column.data_type.root == field.data_type.root {
            true => Ok(column),
            false => {
                let nullable = column.data_type.nullable;
                cast_to(column, &field.data_type.clone().with_nullable(nullable))
            }
        },
    );
    let exprs = columns.collect::<Result<Vec<_>, _>>()?;
    let names = to.fields.iter().map(|field| field.name.clone()).collect();
    let position = rel.position;
    Ok(projected(rel, exprs, names, position))
}
