//! Interval joins: conditions that bound the distance between the two sides' time attributes.
//!
//! `left.t + a <op> right.t + b` bounds `left.t - right.t` by `b - a`. With a bound below and one above rows can be forgotten.

use thalweg_plan::data_type::TimeKind;
use thalweg_plan::{Expr, ExprKind, Literal, TypeRoot};

use super::draft::Draft;

/// `lower <= left.time - right.time <= upper`, in milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Interval {
    pub(crate) left_time: usize,
    /// By the right side's own positions.
    pub(crate) right_time: usize,
    pub(crate) lower_ms: i64,
    pub(crate) upper_ms: i64,
    /// The other conditions.
    pub(crate) rest: Vec<Expr>,
}

/// One condition's bounds.
struct Bounds {
    left_time: usize,
    right_time: usize,
    lower: Option<i64>,
    upper: Option<i64>,
}

/// The interval of a join's conditions; `None`: it has no two bounds.
pub(crate) fn extracted(left: &Draft, right: &Draft, conditions: &[Expr]) -> Option<Interval> {
    let kind_of = |column: usize| {
        let field = match column.checked_sub(left.width()) {
            None => left.schema.fields.get(column),
            Some(column) => right.schema.fields.get(column),
        };
        field.map(|field| field.data_type.time_kind()).unwrap_or_default()
    };
    let parsed: Vec<Option<Bounds>> = conditions
        .iter()
        .map(|condition| bounds(condition, left.width(), &kind_of))
        .collect();
    let first = parsed.iter().flatten().next()?;
    let times = (first.left_time, first.right_time);
    let of_times = |bounds: &Bounds| (bounds.left_time, bounds.right_time) == times;
    let used = || parsed.iter().flatten().filter(|bounds| of_times(bounds));
    let lower_ms = used().filter_map(|bounds| bounds.lower).max()?;
    let upper_ms = used().filter_map(|bounds| bounds.upper).min()?;
    let rest = conditions.iter().zip(&parsed);
    let rest = rest.filter(|(_, parsed)| !parsed.as_ref().is_some_and(of_times));
    Some(Interval {
        left_time: times.0,
        right_time: times.1,
        lower_ms,
        upper_ms,
        rest: rest.map(|(condition, _)| condition.clone()).collect(),
    })
}

fn bounds(condition: &Expr, left_width: usize, kind_of: &impl Fn(usize) -> TimeKind) -> Option<Bounds> {
    let ExprKind::Call { function, args } = &condition.kind else {
        return None;
    };
    let [a, b] = args.as_slice() else {
        return None;
    };
    let ((a, a_offset), (b, b_offset)) = (shifted_time(a, kind_of)?, shifted_time(b, kind_of)?);
    if kind_of(a) != kind_of(b) {
        return None;
    }
    let (operator, left, right, distance) = match (a < left_width, b < left_width) {
        (true, false) => (&**function, a, b, b_offset - a_offset),
        (false, true) => (turned(function), b, a, a_offset - b_offset),
        _ => return None,
    };
    let (lower, upper) = match operator {
        ">" => (Some(distance + 1), None),
        ">=" => (Some(distance), None),
        "<" => (None, Some(distance - 1)),
        "<=" => (None, Some(distance)),
        "=" => (Some(distance), Some(distance)),
        _ => return None,
    };
    Some(Bounds {
        left_time: left,
        right_time: right - left_width,
        lower,
        upper,
    })
}

fn turned(operator: &str) -> &str {
    match operator {
        "<" => ">",
        "<=" => ">=",
        ">" => "<",
        ">=" => "<=",
        other => other,
    }
}

/// A time attribute and what is added to it.
fn shifted_time(expr: &Expr, kind_of: &impl Fn(usize) -> TimeKind) -> Option<(usize, i64)> {
    match &expr.kind {
        ExprKind::Column(column) => (kind_of(*column) != TimeKind::Regular).then_some((*column, 0)),
        ExprKind::Literal(_) => None,
        ExprKind::Call { function, args } => match (&**function, args.as_slice()) {
            ("CAST", [arg]) => {
                let same =
                    arg.data_type.clone().materialized().root == expr.data_type.clone().materialized().root;
                same.then(|| shifted_time(arg, kind_of)).flatten()
            }
            ("+", [time, interval]) | ("+", [interval, time]) if milliseconds(interval).is_some() => {
                let (column, offset) = shifted_time(time, kind_of)?;
                Some((column, offset.checked_add(milliseconds(interval)?)?))
            }
            ("-", [time, interval]) => {
                let (column, offset) = shifted_time(time, kind_of)?;
                Some((column, offset.checked_sub(milliseconds(interval)?)?))
            }
            _ => None,
        },
    }
}

fn milliseconds(expr: &Expr) -> Option<i64> {
    match (&expr.kind, &expr.data_type.root) {
        (ExprKind::Literal(Literal::Int(ms)), TypeRoot::IntervalDaySecond) => Some(*ms),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use thalweg_plan::{DataType, Field, NodeSpec, Schema};

    use super::super::expr::boolean;
    use super::*;

    fn rowtime() -> DataType {
        DataType::nullable(TypeRoot::Timestamp(3, TimeKind::Rowtime))
    }

    fn side() -> Draft {
        let schema = Schema {
            fields: vec![Field::new("id", DataType::string()), Field::new("ts", rowtime())],
        };
        Draft::new(NodeSpec::Values(Vec::new()), Vec::new(), schema)
    }

    fn time(column: usize) -> Expr {
        Expr::column(column, rowtime())
    }

    fn plus(time: Expr, function: &str, seconds: i64) -> Expr {
        let interval = DataType::not_null(TypeRoot::IntervalDaySecond);
        let interval = Expr::literal(Literal::Int(seconds * 1000), interval);
        Expr::call(function, vec![time, interval], rowtime().materialized())
    }

    fn compared(left: Expr, operator: &str, right: Expr) -> Expr {
        Expr::call(operator, vec![left, right], boolean(true))
    }

    #[test]
    fn bounds_on_both_sides_make_an_interval() {
        let conditions = [
            compared(time(1), ">=", plus(time(3), "-", 4)),
            compared(time(1), "<", plus(time(3), "+", 4)),
        ];
        let found = extracted(&side(), &side(), &conditions).unwrap();
        assert_eq!((found.lower_ms, found.upper_ms), (-4000, 3999));
        assert_eq!((found.left_time, found.right_time), (1, 1));
        assert!(found.rest.is_empty());
    }

    #[test]
    fn the_sides_may_stand_the_other_way_round() {
        let conditions = [
            compared(time(3), ">", time(1)),
            compared(plus(time(3), "-", 2), "<=", time(1)),
        ];
        let found = extracted(&side(), &side(), &conditions).unwrap();
        assert_eq!((found.lower_ms, found.upper_ms), (-2000, -1));
    }

    #[test]
    fn one_bound_is_not_enough() {
        let conditions = [compared(time(1), ">=", time(3))];
        assert_eq!(extracted(&side(), &side(), &conditions), None);
    }
}
