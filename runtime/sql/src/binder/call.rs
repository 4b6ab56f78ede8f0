//! Calls of functions: scalar ones are typed at once, the others are put among the [`Calls`](super::calls::Calls).

use sqlparser::ast::{
    self as tree, DuplicateTreatment, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArguments, OrderByExpr, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowType,
};
use thalweg_functions::user::UserFunctionKind;
use thalweg_functions::{FunctionKind, ResolveErrorKind, all_functions, implicit_cast, resolve_aggregate};
use thalweg_plan::spec::WindowProperty;
use thalweg_plan::{DataType, Expr, ExprKind, Literal, TypeRoot};

use super::calls::{AggregateCall, OverExpr, Placeholder, WindowCall};
use super::expression::{Allowed, ExprBinder, condition, position_of, resolved, unresolved};
use super::literal;
use crate::ast::data_type_of;
use crate::error::{Position, SqlError, SqlErrorKind};
use crate::logical::OverFrame;

/// Functions of group windows, and what of the window they are.
const WINDOW_CALLS: [(&str, &str, WindowProperty); 12] = [
    ("TUMBLE_START", "TUMBLE", WindowProperty::Start),
    ("TUMBLE_END", "TUMBLE", WindowProperty::End),
    ("TUMBLE_ROWTIME", "TUMBLE", WindowProperty::Time),
    ("TUMBLE_PROCTIME", "TUMBLE", WindowProperty::Time),
    ("HOP_START", "HOP", WindowProperty::Start),
    ("HOP_END", "HOP", WindowProperty::End),
    ("HOP_ROWTIME", "HOP", WindowProperty::Time),
    ("HOP_PROCTIME", "HOP", WindowProperty::Time),
    ("SESSION_START", "SESSION", WindowProperty::Start),
    ("SESSION_END", "SESSION", WindowProperty::End),
    ("SESSION_ROWTIME", "SESSION", WindowProperty::Time),
    ("SESSION_PROCTIME", "SESSION", WindowProperty::Time),
];

/// Functions that mean something with OVER only.
const ONLY_OVER: [&str; 8] = [
    "ROW_NUMBER",
    "RANK",
    "DENSE_RANK",
    "PERCENT_RANK",
    "CUME_DIST",
    "NTILE",
    "LAG",
    "LEAD",
];

/// Whether a name is an aggregate function's.
pub(crate) fn is_aggregate(name: &str) -> bool {
    all_functions().any(|function| function.name == name && function.kind == FunctionKind::Aggregate)
}

/// A function's name in upper case; `None`: it has a catalog or database.
pub(crate) fn simple_name(function: &Function) -> Option<String> {
    match function.name.0.as_slice() {
        [only] => only.as_ident().map(|name| name.value.to_ascii_uppercase()),
        _ => None,
    }
}

/// Positional arguments; `*` is none.
pub(crate) fn arguments(function: &Function) -> Result<Vec<&tree::Expr>, SqlError> {
    let FunctionArguments::List(list) = &function.args else {
        return Ok(Vec::new());
    };
    let args = list.args.iter().map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(Some(expr)),
        FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => Ok(None),
        other => Err(SqlError::unsupported(
            format!("Argument '{other}' by its name is supported of window functions in FROM only"),
            Position::of(function),
        )),
    });
    args.filter_map(Result::transpose).collect()
}

