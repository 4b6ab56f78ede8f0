//! Windows: the functions TUMBLE, HOP, CUMULATE and SESSION in FROM, and the older ones in GROUP BY.

use sqlparser::ast::{self as tree, Function, FunctionArg, FunctionArgExpr, Ident, WindowType};
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::spec::{WindowKind, WindowProperty, WindowSpec};
use thalweg_plan::{DataType, Expr, ExprKind, Field, Literal, TypeRoot};

use super::Binder;
use super::call::{arguments, simple_name};
use super::calls::{Calls, WindowCall, same};
use super::expression::{Allowed, ExprBinder, position_of};
use super::scope::Scope;
use crate::error::{Position, SqlError};
use crate::logical::{Rel, RelKind};

/// Names of the window functions in FROM.
pub(crate) const FUNCTIONS: [&str; 4] = ["TUMBLE", "HOP", "CUMULATE", "SESSION"];

/// A window in GROUP BY.
pub(crate) struct WindowItem {
    pub(crate) name: &'static str,
    pub(crate) time: Expr,
    args: Vec<Expr>,
    kind: WindowKind,
    time_zone: String,
}

impl WindowItem {
    pub(crate) fn bind(
        binder: &mut ExprBinder<'_, '_>,
        name: &str,
        function: &Function,
    ) -> Result<Self, SqlError> {
        let position = Position::of(function);
        let args = arguments(function)?;
        let args = args
            .into_iter()
            .map(|arg| binder.bind(arg))
            .collect::<Result<Vec<_>, _>>()?;
        let Some((time, sizes)) = args.split_first() else {
            return Err(SqlError::semantic(
                format!("{name} needs a time attribute and an interval"),
                position,
            ));
        };
        check_time(name, time, position)?;
        let sizes = sizes
            .iter()
            .map(|size| interval(size, name))
            .collect::<Result<Vec<_>, _>>()?;
        if sizes.iter().any(|size| *size <= 0) {
            let message = format!("{name} needs intervals above 0");
            return Err(SqlError::semantic(message, position));
        }
        let (name, kind) = match (name, sizes.as_slice()) {
            ("TUMBLE", [size_ms]) => ("TUMBLE", WindowKind::Tumble { size_ms: *size_ms }),
            ("HOP", [slide_ms, size_ms]) => {
                let (slide_ms, size_ms) = (*slide_ms, *size_ms);
                ("HOP", WindowKind::Hop { slide_ms, size_ms })
            }
            ("SESSION", [gap_ms]) => ("SESSION", WindowKind::Session { gap_ms: *gap_ms }),
            _ => {
                let usage = "expected TUMBLE(time, size), HOP(time, slide, size) or SESSION(time, gap)";
                return Err(SqlError::semantic(
                    format!("Wrong number of arguments: {usage}"),
                    position,
                ));
            }
        };
        Ok(Self {
            name,
            time: time.clone(),
            kind,
            time_zone: binder.binder.time_zone().to_owned(),
            args,
        })
    }

    /// Whether TUMBLE_START and its like are of this window.
    pub(crate) fn is_of(&self, call: &WindowCall) -> bool {
        self.name == call.function
            && self.args.len() == call.args.len()
            && self
                .args
                .iter()
                .zip(&call.args)
                .all(|(mine, theirs)| same(mine, theirs))
    }

    /// With the time in that column.
    pub(crate) fn spec(&self, time: usize) -> WindowSpec {
        WindowSpec {
            kind: self.kind,
            time,
            offset_ms: 0,
            partition: Vec::new(),
            time_zone: self.time_zone.clone(),
        }
    }
}

/// The type of a window's property.
pub(crate) fn property_type(property: WindowProperty, time: Option<&DataType>) -> DataType {
    match (property, time.map(|time| &time.root)) {
        (WindowProperty::Time, Some(TypeRoot::TimestampLtz(_, kind))) => {
            DataType::not_null(TypeRoot::TimestampLtz(3, *kind))
        }
        (WindowProperty::Time, Some(TypeRoot::Timestamp(_, kind))) => {
            DataType::not_null(TypeRoot::Timestamp(3, *kind))
        }
        _ => DataType::not_null(TypeRoot::Timestamp(3, TimeKind::Regular)),
    }
}

