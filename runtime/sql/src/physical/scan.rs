//! Scans: a table's source, and what its schema adds behind it.
//!
//! ```text
//!   Source: physical and metadata columns that any scan of the table needs
//!     --Calc: a computed rowtime--> WatermarkAssigner --> ChangelogNormalize (upsert streams) --> Calc: what this scan needs
//! ```
//!
//! All scans of a table read the same columns, so that they become one source ([`super::share`]). Filters stay above the watermark: a
//! row that a query leaves out moves it all the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use thalweg_functions::cast;
use thalweg_plan::connector::{
    CatalogTable, ColumnKind, ConnectorProblem, SourceAbilities, SourceColumn, SourceSpec,
};
use thalweg_plan::spec::WatermarkSpec;
use thalweg_plan::{DataType, Distribution, Expr, Field, Literal, NodeSpec, Schema, TypeRoot};

use thalweg_types::config::parse_duration;

use super::access::{Access, Columns, accesses_of, expanded};
use super::batch;
use super::calc::{calc, names};
use super::draft::{Draft, DraftInput, Kinds, Monotonicity, keyed};
use super::expr::{as_column, conjuncts, identity, inlined, is_deterministic};
use super::lower::Planner;
use super::program::Program;
use super::settings::Settings;
use crate::error::{Position, SqlError};

/// A scan and what is computed of its rows.
pub(crate) fn lower(
    planner: &Planner<'_>,
    table: &Arc<CatalogTable>,
    program: &Program<'_>,
    limit: Option<u64>,
    position: Option<Position>,
) -> Result<Draft, SqlError> {
    let abilities = planner
        .connectors
        .source(table)
        .map_err(|problem| refused("source for reading", table, &problem, position))?;
    if planner.settings.is_batch {
        batch::check_source(table, &abilities, position)?;
    }
    let columns = source_columns(planner, table, &abilities);
    let mut source = source(table, &abilities, &columns, &planner.settings);
    source.position = position;
    if let (true, NodeSpec::Source(spec)) = (planner.scans.is_only_one(table), &mut source.spec) {
        push_down(spec, table, &abilities, &columns, program, limit);
    }
    let source = declared(source, table, &abilities, &columns, position)?;
    let source = with_watermark(source, table, &abilities, &columns, &planner.settings);
    let rowtime = computed_rowtime(table).map(|column| (column, columns.len()));
    let columns = Columns {
        accesses: columns,
        computed_rowtime: rowtime,
    };
    let source = normalized(source, table, &abilities, &columns, &planner.settings, position)?;
    let placed = |expr: &Expr| columns.placed(&expanded(expr, table));
    let projection = program.projection.iter().map(placed).collect();
    Ok(calc(
        source,
        projection,
        program.filter.as_ref().map(placed),
        program.names.clone(),
    ))
}

/// The columns that a source of a table gives: those of all scans, those of the watermark, and the primary key of changes.
pub(crate) fn source_columns(
    planner: &Planner<'_>,
    table: &CatalogTable,
    abilities: &SourceAbilities,
) -> Vec<Access> {
    let mut wanted = planner.scans.of(table);
    let whole = |column: usize| Expr::column(column, table.schema.columns[column].data_type.clone());
    if let Some(watermark) = &table.schema.watermark {
        accesses_of(&whole(watermark.column), &mut wanted);
        accesses_of(&expanded(&watermark.expression, table), &mut wanted);
    }
    if !abilities.changelog.is_insert_only() {
        primary_key(table)
            .into_iter()
            .for_each(|column| accesses_of(&whole(column), &mut wanted));
    }
    let rowtime = computed_rowtime(table);
    if let Some((column, ColumnKind::Computed(computed))) =
        rowtime.map(|column| (column, &table.schema.columns[column].kind))
    {
        wanted.retain(|access| access.column != column);
        accesses_of(&expanded(computed, table), &mut wanted);
    }
    let is_read = |column: usize| matches!(table.schema.columns[column].kind, ColumnKind::Physical);
    let physical: Vec<usize> = (0..table.schema.columns.len())
        .filter(|&column| is_read(column))
        .collect();
    let all_wanted = !abilities.projection || wanted.is_empty();
    if all_wanted {
        let missing = physical.iter().copied().filter(|_| !abilities.projection);
        let missing = missing.chain(physical.first().copied());
        wanted.extend(missing.map(|column| Access {
            column,
            fields: Vec::new(),
        }));
    }
    if !abilities.nested_projection {
        wanted = wanted
            .into_iter()
            .map(|access| Access {
                fields: Vec::new(),
                ..access
            })
            .collect();
    }
    let covered = |access: &Access| wanted.iter().any(|other| other != access && other.covers(access));
    wanted.iter().filter(|access| !covered(access)).cloned().collect()
}

