//! What a subquery takes of the query around it: conditions on it are pulled up to where both sides' columns are. Whatever can't be pulled up
//! is refused.

use thalweg_plan::{Expr, ExprKind, Field, Schema};

use super::calls::{place_of, rewrite};
use super::expression::{conjunction, resolved};
use super::scope::OUTER;
use super::select::{columns_of, filtered, names_of, projected};
use crate::error::{Position, SqlError};
use crate::logical::{Aggregation, Rel, RelKind};

/// The aggregate of each value that the query around compares with: its relation, the join's conditions over left and right columns, and
/// where the calls' columns begin. Equalities of own values with the other's only: then there is one group a row.
pub(super) fn grouped_by_outer(
    input: Rel,
    correlated: &[Expr],
    calls: Vec<Aggregation>,
    width: usize,
    position: Option<Position>,
) -> Result<(Rel, Vec<Expr>, usize), SqlError> {
    let mut columns = columns_of(&input);
    let mut names = names_of(&input);
    let mut groups = Vec::new();
    let mut others = Vec::new();
    for condition in correlated {
        let (own, other) = sides(condition).ok_or_else(|| {
            SqlError::unsupported(
                "A subquery that is a value can take columns of the query around it in equalities with its own only",
                condition.position.map(|(line, column)| Position { line, column }).or(position),
            )
        })?;
        let place = match own.kind {
            ExprKind::Column(column) => column,
            _ => place_of(&mut columns, own),
        };
        groups.push(place);
        others.push((other.clone(), condition.position));
    }
    names.extend((names.len()..columns.len()).map(|index| format!("$key{index}")));
    let mut keys = groups.clone();
    keys.sort_unstable();
    keys.dedup();
    let input = projected(input, columns, names, position);
    let fields = keys.iter().map(|key| input.schema.fields[*key].clone());
    let results = calls
        .iter()
        .map(|call| Field::new(call.name.clone(), call.data_type.clone()));
    let rel = Rel {
        schema: Schema {
            fields: fields.chain(results).collect(),
        },
        position,
        kind: RelKind::Aggregate {
            input: Box::new(input),
            groups: keys.clone(),
            sets: Vec::new(),
            grouping_ids: Vec::new(),
            calls,
            window: None,
            ttl_ms: None,
        },
    };
    let conditions = groups.iter().zip(others).map(|(group, (other, place))| {
        let key = keys.partition_point(|key| key < group);
        let column = Expr::column(width + key, rel.schema.fields[key].data_type.clone());
        let place = place.map(|(line, column)| Position { line, column });
        resolved("=", vec![column, beside(&other, width)], place.or(position))
    });
    let conditions = conditions.collect::<Result<Vec<_>, _>>()?;
    Ok((rel, conditions, keys.len()))
}

/// Of `own = other`: what is of the subquery, and what of the query around it.
fn sides(condition: &Expr) -> Option<(&Expr, &Expr)> {
    let ExprKind::Call { function, args } = &condition.kind else {
        return None;
    };
    let [left, right] = args.as_slice() else {
        return None;
    };
    if &**function != "=" {
        return None;
    }
    match (is_correlated(left), is_correlated(right)) {
        (false, true) if is_only_outer(right) => Some((left, right)),
        (true, false) if is_only_outer(left) => Some((right, left)),
        _ => None,
    }
}

fn is_only_outer(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Call { function, .. } if &**function == OUTER => true,
        ExprKind::Call { args, .. } => args.iter().all(is_only_outer),
        ExprKind::Literal(_) => true,
        ExprKind::Column(_) => false,
    }
}

/// Whether anything in it is of the query around.
pub(super) fn takes_of_outer(rel: &Rel) -> bool {
    let mut found = false;
    rel.visit_exprs(&mut |expr| found |= is_correlated(expr));
    found
}

/// The same over left and right columns: those of the query around are the left's.
pub(super) fn beside(condition: &Expr, width: usize) -> Expr {
    match &condition.kind {
        ExprKind::Call { function, args } if &**function == OUTER => args[0].clone(),
        ExprKind::Call { function, args } => Expr {
            kind: ExprKind::Call {
                function: function.clone(),
                args: args.iter().map(|arg| beside(arg, width)).collect(),
            },
            data_type: condition.data_type.clone(),
            position: condition.position,
        },
        ExprKind::Column(column) => Expr {
            kind: ExprKind::Column(column + width),
            ..condition.clone()
        },
        ExprKind::Literal(_) => condition.clone(),
    }
}

