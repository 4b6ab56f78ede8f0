//! Expressions: sqlparser's trees become typed [`Expr`]s over the columns of a scope. Operators and special forms become calls by
//! their canonical names; [`thalweg_functions`] gives the types and writes implicit casts out.

use sqlparser::ast::{
    self as tree, AccessExpr, BinaryOperator, CaseWhen, CastKind, CeilFloorKind, DateTimeField, Ident,
    Subscript, TrimWhereField, UnaryOperator, Value, ValueWithSpan,
};
use thalweg_functions::{ResolveError, ResolveErrorKind, all_functions, cast, resolve_scalar};
use thalweg_plan::{DataType, Expr, Literal, TypeRoot};

use super::Binder;
use super::calls::Calls;
use super::literal;
use super::scope::{Scope, field};
use crate::ast::data_type_of;
use crate::error::{Position, SqlError, SqlErrorKind};

/// What may stand in an expression beside what one row answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// Nothing: the clause's name, for messages.
    Nothing(&'static str),
    /// Aggregates and what belongs to groups, not OVER: HAVING.
    Aggregates,
    /// All: SELECT and ORDER BY.
    All,
}

/// Binds the expressions of one clause.
pub(crate) struct ExprBinder<'a, 'b> {
    pub(crate) binder: &'a Binder<'b>,
    pub(crate) scope: &'a Scope,
    pub(crate) calls: &'a mut Calls,
    pub(crate) allowed: Allowed,
    /// WINDOW's names.
    pub(crate) windows: &'a [tree::NamedWindowDefinition],
    /// Whether there are groups: without, aggregates of no rows are null.
    pub(crate) grouped: bool,
}

/// The place of an expression.
pub(crate) fn position_of(expr: &tree::Expr) -> Option<Position> {
    Position::of(expr)
}

/// A typed call. What is computed is no time attribute any more.
pub(crate) fn resolved(name: &str, args: Vec<Expr>, position: Option<Position>) -> Result<Expr, SqlError> {
    let call = typed(name, args, position)?;
    match &call.kind {
        thalweg_plan::ExprKind::Call { function, .. } if &**function == "PROCTIME" => Ok(call),
        _ => Ok(Expr {
            data_type: call.data_type.materialized(),
            ..call
        }),
    }
}

fn typed(name: &str, args: Vec<Expr>, position: Option<Position>) -> Result<Expr, SqlError> {
    resolve_scalar(name, args, position.map(Position::pair))
        .map_err(|error| unresolved(name, error, position))
}

/// Why a call of the function `name` has no type.
pub(crate) fn unresolved(name: &str, error: ResolveError, position: Option<Position>) -> SqlError {
    let kind = match error.kind {
        ResolveErrorKind::Unknown => {
            let known: Vec<&str> = all_functions().map(|function| function.name).collect();
            return SqlError::unknown("function", name, known, position);
        }
        ResolveErrorKind::Arguments => SqlErrorKind::Type,
        ResolveErrorKind::Unsupported => SqlErrorKind::Unsupported,
    };
    SqlError::new(kind, error.message, position)
}

/// An expression of BOOLEAN, or an error that names the clause.
pub(crate) fn condition(expr: Expr, clause: &str, position: Option<Position>) -> Result<Expr, SqlError> {
    match expr.data_type.root {
        TypeRoot::Boolean => Ok(expr),
        TypeRoot::Null => Ok(expr.cast(DataType::nullable(TypeRoot::Boolean))),
        _ => Err(SqlError::of_type(
            format!("{clause} needs a BOOLEAN, this is {}", expr.data_type),
            position,
        )),
    }
}

