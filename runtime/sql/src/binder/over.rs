//! OVER: calls with the same PARTITION BY and ORDER BY are computed together, behind a projection that has what they need as columns.

use thalweg_plan::spec::SortKey;
use thalweg_plan::{Expr, ExprKind, Field};

use super::Binder;
use super::calls::{Calls, OverExpr, Placeholder, place_of, rewrite, same};
use super::select::{columns_of, names_of, projected};
use crate::error::SqlError;
use crate::logical::{Aggregation, OverCall, Rel, RelKind};

/// Calls that are computed together.
struct Group {
    partition: Vec<usize>,
    order: Vec<SortKey>,
    /// Of [`Calls::overs`].
    members: Vec<usize>,
    calls: Vec<OverCall>,
}

impl Binder<'_> {
    /// Computes the OVERs of `exprs`, which are over `rel`'s columns.
    pub(crate) fn overs(&self, rel: Rel, calls: &Calls, exprs: &mut [Expr]) -> Result<Rel, SqlError> {
        if calls.overs.is_empty() {
            return Ok(rel);
        }
        let mut needed = columns_of(&rel);
        let groups = grouped(&calls.overs, &mut needed);
        let computed = Computed::behind(rel.schema.fields.len(), &needed);
        let mut names = names_of(&rel);
        names.extend((names.len()..needed.len()).map(|index| format!("$over{index}")));
        let position = rel.position;
        let mut rel = projected(rel, needed, names, position);
        let mut places = vec![0; calls.overs.len()];
        for group in groups {
            let first = rel.schema.fields.len();
            for (place, member) in group.members.iter().enumerate() {
                places[*member] = first + place;
            }
            let mut schema = rel.schema.clone();
            let results = group.calls.iter();
            schema
                .fields
                .extend(results.map(|over| Field::new(over.call.name.clone(), over.call.data_type.clone())));
            rel = Rel {
                schema,
                position,
                kind: RelKind::Over {
                    input: Box::new(rel),
                    partition: group.partition,
                    order: group.order,
                    calls: group.calls,
                },
            };
        }
        for expr in exprs.iter_mut() {
            *expr = rewrite(expr, &mut |expr| {
                Ok(match Placeholder::of(expr) {
                    Some((Placeholder::Over, index)) => {
                        Some(Expr::column(places[index], expr.data_type.clone()))
                    }
                    _ => computed.column(expr),
                })
            })?;
        }
        Ok(rel)
    }
}

/// What the calls had computed as columns: an expression of SELECT that is the same is that column (as in Calcite's programs), so that the
/// planner sees a key of PARTITION BY in the result.
struct Computed {
    first: usize,
    exprs: Vec<Expr>,
}

impl Computed {
    fn behind(width: usize, needed: &[Expr]) -> Self {
        Self {
            first: width,
            exprs: needed[width..].to_vec(),
        }
    }

    fn column(&self, expr: &Expr) -> Option<Expr> {
        let place = self.exprs.iter().position(|computed| same(computed, expr))?;
        thalweg_functions::is_deterministic(expr)
            .then(|| Expr::column(self.first + place, expr.data_type.clone()))
    }
}

fn grouped(overs: &[OverExpr], needed: &mut Vec<Expr>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (index, over) in overs.iter().enumerate() {
        let mut column = |expr: &Expr| match expr.kind {
            ExprKind::Column(column) => column,
            _ => place_of(needed, expr),
        };
        let partition: Vec<usize> = over.partition.iter().map(&mut column).collect();
        let order = over.order.iter().map(|(expr, descending, nulls_first)| SortKey {
            column: column(expr),
            descending: *descending,
            nulls_first: *nulls_first,
        });
        let order: Vec<SortKey> = order.collect();
        let call = OverCall {
            call: Aggregation {
                function: over.call.function.clone(),
                args: over.call.args.iter().map(&mut column).collect(),
                distinct: over.call.distinct,
                filter: over.call.filter.as_ref().map(&mut column),
                data_type: over.call.data_type.clone(),
                name: format!("w0$o{index}"),
                position: over.call.position,
            },
            frame: over.frame,
        };
        match groups
            .iter_mut()
            .find(|group| group.partition == partition && group.order == order)
        {
            Some(group) => {
                group.members.push(index);
                group.calls.push(call);
            }
            None => groups.push(Group {
                partition,
                order,
                members: vec![index],
                calls: vec![call],
            }),
        }
    }
    groups
}