fn check_time(name: &str, time: &Expr, position: Option<Position>) -> Result<(), SqlError> {
    if time.data_type.time_kind() != TimeKind::Regular {
        return Ok(());
    }
    Err(SqlError::of_type(
        format!(
            "The window function {name} requires the timecol to be a time attribute (a column with WATERMARK, or PROCTIME()), but is {}.",
            time.data_type
        ),
        position,
    ))
}

fn interval(expr: &Expr, name: &str) -> Result<i64, SqlError> {
    let position = expr.position.map(|(line, column)| Position { line, column });
    match (&expr.kind, &expr.data_type.root) {
        (ExprKind::Literal(Literal::Int(millis)), TypeRoot::IntervalDaySecond) => Ok(*millis),
        _ => Err(SqlError::of_type(
            format!("{name} needs constant INTERVALs of days to seconds"),
            position,
        )),
    }
}

/// Parameters of the functions in FROM, in order.
fn parameters(name: &str) -> &'static [&'static str] {
    match name {
        "TUMBLE" => &["DATA", "TIMECOL", "SIZE", "OFFSET"],
        "HOP" => &["DATA", "TIMECOL", "SLIDE", "SIZE", "OFFSET"],
        "CUMULATE" => &["DATA", "TIMECOL", "STEP", "SIZE", "OFFSET"],
        _ => &["DATA", "TIMECOL", "GAP"],
    }
}

