//! Joins of FROM: regular, USING and NATURAL, lateral, temporal.

use sqlparser::ast::{self as tree, Ident, Join, JoinConstraint, JoinOperator, TableFactor, TableVersion};
use thalweg_functions::{ResolveErrorKind, resolve_table_function};
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::spec::JoinKind;
use thalweg_plan::{DataType, Expr, ExprKind, Field, Schema, TypeRoot};

use super::Binder;
use super::expression::{condition, conjunction, position_of, resolved};
use super::from::{is_window, rename, upper};
use super::scope::{Scope, ScopeColumn};
use super::select::{columns_of, names_of, projected};
use crate::ast::table_hints;
use crate::error::{Position, SqlError, SqlErrorKind};
use crate::logical::{Rel, RelKind};

impl Binder<'_> {
    pub(super) fn join(
        &self,
        left: Rel,
        scope: Scope,
        join: &Join,
        outer: Option<&Scope>,
    ) -> Result<(Rel, Scope), SqlError> {
        let (kind, constraint) = match &join.join_operator {
            JoinOperator::Inner(constraint) => (JoinKind::Inner, constraint),
            JoinOperator::CrossJoin(constraint) => (JoinKind::Inner, constraint),
            JoinOperator::LeftOuter(constraint) => (JoinKind::Left, constraint),
            JoinOperator::RightOuter(constraint) => (JoinKind::Right, constraint),
            JoinOperator::FullOuter(constraint) => (JoinKind::Full, constraint),
            _ => {
                return Err(SqlError::unsupported(
                    "This join is not supported",
                    Position::of(join),
                ));
            }
        };
        match &join.relation {
            TableFactor::Table {
                version: Some(TableVersion::ForSystemTimeAsOf(time)),
                ..
            } => self.temporal(left, scope, &join.relation, time, kind, constraint),
            TableFactor::UNNEST { .. } => self.lateral(left, scope, &join.relation, kind, constraint),
            TableFactor::Function { name, .. } if !is_window(name) => {
                self.lateral(left, scope, &join.relation, kind, constraint)
            }
            TableFactor::Derived {
                lateral: true,
                subquery,
                alias,
                ..
            } => {
                let mut around = scope.clone();
                around.outer = outer.map(|scope| Box::new(scope.clone()));
                let right = self.query(subquery, Some(&around))?;
                let (right, right_scope) = self.aliased(right, &[], alias.as_ref())?;
                self.lateral_query(left, scope, right, right_scope, kind, constraint)
            }
            relation => {
                let (right, right_scope) = self.factor(relation, outer)?;
                self.joined(left, scope, right, right_scope, kind, constraint)
            }
        }
    }

    /// A join of two relations that are independent.
    pub(crate) fn joined(
        &self,
        left: Rel,
        mut scope: Scope,
        right: Rel,
        right_scope: Scope,
        kind: JoinKind,
        constraint: &JoinConstraint,
    ) -> Result<(Rel, Scope), SqlError> {
        let width = left.schema.fields.len();
        let right_start = scope.tables.len();
        let mut rel = join_of(left, right, kind, None);
        if let RelKind::Join { ttl_ms, .. } = &mut rel.kind {
            *ttl_ms = [self.ttl_of(&scope), self.ttl_of(&right_scope)];
        }
        scope.join(right_scope, width);
        nullable_sides(&mut scope, kind, right_start);
        let merged = match constraint {
            JoinConstraint::On(on) => {
                let bound = self.plain(&inner_types(&scope, &rel), on, "ON")?;
                set_condition(&mut rel, condition(bound, "ON", position_of(on))?);
                return Ok((rel, scope));
            }
            JoinConstraint::Using(names) => names
                .iter()
                .filter_map(|name| name.0.first().and_then(|part| part.as_ident().cloned()))
                .collect(),
            JoinConstraint::Natural => natural(&scope, right_start),
            JoinConstraint::None => return Ok((rel, scope)),
        };
        self.using(rel, scope, right_start, kind, &merged)
    }

    /// STATE_TTL of a join's side that is one table.
    fn ttl_of(&self, side: &Scope) -> Option<u64> {
        let [table] = side.tables.as_slice() else {
            return None;
        };
        let name = table.name.as_deref()?;
        let mut ttls = self.ttls.borrow_mut();
        let ttl = ttls.iter_mut().find(|ttl| ttl.table == name)?;
        ttl.is_used = true;
        Some(ttl.ms)
    }

    /// USING and NATURAL: equal columns, of which the left one is seen (of a full join whichever is there).
    fn using(
        &self,
        mut rel: Rel,
        mut scope: Scope,
        right_start: usize,
        kind: JoinKind,
        names: &[Ident],
    ) -> Result<(Rel, Scope), SqlError> {
        let mut conditions = Vec::new();
        let mut pairs = Vec::new();
        let mut shown = columns_of(&rel);
        for name in names {
            let position = Position::of_span(name.span);
            let (left, right) = (
                column_in(&scope, 0..right_start, name)?,
                column_in(&scope, right_start..scope.tables.len(), name)?,
            );
            let column = |index: usize| Expr::column(index, input_type(&rel, index));
            conditions.push(resolved("=", vec![column(left), column(right)], position)?);
            if matches!(kind, JoinKind::Right | JoinKind::Full) {
                let type_of = |index: usize| rel.schema.fields[index].data_type.clone();
                let args = vec![
                    Expr::column(left, type_of(left)),
                    Expr::column(right, type_of(right)),
                ];
                shown[left] = resolved("COALESCE", args, position)?;
            }
            let own = scope.tables[..right_start].iter_mut();
            for column in own.flat_map(|table| &mut table.columns) {
                if column.index == left {
                    column.data_type = shown[left].data_type.clone();
                }
            }
            pairs.push((left, right));
        }
        scope.merge(&pairs);
        set_condition(&mut rel, conjunction(conditions)?);
        let (names, position) = (names_of(&rel), rel.position);
        Ok((projected(rel, shown, names, position), scope))
    }

    /// UNNEST and table functions, whose arguments see what is to their left.
    fn lateral(
        &self,
        left: Rel,
        scope: Scope,
        factor: &TableFactor,
        kind: JoinKind,
        constraint: &JoinConstraint,
    ) -> Result<(Rel, Scope), SqlError> {
        let position = Position::of(factor);
        let left_outer = match kind {
            JoinKind::Inner => false,
            JoinKind::Left => true,
            _ => {
                return Err(SqlError::unsupported(
                    "A table function can be joined by INNER and LEFT only",
                    position,
                ));
            }
        };
        let (rel, scope) = self.correlated(left, scope, factor, left_outer)?;
        match constraint {
            JoinConstraint::None => Ok((rel, scope)),
            JoinConstraint::On(on) => {
                let bound = condition(self.plain(&scope, on, "ON")?, "ON", position_of(on))?;
                match (&bound.kind, left_outer) {
                    (ExprKind::Literal(thalweg_plan::Literal::Boolean(true)), _) => Ok((rel, scope)),
                    (_, false) => Ok((super::select::filtered(rel, bound), scope)),
                    (_, true) => Err(SqlError::unsupported(
                        "LEFT JOIN of a table function needs ON TRUE",
                        position_of(on),
                    )),
                }
            }
            _ => Err(SqlError::semantic(
                "A table function is joined by ON TRUE or a comma",
                position,
            )),
        }
    }

    pub(super) fn correlated(
        &self,
        left: Rel,
        mut scope: Scope,
        factor: &TableFactor,
        left_outer: bool,
    ) -> Result<(Rel, Scope), SqlError> {
        let position = Position::of(factor);
        let (function, args, alias, with_ordinality) = match factor {
            TableFactor::UNNEST {
                alias,
                array_exprs,
                with_ordinality,
                ..
            } => {
                let args = array_exprs.iter().map(|expr| self.plain(&scope, expr, "UNNEST"));
                (
                    "UNNEST".to_owned(),
                    args.collect::<Result<Vec<_>, _>>()?,
                    alias,
                    *with_ordinality,
                )
            }
            TableFactor::Function {
                name, args, alias, ..
            } => {
                let args = args.iter().map(|arg| match arg {
                    tree::FunctionArg::Unnamed(tree::FunctionArgExpr::Expr(expr)) => {
                        self.plain(&scope, expr, "a table function")
                    }
                    other => Err(SqlError::unsupported(
                        format!("Argument {other} is not supported"),
                        position,
                    )),
                });
                (upper(name), args.collect::<Result<Vec<_>, _>>()?, alias, false)
            }
            other => {
                return Err(SqlError::unsupported(
                    format!("{other} is not supported"),
                    position,
                ));
            }
        };
        let user = self.catalog().functions().class(&function);
        let signature = match user {
            Some(class) => {
                let name = function.to_ascii_lowercase();
                self.env().functions.table_call(&name, class, args)
            }
            None => resolve_table_function(&function, args),
        };
        let signature = signature.map_err(|error| match error.kind {
            ResolveErrorKind::Unknown => {
                let known = self.catalog().functions().names().chain(["UNNEST"]);
                SqlError::unknown("table function", &function, known, position)
            }
            ResolveErrorKind::Arguments => SqlError::of_type(error.message, position),
            ResolveErrorKind::Unsupported => {
                SqlError::new(SqlErrorKind::Unsupported, error.message, position)
            }
        })?;
        let mut columns = Schema {
            fields: signature.columns,
        };
        if with_ordinality {
            columns
                .fields
                .push(Field::new("ORDINALITY", DataType::not_null(TypeRoot::Int)));
        }
        if left_outer {
            for field in &mut columns.fields {
                field.data_type.nullable = true;
            }
        }
        let mut renamed = Rel {
            kind: RelKind::Values(Vec::new()),
            schema: columns,
            position,
        };
        if let Some(alias) = alias {
            rename(&mut renamed, alias)?;
        }
        let columns = renamed.schema;
        let width = left.schema.fields.len();
        let name = alias.as_ref().map(|alias| alias.name.value.clone());
        scope.join(Scope::of_table(name, Vec::new(), &columns), width);
        let mut schema = left.schema.clone();
        schema.fields.extend(columns.fields.iter().cloned());
        let rel = Rel {
            schema,
            position,
            kind: RelKind::Correlate {
                input: Box::new(left),
                function: signature.function,
                args: signature.args,
                columns,
                left_outer,
                with_ordinality,
            },
        };
        Ok((rel, scope))
    }

    /// `JOIN t FOR SYSTEM_TIME AS OF left.time`.
    fn temporal(
        &self,
        left: Rel,
        mut scope: Scope,
        factor: &TableFactor,
        time: &tree::Expr,
        kind: JoinKind,
        constraint: &JoinConstraint,
    ) -> Result<(Rel, Scope), SqlError> {
        let position = Position::of(factor);
        if !matches!(kind, JoinKind::Inner | JoinKind::Left) {
            return Err(SqlError::unsupported(
                "FOR SYSTEM_TIME AS OF is supported of INNER and LEFT JOIN",
                position,
            ));
        }
        let bound = self.plain(&scope, time, "FOR SYSTEM_TIME AS OF")?;
        let is_time = bound.data_type.time_kind() != TimeKind::Regular;
        let (ExprKind::Column(time_column), true) = (&bound.kind, is_time) else {
            return Err(SqlError::of_type(
                format!(
                    "FOR SYSTEM_TIME AS OF needs a time attribute of the left table, this is {}",
                    bound.data_type
                ),
                position_of(time),
            ));
        };
        let TableFactor::Table { name, alias, .. } = factor else {
            return Err(SqlError::unsupported(
                "FOR SYSTEM_TIME AS OF needs a named table",
                position,
            ));
        };
        let parts: Vec<Ident> = name
            .0
            .iter()
            .filter_map(|part| part.as_ident().cloned())
            .collect();
        let (right, path) = self.named_table(&parts, &table_hints(factor))?;
        let (right, right_scope) = self.aliased(right, &path, alias.as_ref())?;
        let width = left.schema.fields.len();
        let right_start = scope.tables.len();
        scope.join(right_scope, width);
        let JoinConstraint::On(on) = constraint else {
            return Err(SqlError::semantic(
                "FOR SYSTEM_TIME AS OF needs ON with the table's key",
                position,
            ));
        };
        let on_expr = condition(self.plain(&scope, on, "ON")?, "ON", position_of(on))?;
        nullable_sides(&mut scope, kind, right_start);
        let joined = join_of(left, right, kind, None);
        let RelKind::Join { left, right, .. } = joined.kind else {
            return Err(SqlError::new(SqlErrorKind::Bug, "a join is a join", position));
        };
        let rel = Rel {
            schema: joined.schema,
            position,
            kind: RelKind::TemporalJoin {
                left,
                right,
                kind,
                condition: Some(on_expr),
                time: *time_column,
            },
        };
        Ok((rel, scope))
    }
}

