//! Filters go down, as near to the sources as they may, and become what they mean on their way: a join's condition, a Top-N.
//!
//! ```text
//!   Project        conditions over deterministic expressions, with the expressions in them
//!   Join           inner: into ON; ON's parts that read one side alone: into that side, if rows of it without a partner don't stay
//!                  outer, and a condition that no row of nulls passes: first the join becomes an inner one
//!   groups, partitions, Top-N, windows, UNION: what reads keys, or columns that are passed on, alone
//!   Over(ROW_NUMBER): see `rank`
//! ```
//!
//! Invariant: with -U and -D as with +I, a row passes the same conditions as before.

use std::collections::BTreeSet;

use thalweg_plan::spec::JoinKind;
use thalweg_plan::{Expr, ExprKind};

use super::super::expr::{all_of, as_column, columns, conjuncts, inlined, is_deterministic, renumbered};
use super::fold::kept;
use super::{filter, map_inputs, rank, width};
use crate::error::SqlError;
use crate::logical::{Rel, RelKind};

/// `rel` with conditions over its columns; `is_batch`: of rows that end.
pub(crate) fn push(rel: Rel, conditions: Vec<Expr>, is_batch: bool) -> Result<Rel, SqlError> {
    let conditions = kept(conditions);
    match rel.kind {
        RelKind::Filter { input, condition } => {
            let all = conjuncts(condition).into_iter().chain(conditions);
            push(*input, all.collect(), is_batch)
        }
        RelKind::Project { input, exprs } => {
            through_project(*input, exprs, (rel.schema, rel.position), conditions, is_batch)
        }
        RelKind::Join { .. } => into_join(rel, conditions, is_batch),
        RelKind::Union(inputs) => {
            let inputs = inputs
                .into_iter()
                .map(|input| push(input, conditions.clone(), is_batch));
            Ok(Rel {
                kind: RelKind::Union(inputs.collect::<Result<_, _>>()?),
                schema: rel.schema,
                position: rel.position,
            })
        }
        RelKind::Over { .. } if !conditions.is_empty() => match rank::extracted(rel, conditions, is_batch)? {
            rank::Extracted::Rank(rel, rest) => push(rel, rest, is_batch),
            rank::Extracted::No(rel, conditions) => past_keys(rel, conditions, is_batch),
        },
        _ => past_keys(rel, conditions, is_batch),
    }
}

fn through_project(
    input: Rel,
    exprs: Vec<Expr>,
    (schema, position): (thalweg_plan::Schema, Option<crate::Position>),
    conditions: Vec<Expr>,
    is_batch: bool,
) -> Result<Rel, SqlError> {
    let movable = |condition: &Expr| {
        columns(condition)
            .iter()
            .all(|&column| is_deterministic(&exprs[column]))
    };
    let (down, stay): (Vec<Expr>, Vec<Expr>) = conditions.into_iter().partition(movable);
    let down = down.iter().map(|condition| inlined(condition, &exprs)).collect();
    let input = push(input, down, is_batch)?;
    let project = Rel {
        schema,
        position,
        kind: RelKind::Project {
            input: Box::new(input),
            exprs,
        },
    };
    Ok(filter(project, stay))
}

/// Conditions that read only what is the same in the input go below; the others stay.
fn past_keys(rel: Rel, conditions: Vec<Expr>, is_batch: bool) -> Result<Rel, SqlError> {
    let place = transparent(&rel);
    let (down, stay): (Vec<Expr>, Vec<Expr>) = conditions.into_iter().partition(|condition| {
        let read = columns(condition);
        !read.is_empty() && is_deterministic(condition) && read.iter().all(|&column| place(column).is_some())
    });
    let down: Vec<Expr> = down
        .iter()
        .map(|condition| renumbered(condition, |column| place(column).unwrap_or(column)))
        .collect();
    drop(place);
    let leaf = matches!(rel.kind, RelKind::Scan(_) | RelKind::Values(_));
    let (down, stay) = match leaf {
        true => (Vec::new(), down.into_iter().chain(stay).collect()),
        false => (down, stay),
    };
    let mut first = Some(down);
    let pushed = map_inputs(rel, &mut |input| {
        push(input, first.take().unwrap_or_default(), is_batch)
    })?;
    Ok(filter(pushed, stay))
}