impl ExprBinder<'_, '_> {
    /// Any call.
    pub(crate) fn function(
        &mut self,
        function: &Function,
        position: Option<Position>,
    ) -> Result<Expr, SqlError> {
        let Some(name) = simple_name(function) else {
            let known = all_functions().map(|function| function.name).collect::<Vec<_>>();
            return Err(SqlError::unknown(
                "function",
                &function.name.to_string(),
                known,
                position,
            ));
        };
        if let Some(class) = self.binder.catalog().functions().class(&name) {
            return self.user_function(&name.to_ascii_lowercase(), class, function, position);
        }
        if let Some(over) = &function.over {
            return self.over(&name, function, over, position);
        }
        if ONLY_OVER.contains(&name.as_str()) {
            return Err(SqlError::semantic(format!("{name} needs OVER (..)"), position));
        }
        if let Some((_, window, property)) = WINDOW_CALLS.iter().find(|(call, ..)| *call == name) {
            return self.window_property(function, window, *property, position);
        }
        match name.as_str() {
            "GROUPING" | "GROUPING_ID" | "GROUP_ID" => return self.grouping(function, position),
            "TUMBLE" | "HOP" | "SESSION" | "CUMULATE" => {
                return Err(SqlError::semantic(
                    format!("{name} can be called in GROUP BY, or in FROM as TABLE({name}(..))"),
                    position,
                ));
            }
            "TIMESTAMPADD" | "TIMESTAMPDIFF" => return self.with_leading_unit(&name, function, position),
            _ => {}
        }
        if is_aggregate(&name) {
            return self.aggregate(&name, None, function, position);
        }
        if let Some(filter) = &function.filter {
            return Err(SqlError::semantic(
                "FILTER stands behind aggregate functions only",
                position_of(filter),
            ));
        }
        let expr = self.call(&name, &arguments(function)?, position)?;
        match returning(function)? {
            Some(data_type) => Ok(Expr { data_type, ..expr }),
            None => Ok(expr),
        }
    }

    /// A call of what CREATE FUNCTION made.
    fn user_function(
        &mut self,
        name: &str,
        class: &str,
        function: &Function,
        position: Option<Position>,
    ) -> Result<Expr, SqlError> {
        let kind = self.binder.env().functions.kind(class);
        if kind == Some(UserFunctionKind::Aggregate) {
            if function.over.is_some() {
                let message =
                    format!("'{name}' is a user's aggregate function, which can't be called with OVER");
                return Err(SqlError::unsupported(message, position));
            }
            return self.aggregate(name, Some(class), function, position);
        }
        let has_clauses = function.over.is_some() || function.filter.is_some() || is_distinct(function);
        if kind.is_some() && has_clauses {
            let message =
                format!("'{name}' is no aggregate function: it has neither OVER nor FILTER nor DISTINCT");
            return Err(SqlError::semantic(message, position));
        }
        let args = arguments(function)?;
        let bound = args.into_iter().map(|arg| self.bind(arg));
        let bound = bound.collect::<Result<Vec<_>, _>>()?;
        let functions = &self.binder.env().functions;
        let call = functions.call(name, class, bound, position.map(Position::pair));
        let call = call.map_err(|error| unresolved(name, error, position))?;
        Ok(Expr {
            data_type: call.data_type.materialized(),
            ..call
        })
    }

    fn with_leading_unit(
        &mut self,
        name: &str,
        function: &Function,
        position: Option<Position>,
    ) -> Result<Expr, SqlError> {
        let args = arguments(function)?;
        let [tree::Expr::Identifier(unit), rest @ ..] = args.as_slice() else {
            return Err(SqlError::syntax(
                format!("{name} needs a unit first, as DAY"),
                position,
            ));
        };
        let mut bound = vec![literal::string(&unit.value)];
        for arg in rest {
            bound.push(self.bind(arg)?);
        }
        resolved(name, bound, position)
    }

    fn allow(&self, what: &str, needed: Allowed, position: Option<Position>) -> Result<(), SqlError> {
        let refused = |clause: &str| {
            Err(SqlError::semantic(
                format!("{what} can't stand in {clause}"),
                position,
            ))
        };
        match (self.allowed, needed) {
            (Allowed::Nothing(clause), _) => refused(clause),
            (Allowed::Aggregates, Allowed::All) => refused("HAVING or another OVER"),
            _ => Ok(()),
        }
    }

