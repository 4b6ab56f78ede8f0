//! FOR SYSTEM_TIME AS OF: a versioned table by event time, or a table that is asked row by row.
//!
//! ```text
//!   rowtime of the left side   TemporalJoin: the version that held then; the right side has a primary key and a rowtime
//!   proctime of the left side  LookupJoin: the right side is a table whose connector can look up keys
//! ```

use std::collections::BTreeSet;

use thalweg_plan::connector::{CatalogTable, SourceColumn};
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::spec::{JoinKind, LookupJoinSpec, TemporalJoinSpec};
use thalweg_plan::{Distribution, Expr, Field, NodeSpec, Schema};

use super::access::expanded;
use super::calc::{calc, selected, unique_names};
use super::draft::{Draft, DraftInput, Monotonicity, keyed};
use super::expr::{as_column, columns, conjuncts, identity, renumbered};
use super::join::{Joining, Prepared, joined_schema, keys_of};
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
            let program = Program::of(right);
            let table = match &program.base.kind {
                RelKind::Scan(table) => Some(table),
                _ => None,
            };
            let lookup = table.filter(|table| planner.connectors.source(table).is_ok_and(|can| can.lookup));
            match lookup {
                Some(table) => looked_up(left, table, &program, *kind, &conditions, rel),
                None => refused("Processing-time temporal join is not supported yet."),
            }
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

/// Columns of the table that are asked for, and what is made of them.
struct Asked {
    /// Positions in the table.
    columns: Vec<usize>,
    fields: Vec<Field>,
}

impl Asked {
    fn of(table: &CatalogTable, program: &Program<'_>) -> Self {
        let wanted: BTreeSet<usize> = program
            .exprs()
            .flat_map(|expr| columns(&expanded(expr, table)))
            .collect();
        let fields = wanted.iter().map(|&column| {
            let column = &table.schema.columns[column];
            Field::new(&*column.name, column.data_type.clone().materialized())
        });
        Self {
            fields: fields.collect(),
            columns: wanted.into_iter().collect(),
        }
    }

    fn place(&self, column: usize) -> usize {
        self.columns
            .iter()
            .position(|&known| known == column)
            .unwrap_or_default()
    }
}

fn looked_up(
    left: Draft,
    table: &CatalogTable,
    program: &Program<'_>,
    kind: JoinKind,
    conditions: &[Expr],
    rel: &Rel,
) -> Result<Draft, SqlError> {
    let asked = Asked::of(table, program);
    let of_table = |expr: &Expr| renumbered(&expanded(expr, table), |column| asked.place(column));
    let projection: Vec<Expr> = program.projection.iter().map(of_table).collect();
    let left_width = left.width();
    // The table's columns in the place of what the program makes of them.
    let inlined_right = |expr: &Expr| {
        expr.clone()
            .map_columns(&mut |column, data_type| match column.checked_sub(left_width) {
                None => Expr::column(column, data_type),
                Some(column) => renumbered(&projection[column], |place| left_width + place),
            })
    };
    let right = Draft::new(
        NodeSpec::Values(Vec::new()),
        Vec::new(),
        Schema {
            fields: asked.fields.clone(),
        },
    );
    let conditions = conditions.iter().map(inlined_right).collect();
    let mut joining = Joining::new(kind, left, right, conditions);
    let (equal, others): (Vec<_>, Vec<_>) = joining
        .equal
        .into_iter()
        .partition(|pair| as_column(&pair.right).is_some());
    joining.rest.extend(others.into_iter().map(|pair| {
        let right = renumbered(&pair.right, |column| left_width + column);
        let operator = if pair.null_safe {
            "IS NOT DISTINCT FROM"
        } else {
            "="
        };
        Expr::call(operator, vec![pair.left, right], super::expr::boolean(true))
    }));
    joining.equal = equal;
    if joining.equal.is_empty() {
        let message = format!(
            "Temporal table join requires an equality condition on fields of table [{}].",
            table.path
        );
        return Err(SqlError::semantic(message, rel.position));
    }
    let Prepared {
        left,
        keys,
        condition,
        ..
    } = joining.prepared();
    let right_schema = Schema {
        fields: asked.fields.clone(),
    };
    let schema = joined_schema(kind, &left.schema, &right_schema, true);
    let source = |field: &Field| SourceColumn::Physical {
        path: vec![field.name.clone()],
        data_type: field.data_type.clone(),
    };
    let spec = LookupJoinSpec {
        kind,
        table: table.clone(),
        columns: asked.fields.iter().map(source).collect(),
        keys,
        filter: program.filter.as_ref().map(of_table),
        condition,
    };
    let shift = left.width();
    let mut exprs = identity(
        left.schema
            .fields
            .iter()
            .take(left_width)
            .map(|field| &field.data_type),
    );
    exprs.extend(
        projection
            .iter()
            .map(|expr| renumbered(expr, |column| shift + column)),
    );
    let names = left.schema.fields[..left_width]
        .iter()
        .map(|field| field.name.clone());
    let names: Vec<String> = names.chain(program.names.iter().cloned()).collect();
    let join = Draft {
        kinds: left.kinds,
        schema: Schema {
            fields: unique_names(schema.fields),
        },
        ..Draft::new(
            NodeSpec::LookupJoin(spec),
            vec![DraftInput::new(left, Distribution::Forward)],
            Schema::default(),
        )
    };
    Ok(calc(join, exprs, None, names))
}
