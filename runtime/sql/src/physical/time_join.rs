//! FOR SYSTEM_TIME AS OF: a versioned table by event time, or a table that is asked row by row.
//!
//! ```text
//!   rowtime of the left side   TemporalJoin: the version that held then; the right side has a primary key and a rowtime
//!   proctime of the left side  LookupJoin ([`lookup`]): the right side is a table whose connector can look up keys
//! ```

use thalweg_plan::data_type::TimeKind;
use thalweg_plan::spec::{JoinKind, TemporalJoinSpec};
use thalweg_plan::{Expr, NodeSpec};

use super::calc::selected;
use super::draft::{Draft, DraftInput, Monotonicity, keyed};
use super::expr::{as_column, conjuncts};
use super::join::{Joining, Prepared, joined_schema, keys_of};
use super::lookup::Lookup;
use super::lower::Planner;
use super::program::Program;
use super::upsert_keys::contains;
use crate::error::SqlError;
use crate::logical::{Rel, RelKind};

/// A join with a table as it was at a time.
pub(crate) fn lower(planner: &Planner<'_>, rel: &Rel) -> Result<Draft, SqlError> {
    let RelKind::TemporalJoin {
        left,
        right,
        kind,
        condition,
        time,
    } = &rel.kind
    else {
        return Err(SqlError::new(
            crate::SqlErrorKind::Bug,
            "no temporal join",
            rel.position,
        ));
    };
    let left = planner.lower(left)?;
    let conditions = condition.clone().map(conjuncts).unwrap_or_default();
    let refused = |message: &str| Err(SqlError::unsupported(message, rel.position));
    if !matches!(kind, JoinKind::Inner | JoinKind::Left) {
        return refused("Temporal table join currently only support INNER JOIN and LEFT JOIN.");
    }
    match left.schema.fields[*time].data_type.time_kind() {
        TimeKind::Rowtime => versioned(planner, left, planner.lower(right)?, *kind, conditions, *time),
        TimeKind::Proctime => {
            let lookup = Lookup {
                left,
                program: Program::of(right),
                kind: *kind,
                conditions,
                position: rel.position,
            };
            lookup.lower(planner)
        }
        TimeKind::Regular => refused(
            "Temporal table join currently only supports 'FOR SYSTEM_TIME AS OF' left table's time attribute field",
        ),
    }
}

fn versioned(
    planner: &Planner<'_>,
    left: Draft,
    right: Draft,
    kind: JoinKind,
    conditions: Vec<Expr>,
    time: usize,
) -> Result<Draft, SqlError> {
    let rowtime = right
        .schema
        .fields
        .iter()
        .position(|field| field.data_type.time_kind() == TimeKind::Rowtime);
    let Some(rowtime) = rowtime else {
        return Err(SqlError::semantic(
            "Event-Time Temporal Table Join requires both primary key and row time attribute in versioned table, but no row time attribute can be found.",
            right.position,
        ));
    };
    if right.upsert_keys.is_empty() {
        return Err(SqlError::semantic(
            "Temporal Table Join requires primary key in versioned table, but no primary key can be found.",
            right.position,
        ));
    }
    let joining = Joining::new(kind, left, right, conditions);
    let equal: Vec<usize> = joining
        .equal
        .iter()
        .filter_map(|pair| as_column(&pair.right))
        .collect();
    if !joining.right.upsert_keys.iter().any(|key| contains(&equal, key)) {
        let names = |columns: &[usize]| {
            let name = |column: &usize| joining.right.schema.fields[*column].name.as_str();
            columns.iter().map(name).collect::<Vec<_>>().join(", ")
        };
        let message = format!(
            "Temporal table's primary key [{}] must be included in the equivalence condition of temporal join, but current temporal join condition has [{}].",
            names(&joining.right.upsert_keys[0]),
            names(&equal)
        );
        return Err(SqlError::semantic(message, joining.right.position));
    }
    let prepared = joining.prepared();
    let upsert_keys = keys_of(kind, &prepared);
    let Prepared {
        left,
        right,
        keys,
        condition,
        wanted,
    } = prepared;
    let mut schema = joined_schema(kind, &left.schema, &right.schema, true);
    for field in &mut schema.fields[left.width()..] {
        field.data_type = field.data_type.clone().materialized();
    }
    let spec = TemporalJoinSpec {
        kind,
        condition,
        left_time: time,
        right_time: Some(rowtime),
        state_ttl_ms: planner.settings.state_ttl_ms,
        keys: keys.clone(),
    };
    let inputs = vec![
        DraftInput::new(left, keyed(&keys.left)),
        DraftInput::new(right, keyed(&keys.right)),
    ];
    let left = &inputs[0].node;
    let join = Draft {
        kinds: left.kinds,
        upsert_keys,
        monotonicity: left
            .is_insert_only()
            .then(|| vec![Monotonicity::Constant; schema.fields.len()]),
        ..Draft::new(NodeSpec::TemporalJoin(spec), Vec::new(), schema)
    };
    Ok(selected(Draft { inputs, ..join }, &wanted))
}