    /// With another set of what is allowed.
    fn within<T>(
        &mut self,
        allowed: Allowed,
        bind: impl FnOnce(&mut Self) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        let before = std::mem::replace(&mut self.allowed, allowed);
        let scalars = self.calls.scalars.len();
        let bound = bind(self);
        self.allowed = before;
        match self.calls.scalars.get(scalars) {
            Some(subquery) => Err(SqlError::unsupported(
                "A subquery in an aggregate function, OVER or GROUPING is not supported: compute it in a query below",
                subquery.position,
            )),
            None => bound,
        }
    }

    /// A call of an aggregate function: Flink's, or a user's of this class.
    fn aggregate(
        &mut self,
        name: &str,
        class: Option<&str>,
        function: &Function,
        position: Option<Position>,
    ) -> Result<Expr, SqlError> {
        self.allow(
            &format!("Aggregate function {name}"),
            Allowed::Aggregates,
            position,
        )?;
        let call = self.within(Allowed::Nothing("an aggregate function's arguments"), |binder| {
            binder.aggregate_call(name, class, function, position)
        })?;
        let data_type = call.data_type.clone();
        self.calls.aggregates.push(call);
        let index = self.calls.aggregates.len() - 1;
        Ok(Placeholder::Aggregate.expr(index, data_type, position))
    }

    fn aggregate_call(
        &mut self,
        name: &str,
        class: Option<&str>,
        function: &Function,
        position: Option<Position>,
    ) -> Result<AggregateCall, SqlError> {
        refuse_clauses(name, function, position)?;
        let distinct = is_distinct(function);
        let args = arguments(function)?;
        let args = args
            .into_iter()
            .map(|arg| self.bind(arg))
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(class) = class {
            let call = self.binder.env().functions.aggregate_call(name, class, args);
            let call = call.map_err(|error| unresolved(name, error, position))?;
            return Ok(AggregateCall {
                function: call.function,
                args: call.args,
                distinct,
                filter: self.filter(function)?,
                data_type: call.result,
                position,
            });
        }
        let types: Vec<DataType> = args.iter().map(|arg| arg.data_type.clone()).collect();
        let signature = resolve_aggregate(name, &types, distinct).map_err(|error| {
            let kind = match error.kind {
                ResolveErrorKind::Unsupported => SqlErrorKind::Unsupported,
                _ => SqlErrorKind::Type,
            };
            SqlError::new(kind, error.message, position)
        })?;
        let cast = |(arg, to): (Expr, &DataType)| {
            let place = arg.position;
            implicit_cast(arg, to).map_err(|error| {
                SqlError::of_type(
                    error.message,
                    place.map(|(line, column)| Position { line, column }),
                )
            })
        };
        let args = args
            .into_iter()
            .zip(&signature.arg_types)
            .map(cast)
            .collect::<Result<_, _>>()?;
        let filter = self.filter(function)?;
        let counts = matches!(name, "COUNT" | "SUM0" | "ROW_NUMBER" | "RANK" | "DENSE_RANK");
        let nullable = signature.result.nullable || (!counts && (filter.is_some() || !self.grouped));
        Ok(AggregateCall {
            function: name.to_owned(),
            args,
            distinct,
            filter,
            data_type: signature.result.with_nullable(nullable),
            position,
        })
    }

    fn filter(&mut self, function: &Function) -> Result<Option<Expr>, SqlError> {
        let filter = function.filter.as_ref().map(|filter| {
            let bound = self.bind(filter)?;
            condition(bound, "FILTER", position_of(filter))
        });
        filter.transpose()
    }

    fn grouping(&mut self, function: &Function, position: Option<Position>) -> Result<Expr, SqlError> {
        self.allow("GROUPING", Allowed::Aggregates, position)?;
        let args = arguments(function)?;
        let args = self.within(Allowed::Nothing("GROUPING"), |binder| {
            args.iter()
                .map(|arg| binder.bind(arg))
                .collect::<Result<Vec<_>, _>>()
        })?;
        self.calls.groupings.push(args);
        let index = self.calls.groupings.len() - 1;
        Ok(Placeholder::Grouping.expr(index, DataType::not_null(TypeRoot::BigInt), position))
    }