/// A join; outer sides become nullable.
pub(crate) fn join_of(left: Rel, right: Rel, kind: JoinKind, condition: Option<Expr>) -> Rel {
    let nullable = |fields: &[Field], outer: bool| {
        let with = |field: &Field| {
            Field::new(
                field.name.clone(),
                field
                    .data_type
                    .clone()
                    .with_nullable(outer || field.data_type.nullable),
            )
        };
        fields.iter().map(with).collect::<Vec<_>>()
    };
    let mut fields = nullable(
        &left.schema.fields,
        matches!(kind, JoinKind::Right | JoinKind::Full),
    );
    if !matches!(kind, JoinKind::Semi | JoinKind::Anti) {
        fields.extend(nullable(
            &right.schema.fields,
            matches!(kind, JoinKind::Left | JoinKind::Full),
        ));
    }
    Rel {
        schema: Schema { fields },
        position: left.position,
        kind: RelKind::Join {
            left: Box::new(left),
            right: Box::new(right),
            kind,
            condition,
            ttl_ms: [None, None],
            null_aware: false,
        },
    }
}

fn set_condition(rel: &mut Rel, on: Expr) {
    if let RelKind::Join { condition, .. } = &mut rel.kind {
        *condition = Some(on);
    }
}

/// What a column is before the join makes it nullable.
fn input_type(rel: &Rel, index: usize) -> DataType {
    let RelKind::Join { left, right, .. } = &rel.kind else {
        return rel.schema.fields[index].data_type.clone();
    };
    let width = left.schema.fields.len();
    match index.checked_sub(width) {
        None => left.schema.fields[index].data_type.clone(),
        Some(index) => right.schema.fields[index].data_type.clone(),
    }
}