impl Binder<'_> {
    /// `TUMBLE(TABLE t, DESCRIPTOR(time), INTERVAL '1' HOUR)`.
    pub(crate) fn window_function(
        &self,
        name: &str,
        args: &[FunctionArg],
        outer: Option<&Scope>,
        position: Option<Position>,
    ) -> Result<Rel, SqlError> {
        let args = named(name, args, position)?;
        let argument = |parameter: &str| {
            args.iter()
                .find(|(known, _)| *known == parameter)
                .map(|(_, expr)| *expr)
        };
        let missing =
            |parameter: &str| SqlError::semantic(format!("{name} needs the argument {parameter}"), position);
        let data = argument("DATA").ok_or_else(|| missing("DATA"))?;
        let (input, partition) = self.table_argument(data, outer)?;
        let scope = Scope::of_table(None, Vec::new(), &input.schema);
        let descriptor = argument("TIMECOL").ok_or_else(|| missing("TIMECOL"))?;
        let columns = descriptor_columns(descriptor)?;
        let [time] = columns.as_slice() else {
            return Err(SqlError::semantic(
                "TIMECOL names one column",
                position_of(descriptor),
            ));
        };
        let time_expr = scope.resolve(std::slice::from_ref(time))?;
        check_time(name, &time_expr, Position::of_span(time.span))?;
        let ExprKind::Column(time) = time_expr.kind else {
            return Err(SqlError::semantic(
                "TIMECOL names a column",
                position_of(descriptor),
            ));
        };
        let size = |parameter: &str| {
            let expr = argument(parameter).ok_or_else(|| missing(parameter))?;
            self.constant_interval(expr, name)
        };
        let kind = match name {
            "TUMBLE" => WindowKind::Tumble {
                size_ms: size("SIZE")?,
            },
            "HOP" => WindowKind::Hop {
                slide_ms: size("SLIDE")?,
                size_ms: size("SIZE")?,
            },
            "CUMULATE" => WindowKind::Cumulate {
                step_ms: size("STEP")?,
                size_ms: size("SIZE")?,
            },
            _ => WindowKind::Session { gap_ms: size("GAP")? },
        };
        check_kind(kind, position)?;
        if !partition.is_empty() && !matches!(kind, WindowKind::Session { .. }) {
            return Err(SqlError::semantic(
                "PARTITION BY is for SESSION windows only",
                position,
            ));
        }
        let window = WindowSpec {
            kind,
            time,
            offset_ms: argument("OFFSET")
                .map(|expr| self.constant_interval(expr, name))
                .transpose()?
                .unwrap_or(0),
            partition,
            time_zone: self.time_zone().to_owned(),
        };
        Ok(windowed(input, window, position))
    }

    fn constant_interval(&self, expr: &tree::Expr, name: &str) -> Result<i64, SqlError> {
        let scope = Scope::default();
        let bound = self.plain(&scope, expr, "a window's arguments")?;
        interval(&bound, name)
    }

    /// `TABLE t [PARTITION BY ..]`, or a query: the rows, and the columns that they are partitioned by.
    fn table_argument(
        &self,
        expr: &tree::Expr,
        outer: Option<&Scope>,
    ) -> Result<(Rel, Vec<usize>), SqlError> {
        if let tree::Expr::Subquery(query) = expr {
            return Ok((self.query(query, outer)?, Vec::new()));
        }
        let refused = || SqlError::syntax("Expected TABLE t, or TABLE (query)", position_of(expr));
        let tree::Expr::Function(function) = expr else {
            return Err(refused());
        };
        if simple_name(function).as_deref() != Some("TABLE") {
            return Err(refused());
        }
        let args = arguments(function)?;
        let rel = match args.as_slice() {
            [tree::Expr::Subquery(query)] => self.query(query, outer)?,
            [tree::Expr::Identifier(name)] => self.named_table(std::slice::from_ref(name), &[])?.0,
            [tree::Expr::CompoundIdentifier(parts)] => self.named_table(parts, &[])?.0,
            _ => return Err(refused()),
        };
        let mut partition = Vec::new();
        if let Some(WindowType::WindowSpec(spec)) = &function.over {
            let scope = Scope::of_table(None, Vec::new(), &rel.schema);
            for expr in &spec.partition_by {
                match self.plain(&scope, expr, "PARTITION BY")?.kind {
                    ExprKind::Column(column) => partition.push(column),
                    _ => {
                        return Err(SqlError::unsupported(
                            "PARTITION BY of a window names columns",
                            position_of(expr),
                        ));
                    }
                }
            }
            if let Some(item) = spec.order_by.first() {
                return Err(SqlError::semantic(
                    "A window's rows have no ORDER BY",
                    position_of(&item.expr),
                ));
            }
        }
        Ok((rel, partition))
    }

    /// An expression of constants and columns only.
    pub(crate) fn plain(
        &self,
        scope: &Scope,
        expr: &tree::Expr,
        clause: &'static str,
    ) -> Result<Expr, SqlError> {
        let mut calls = Calls::default();
        let bound = ExprBinder {
            binder: self,
            scope,
            calls: &mut calls,
            allowed: Allowed::Nothing(clause),
            windows: &[],
            grouped: true,
        }
        .bind(expr)?;
        match calls.scalars.first() {
            Some(_) => Err(SqlError::unsupported(
                format!("A subquery in {clause} is not supported"),
                position_of(expr),
            )),
            None => Ok(bound),
        }
    }
}

fn check_kind(kind: WindowKind, position: Option<Position>) -> Result<(), SqlError> {
    let problem = match kind {
        WindowKind::Tumble { size_ms } if size_ms <= 0 => {
            format!(
                "TUMBLE table function based aggregate requires size to be positive, but got {size_ms} ms."
            )
        }
        WindowKind::Hop { slide_ms, size_ms } if slide_ms <= 0 || size_ms <= 0 => format!(
            "HOP table function based aggregate requires slide and size to be positive, but got slide {slide_ms} ms and size {size_ms} ms."
        ),
        WindowKind::Hop { slide_ms, size_ms } if size_ms % slide_ms != 0 => format!(
            "HOP table function based aggregate requires size must be an integral multiple of slide, but got size {size_ms} ms and slide \
             {slide_ms} ms"
        ),
        WindowKind::Cumulate { step_ms, size_ms } if step_ms <= 0 || size_ms <= 0 => format!(
            "CUMULATE table function based aggregate requires maxSize and step to be positive, but got maxSize {size_ms} ms and step \
             {step_ms} ms."
        ),
        WindowKind::Cumulate { step_ms, size_ms } if size_ms % step_ms != 0 => format!(
            "CUMULATE table function based aggregate requires maxSize must be an integral multiple of step, but got maxSize {size_ms} ms \
             and step {step_ms} ms"
        ),
        WindowKind::Session { gap_ms } if gap_ms <= 0 => {
            format!(
                "SESSION table function based aggregate requires gap to be positive, but got {gap_ms} ms."
            )
        }
        _ => return Ok(()),
    };
    Err(SqlError::semantic(problem, position))
}

