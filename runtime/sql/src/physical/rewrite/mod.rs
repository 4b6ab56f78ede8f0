//! Rewrites of relations that change no result: what is left to decide afterwards is which operators compute them.
//!
//! ```text
//!   Rel --set_operation--> joins, groups --fold--> constants --push--> filters down, Top-N found --prune--> only columns that are read
//! ```

mod fold;
mod prune;
mod push;
mod rank;
mod set_operation;

use thalweg_functions::EvaluationEnv;
use thalweg_plan::{DataType, Expr, Field, Schema};

use super::expr::{all_of, identity};
use crate::error::SqlError;
use crate::logical::{Rel, RelKind};

/// All rewrites.
pub(crate) fn rewrite(rel: Rel, env: &EvaluationEnv) -> Result<Rel, SqlError> {
    let rel = set_operation::replace(rel)?;
    let rel = fold::fold(rel, env)?;
    let rel = push::push(rel, Vec::new(), env.is_batch)?;
    Ok(prune::prune(rel))
}

/// The same with other inputs; `change` is called for each, left to right.
pub(crate) fn map_inputs(
    rel: Rel,
    change: &mut impl FnMut(Rel) -> Result<Rel, SqlError>,
) -> Result<Rel, SqlError> {
    let mut one = |input: Box<Rel>| change(*input).map(Box::new);
    let kind = match rel.kind {
        leaf @ (RelKind::Scan(_) | RelKind::Values(_)) => leaf,
        RelKind::Project { input, exprs } => RelKind::Project {
            input: one(input)?,
            exprs,
        },
        RelKind::Filter { input, condition } => RelKind::Filter {
            input: one(input)?,
            condition,
        },
        RelKind::WindowTableFunction { input, window } => RelKind::WindowTableFunction {
            input: one(input)?,
            window,
        },
        RelKind::Aggregate {
            input,
            groups,
            sets,
            grouping_ids,
            calls,
            window,
            ttl_ms,
        } => RelKind::Aggregate {
            input: one(input)?,
            groups,
            sets,
            grouping_ids,
            calls,
            window,
            ttl_ms,
        },
        RelKind::Over {
            input,
            partition,
            order,
            calls,
        } => RelKind::Over {
            input: one(input)?,
            partition,
            order,
            calls,
        },
        RelKind::Rank {
            input,
            partition,
            order,
            start,
            end,
            with_rank,
        } => RelKind::Rank {
            input: one(input)?,
            partition,
            order,
            start,
            end,
            with_rank,
        },
        RelKind::Join {
            left,
            right,
            kind,
            condition,
            ttl_ms,
            null_aware,
        } => RelKind::Join {
            left: one(left)?,
            right: one(right)?,
            kind,
            condition,
            ttl_ms,
            null_aware,
        },
        RelKind::TemporalJoin {
            left,
            right,
            kind,
            condition,
            time,
        } => RelKind::TemporalJoin {
            left: one(left)?,
            right: one(right)?,
            kind,
            condition,
            time,
        },
        RelKind::Correlate {
            input,
            function,
            args,
            columns,
            left_outer,
            with_ordinality,
        } => RelKind::Correlate {
            input: one(input)?,
            function,
            args,
            columns,
            left_outer,
            with_ordinality,
        },
        RelKind::Union(inputs) => {
            RelKind::Union(inputs.into_iter().map(&mut *change).collect::<Result<_, _>>()?)
        }
        RelKind::SetOperation {
            except,
            all,
            left,
            right,
        } => RelKind::SetOperation {
            except,
            all,
            left: one(left)?,
            right: one(right)?,
        },
        RelKind::Sort {
            input,
            keys,
            offset,
            fetch,
        } => RelKind::Sort {
            input: one(input)?,
            keys,
            offset,
            fetch,
        },
    };
    Ok(Rel { kind, ..rel })
}

/// Rows with these expressions as columns.
pub(crate) fn project(input: Rel, exprs: Vec<Expr>, names: impl IntoIterator<Item = String>) -> Rel {
    let fields = names.into_iter().zip(&exprs);
    let fields = fields
        .map(|(name, expr)| Field::new(name, expr.data_type.clone()))
        .collect();
    Rel {
        position: input.position,
        schema: Schema { fields },
        kind: RelKind::Project {
            input: Box::new(input),
            exprs,
        },
    }
}

/// Some of the columns.
pub(crate) fn project_columns(input: Rel, columns: &[usize]) -> Rel {
    let all = identity(types(&input));
    let exprs = columns.iter().map(|&column| all[column].clone()).collect();
    let names: Vec<String> = columns
        .iter()
        .map(|&column| input.schema.fields[column].name.clone())
        .collect();
    project(input, exprs, names)
}

/// Rows for which all conditions are true.
pub(crate) fn filter(input: Rel, conditions: Vec<Expr>) -> Rel {
    match all_of(conditions) {
        None => input,
        Some(condition) => Rel {
            position: input.position,
            schema: input.schema.clone(),
            kind: RelKind::Filter {
                input: Box::new(input),
                condition,
            },
        },
    }
}

/// The types of its columns.
pub(crate) fn types(rel: &Rel) -> impl Iterator<Item = &DataType> {
    rel.schema.fields.iter().map(|field| &field.data_type)
}

/// How many columns it has.
pub(crate) fn width(rel: &Rel) -> usize {
    rel.schema.fields.len()
}

/// Columns of both, as a join has them.
pub(crate) fn joined(left: &Rel, right: &Rel) -> Schema {
    let fields = left.schema.fields.iter().chain(&right.schema.fields);
    Schema {
        fields: fields.cloned().collect(),
    }
}