fn is_correlated(expr: &Expr) -> bool {
    let mut found = false;
    expr.visit(&mut |expr| {
        found |= matches!(&expr.kind, ExprKind::Call { function, .. } if &**function == OUTER);
    });
    found
}

/// Takes correlated conditions out. The relation's columns stay where they are; more may stand behind them.
pub(super) fn pulled(rel: Rel) -> Result<(Rel, Vec<Expr>), SqlError> {
    let Rel {
        kind,
        schema,
        position,
    } = rel;
    match kind {
        RelKind::Filter { input, condition } => {
            let (input, mut pulled_up) = pulled(*input)?;
            let mut local = Vec::new();
            for conjunct in split(condition) {
                match is_correlated(&conjunct) {
                    true => pulled_up.push(conjunct),
                    false => local.push(conjunct),
                }
            }
            let rel = match local.is_empty() {
                true => input,
                false => filtered(input, conjunction(local)?),
            };
            Ok((rel, pulled_up))
        }
        RelKind::Project { input, mut exprs } => {
            refuse_correlated(&exprs, position)?;
            let (input, pulled_up) = pulled(*input)?;
            let mut names: Vec<String> = schema.fields.iter().map(|field| field.name.clone()).collect();
            let visible = exprs.len();
            let pulled_up = moved(&pulled_up, &mut |column| {
                place_behind(&mut exprs, visible, column)
            })?;
            names.extend((visible..exprs.len()).map(|index| format!("$outer{index}")));
            Ok((projected(input, exprs, names, position), pulled_up))
        }
        RelKind::Aggregate {
            input,
            groups,
            sets,
            grouping_ids,
            calls,
            window,
            ttl_ms,
        } => {
            let (input, pulled_up) = pulled(*input)?;
            if !pulled_up.is_empty() {
                let is_plain = sets.len() <= 1 && window.is_none();
                let groups = if is_plain { groups.as_slice() } else { &[] };
                return grouped_further(input, &pulled_up, groups, calls, &schema, position);
            }
            let rel = Rel {
                kind: RelKind::Aggregate {
                    input: Box::new(input),
                    groups,
                    sets,
                    grouping_ids,
                    calls,
                    window,
                    ttl_ms,
                },
                schema,
                position,
            };
            Ok((rel, pulled_up))
        }
        RelKind::Join {
            left,
            right,
            kind,
            condition,
            ttl_ms,
            null_aware,
        } => {
            if let Some(condition) = &condition {
                refuse_correlated(std::slice::from_ref(condition), position)?;
            }
            let (left, right) = (uncorrelated(*left)?, uncorrelated(*right)?);
            let kind = RelKind::Join {
                left: Box::new(left),
                right: Box::new(right),
                kind,
                condition,
                ttl_ms,
                null_aware,
            };
            Ok((
                Rel {
                    kind,
                    schema,
                    position,
                },
                Vec::new(),
            ))
        }
        RelKind::Sort {
            input,
            keys,
            offset: 0,
            fetch: None,
        } => {
            let (input, pulled_up) = pulled(*input)?;
            let schema = input.schema.clone();
            let kind = RelKind::Sort {
                input: Box::new(input),
                keys,
                offset: 0,
                fetch: None,
            };
            Ok((
                Rel {
                    kind,
                    schema,
                    position,
                },
                pulled_up,
            ))
        }
        RelKind::Values(rows) => {
            for row in &rows {
                refuse_correlated(row, position)?;
            }
            Ok((
                Rel {
                    kind: RelKind::Values(rows),
                    schema,
                    position,
                },
                Vec::new(),
            ))
        }
        kind @ RelKind::Scan(_) => Ok((
            Rel {
                kind,
                schema,
                position,
            },
            Vec::new(),
        )),
        kind => Ok((
            uncorrelated(Rel {
                kind,
                schema,
                position,
            })?,
            Vec::new(),
        )),
    }
}

fn unsupported(position: Option<Position>) -> SqlError {
    SqlError::unsupported(
        "A subquery can take columns of the query around it in conditions of its WHERE only, joined by AND",
        position,
    )
}

fn refuse_correlated(exprs: &[Expr], position: Option<Position>) -> Result<(), SqlError> {
    match exprs.iter().find(|expr| is_correlated(expr)) {
        Some(expr) => Err(unsupported(
            expr.position
                .map(|(line, column)| Position { line, column })
                .or(position),
        )),
        None => Ok(()),
    }
}