/// The watermark's column, if it is computed.
fn computed_rowtime(table: &CatalogTable) -> Option<usize> {
    let column = table.schema.watermark.as_ref()?.column;
    matches!(table.schema.columns[column].kind, ColumnKind::Computed(_)).then_some(column)
}

/// Positions of the primary key's columns; empty: there is none.
pub(crate) fn primary_key(table: &CatalogTable) -> Vec<usize> {
    let names = table.schema.primary_key.iter().flatten();
    let place = |name: &String| {
        table
            .schema
            .columns
            .iter()
            .position(|column| column.name == *name)
    };
    names.filter_map(place).collect()
}

/// What a source is asked for a column, and the column.
pub(crate) fn source_column(table: &CatalogTable, access: &Access) -> (SourceColumn, Field) {
    let column = &table.schema.columns[access.column];
    if let ColumnKind::Metadata { key, .. } = &column.kind {
        let data_type = column.data_type.clone().materialized();
        let source = SourceColumn::Metadata {
            key: key.clone(),
            data_type: data_type.clone(),
        };
        return (source, Field::new(&*column.name, data_type));
    }
    let mut path = vec![column.name.clone()];
    let mut data_type = column.data_type.clone();
    for &field in &access.fields {
        let nullable = data_type.nullable;
        let TypeRoot::Row(fields) = &data_type.root else {
            break;
        };
        let Some(below) = fields.get(field).cloned() else {
            break;
        };
        path.push(below.name);
        data_type = below.data_type;
        data_type.nullable |= nullable;
    }
    let data_type = data_type.materialized();
    let field = Field::new(path.join("_"), data_type.clone());
    (SourceColumn::Physical { path, data_type }, field)
}

/// The type that a connector's metadata has, where the table declares another one.
fn other_type<'a>(
    table: &CatalogTable,
    abilities: &'a SourceAbilities,
    access: &Access,
) -> Option<&'a DataType> {
    let column = &table.schema.columns[access.column];
    let ColumnKind::Metadata { key, .. } = &column.kind else {
        return None;
    };
    let (_, offered) = abilities.metadata.iter().find(|(there, _)| there == key)?;
    (offered.root != column.data_type.clone().materialized().root).then_some(offered)
}

/// Metadata as the table declares it: the source gives it as it is, and it is cast behind it, as Flink does.
fn declared(
    source: Draft,
    table: &CatalogTable,
    abilities: &SourceAbilities,
    columns: &[Access],
    position: Option<Position>,
) -> Result<Draft, SqlError> {
    if columns
        .iter()
        .all(|access| other_type(table, abilities, access).is_none())
    {
        return Ok(source);
    }
    let mut projection = identity(source.schema.fields.iter().map(|field| &field.data_type));
    for (place, access) in columns.iter().enumerate() {
        let Some(offered) = other_type(table, abilities, access) else {
            continue;
        };
        let column = &table.schema.columns[access.column];
        let value = Expr::column(place, offered.clone());
        let to = column.data_type.clone().materialized();
        projection[place] = cast(value, to, false).map_err(|_| {
            let message = format!(
                "Invalid data type for metadata column '{}' of table '{}'. The column cannot be declared as '{}' because the type must be \
                 castable from metadata type '{offered}'.",
                column.name, table.path, column.data_type
            );
            SqlError::semantic(message, position)
        })?;
    }
    let names = names(&source.schema);
    Ok(calc(source, projection, None, names))
}

