//! Sinks: which changes they take, and what stands before them.
//!
//! ```text
//!   query --Calc: rows with nulls where none may be go (DROP)--> SinkMaterializer, by the sink's key --> Sink
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use thalweg_functions::cast;
use thalweg_plan::connector::{CatalogTable, ColumnKind, SinkAbilities, SinkSpec};
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::{ChangelogMode, Distribution, Expr, Field, NodeSpec, Schema};
use thalweg_types::config::UpsertMaterialize;

use super::calc::{calc, filtered, names};
use super::changelog::{Updates, settle, unsupported_changes, without_normalize};
use super::draft::{Draft, DraftInput, Kinds, keyed};
use super::expr::{all_of, boolean, identity};
use super::lower::Planner;
use super::scan::refused;
use super::upsert_keys;
use crate::ast::ConflictAction;
use crate::error::{Position, SqlError};
use crate::logical::BoundStatement;

/// The option of a partitioned table, whatever its connector.
const SHUFFLE_BY_PARTITION: &str = "sink.shuffle-by-partition.enable";

/// What is written, where.
struct Target<'a> {
    table: &'a Arc<CatalogTable>,
    abilities: SinkAbilities,
    overwrite: bool,
    static_partition: BTreeMap<String, String>,
    position: Option<Position>,
    /// Whether it is the console.
    collects: bool,
    on_conflict: Option<ConflictAction>,
    /// The names and types of the columns that it takes; of a SELECT the query's.
    columns: Vec<Field>,
}

/// A statement's operators, their updates settled.
pub(crate) fn lower(
    planner: &Planner<'_>,
    statement: &BoundStatement,
    query: Draft,
) -> Result<Draft, SqlError> {
    match statement {
        BoundStatement::Insert {
            table,
            overwrite,
            static_partition,
            position,
            on_conflict,
            ..
        } => {
            let abilities = planner
                .connectors
                .sink(table)
                .map_err(|problem| refused("sink for writing", table, &problem, *position))?;
            let target = Target {
                abilities,
                table,
                overwrite: *overwrite,
                static_partition: static_partition.clone(),
                position: *position,
                collects: false,
                on_conflict: *on_conflict,
                columns: written(table),
            };
            target.check(&query)?;
            let query = target.with_own_metadata(query)?;
            let query = match planner.settings.drop_nulls {
                true => target.without_nulls(query),
                false => query,
            };
            target.written_by(planner, &query)
        }
        BoundStatement::Select { table, .. } => {
            let abilities = SinkAbilities {
                changelog: ChangelogMode::ALL,
                metadata: Vec::new(),
                overwrite: false,
                parallelism: Some(1),
            };
            let target = Target {
                abilities,
                table,
                overwrite: false,
                static_partition: BTreeMap::new(),
                position: query.position,
                collects: true,
                on_conflict: None,
                columns: written(table),
            };
            target.written_by(planner, &query)
        }
    }
}

/// Physical columns, then metadata columns that are not virtual.
fn written(table: &CatalogTable) -> Vec<Field> {
    let of = |wanted: fn(&ColumnKind) -> bool| {
        let columns = table
            .schema
            .columns
            .iter()
            .filter(move |column| wanted(&column.kind));
        columns.map(|column| Field::new(&*column.name, column.data_type.clone().materialized()))
    };
    let physical = of(|kind| matches!(kind, ColumnKind::Physical));
    physical
        .chain(of(|kind| {
            matches!(
                kind,
                ColumnKind::Metadata {
                    is_virtual: false,
                    ..
                }
            )
        }))
        .collect()
}

