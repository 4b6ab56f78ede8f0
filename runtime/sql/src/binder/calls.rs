//! Calls that one row can't answer: aggregates, OVER, GROUPING, properties of group windows, scalar subqueries. While an expression is
//! bound each becomes a placeholder; when the relation that computes it is there, the placeholder becomes its column.

use thalweg_plan::spec::WindowProperty;
use thalweg_plan::{DataType, Expr, ExprKind, Literal};

use crate::error::{Position, SqlError};
use crate::logical::{OverFrame, Rel};

/// Kinds of placeholders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placeholder {
    Aggregate,
    Grouping,
    Window,
    Over,
    Scalar,
}

impl Placeholder {
    const ALL: [Self; 5] = [
        Self::Aggregate,
        Self::Grouping,
        Self::Window,
        Self::Over,
        Self::Scalar,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Aggregate => "$AGGREGATE",
            Self::Grouping => "$GROUPING",
            Self::Window => "$WINDOW",
            Self::Over => "$OVER",
            Self::Scalar => "$SCALAR",
        }
    }

    pub(crate) fn expr(self, index: usize, data_type: DataType, position: Option<Position>) -> Expr {
        let index = super::literal::int(index as i64);
        Expr::call(self.name(), vec![index], data_type).at(position.map(Position::pair))
    }

    /// Which placeholder an expression is.
    pub(crate) fn of(expr: &Expr) -> Option<(Self, usize)> {
        let ExprKind::Call { function, args } = &expr.kind else {
            return None;
        };
        let kind = Self::ALL.into_iter().find(|kind| kind.name() == &**function)?;
        match args.first().map(|arg| &arg.kind) {
            Some(ExprKind::Literal(Literal::Int(index))) => Some((kind, *index as usize)),
            _ => None,
        }
    }
}

/// An aggregate function's call over expressions.
#[derive(Debug, Clone)]
pub(crate) struct AggregateCall {
    pub(crate) function: String,
    /// Cast as the function wants them.
    pub(crate) args: Vec<Expr>,
    pub(crate) distinct: bool,
    pub(crate) filter: Option<Expr>,
    pub(crate) data_type: DataType,
    pub(crate) position: Option<Position>,
}

/// A call with OVER.
#[derive(Debug, Clone)]
pub(crate) struct OverExpr {
    pub(crate) call: AggregateCall,
    pub(crate) partition: Vec<Expr>,
    /// Expression, DESC, NULLS FIRST.
    pub(crate) order: Vec<(Expr, bool, bool)>,
    pub(crate) frame: OverFrame,
}

/// TUMBLE_START and its like: of which window function, what.
#[derive(Debug, Clone)]
pub(crate) struct WindowCall {
    pub(crate) function: &'static str,
    pub(crate) property: WindowProperty,
    pub(crate) args: Vec<Expr>,
    pub(crate) data_type: DataType,
    pub(crate) position: Option<Position>,
}

/// All that were found in the expressions of one SELECT.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    pub(crate) aggregates: Vec<AggregateCall>,
    /// The arguments of each GROUPING.
    pub(crate) groupings: Vec<Vec<Expr>>,
    pub(crate) windows: Vec<WindowCall>,
    pub(crate) overs: Vec<OverExpr>,
    /// Subqueries of one column and at most one row; what they take of the query around is [`super::scope::OUTER`].
    pub(crate) scalars: Vec<Rel>,
}

/// Whether two expressions compute the same, wherever they stand.
pub(crate) fn same(left: &Expr, right: &Expr) -> bool {
    left.data_type == right.data_type
        && match (&left.kind, &right.kind) {
            (
                ExprKind::Call { function, args },
                ExprKind::Call {
                    function: other,
                    args: others,
                },
            ) => {
                function == other
                    && args.len() == others.len()
                    && args.iter().zip(others).all(|(a, b)| same(a, b))
            }
            (left, right) => left == right,
        }
}

/// Rewrites from above: what `replace` gives an expression for stands instead of it, else its arguments are rewritten.
pub(crate) fn rewrite(
    expr: &Expr,
    replace: &mut impl FnMut(&Expr) -> Result<Option<Expr>, SqlError>,
) -> Result<Expr, SqlError> {
    if let Some(replaced) = replace(expr)? {
        return Ok(replaced);
    }
    let ExprKind::Call { function, args } = &expr.kind else {
        return Ok(expr.clone());
    };
    let args = args
        .iter()
        .map(|arg| rewrite(arg, replace))
        .collect::<Result<_, _>>()?;
    Ok(Expr {
        kind: ExprKind::Call {
            function: function.clone(),
            args,
        },
        data_type: expr.data_type.clone(),
        position: expr.position,
    })
}

/// Puts `expr` in `exprs` unless it is there; where it is.
pub(crate) fn place_of(exprs: &mut Vec<Expr>, expr: &Expr) -> usize {
    match exprs.iter().position(|other| same(other, expr)) {
        Some(place) => place,
        None => {
            exprs.push(expr.clone());
            exprs.len() - 1
        }
    }
}