/// The scope as ON sees it: before the join makes columns nullable.
fn inner_types(scope: &Scope, rel: &Rel) -> Scope {
    let mut scope = scope.clone();
    for table in &mut scope.tables {
        for column in &mut table.columns {
            column.data_type = input_type(rel, column.index);
        }
    }
    scope
}

fn nullable_sides(scope: &mut Scope, kind: JoinKind, right_start: usize) {
    for (place, table) in scope.tables.iter_mut().enumerate() {
        let outer = match place < right_start {
            true => matches!(kind, JoinKind::Right | JoinKind::Full),
            false => matches!(kind, JoinKind::Left | JoinKind::Full),
        };
        for column in &mut table.columns {
            column.data_type.nullable |= outer;
        }
    }
}

/// Names that both sides have, in the left one's order.
fn natural(scope: &Scope, right_start: usize) -> Vec<Ident> {
    let (left, right) = (
        seen(scope, 0..right_start),
        seen(scope, right_start..scope.tables.len()),
    );
    let in_right = |name: &str| right.iter().any(|column| column.name == name);
    left.iter()
        .filter(|column| in_right(&column.name))
        .map(|column| Ident::new(column.name.clone()))
        .collect()
}

/// Columns of some tables that `*` shows.
fn seen(scope: &Scope, tables: std::ops::Range<usize>) -> Vec<&ScopeColumn> {
    let side = || {
        scope.tables[tables.clone()]
            .iter()
            .flat_map(|table| &table.columns)
    };
    let in_side = |seen: &&ScopeColumn| side().any(|column| column.index == seen.index);
    scope.all().filter(in_side).collect()
}

fn column_in(scope: &Scope, tables: std::ops::Range<usize>, name: &Ident) -> Result<usize, SqlError> {
    let position = Position::of_span(name.span);
    let columns = seen(scope, tables);
    let mut found = columns.iter().filter(|column| column.name == name.value);
    match (found.next(), found.next()) {
        (Some(column), None) => Ok(column.index),
        (Some(_), Some(_)) => Err(SqlError::semantic(
            format!("Column '{}' is ambiguous", name.value),
            position,
        )),
        (None, _) => {
            let known = columns.iter().map(|column| column.name.as_str());
            Err(SqlError::unknown("column", &name.value, known, position))
        }
    }
}