fn source(
    table: &Arc<CatalogTable>,
    abilities: &SourceAbilities,
    columns: &[Access],
    settings: &Settings,
) -> Draft {
    let asked = |access: &Access| {
        let (mut column, mut field) = source_column(table, access);
        if let (Some(offered), SourceColumn::Metadata { data_type, .. }) =
            (other_type(table, abilities, access), &mut column)
        {
            data_type.clone_from(offered);
            field.data_type.clone_from(offered);
        }
        (column, field)
    };
    let (asked, fields): (Vec<SourceColumn>, Vec<Field>) = columns.iter().map(asked).unzip();
    let spec = SourceSpec {
        table: (**table).clone(),
        columns: asked,
        filters: Vec::new(),
        limit: None,
        watermark: None,
    };
    let key: Option<Vec<usize>> = primary_key(table)
        .iter()
        .map(|&column| {
            columns
                .iter()
                .position(|access| access.column == column && access.fields.is_empty())
        })
        .collect();
    let key = key.filter(|key| !key.is_empty());
    Draft {
        kinds: Kinds::of(abilities.changelog),
        changelog: abilities.changelog,
        monotonicity: abilities
            .changelog
            .is_insert_only()
            .then(|| vec![Monotonicity::Constant; fields.len()]),
        upsert_keys: key.into_iter().collect(),
        parallelism: scan_parallelism(table).or(settings.parallelism),
        ..Draft::new(NodeSpec::Source(spec), Vec::new(), Schema { fields })
    }
}

fn scan_parallelism(table: &CatalogTable) -> Option<u32> {
    table.options.get("scan.parallelism")?.parse().ok()
}

/// Tells a source which rows are enough, where nothing else reads them and no watermark is made of those that are left out.
fn push_down(
    spec: &mut SourceSpec,
    table: &CatalogTable,
    abilities: &SourceAbilities,
    columns: &[Access],
    program: &Program<'_>,
    limit: Option<u64>,
) {
    if table.schema.watermark.is_some() || !abilities.changelog.is_insert_only() {
        return;
    }
    let places = Columns {
        accesses: columns.to_vec(),
        computed_rowtime: None,
    };
    if abilities.filters {
        let conditions = program.filter.clone().map(conjuncts).unwrap_or_default();
        let usable = conditions
            .iter()
            .map(|condition| expanded(condition, table))
            .filter(is_deterministic);
        spec.filters = usable.map(|condition| places.placed(&condition)).collect();
    }
    if abilities.limit && program.filter.is_none() {
        spec.limit = limit;
    }
}

/// The table's own, over the configuration's.
fn idle_timeout(table: &CatalogTable) -> Option<u64> {
    let own = parse_duration(table.options.get("scan.watermark.idle-timeout")?)?;
    u64::try_from(own.as_millis()).ok()
}

fn with_watermark(
    mut source: Draft,
    table: &CatalogTable,
    abilities: &SourceAbilities,
    columns: &[Access],
    settings: &Settings,
) -> Draft {
    let Some(watermark) = &table.schema.watermark else {
        return source;
    };
    let column = &table.schema.columns[watermark.column];
    let computed = match &column.kind {
        ColumnKind::Computed(computed) => Some(computed),
        _ => None,
    };
    let mut places = Columns {
        accesses: columns.to_vec(),
        computed_rowtime: None,
    };
    let rowtime = places.place_of(watermark.column).unwrap_or(columns.len());
    if let Some(computed) = computed {
        let mut projection = identity(source.schema.fields.iter().map(|field| &field.data_type));
        let value = places.placed(&expanded(computed, table));
        projection.push(Expr {
            data_type: column.data_type.clone().materialized(),
            ..value
        });
        let mut all = names(&source.schema);
        all.push(column.name.clone());
        source = calc(source, projection, None, all);
        places.computed_rowtime = Some((watermark.column, rowtime));
    }
    let spec = WatermarkSpec {
        rowtime,
        expression: places.placed(&expanded(&watermark.expression, table)),
        interval_ms: settings.watermark_interval_ms,
        idle_timeout_ms: idle_timeout(table).unwrap_or(settings.idle_timeout_ms),
    };
    let rowtime_type = column.data_type.clone();
    let pushed = settings.is_batch || (abilities.watermark && push_watermark(&mut source, &spec));
    let mut marked = match pushed {
        true => source,
        false => Draft::over(source, Distribution::Forward, NodeSpec::WatermarkAssigner(spec)),
    };
    if let Some(field) = marked.schema.fields.get_mut(rowtime) {
        let nullable = field.data_type.nullable;
        field.data_type = rowtime_type.with_nullable(nullable);
        // What is computed above it is merged with it: the column stays a rowtime by its expression.
        if let NodeSpec::Calc { projection, .. } = &mut marked.spec
            && let Some(expr) = projection.get_mut(rowtime)
        {
            expr.data_type.clone_from(&field.data_type);
        }
    }
    marked
}

