//! INTERSECT and EXCEPT as joins and groups, as Flink's planner does.
//!
//! ```text
//!   INTERSECT      distinct(left SEMI JOIN right ON all columns are the same)
//!   EXCEPT         distinct(left ANTI JOIN right ON all columns are the same)
//!   .. ALL         count by all columns how often a row is left and how often right; it comes as often as it should
//! ```

use thalweg_plan::spec::JoinKind;
use thalweg_plan::{DataType, Expr, Field, Schema, TypeRoot};

use super::super::expr::{all_of, bigint_literal, boolean, identity};
use super::{map_inputs, project, types, width};
use crate::error::{Position, SqlError};
use crate::logical::{Aggregation, Rel, RelKind};

/// A relation without set operations.
pub(crate) fn replace(rel: Rel) -> Result<Rel, SqlError> {
    let rel = map_inputs(rel, &mut replace)?;
    Ok(match rel.kind {
        RelKind::SetOperation {
            except,
            all,
            left,
            right,
        } => {
            let made = match all {
                true => counted(except, *left, *right, &rel.schema),
                false => distinct(by_join(except, *left, *right)),
            };
            Rel {
                schema: rel.schema,
                position: rel.position,
                kind: made.kind,
            }
        }
        kind => Rel { kind, ..rel },
    })
}

fn by_join(except: bool, left: Rel, right: Rel) -> Rel {
    let shift = width(&left);
    let same = types(&left)
        .zip(types(&right))
        .enumerate()
        .map(|(column, (l, r))| {
            let sides = vec![
                Expr::column(column, l.clone()),
                Expr::column(shift + column, r.clone()),
            ];
            match l.nullable || r.nullable {
                true => Expr::call("IS NOT DISTINCT FROM", sides, boolean(false)),
                false => Expr::call("=", sides, boolean(false)),
            }
        });
    let condition = all_of(same);
    Rel {
        schema: left.schema.clone(),
        position: left.position,
        kind: RelKind::Join {
            left: Box::new(left),
            right: Box::new(right),
            kind: if except { JoinKind::Anti } else { JoinKind::Semi },
            condition,
            ttl_ms: [None; 2],
            null_aware: false,
        },
    }
}

/// GROUP BY all columns.
fn distinct(input: Rel) -> Rel {
    grouped(input, Vec::new())
}

fn grouped(input: Rel, calls: Vec<Aggregation>) -> Rel {
    let groups: Vec<usize> = (0..width(&input) - calls.len()).collect();
    let fields = input.schema.fields[..groups.len()].iter().cloned();
    let fields = fields.chain(
        calls
            .iter()
            .map(|call| Field::new(&*call.name, call.data_type.clone())),
    );
    Rel {
        schema: Schema {
            fields: fields.collect(),
        },
        position: input.position,
        kind: RelKind::Aggregate {
            groups,
            sets: Vec::new(),
            grouping_ids: Vec::new(),
            calls,
            window: None,
            ttl_ms: None,
            input: Box::new(input),
        },
    }
}

/// `left` with 1 behind its columns and `right` with -1 (EXCEPT), or both with markers that are counted (INTERSECT).
fn counted(except: bool, left: Rel, right: Rel, schema: &Schema) -> Rel {
    let columns = schema.fields.len();
    let marked = match except {
        true => [vec![bigint_literal(1)], vec![bigint_literal(-1)]],
        false => {
            let null = || Expr::literal(thalweg_plan::Literal::Null, boolean(true));
            let yes = || Expr::literal(thalweg_plan::Literal::Boolean(true), boolean(true));
            [vec![yes(), null()], vec![null(), yes()]]
        }
    };
    let [left_marks, right_marks] = marked;
    let markers = left_marks.len();
    let with_marks = |side: Rel, marks: Vec<Expr>| {
        let exprs: Vec<Expr> = identity(types(&side)).into_iter().chain(marks).collect();
        let names: Vec<String> = schema.fields.iter().map(|field| field.name.clone()).collect();
        let names = names
            .into_iter()
            .chain((0..markers).map(|marker| format!("vcol_{marker}")));
        project(side, exprs, names.collect::<Vec<_>>())
    };
    let position = left.position;
    let branches = vec![with_marks(left, left_marks), with_marks(right, right_marks)];
    let mut fields = branches[0].schema.fields.clone();
    for (field, other) in fields.iter_mut().zip(&branches[1].schema.fields) {
        field.data_type.nullable |= other.data_type.nullable;
    }
    let union = Rel {
        schema: Schema { fields },
        position,
        kind: RelKind::Union(branches),
    };
    let bigint = DataType::not_null(TypeRoot::BigInt);
    let calls = (0..markers).map(|marker| Aggregation {
        function: if except {
            "SUM".to_owned()
        } else {
            "COUNT".to_owned()
        },
        args: vec![columns + marker],
        distinct: false,
        filter: None,
        data_type: bigint.clone().with_nullable(except),
        name: format!("vcol_count_{marker}"),
        position,
    });
    let counts = grouped(union, calls.collect());
    replicated(counts, except, columns, position)
}

fn replicated(counts: Rel, except: bool, columns: usize, position: Option<Position>) -> Rel {
    let bigint = DataType::not_null(TypeRoot::BigInt);
    let count = |marker: usize| Expr::column(columns + marker, bigint.clone());
    let above = |marker: usize, limit: i64| {
        Expr::call(">", vec![count(marker), bigint_literal(limit)], boolean(false))
    };
    let (conditions, times) = match except {
        true => (vec![above(0, 0)], count(0)),
        false => {
            let fewer = Expr::call("<", vec![count(0), count(1)], boolean(false));
            let less = Expr::call("CASE", vec![fewer, count(0), count(1)], bigint.clone());
            (vec![above(0, 0), above(1, 0)], less)
        }
    };
    let counts = super::filter(counts, conditions);
    let values: Vec<Expr> = identity(types(&counts)).into_iter().take(columns).collect();
    let fields: Vec<Field> = counts.schema.fields[..columns].to_vec();
    let collection = as_often(times, values, fields.clone());
    let output = Schema { fields };
    let all = counts
        .schema
        .fields
        .iter()
        .chain(&output.fields)
        .cloned()
        .collect();
    let first = width(&counts);
    let correlate = Rel {
        schema: Schema { fields: all },
        position,
        kind: RelKind::Correlate {
            input: Box::new(counts),
            function: "UNNEST".to_owned(),
            args: vec![collection],
            columns: output,
            left_outer: false,
            with_ordinality: false,
        },
    };
    let wanted: Vec<usize> = (first..first + columns).collect();
    super::project_columns(correlate, &wanted)
}

/// A multiset of one row, as often as `times` says: it is unnested to that many rows.
fn as_often(times: Expr, values: Vec<Expr>, fields: Vec<Field>) -> Expr {
    let row_type = DataType::not_null(TypeRoot::Row(fields));
    let row = Expr::call("ROW", values, row_type.clone());
    let times = times.cast(DataType::not_null(TypeRoot::Int));
    let multiset = DataType::not_null(TypeRoot::Multiset(Box::new(row_type)));
    Expr::call("MAP", vec![row, times], multiset)
}