/// Where a column is in the (left) input, if a condition over it means the same there.
fn transparent(rel: &Rel) -> Box<dyn Fn(usize) -> Option<usize>> {
    let passed = |width: usize| move |column: usize| (column < width).then_some(column);
    match &rel.kind {
        // Of sessions, too: Flink's are of the rows that pass.
        RelKind::WindowTableFunction { input, .. } => Box::new(passed(width(input))),
        RelKind::Correlate { input, .. } => Box::new(passed(width(input))),
        RelKind::TemporalJoin { left, .. } => Box::new(passed(width(left))),
        RelKind::Sort {
            offset: 0,
            fetch: None,
            ..
        } => Box::new(Some),
        RelKind::Over { partition, .. } | RelKind::Rank { partition, .. } => {
            let partition = partition.clone();
            Box::new(move |column| partition.contains(&column).then_some(column))
        }
        RelKind::Aggregate {
            input, groups, sets, ..
        } => {
            let in_all_sets = |group: &usize| sets.iter().all(|set| set.contains(group));
            // A filter between a window and its groups would keep rows from being aggregated as they are put in windows.
            let stable: Vec<Option<usize>> = (0..groups.len())
                .map(|group| {
                    (in_all_sets(&group) && !is_window_bound(input, groups[group])).then_some(groups[group])
                })
                .collect();
            Box::new(move |column| stable.get(column).copied().flatten())
        }
        _ => Box::new(|_| None),
    }
}

/// Whether a column is one that a window table function adds.
fn is_window_bound(rel: &Rel, column: usize) -> bool {
    match &rel.kind {
        RelKind::Project { input, exprs } => {
            let below = exprs.get(column).and_then(as_column);
            below.is_some_and(|below| is_window_bound(input, below))
        }
        RelKind::Filter { input, .. } => is_window_bound(input, column),
        RelKind::WindowTableFunction { input, .. } => column >= width(input),
        _ => false,
    }
}

/// Conditions by which side of a join they read.
struct Sides {
    left: Vec<Expr>,
    right: Vec<Expr>,
    both: Vec<Expr>,
}

fn by_side(conditions: Vec<Expr>, left_width: usize) -> Sides {
    let mut sides = Sides {
        left: Vec::new(),
        right: Vec::new(),
        both: Vec::new(),
    };
    for condition in conditions {
        let read = columns(&condition);
        let side = if read.is_empty() || !is_deterministic(&condition) {
            &mut sides.both
        } else if read.iter().all(|&column| column < left_width) {
            &mut sides.left
        } else if read.iter().all(|&column| column >= left_width) {
            &mut sides.right
        } else {
            &mut sides.both
        };
        side.push(condition);
    }
    sides
}

