//! Top-N: `ROW_NUMBER() OVER (PARTITION BY .. ORDER BY ..) <= n` as a condition above it.
//!
//! ```text
//!   Filter(rn <= 3 AND rest)          Filter(rest)
//!     Over(ROW_NUMBER)          ->      Rank(1..=3)
//!   rn = 2: the rank is a constant, so that the operator need not give it
//! ```

use thalweg_plan::spec::RankEnd;
use thalweg_plan::{Expr, ExprKind, Schema, TypeRoot};

use super::super::expr::{as_column, as_int, bigint_literal, columns, identity};
use super::{types, width};
use crate::error::SqlError;
use crate::logical::{Rel, RelKind};

/// What became of conditions over an Over.
pub(crate) enum Extracted {
    /// A Top-N with the Over's columns, and the conditions that are left.
    Rank(Rel, Vec<Expr>),
    /// It is none.
    No(Rel, Vec<Expr>),
}

/// One bound of the rank.
enum Bound {
    From(i64),
    To(i64),
    Equal(i64),
    ToColumn(usize),
}

/// Tries to make a Top-N of an Over and conditions over its columns.
pub(crate) fn extracted(rel: Rel, conditions: Vec<Expr>, is_batch: bool) -> Result<Extracted, SqlError> {
    let RelKind::Over {
        input,
        partition,
        order,
        calls,
    } = &rel.kind
    else {
        return Ok(Extracted::No(rel, conditions));
    };
    let [call] = calls.as_slice() else {
        return Ok(Extracted::No(rel, conditions));
    };
    let rank = width(input);
    let (bounds, rest): (Vec<_>, Vec<_>) = conditions
        .iter()
        .map(|condition| (bound(condition, rank), condition))
        .partition(|(bound, _)| bound.is_some());
    let Some((start, end)) = range(bounds.into_iter().filter_map(|(bound, _)| bound)) else {
        return Ok(Extracted::No(rel, conditions));
    };
    match call.call.function.as_str() {
        "ROW_NUMBER" => {}
        // Ranks of all rows are computed: rows that have one in common are no Top-N of ours.
        _ if is_batch => return Ok(Extracted::No(rel, conditions)),
        "RANK" | "DENSE_RANK" => {
            let message = format!(
                "{}() on streaming table is not supported currently",
                call.call.function
            );
            return Err(SqlError::unsupported(
                message,
                call.call.position.or(rel.position),
            ));
        }
        _ => return Ok(Extracted::No(rel, conditions)),
    }
    let rest: Vec<Expr> = rest.into_iter().map(|(_, condition)| condition.clone()).collect();
    let constant = match end {
        RankEnd::Constant(end) if end == start => Some(end as i64),
        _ => None,
    };
    let mut schema = input.schema.clone();
    if constant.is_none() {
        schema.fields.extend(rel.schema.fields.last().cloned());
    }
    let top = Rel {
        schema,
        position: rel.position,
        kind: RelKind::Rank {
            input: input.clone(),
            partition: partition.clone(),
            order: order.clone(),
            start,
            end,
            with_rank: constant.is_none(),
        },
    };
    let top = match constant {
        None => top,
        Some(rank) => with_constant(top, rank, rel.schema),
    };
    Ok(Extracted::Rank(top, rest))
}

fn with_constant(top: Rel, rank: i64, schema: Schema) -> Rel {
    let mut exprs = identity(types(&top));
    exprs.push(bigint_literal(rank));
    Rel {
        schema,
        position: top.position,
        kind: RelKind::Project {
            input: Box::new(top),
            exprs,
        },
    }
}

/// What a condition says of the rank; `None`: nothing that a Top-N can use.
fn bound(condition: &Expr, rank: usize) -> Option<Bound> {
    let ExprKind::Call { function, args } = &condition.kind else {
        return None;
    };
    let [left, right] = args.as_slice() else {
        return None;
    };
    let (operator, other) = match (as_column(left), as_column(right)) {
        (Some(column), _) if column == rank => (&**function, right),
        (_, Some(column)) if column == rank => (turned(function), left),
        _ => return None,
    };
    if let Some(column) = as_column(other) {
        let is_bigint = other.data_type.root == TypeRoot::BigInt;
        return (operator == "<=" && is_bigint && column != rank).then_some(Bound::ToColumn(column));
    }
    if !columns(other).is_empty() {
        return None;
    }
    let value = as_int(other)?;
    match operator {
        "=" => Some(Bound::Equal(value)),
        "<" => Some(Bound::To(value - 1)),
        "<=" => Some(Bound::To(value)),
        ">" => Some(Bound::From(value + 1)),
        ">=" => Some(Bound::From(value)),
        _ => None,
    }
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

/// All bounds at once; `None` if there is no last rank, or no rank at all.
fn range(bounds: impl Iterator<Item = Bound>) -> Option<(u64, RankEnd)> {
    let (mut start, mut end, mut column) = (1_i64, None::<i64>, None);
    let lower = |end: Option<i64>, to: i64| Some(end.map_or(to, |end| end.min(to)));
    for bound in bounds {
        match bound {
            Bound::From(from) => start = start.max(from),
            Bound::To(to) => end = lower(end, to),
            Bound::Equal(value) => {
                start = start.max(value);
                end = lower(end, value);
            }
            Bound::ToColumn(to) => column = Some(to),
        }
    }
    let start_rank = u64::try_from(start).ok()?;
    match (end, column) {
        (Some(end), None) if end >= start => Some((start_rank, RankEnd::Constant(end as u64))),
        (None, Some(column)) => Some((start_rank, RankEnd::Column(column))),
        _ => None,
    }
}
