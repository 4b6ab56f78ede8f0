//! SELECT: one query block.
//!
//! ```text
//!   FROM -> WHERE -> [groups, aggregates -> HAVING] -> [scalar subqueries] -> [OVER] -> projection -> [DISTINCT]
//! ```
//!
//! All expressions of SELECT, HAVING and ORDER BY are bound over FROM's columns first, with placeholders for what isn't there yet; each
//! step then replaces the placeholders that it computes.

use sqlparser::ast::{
    self as tree, Distinct, GroupByExpr, OrderByExpr, Select, SelectItem, SelectItemQualifiedWildcardKind,
};
use thalweg_plan::{Expr, ExprKind, Field, Schema};
use thalweg_types::config::parse_duration;

use super::calls::{Calls, same};
use super::expression::{Allowed, ExprBinder, position_of};
use super::scope::Scope;
use super::subquery::Having;
use super::window::is_window_time;
use super::{Binder, Ttl};
use crate::ast::{HintArg, select_hints};
use crate::error::{Position, SqlError};
use crate::logical::{Rel, RelKind};

/// A bound SELECT, ready to be sorted by what it doesn't put out, too.
pub(crate) struct Block {
    /// Its rows; the first `width` columns are those of SELECT.
    pub(crate) rel: Rel,
    pub(crate) width: usize,
    /// Of ORDER BY: column, DESC, NULLS FIRST.
    pub(crate) order: Vec<(usize, bool, bool)>,
}

impl Binder<'_> {
    /// A SELECT with the ORDER BY behind it.
    pub(crate) fn select(
        &self,
        select: &Select,
        order_by: &[OrderByExpr],
        outer: Option<&Scope>,
    ) -> Result<Block, SqlError> {
        let position = Position::of(select);
        let around = self.ttls.replace(state_ttls(select)?);
        let (mut rel, mut scope) = self.from(&select.from, outer)?;
        let mut ttls = self.ttls.replace(around);
        scope.outer = outer.map(|scope| Box::new(scope.clone()));
        if let Some(condition) = &select.selection {
            rel = self.filter(rel, &scope, condition, "WHERE")?;
        }
        let GroupByExpr::Expressions(group_by, _) = &select.group_by else {
            return Err(SqlError::unsupported("GROUP BY ALL is not supported", position));
        };
        let mut calls = Calls::default();
        let mut binder = ExprBinder {
            binder: self,
            scope: &scope,
            calls: &mut calls,
            allowed: Allowed::All,
            windows: &select.named_window,
            grouped: !group_by.is_empty(),
        };
        let (mut exprs, mut names) = projection(&mut binder, &select.projection)?;
        let width = exprs.len();
        let order = order(&mut binder, order_by, &mut exprs, &names)?;
        binder.allowed = Allowed::Aggregates;
        let mut having = match &select.having {
            Some(having) => self.having(&mut binder, having)?,
            None => Having::default(),
        };
        // HAVING is lowered to the groups' columns with all others.
        let own = exprs.len();
        exprs.extend(having.take_exprs());

        let is_grouped = !group_by.is_empty() || !calls.aggregates.is_empty() || select.having.is_some();
        if is_grouped {
            rel = self.grouped(rel, &scope, group_by, &mut calls, &mut exprs, position)?;
            set_state_ttl(&mut rel, &scope, &mut ttls);
        } else if let Some(window) = calls.windows.first() {
            return Err(SqlError::semantic(
                "Functions of a group window need it in GROUP BY",
                window.position,
            ));
        }
        refuse_unused(&ttls)?;
        rel = self.scalars(rel, &mut calls, &mut exprs, is_grouped)?;
        rel = having.apply(rel, exprs.split_off(own))?;
        rel = self.overs(rel, &calls, &mut exprs)?;
        if matches!(select.distinct, Some(Distinct::Distinct)) && exprs.len() > width {
            return Err(SqlError::semantic(
                "ORDER BY of a SELECT DISTINCT sorts by its own columns",
                position,
            ));
        }
        names.extend((width..exprs.len()).map(|index| format!("$sort{index}")));
        rel = projected(rel, exprs, names, position);
        if matches!(select.distinct, Some(Distinct::Distinct)) {
            rel = distinct(rel);
        }
        Ok(Block { rel, width, order })
    }
}