impl ExprBinder<'_, '_> {
    /// Binds an expression.
    pub(crate) fn bind(&mut self, expr: &tree::Expr) -> Result<Expr, SqlError> {
        let position = position_of(expr);
        match expr {
            tree::Expr::Nested(inner) => self.bind(inner),
            tree::Expr::Value(value) => literal::value(value),
            tree::Expr::TypedString(typed) => literal::typed_string(typed, self.binder.env()),
            tree::Expr::Interval(interval) => literal::interval(interval),
            tree::Expr::Identifier(name) => self.name(std::slice::from_ref(name)),
            tree::Expr::CompoundIdentifier(parts) => self.name(parts),
            tree::Expr::CompoundFieldAccess { root, access_chain } => self.access(root, access_chain),
            tree::Expr::Function(function) => self.function(function, position),
            tree::Expr::BinaryOp { left, op, right } => self.binary(left, op, right, position),
            tree::Expr::UnaryOp { op, expr } => self.unary(*op, expr, position),
            tree::Expr::IsNull(inner) | tree::Expr::IsUnknown(inner) => {
                self.call("IS NULL", &[inner], position)
            }
            tree::Expr::IsNotNull(inner) | tree::Expr::IsNotUnknown(inner) => {
                self.call("IS NOT NULL", &[inner], position)
            }
            tree::Expr::IsTrue(inner) => self.call("IS TRUE", &[inner], position),
            tree::Expr::IsNotTrue(inner) => self.call("IS NOT TRUE", &[inner], position),
            tree::Expr::IsFalse(inner) => self.call("IS FALSE", &[inner], position),
            tree::Expr::IsNotFalse(inner) => self.call("IS NOT FALSE", &[inner], position),
            tree::Expr::IsDistinctFrom(left, right) => {
                self.call("IS DISTINCT FROM", &[left, right], position)
            }
            tree::Expr::IsNotDistinctFrom(left, right) => {
                self.call("IS NOT DISTINCT FROM", &[left, right], position)
            }
            tree::Expr::Between {
                expr,
                negated,
                low,
                high,
            } => self.between(expr, low, high, *negated, position),
            tree::Expr::InList { expr, list, negated } => self.in_list(expr, list, *negated, position),
            tree::Expr::Like {
                negated,
                expr,
                pattern,
                escape_char,
                ..
            } => self.like("LIKE", expr, pattern, escape_char.as_ref(), *negated, position),
            tree::Expr::SimilarTo {
                negated,
                expr,
                pattern,
                escape_char,
            } => self.like(
                "SIMILAR TO",
                expr,
                pattern,
                escape_char.as_ref(),
                *negated,
                position,
            ),
            tree::Expr::Case {
                operand,
                conditions,
                else_result,
                ..
            } => self.case(operand.as_deref(), conditions, else_result.as_deref(), position),
            tree::Expr::Cast {
                kind,
                expr,
                data_type,
                ..
            } => self.cast(kind, expr, data_type, position),
            tree::Expr::Array(array) => self.constructor("ARRAY", &array.elem, position),
            tree::Expr::Tuple(items) => self.constructor("ROW", items, position),
            tree::Expr::Map(map) => {
                let entries = map.entries.iter().flat_map(|entry| [&entry.key, &entry.value]);
                let entries: Vec<&tree::Expr> = entries.map(|expr| &**expr).collect();
                self.call("MAP", &entries, position)
            }
            tree::Expr::Subquery(query) => self.scalar_subquery(query, position),
            tree::Expr::Exists { .. }
            | tree::Expr::InSubquery { .. }
            | tree::Expr::AnyOp { .. }
            | tree::Expr::AllOp { .. } => self.quantified(expr),
            _ => self.special(expr, position),
        }
    }