fn into_join(rel: Rel, conditions: Vec<Expr>, is_batch: bool) -> Result<Rel, SqlError> {
    let RelKind::Join {
        left,
        right,
        kind,
        condition,
        ttl_ms,
        null_aware,
    } = rel.kind
    else {
        return Ok(rel);
    };
    let left_width = width(&left);
    let kind = without_padding(kind, &conditions, left_width, width(&right));
    let on = condition.map(conjuncts).unwrap_or_default();
    let above = by_side(conditions, left_width);
    let on = match null_aware {
        true => Sides {
            left: Vec::new(),
            right: Vec::new(),
            both: on,
        },
        false => by_side(kept(on), left_width),
    };
    let (mut to_left, mut to_right, mut to_on, mut stay) = (Vec::new(), Vec::new(), on.both, Vec::new());
    let (keeps_left, keeps_right) = match kind {
        JoinKind::Inner | JoinKind::Semi => (false, false),
        JoinKind::Left | JoinKind::Anti => (true, false),
        JoinKind::Right => (false, true),
        JoinKind::Full => (true, true),
    };
    // A row that stays without a partner is there whatever ON says of it.
    match keeps_left {
        true => to_on.extend(on.left),
        false => to_left.extend(on.left),
    }
    match keeps_right {
        true => to_on.extend(on.right),
        false => to_right.extend(on.right),
    }
    // A row that may be made of nulls is not what the side gave.
    match kind {
        JoinKind::Right | JoinKind::Full => stay.extend(above.left),
        _ => to_left.extend(above.left),
    }
    match kind {
        JoinKind::Inner | JoinKind::Right => to_right.extend(above.right),
        _ => stay.extend(above.right),
    }
    match kind {
        JoinKind::Inner => to_on.extend(above.both),
        _ => stay.extend(above.both),
    }
    let to_right = to_right
        .iter()
        .map(|condition| renumbered(condition, |column| column - left_width))
        .collect();
    let (left, right) = (push(*left, to_left, is_batch)?, push(*right, to_right, is_batch)?);
    let schema = match kind {
        JoinKind::Semi | JoinKind::Anti => rel.schema,
        _ => rel.schema,
    };
    let join = Rel {
        schema,
        position: rel.position,
        kind: RelKind::Join {
            left: Box::new(left),
            right: Box::new(right),
            kind,
            condition: all_of(to_on),
            ttl_ms,
            null_aware,
        },
    };
    Ok(filter(join, stay))
}

/// The kind of join that is left if rows of nulls don't pass the conditions above it.
fn without_padding(kind: JoinKind, conditions: &[Expr], left: usize, right: usize) -> JoinKind {
    let rejects = |side: BTreeSet<usize>| conditions.iter().any(|condition| rejects_nulls(condition, &side));
    let no_null_left = rejects((0..left).collect());
    let no_null_right = rejects((left..left + right).collect());
    match (kind, no_null_left, no_null_right) {
        (JoinKind::Left, _, true) | (JoinKind::Right, true, _) | (JoinKind::Full, true, true) => {
            JoinKind::Inner
        }
        (JoinKind::Full, true, false) => JoinKind::Left,
        (JoinKind::Full, false, true) => JoinKind::Right,
        (kind, _, _) => kind,
    }
}

/// Whether a condition is not true if all these columns are null.
fn rejects_nulls(condition: &Expr, side: &BTreeSet<usize>) -> bool {
    let ExprKind::Call { function, args } = &condition.kind else {
        return is_null(condition, side);
    };
    match &**function {
        "AND" => args.iter().any(|arg| rejects_nulls(arg, side)),
        "OR" => args.iter().all(|arg| rejects_nulls(arg, side)),
        "IS NOT NULL" | "IS TRUE" | "IS FALSE" => args.iter().all(|arg| is_null(arg, side)),
        _ => is_null(condition, side),
    }
}

/// Whether an expression is null if all these columns are.
fn is_null(expr: &Expr, side: &BTreeSet<usize>) -> bool {
    const STRICT: &[&str] = &[
        "=",
        "<>",
        "<",
        "<=",
        ">",
        ">=",
        "+",
        "-",
        "*",
        "/",
        "%",
        "UNARY -",
        "NOT",
        "LIKE",
        "CAST",
        "MOD",
        "LOWER",
        "UPPER",
        "CHAR_LENGTH",
        "ABS",
    ];
    match &expr.kind {
        ExprKind::Column(column) => side.contains(column),
        ExprKind::Literal(_) => false,
        ExprKind::Call { function, args } => {
            STRICT.contains(&&**function) && args.iter().any(|arg| is_null(arg, side))
        }
    }
}