/// The entries of STATE_TTL.
fn state_ttls(select: &Select) -> Result<Vec<Ttl>, SqlError> {
    let hints = select_hints(select);
    let hints = hints.iter().filter(|hint| hint.name == "STATE_TTL");
    let entries = hints.flat_map(|hint| &hint.args).map(|arg| match arg {
        HintArg::Entry(entry) => {
            let duration =
                parse_duration(&entry.value.value).and_then(|ttl| u64::try_from(ttl.as_millis()).ok());
            let ms = duration.ok_or_else(|| {
                let message = format!("'{}' is no duration, as '1d'", entry.value.value);
                SqlError::option(message, entry.value.position)
            })?;
            Ok(Ttl {
                table: entry.key.value.clone(),
                ms,
                position: entry.key.position,
                is_used: false,
            })
        }
        HintArg::Name(name) => {
            let message = format!("STATE_TTL needs entries: expected = behind '{}'", name.value);
            Err(SqlError::syntax(message, name.position))
        }
    });
    entries.collect()
}

/// The entry of the one table whose rows GROUP BY groups. Flink's hint of an aggregation names its input.
fn set_state_ttl(rel: &mut Rel, scope: &Scope, ttls: &mut [Ttl]) {
    let [table] = scope.tables.as_slice() else {
        return;
    };
    let entry = ttls
        .iter_mut()
        .find(|ttl| Some(&*ttl.table) == table.name.as_deref());
    if let (Some(entry), RelKind::Aggregate { ttl_ms, .. }) = (entry, &mut rel.kind) {
        *ttl_ms = Some(entry.ms);
        entry.is_used = true;
    }
}

fn refuse_unused(ttls: &[Ttl]) -> Result<(), SqlError> {
    match ttls.iter().find(|ttl| !ttl.is_used) {
        Some(ttl) => {
            let message = format!(
                "STATE_TTL names '{}', which is no table that a join or the GROUP BY of this SELECT reads",
                ttl.table
            );
            Err(SqlError::unsupported(message, ttl.position))
        }
        None => Ok(()),
    }
}

/// SELECT's expressions and names.
fn projection(
    binder: &mut ExprBinder<'_, '_>,
    items: &[SelectItem],
) -> Result<(Vec<Expr>, Vec<String>), SqlError> {
    let (mut exprs, mut names) = (Vec::new(), Vec::new());
    for item in items {
        match item {
            SelectItem::Wildcard(options) => {
                let before = exprs.len();
                for column in binder.scope.all() {
                    exprs.push(Expr::column(column.index, column.data_type.clone()));
                    names.push(column.name.clone());
                }
                if exprs.len() == before {
                    let position = Position::of_span(options.wildcard_token.0.span);
                    return Err(SqlError::semantic("SELECT * needs a FROM", position));
                }
            }
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                let parts: Vec<_> = name
                    .0
                    .iter()
                    .filter_map(|part| part.as_ident().cloned())
                    .collect();
                let Some(table) = binder.scope.of(&parts) else {
                    let known = binder
                        .scope
                        .tables
                        .iter()
                        .filter_map(|table| table.name.as_deref());
                    return Err(SqlError::unknown(
                        "table",
                        &name.to_string(),
                        known,
                        Position::of(name),
                    ));
                };
                for column in &table.columns {
                    exprs.push(Expr::column(column.index, column.data_type.clone()));
                    names.push(column.name.clone());
                }
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                exprs.push(binder.bind(expr)?);
                names.push(alias.value.clone());
            }
            SelectItem::UnnamedExpr(expr) => {
                let name = name_of(expr).unwrap_or_else(|| format!("EXPR${}", exprs.len()));
                exprs.push(binder.bind(expr)?);
                names.push(name);
            }
            other => {
                return Err(SqlError::unsupported(
                    format!("{other} is not supported"),
                    Position::of(other),
                ));
            }
        }
    }
    Ok((exprs, names))
}

/// The name that a column has without an alias.
fn name_of(expr: &tree::Expr) -> Option<String> {
    match expr {
        tree::Expr::Identifier(name) => Some(name.value.clone()),
        tree::Expr::CompoundIdentifier(parts) => parts.last().map(|name| name.value.clone()),
        tree::Expr::CompoundFieldAccess { access_chain, .. } => match access_chain.last() {
            Some(tree::AccessExpr::Dot(tree::Expr::Identifier(name))) => Some(name.value.clone()),
            _ => None,
        },
        tree::Expr::Nested(inner) => name_of(inner),
        _ => None,
    }
}