    fn window_property(
        &mut self,
        function: &Function,
        window: &'static str,
        property: WindowProperty,
        position: Option<Position>,
    ) -> Result<Expr, SqlError> {
        self.allow("A function of a group window", Allowed::Aggregates, position)?;
        let args = arguments(function)?;
        let args = self.within(Allowed::Nothing("a group window"), |binder| {
            args.iter()
                .map(|arg| binder.bind(arg))
                .collect::<Result<Vec<_>, _>>()
        })?;
        let time = args.first().map(|arg| arg.data_type.clone());
        let data_type = super::window::property_type(property, time.as_ref());
        self.calls.windows.push(WindowCall {
            function: window,
            property,
            args,
            data_type: data_type.clone(),
            position,
        });
        let index = self.calls.windows.len() - 1;
        Ok(Placeholder::Window.expr(index, data_type, position))
    }

    fn over(
        &mut self,
        name: &str,
        function: &Function,
        over: &WindowType,
        position: Option<Position>,
    ) -> Result<Expr, SqlError> {
        self.allow("OVER", Allowed::All, position)?;
        let specs = self.window_specs(over, position)?;
        let bound = self.within(Allowed::Aggregates, |binder| {
            let mut partition = Vec::new();
            let mut order = Vec::new();
            let mut frame = None;
            for spec in &specs {
                for expr in &spec.partition_by {
                    partition.push(binder.bind(expr)?);
                }
                for item in &spec.order_by {
                    order.push(binder.order_item(item)?);
                }
                frame = spec.window_frame.as_ref().or(frame);
            }
            // Over rows that are there: no aggregate of an OVER is of nothing.
            let grouped = std::mem::replace(&mut binder.grouped, true);
            let call = binder.aggregate_call(name, None, function, position);
            binder.grouped = grouped;
            let (call, frame) = (call?, binder.frame(frame, !order.is_empty(), position)?);
            Ok(OverExpr {
                call,
                partition,
                order,
                frame,
            })
        })?;
        let data_type = bound.call.data_type.clone();
        self.calls.overs.push(bound);
        let index = self.calls.overs.len() - 1;
        Ok(Placeholder::Over.expr(index, data_type, position))
    }

    /// The specification, behind those that it names.
    fn window_specs(
        &self,
        over: &WindowType,
        position: Option<Position>,
    ) -> Result<Vec<tree::WindowSpec>, SqlError> {
        let mut specs = Vec::new();
        let mut next = match over {
            WindowType::WindowSpec(spec) => {
                specs.push(spec.clone());
                spec.window_name.clone()
            }
            WindowType::NamedWindow(name) => Some(name.clone()),
        };
        while let Some(name) = next {
            let named = self
                .windows
                .iter()
                .find(|definition| definition.0.value == name.value);
            let Some(tree::NamedWindowDefinition(_, tree::NamedWindowExpr::WindowSpec(spec))) = named else {
                let known = self.windows.iter().map(|definition| definition.0.value.as_str());
                return Err(SqlError::unknown(
                    "window",
                    &name.value,
                    known,
                    Position::of_span(name.span),
                ));
            };
            if specs.len() > self.windows.len() {
                return Err(SqlError::semantic(
                    format!("Window '{}' names itself", name.value),
                    position,
                ));
            }
            specs.insert(0, spec.clone());
            next = spec.window_name.clone();
        }
        Ok(specs)
    }

    /// An expression of ORDER BY, DESC, NULLS FIRST.
    pub(crate) fn order_item(&mut self, item: &OrderByExpr) -> Result<(Expr, bool, bool), SqlError> {
        let descending = item.options.asc == Some(false);
        let nulls_first = item.options.nulls_first.unwrap_or(!descending);
        Ok((self.bind(&item.expr)?, descending, nulls_first))
    }