/// The input's columns, then `window_start`, `window_end`, `window_time`.
fn windowed(input: Rel, window: WindowSpec, position: Option<Position>) -> Rel {
    let mut schema = input.schema.clone();
    let time = schema.fields[window.time].data_type.clone();
    let columns = [
        ("window_start", WindowProperty::Start),
        ("window_end", WindowProperty::End),
        ("window_time", WindowProperty::Time),
    ];
    schema
        .fields
        .extend(columns.map(|(name, property)| Field::new(name, property_type(property, Some(&time)))));
    Rel {
        schema,
        position,
        kind: RelKind::WindowTableFunction {
            input: Box::new(input),
            window,
        },
    }
}

/// Arguments with their parameters' names.
fn named<'a>(
    name: &str,
    args: &'a [FunctionArg],
    position: Option<Position>,
) -> Result<Vec<(&'static str, &'a tree::Expr)>, SqlError> {
    let parameters = parameters(name);
    let mut named = Vec::new();
    for (place, arg) in args.iter().enumerate() {
        let (parameter, expr) = match arg {
            FunctionArg::Named {
                name: Ident { value, span, .. },
                arg: FunctionArgExpr::Expr(expr),
                ..
            } => {
                let known = parameters.iter().find(|known| known.eq_ignore_ascii_case(value));
                let unknown = || {
                    SqlError::unknown(
                        "argument",
                        value,
                        parameters.iter().copied(),
                        Position::of_span(*span),
                    )
                };
                (*known.ok_or_else(unknown)?, expr)
            }
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => match parameters.get(place) {
                Some(parameter) => (*parameter, expr),
                None => {
                    return Err(SqlError::semantic(
                        format!("{name} has {} arguments", parameters.len()),
                        position,
                    ));
                }
            },
            other => {
                return Err(SqlError::syntax(
                    format!("{other} is no argument of {name}"),
                    position,
                ));
            }
        };
        named.push((parameter, expr));
    }
    Ok(named)
}

/// `DESCRIPTOR(a, b)`.
fn descriptor_columns(expr: &tree::Expr) -> Result<Vec<Ident>, SqlError> {
    let refused = || SqlError::syntax("Expected DESCRIPTOR(column)", position_of(expr));
    let tree::Expr::Function(function) = expr else {
        return Err(refused());
    };
    if simple_name(function).as_deref() != Some("DESCRIPTOR") {
        return Err(refused());
    }
    let columns = arguments(function)?.into_iter().map(|arg| match arg {
        tree::Expr::Identifier(name) => Ok(name.clone()),
        _ => Err(refused()),
    });
    columns.collect()
}

/// Whether a column is the `window_time` of a window function below.
pub(crate) fn is_window_time(rel: &Rel, column: usize) -> bool {
    match &rel.kind {
        RelKind::WindowTableFunction { input, .. } => column == input.schema.fields.len() + 2,
        RelKind::Project { input, exprs } => match exprs[column].kind {
            ExprKind::Column(below) => is_window_time(input, below),
            _ => false,
        },
        RelKind::Filter { input, .. } => is_window_time(input, column),
        RelKind::Aggregate { input, groups, .. } => groups
            .get(column)
            .is_some_and(|group| is_window_time(input, *group)),
        RelKind::Join { left, right, .. } => match column.checked_sub(left.schema.fields.len()) {
            None => is_window_time(left, column),
            Some(column) => is_window_time(right, column),
        },
        _ => false,
    }
}