/// ORDER BY: by a position, by an alias, else by an expression that becomes a column behind those of SELECT.
fn order(
    binder: &mut ExprBinder<'_, '_>,
    items: &[OrderByExpr],
    exprs: &mut Vec<Expr>,
    names: &[String],
) -> Result<Vec<(usize, bool, bool)>, SqlError> {
    let width = exprs.len();
    let mut keys = Vec::with_capacity(items.len());
    for item in items {
        let descending = item.options.asc == Some(false);
        let nulls_first = item.options.nulls_first.unwrap_or(!descending);
        let column = match by_position_or_alias(&item.expr, names)? {
            Some(column) => column,
            None => {
                let bound = binder.bind(&item.expr)?;
                match exprs.iter().position(|expr| same(expr, &bound)) {
                    Some(column) => column,
                    None => {
                        exprs.push(bound);
                        exprs.len() - 1
                    }
                }
            }
        };
        debug_assert!(column < exprs.len() && width <= exprs.len());
        keys.push((column, descending, nulls_first));
    }
    Ok(keys)
}

/// `ORDER BY 2`, `ORDER BY alias`.
pub(crate) fn by_position_or_alias(expr: &tree::Expr, names: &[String]) -> Result<Option<usize>, SqlError> {
    match expr {
        tree::Expr::Value(tree::ValueWithSpan {
            value: tree::Value::Number(number, _),
            ..
        }) => match number.parse::<usize>() {
            Ok(place) if (1..=names.len()).contains(&place) => Ok(Some(place - 1)),
            _ => Err(SqlError::semantic(
                format!("ORDER BY {number}: there are {} columns", names.len()),
                position_of(expr),
            )),
        },
        tree::Expr::Identifier(name) => Ok(names.iter().position(|known| *known == name.value)),
        _ => Ok(None),
    }
}

/// A filter.
pub(crate) fn filtered(input: Rel, condition: Expr) -> Rel {
    Rel {
        schema: input.schema.clone(),
        position: input.position,
        kind: RelKind::Filter {
            input: Box::new(input),
            condition,
        },
    }
}

/// A projection, unless it changes nothing.
pub(crate) fn projected(input: Rel, exprs: Vec<Expr>, names: Vec<String>, position: Option<Position>) -> Rel {
    let fields = exprs.iter().zip(names);
    let schema = Schema {
        fields: fields
            .map(|(expr, name)| Field::new(name, expr.data_type.clone()))
            .collect(),
    };
    let columns = exprs.iter().enumerate();
    let is_identity = exprs.len() == input.schema.fields.len()
        && columns
            .into_iter()
            .all(|(index, expr)| expr.kind == ExprKind::Column(index))
        && input.schema == schema;
    if is_identity {
        return input;
    }
    Rel {
        schema,
        position,
        kind: RelKind::Project {
            input: Box::new(input),
            exprs,
        },
    }
}

/// Each row once. A time attribute stays one only as the time of a window.
pub(crate) fn distinct(input: Rel) -> Rel {
    let fields = input.schema.fields.iter().enumerate();
    let fields = fields.map(|(index, field)| match is_window_time(&input, index) {
        true => field.clone(),
        false => Field::new(field.name.clone(), field.data_type.clone().materialized()),
    });
    Rel {
        schema: Schema {
            fields: fields.collect(),
        },
        position: input.position,
        kind: RelKind::Aggregate {
            groups: (0..input.schema.fields.len()).collect(),
            input: Box::new(input),
            sets: Vec::new(),
            grouping_ids: Vec::new(),
            calls: Vec::new(),
            window: None,
            ttl_ms: None,
        },
    }
}

/// All columns of a relation.
pub(crate) fn columns_of(rel: &Rel) -> Vec<Expr> {
    let fields = rel.schema.fields.iter().enumerate();
    fields
        .map(|(index, field)| Expr::column(index, field.data_type.clone()))
        .collect()
}

/// The names of its columns.
pub(crate) fn names_of(rel: &Rel) -> Vec<String> {
    rel.schema.fields.iter().map(|field| field.name.clone()).collect()
}