    /// Functions with a grammar of their own.
    fn special(&mut self, expr: &tree::Expr, position: Option<Position>) -> Result<Expr, SqlError> {
        match expr {
            tree::Expr::Extract { field, expr, .. } => {
                self.with_unit("EXTRACT", Some(unit_of(field)), expr, true, position)
            }
            tree::Expr::Floor { expr, field } => {
                self.with_unit("FLOOR", rounded_to(field), expr, false, position)
            }
            tree::Expr::Ceil { expr, field } => {
                self.with_unit("CEIL", rounded_to(field), expr, false, position)
            }
            tree::Expr::Position { expr, r#in } => self.call("POSITION", &[expr, r#in], position),
            tree::Expr::Substring {
                expr,
                substring_from,
                substring_for,
                ..
            } => {
                let args: Vec<&tree::Expr> = [Some(expr), substring_from.as_ref(), substring_for.as_ref()]
                    .into_iter()
                    .flatten()
                    .map(|expr| &**expr)
                    .collect();
                self.call("SUBSTRING", &args, position)
            }
            tree::Expr::Overlay {
                expr,
                overlay_what,
                overlay_from,
                overlay_for,
            } => {
                let args = [
                    Some(expr),
                    Some(overlay_what),
                    Some(overlay_from),
                    overlay_for.as_ref(),
                ];
                let args: Vec<&tree::Expr> = args.into_iter().flatten().map(|expr| &**expr).collect();
                self.call("OVERLAY", &args, position)
            }
            tree::Expr::Trim {
                trim_where,
                trim_what,
                expr,
                ..
            } => {
                let side = match trim_where {
                    Some(TrimWhereField::Leading) => "LEADING",
                    Some(TrimWhereField::Trailing) => "TRAILING",
                    _ => "BOTH",
                };
                let what = match trim_what {
                    Some(what) => self.bind(what)?,
                    None => literal::string(" "),
                };
                let text = self.bind(expr)?;
                resolved("TRIM", vec![literal::string(side), what, text], position)
            }
            other => Err(SqlError::unsupported(
                format!("{other} is not supported"),
                position,
            )),
        }
    }

    /// Binds the arguments and types the call.
    pub(crate) fn call(
        &mut self,
        name: &str,
        args: &[&tree::Expr],
        position: Option<Position>,
    ) -> Result<Expr, SqlError> {
        let args = args.iter().map(|arg| self.bind(arg)).collect::<Result<_, _>>()?;
        resolved(name, args, position)
    }

    fn with_unit(
        &mut self,
        name: &str,
        unit: Option<String>,
        expr: &tree::Expr,
        unit_first: bool,
        position: Option<Position>,
    ) -> Result<Expr, SqlError> {
        let value = self.bind(expr)?;
        let args = match (unit, unit_first) {
            (None, _) => vec![value],
            (Some(unit), true) => vec![literal::string(&unit), value],
            (Some(unit), false) => vec![value, literal::string(&unit)],
        };
        resolved(name, args, position)
    }

    fn constructor(
        &mut self,
        name: &str,
        items: &[tree::Expr],
        position: Option<Position>,
    ) -> Result<Expr, SqlError> {
        let items: Vec<&tree::Expr> = items.iter().collect();
        self.call(name, &items, position)
    }

    fn name(&mut self, parts: &[Ident]) -> Result<Expr, SqlError> {
        let position = parts.first().and_then(|part| Position::of_span(part.span));
        Ok(self.scope.resolve(parts)?.at(position.map(Position::pair)))
    }

    fn access(&mut self, root: &tree::Expr, chain: &[AccessExpr]) -> Result<Expr, SqlError> {
        let mut expr = self.bind(root)?;
        for access in chain {
            expr = match access {
                AccessExpr::Dot(tree::Expr::Identifier(name)) => field(expr, name)?,
                AccessExpr::Subscript(Subscript::Index { index }) => {
                    let key = self.bind(index)?;
                    resolved("ITEM", vec![expr, key], position_of(index))?
                }
                other => {
                    return Err(SqlError::unsupported(
                        format!("{other} is not supported"),
                        position_of(root),
                    ));
                }
            };
        }
        Ok(expr)
    }

    fn binary(
        &mut self,
        left: &tree::Expr,
        op: &BinaryOperator,
        right: &tree::Expr,
        position: Option<Position>,
    ) -> Result<Expr, SqlError> {
        let name = match op {
            BinaryOperator::Plus => "+",
            BinaryOperator::Minus => "-",
            BinaryOperator::Multiply => "*",
            BinaryOperator::Divide => "/",
            BinaryOperator::Modulo => "%",
            BinaryOperator::StringConcat => "||",
            BinaryOperator::Eq => "=",
            BinaryOperator::NotEq => "<>",
            BinaryOperator::Lt => "<",
            BinaryOperator::LtEq => "<=",
            BinaryOperator::Gt => ">",
            BinaryOperator::GtEq => ">=",
            BinaryOperator::And => "AND",
            BinaryOperator::Or => "OR",
            BinaryOperator::Overlaps => return self.overlaps(left, right, position),
            other => {
                return Err(SqlError::unsupported(
                    format!("Operator {other} is not supported"),
                    position,
                ));
            }
        };
        if let (tree::Expr::Tuple(lefts), tree::Expr::Tuple(rights), "=" | "<>") = (left, right, name) {
            return self.tuples(lefts, rights, name == "<>", position);
        }
        self.call(name, &[left, right], position)
    }

    /// `(a, b) = (c, d)`.
    fn tuples(
        &mut self,
        lefts: &[tree::Expr],
        rights: &[tree::Expr],
        negated: bool,
        position: Option<Position>,
    ) -> Result<Expr, SqlError> {
        if lefts.len() != rights.len() {
            return Err(SqlError::of_type(
                "Both rows of a comparison need as many fields",
                position,
            ));
        }
        let pairs = lefts
            .iter()
            .zip(rights)
            .map(|(left, right)| self.call("=", &[left, right], position));
        let equal = conjunction(pairs.collect::<Result<_, _>>()?)?;
        if negated {
            resolved("NOT", vec![equal], position)
        } else {
            Ok(equal)
        }
    }

    fn overlaps(
        &mut self,
        left: &tree::Expr,
        right: &tree::Expr,
        position: Option<Position>,
    ) -> Result<Expr, SqlError> {
        let (tree::Expr::Tuple(left), tree::Expr::Tuple(right)) = (left, right) else {
            return Err(SqlError::of_type(
                "OVERLAPS compares two (start, end) or (start, interval)",
                position,
            ));
        };
        let args: Vec<&tree::Expr> = left.iter().chain(right).collect();
        self.call("OVERLAPS", &args, position)
    }

    fn unary(
        &mut self,
        op: UnaryOperator,
        expr: &tree::Expr,
        position: Option<Position>,
    ) -> Result<Expr, SqlError> {
        match op {
            UnaryOperator::Not => self.call("NOT", &[expr], position),
            UnaryOperator::Minus => {
                let value = self.bind(expr)?;
                Ok(match negative(&value) {
                    Some(literal) => literal.at(position.map(Position::pair)),
                    None => resolved("UNARY -", vec![value], position)?,
                })
            }
            UnaryOperator::Plus => self.bind(expr),
            other => Err(SqlError::unsupported(
                format!("Operator {other} is not supported"),
                position,
            )),
        }
    }

    fn between(
        &mut self,
        expr: &tree::Expr,
        low: &tree::Expr,
        high: &tree::Expr,
        negated: bool,
        position: Option<Position>,
    ) -> Result<Expr, SqlError> {
        let value = self.bind(expr)?;
        let (low, high) = (self.bind(low)?, self.bind(high)?);
        let above = resolved(">=", vec![value.clone(), low], position)?;
        let below = resolved("<=", vec![value, high], position)?;
        let within = resolved("AND", vec![above, below], position)?;
        if negated {
            resolved("NOT", vec![within], position)
        } else {
            Ok(within)
        }
    }

    fn in_list(
        &mut self,
        expr: &tree::Expr,
        list: &[tree::Expr],
        negated: bool,
        position: Option<Position>,
    ) -> Result<Expr, SqlError> {
        let found = match expr {
            tree::Expr::Tuple(fields) => {
                let rows = list.iter().map(|row| match row {
                    tree::Expr::Tuple(values) => self.tuples(fields, values, false, position),
                    other => Err(SqlError::of_type(
                        "A row is compared with rows: (a, b) IN ((1, 2), ..)",
                        position_of(other),
                    )),
                });
                let rows = rows.collect::<Result<Vec<_>, _>>()?;
                let mut rows = rows.into_iter();
                let first = rows.next().unwrap_or_else(|| literal::boolean(false));
                rows.try_fold(first, |any, row| resolved("OR", vec![any, row], position))?
            }
            expr => {
                let args: Vec<&tree::Expr> = std::iter::once(expr).chain(list).collect();
                self.call("IN", &args, position)?
            }
        };
        if negated {
            resolved("NOT", vec![found], position)
        } else {
            Ok(found)
        }
    }

    fn like(
        &mut self,
        name: &str,
        expr: &tree::Expr,
        pattern: &tree::Expr,
        escape: Option<&ValueWithSpan>,
        negated: bool,
        position: Option<Position>,
    ) -> Result<Expr, SqlError> {
        let mut args = vec![self.bind(expr)?, self.bind(pattern)?];
        if let Some(ValueWithSpan {
            value: Value::SingleQuotedString(escape),
            ..
        }) = escape
        {
            args.push(literal::string(escape));
        }
        let found = resolved(name, args, position)?;
        if negated {
            resolved("NOT", vec![found], position)
        } else {
            Ok(found)
        }
    }

    /// CASE(when1, then1, .., otherwise).
    fn case(
        &mut self,
        operand: Option<&tree::Expr>,
        conditions: &[CaseWhen],
        otherwise: Option<&tree::Expr>,
        position: Option<Position>,
    ) -> Result<Expr, SqlError> {
        let operand = operand.map(|operand| self.bind(operand)).transpose()?;
        let mut args = Vec::with_capacity(conditions.len() * 2 + 1);
        for CaseWhen {
            condition: when,
            result,
        } in conditions
        {
            let place = position_of(when);
            let bound = self.bind(when)?;
            args.push(match &operand {
                Some(operand) => resolved("=", vec![operand.clone(), bound], place)?,
                None => condition(bound, "WHEN", place)?,
            });
            args.push(self.bind(result)?);
        }
        args.push(match otherwise {
            Some(otherwise) => self.bind(otherwise)?,
            None => literal::null(),
        });
        resolved("CASE", args, position)
    }

    fn cast(
        &mut self,
        kind: &CastKind,
        expr: &tree::Expr,
        data_type: &tree::DataType,
        position: Option<Position>,
    ) -> Result<Expr, SqlError> {
        let to = data_type_of(data_type)?;
        let value = self.bind(expr)?;
        cast(value, to, *kind == CastKind::TryCast)
            .map(|expr| expr.at(position.map(Position::pair)))
            .map_err(|error| SqlError::of_type(error.message, position))
    }
}

/// All of them joined by AND; none: TRUE.
pub(crate) fn conjunction(conditions: Vec<Expr>) -> Result<Expr, SqlError> {
    let mut conditions = conditions.into_iter();
    let Some(first) = conditions.next() else {
        return Ok(literal::boolean(true));
    };
    conditions.try_fold(first, |all, next| {
        let position = next.position;
        resolve_scalar("AND", vec![all, next], position)
            .map_err(|error| SqlError::of_type(error.message, None))
    })
}

/// A literal with its sign: -2147483648 is an INT, though 2147483648 is none.
fn negative(expr: &Expr) -> Option<Expr> {
    let thalweg_plan::ExprKind::Literal(literal) = &expr.kind else {
        return None;
    };
    let (literal, root) = match (literal, &expr.data_type.root) {
        (Literal::Int(value), TypeRoot::BigInt) if i32::try_from(-value).is_ok() => {
            (Literal::Int(-value), TypeRoot::Int)
        }
        (Literal::Int(value), root) => (Literal::Int(value.checked_neg()?), root.clone()),
        (Literal::Double(value), root) => (Literal::Double(-value), root.clone()),
        (Literal::Decimal(value), root) => match (i64::try_from(-value), root) {
            (Ok(value), TypeRoot::Decimal { scale: 0, .. }) => (Literal::Int(value), TypeRoot::BigInt),
            _ => (Literal::Decimal(-value), root.clone()),
        },
        _ => return None,
    };
    Some(Expr::literal(literal, DataType::not_null(root)))
}

fn unit_of(field: &DateTimeField) -> String {
    match field {
        DateTimeField::Week(_) => "WEEK".to_owned(),
        field => field.to_string().to_ascii_uppercase(),
    }
}

fn rounded_to(field: &CeilFloorKind) -> Option<String> {
    match field {
        CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) | CeilFloorKind::Scale(_) => None,
        CeilFloorKind::DateTimeField(field) => Some(unit_of(field)),
    }
}