/// A relation that must take nothing of the query around.
fn uncorrelated(rel: Rel) -> Result<Rel, SqlError> {
    match takes_of_outer(&rel) {
        true => Err(unsupported(rel.position)),
        false => Ok(rel),
    }
}

fn split(condition: Expr) -> Vec<Expr> {
    match condition.kind {
        ExprKind::Call {
            ref function,
            ref args,
        } if &**function == "AND" => args.iter().cloned().flat_map(split).collect(),
        _ => vec![condition],
    }
}

/// Where an input's column is behind the visible ones of a projection.
fn place_behind(exprs: &mut Vec<Expr>, visible: usize, column: &Expr) -> usize {
    let mut behind = exprs.split_off(visible);
    let place = visible + place_of(&mut behind, &column.clone().at(None));
    exprs.append(&mut behind);
    place
}

/// Conditions with their own columns (not those of the query around) elsewhere.
fn moved(conditions: &[Expr], place: &mut impl FnMut(&Expr) -> usize) -> Result<Vec<Expr>, SqlError> {
    let moved = conditions.iter().map(|condition| {
        rewrite(condition, &mut |expr| {
            Ok(match &expr.kind {
                ExprKind::Call { function, .. } if &**function == OUTER => Some(expr.clone()),
                ExprKind::Column(_) => Some(Expr {
                    kind: ExprKind::Column(place(expr)),
                    ..expr.clone()
                }),
                _ => None,
            })
        })
    });
    moved.collect()
}

/// Groups an aggregate with GROUP BY by what conditions compare with the query around, too. (One without has a row for no rows, which a
/// join can't give.) The columns that were there come first.
fn grouped_further(
    input: Rel,
    correlated: &[Expr],
    groups: &[usize],
    calls: Vec<Aggregation>,
    schema: &Schema,
    position: Option<Position>,
) -> Result<(Rel, Vec<Expr>), SqlError> {
    if groups.is_empty() {
        return Err(SqlError::unsupported(
            "An aggregate without GROUP BY, with several grouping sets or with a window can't take columns of the query around it here",
            position,
        ));
    }
    let mut columns = columns_of(&input);
    let mut names = names_of(&input);
    let mut all_groups = groups.to_vec();
    let mut added = Vec::new();
    for condition in correlated {
        let Some((own, _)) = sides(condition) else {
            return Err(unsupported(position));
        };
        let place = match own.kind {
            ExprKind::Column(column) => column,
            _ => place_of(&mut columns, own),
        };
        let key = all_groups.iter().position(|group| *group == place);
        added.push(key.unwrap_or(all_groups.len()));
        if key.is_none() {
            all_groups.push(place);
        }
    }
    names.extend((names.len()..columns.len()).map(|index| format!("$key{index}")));
    let input = projected(input, columns, names, position);
    let (before, width) = (groups.len(), schema.fields.len());
    let more = all_groups.len() - before;
    let mut fields = schema.fields.clone();
    let new = all_groups[before..].iter();
    fields.splice(
        before..before,
        new.map(|group| input.schema.fields[*group].clone()),
    );
    let grouped = Rel {
        schema: Schema { fields },
        position,
        kind: RelKind::Aggregate {
            input: Box::new(input),
            groups: all_groups,
            sets: Vec::new(),
            grouping_ids: Vec::new(),
            calls,
            window: None,
            ttl_ms: None,
        },
    };
    let order = (0..before)
        .chain(before + more..width + more)
        .chain(before..before + more);
    let exprs: Vec<Expr> = order
        .map(|index| Expr::column(index, grouped.schema.fields[index].data_type.clone()))
        .collect();
    let mut names: Vec<String> = schema.fields.iter().map(|field| field.name.clone()).collect();
    names.extend((0..more).map(|index| format!("$outer{index}")));
    let conditions = correlated.iter().zip(added).map(|(condition, key)| {
        let (_, other) = sides(condition).ok_or_else(|| unsupported(position))?;
        let column = if key < before { key } else { width + key - before };
        let own = Expr::column(column, exprs[column].data_type.clone());
        let place = condition.position.map(|(line, column)| Position { line, column });
        resolved("=", vec![own, other.clone()], place.or(position))
    });
    let conditions = conditions.collect::<Result<Vec<_>, _>>()?;
    Ok((projected(grouped, exprs, names, position), conditions))
}