impl Target<'_> {
    fn check(&self, query: &Draft) -> Result<(), SqlError> {
        if self.overwrite && !self.abilities.overwrite {
            let message = format!(
                "INSERT OVERWRITE requires that the underlying connector of table '{}' supports it; it doesn't.",
                self.table.path
            );
            return Err(SqlError::semantic(message, self.position));
        }
        let rowtimes = query
            .schema
            .fields
            .iter()
            .filter(|field| field.data_type.time_kind() == TimeKind::Rowtime);
        let rowtimes: Vec<&str> = rowtimes.map(|field| field.name.as_str()).collect();
        if rowtimes.len() > 1 {
            let message = format!(
                "The query contains more than one rowtime attribute column [{}] for writing into table '{}'. \
                 Please select the column that should be used as the event-time timestamp for the table sink by casting all other columns to regular \
                 TIMESTAMP or TIMESTAMP_LTZ.",
                rowtimes.join(", "),
                self.table.path
            );
            return Err(SqlError::semantic(message, self.position));
        }
        Ok(())
    }

    /// Metadata columns as the connector takes them, cast from what the table declares, as Flink does.
    fn with_own_metadata(&self, query: Draft) -> Result<Draft, SqlError> {
        let kinds = |wanted: fn(&ColumnKind) -> bool| {
            let columns = self.table.schema.columns.iter();
            columns.filter(move |column| wanted(&column.kind))
        };
        let physical = kinds(|kind| matches!(kind, ColumnKind::Physical)).count();
        let metadata = kinds(|kind| {
            matches!(
                kind,
                ColumnKind::Metadata {
                    is_virtual: false,
                    ..
                }
            )
        });
        let mut projection = identity(query.schema.fields.iter().map(|field| &field.data_type));
        let mut cast_any = false;
        for (place, column) in metadata.enumerate() {
            let ColumnKind::Metadata { key, .. } = &column.kind else {
                continue;
            };
            let offered = self.abilities.metadata.iter().find(|(there, _)| there == key);
            let (Some((_, offered)), Some(value)) = (offered, projection.get_mut(physical + place)) else {
                continue;
            };
            if offered.root == value.data_type.clone().materialized().root {
                continue;
            }
            cast_any = true;
            *value = cast(value.clone(), offered.clone(), false).map_err(|_| {
                let message = format!(
                    "Invalid data type for metadata column '{}' of table '{}'. The column cannot be declared as '{}' because the type must be \
                     castable to metadata type '{offered}'.",
                    column.name, self.table.path, column.data_type
                );
                SqlError::semantic(message, self.position)
            })?;
        }
        if !cast_any {
            return Ok(query);
        }
        let names = names(&query.schema);
        Ok(calc(query, projection, None, names))
    }

    /// Rows without nulls in columns that are NOT NULL.
    fn without_nulls(&self, query: Draft) -> Draft {
        let columns = query.schema.fields.iter().zip(&self.columns).enumerate();
        let guarded =
            columns.filter(|(_, (given, wanted))| given.data_type.nullable && !wanted.data_type.nullable);
        let conditions: Vec<Expr> = guarded
            .map(|(column, (given, _))| {
                let value = Expr::column(column, given.data_type.clone());
                Expr::call("IS NOT NULL", vec![value], boolean(false))
            })
            .collect();
        filtered(query, all_of(conditions))
    }

    /// The primary key's columns.
    fn primary_key(&self) -> Vec<usize> {
        let names = self.table.schema.primary_key.iter().flatten();
        let place = |name: &String| self.columns.iter().position(|column| column.name == *name);
        names.filter_map(place).collect()
    }

    fn written_by(&self, planner: &Planner<'_>, query: &Draft) -> Result<Draft, SqlError> {
        let takes = self.abilities.changelog;
        let refused = Kinds {
            insert: false,
            update: query.kinds.update && !takes.update_after,
            delete: query.kinds.delete && !takes.delete,
        };
        if refused.update || refused.delete {
            let consumer = format!("Table sink '{}'", self.table.path);
            return Err(unsupported_changes(&consumer, refused, query).or_at(self.position));
        }
        let key = upsert_keys::key(self.primary_key());
        let same_key = key.is_empty() || query.upsert_keys.contains(&key);
        let ways: &[Updates] = match takes.update_before {
            true => &[Updates::BeforeAndAfter],
            false if same_key => &[Updates::OnlyAfter, Updates::BeforeAndAfter],
            false => &[Updates::BeforeAndAfter],
        };
        let stripped = match takes.key_only_deletes && ways.contains(&Updates::OnlyAfter) {
            true => without_normalize(query),
            false => None,
        };
        let query = stripped.as_ref().unwrap_or(query);
        let settled = ways.iter().find_map(|way| settle(query, way.of(query.kinds)));
        let Some(input) = settled else {
            let message = format!(
                "Can't generate a valid execution plan for the query that writes '{}'.",
                self.table.path
            );
            return Err(SqlError::unsupported(message, self.position));
        };
        let input = self.materialized(planner, input)?;
        self.sink(planner, input)
    }

    /// Behind an operator that orders updates of a key, if they may have overtaken one another.
    fn materialized(&self, planner: &Planner<'_>, input: Draft) -> Result<Draft, SqlError> {
        let key = self.primary_key();
        let takes_changes = !self.abilities.changelog.is_insert_only();
        let needed = match planner.settings.upsert_materialize {
            UpsertMaterialize::None => false,
            UpsertMaterialize::Force => !key.is_empty(),
            UpsertMaterialize::Auto => {
                takes_changes && !key.is_empty() && !upsert_keys::are_unique(&input.upsert_keys, &key)
            }
        };
        if !needed {
            return Ok(input);
        }
        self.check_conflicts(planner, &input, &key)?;
        if input.is_insert_only() && planner.settings.upsert_materialize == UpsertMaterialize::Auto {
            return Ok(input);
        }
        let spec = NodeSpec::SinkMaterializer {
            primary_key: key.clone(),
            input_upsert_key: input.upsert_keys.iter().min_by_key(|key| key.len()).cloned(),
            state_ttl_ms: planner.settings.state_ttl_ms,
        };
        let changelog = ChangelogMode {
            update_before: false,
            ..input.changelog
        };
        let ordered = Draft {
            upsert_keys: vec![upsert_keys::key(key.iter().copied())],
            ..Draft::over(input, keyed(&key), spec)
        };
        Ok(Draft { changelog, ..ordered })
    }

    /// Rows of different keys of the query may have the sink's key in common: the statement says what becomes of them.
    fn check_conflicts(&self, planner: &Planner<'_>, input: &Draft, key: &[usize]) -> Result<(), SqlError> {
        let forced = planner.settings.upsert_materialize == UpsertMaterialize::Force;
        match self.on_conflict {
            Some(ConflictAction::Deduplicate) => Ok(()),
            Some(ConflictAction::Error | ConflictAction::Nothing) => Err(SqlError::unsupported(
                "ON CONFLICT is not supported but for DO DEDUPLICATE",
                self.position,
            )),
            None if forced || !planner.settings.require_on_conflict => Ok(()),
            None => {
                let names = |columns: &[usize]| {
                    let name = |column: &usize| self.columns.get(*column).map(|field| field.name.as_str());
                    columns.iter().filter_map(name).collect::<Vec<_>>().join(", ")
                };
                let query = input.upsert_keys.first().map(|key| format!("[{}]", names(key)));
                let message = format!(
                    "The query has an upsert key that differs from the primary key of the sink table '{}'. Primary key: [{}], upsert key: {}. This can \
                     lead to non-deterministic results when multiple records with different upsert keys map to the same primary key. Please specify \
                     ON CONFLICT DO DEDUPLICATE (update to the latest record), or set table.exec.sink.require-on-conflict to false.",
                    self.table.path,
                    names(key),
                    query.as_deref().unwrap_or("none"),
                );
                Err(SqlError::semantic(message, self.position))
            }
        }
    }

    /// Rows of a partition to one subtask, if the table asks for it; those that the statement names are the same for all rows.
    fn by_partition(&self) -> Option<Distribution> {
        let asked = self.table.options.get(SHUFFLE_BY_PARTITION)?;
        let dynamic = self
            .table
            .partition_keys
            .iter()
            .filter(|key| !self.static_partition.contains_key(*key));
        let place = |key: &String| self.columns.iter().position(|column| column.name == *key);
        let columns: Vec<usize> = dynamic.filter_map(place).collect();
        (asked.eq_ignore_ascii_case("true") && !columns.is_empty()).then(|| keyed(&columns))
    }

    fn sink(&self, planner: &Planner<'_>, input: Draft) -> Result<Draft, SqlError> {
        let key = self.primary_key();
        let parallelism = self.abilities.parallelism;
        let other = parallelism.is_some_and(|own| own != planner.settings.parallelism_of(&input));
        let changes = !input.is_insert_only();
        if other && changes && key.is_empty() && !self.collects {
            let message = format!(
                "The sink for table '{}' has a configured parallelism of {}, while the input parallelism is {}. Since the configured parallelism is \
                 different from the input's parallelism and the changelog mode contains [{}], which is not INSERT_ONLY mode, primary key is required \
                 but no primary key is found.",
                self.table.path,
                parallelism.unwrap_or_default(),
                planner.settings.parallelism_of(&input),
                input.changelog
            );
            return Err(SqlError::semantic(message, self.position));
        }
        let ordered = matches!(input.spec, NodeSpec::SinkMaterializer { .. });
        let distribution = match other && changes && !key.is_empty() && !ordered {
            true => keyed(&key),
            false if parallelism == Some(1) => Distribution::Singleton,
            false => self.by_partition().unwrap_or(Distribution::Forward),
        };
        let fields = input.schema.fields.iter().enumerate().map(|(column, field)| {
            let name = self
                .columns
                .get(column)
                .map_or(&field.name, |wanted| &wanted.name);
            Field::new(&**name, field.data_type.clone())
        });
        let schema = Schema {
            fields: fields.collect(),
        };
        let metadata = self
            .table
            .schema
            .columns
            .iter()
            .filter_map(|column| match &column.kind {
                ColumnKind::Metadata {
                    key,
                    is_virtual: false,
                } => Some(key.clone()),
                _ => None,
            });
        let spec = SinkSpec {
            table: (**self.table).clone(),
            schema: schema.clone(),
            changelog: input.changelog,
            metadata: metadata.collect(),
            overwrite: self.overwrite,
            static_partition: self.static_partition.clone(),
        };
        Ok(Draft {
            kinds: input.kinds,
            changelog: input.changelog,
            parallelism: parallelism.or(input.parallelism),
            position: self.position,
            ..Draft::new(
                NodeSpec::Sink(spec),
                vec![DraftInput::new(input, distribution)],
                schema,
            )
        })
    }
}