    fn frame(
        &mut self,
        frame: Option<&WindowFrame>,
        ordered: bool,
        position: Option<Position>,
    ) -> Result<OverFrame, SqlError> {
        let Some(frame) = frame else {
            return Ok(OverFrame::Range(None));
        };
        match frame.end_bound.as_ref().unwrap_or(&WindowFrameBound::CurrentRow) {
            WindowFrameBound::CurrentRow => {}
            _ => {
                return Err(SqlError::unsupported(
                    "OVER windows end at CURRENT ROW: FOLLOWING and PRECEDING as the end are not supported",
                    position,
                ));
            }
        }
        let preceding = match &frame.start_bound {
            WindowFrameBound::CurrentRow => Some(0),
            WindowFrameBound::Preceding(None) => None,
            WindowFrameBound::Preceding(Some(distance)) => Some(self.distance(distance, frame.units)?),
            WindowFrameBound::Following(_) => {
                return Err(SqlError::unsupported(
                    "OVER windows can't begin FOLLOWING",
                    position,
                ));
            }
        };
        if preceding.is_some() && !ordered {
            return Err(SqlError::semantic("A frame needs ORDER BY", position));
        }
        Ok(match frame.units {
            WindowFrameUnits::Rows => OverFrame::Rows(preceding),
            _ => OverFrame::Range(preceding),
        })
    }

    fn distance(&mut self, distance: &tree::Expr, units: WindowFrameUnits) -> Result<u64, SqlError> {
        let bound = self.bind(distance)?;
        let wanted = match units {
            WindowFrameUnits::Rows => bound.data_type.root != TypeRoot::IntervalDaySecond,
            _ => bound.data_type.root == TypeRoot::IntervalDaySecond,
        };
        match bound.kind {
            ExprKind::Literal(Literal::Int(value)) if wanted && value >= 0 => Ok(value as u64),
            _ => Err(SqlError::of_type(
                "ROWS needs a constant number of rows, RANGE a constant INTERVAL of days to seconds",
                position_of(distance),
            )),
        }
    }
}

fn is_distinct(function: &Function) -> bool {
    match &function.args {
        FunctionArguments::List(list) => list.duplicate_treatment == Some(DuplicateTreatment::Distinct),
        _ => false,
    }
}

fn refuse_clauses(name: &str, function: &Function, position: Option<Position>) -> Result<(), SqlError> {
    let refused = |what: &str| {
        Err(SqlError::unsupported(
            format!("{what} of {name} is not supported"),
            position,
        ))
    };
    if !function.within_group.is_empty() {
        return refused("WITHIN GROUP");
    }
    if function.null_treatment == Some(tree::NullTreatment::IgnoreNulls) {
        return refused("IGNORE NULLS");
    }
    let FunctionArguments::List(list) = &function.args else {
        return Ok(());
    };
    for clause in &list.clauses {
        match clause {
            FunctionArgumentClause::IgnoreOrRespectNulls(tree::NullTreatment::IgnoreNulls) => {
                return refused("IGNORE NULLS");
            }
            FunctionArgumentClause::OrderBy(_) => return refused("ORDER BY"),
            _ => {}
        }
    }
    Ok(())
}

/// RETURNING's type.
fn returning(function: &Function) -> Result<Option<DataType>, SqlError> {
    let FunctionArguments::List(list) = &function.args else {
        return Ok(None);
    };
    let clause = list.clauses.iter().find_map(|clause| match clause {
        FunctionArgumentClause::JsonReturningClause(returning) => Some(&returning.data_type),
        _ => None,
    });
    clause
        .map(|data_type| Ok(data_type_of(data_type)?.with_nullable(true)))
        .transpose()
}