/// Gives a watermark to the source, over what is computed of its rows, as Flink's PushWatermarkIntoTableSourceScanAcrossCalcRule; `false`:
/// it has to be made behind it.
fn push_watermark(source: &mut Draft, spec: &WatermarkSpec) -> bool {
    let (spec, below) = match (&mut source.spec, source.inputs.as_mut_slice()) {
        (NodeSpec::Source(asked), _) => (spec.clone(), asked),
        (
            NodeSpec::Calc {
                projection,
                filter: None,
            },
            [input],
        ) if projection.iter().all(is_deterministic) => {
            // A column under another name would be the source's own column again, and no rowtime.
            if projection.get(spec.rowtime).and_then(as_column).is_some() {
                return false;
            }
            let NodeSpec::Source(asked) = &mut input.node.spec else {
                return false;
            };
            let spec = WatermarkSpec {
                expression: inlined(&spec.expression, projection),
                ..spec.clone()
            };
            (spec, asked)
        }
        _ => return false,
    };
    below.watermark = Some(spec);
    true
}

/// Upsert streams get their -U and what a deletion deletes.
fn normalized(
    source: Draft,
    table: &CatalogTable,
    abilities: &SourceAbilities,
    columns: &Columns,
    settings: &Settings,
    position: Option<Position>,
) -> Result<Draft, SqlError> {
    let mode = abilities.changelog;
    let is_upsert = mode.update_after && !mode.update_before;
    let key = primary_key(table);
    let may_repeat = settings.events_duplicate && !mode.is_insert_only();
    if may_repeat && key.is_empty() {
        let message = format!(
            "Configuration 'table.exec.source.cdc-events-duplicate' is enabled which requires the changelog sources to define a PRIMARY KEY. \
             However, table '{}' doesn't have a primary key.",
            table.path
        );
        return Err(SqlError::semantic(message, position));
    }
    if !is_upsert && !may_repeat {
        return Ok(source);
    }
    if key.is_empty() {
        let message = format!(
            "Table '{}' produces a changelog stream that contains UPDATE_AFTER but no UPDATE_BEFORE, this requires defining primary key on the table.",
            table.path
        );
        return Err(SqlError::semantic(message, position));
    }
    let keys: Vec<usize> = key
        .iter()
        .filter_map(|&column| columns.place_of(column))
        .collect();
    let spec = NodeSpec::ChangelogNormalize {
        keys: keys.clone(),
        emit_update_before: true,
        state_ttl_ms: settings.state_ttl_ms,
    };
    let input = DraftInput::new(source, keyed(&keys));
    Ok(Draft {
        schema: input.node.schema.clone(),
        kinds: Kinds::ALL,
        upsert_keys: vec![super::upsert_keys::key(keys)],
        position,
        ..Draft::new(spec, vec![input], Schema::default())
    })
}

/// As Flink says it, with the connector's own words.
pub(crate) fn refused(
    what: &str,
    table: &CatalogTable,
    problem: &ConnectorProblem,
    position: Option<Position>,
) -> SqlError {
    let options: BTreeMap<_, _> = table.options.iter().collect();
    let options: Vec<String> = options
        .iter()
        .map(|(key, value)| format!("'{key}'='{value}'"))
        .collect();
    let message = format!(
        "Unable to create a {what} table '{}' with options {}: {}",
        table.path,
        options.join(", "),
        problem.message
    );
    SqlError::option(message, position)
}

/// A typed NULL.
pub(crate) fn null(data_type: &DataType) -> Expr {
    Expr::literal(Literal::Null, data_type.clone().with_nullable(true))
}
