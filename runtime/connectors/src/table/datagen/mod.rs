//! `datagen`: a generator for each column. Flink's DataGenTableSource, RandomGeneratorVisitor and SequenceGeneratorVisitor.
//!
//! Random values differ from run to run, as Flink's do. A sequence is shared out by index, so that each of its values comes once whatever the
//! parallelism; the source ends with its shortest sequence.

mod generator;
mod options;

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use thalweg_plan::Schema;
use thalweg_plan::connector::{CatalogTable, ConnectorProblem, SourceAbilities, SourceColumn, SourceSpec};

use self::generator::Generator;
use self::options::read;
use super::columns::batch_of;
use super::insert_only_source;
use super::options::{problem, refusal};
use super::random::Random;
use crate::{DatagenSource, Source};

pub(crate) fn source_abilities(table: &CatalogTable) -> Result<SourceAbilities, ConnectorProblem> {
    let settings = read(table)?;
    let bounded = settings.number_of_rows.is_some();
    Ok(SourceAbilities {
        nested_projection: false,
        limit: true,
        ..insert_only_source(bounded)
    })
}

pub(crate) fn source(spec: &SourceSpec, output: &Schema) -> Result<Arc<dyn Source>, ConnectorProblem> {
    let settings = read(&spec.table)?;
    let generator_of = |column: &SourceColumn| match column {
        SourceColumn::Physical { path, .. } if path.len() == 1 => settings
            .generators
            .iter()
            .find(|(field, _)| field.name == path[0])
            .map(|(_, generator)| generator.clone()),
        _ => None,
    };
    let generators: Option<Vec<Generator>> = spec.columns.iter().map(generator_of).collect();
    let generators = generators.ok_or_else(|| refusal("datagen has whole physical columns only"))?;
    let schema = output.to_arrow();
    let seed = RandomState::new().hash_one(&spec.table.path);
    let batch_schema = Arc::clone(&schema);
    let make = move |range: Range<u64>| {
        let now_ms = now_ms();
        let rows = (range.end - range.start) as usize;
        let columns = generators.iter().enumerate().map(|(place, generator)| {
            let mut random = Random::new(Random::at(seed, range.start).next() ^ place as u64);
            generator.column(range.clone(), &mut random, now_ms)
        });
        let columns = columns.collect();
        // The types are the generators' own: nothing is left that could not fit.
        batch_of(&batch_schema, columns, rows)
            .unwrap_or_else(|_| arrow::array::RecordBatch::new_empty(Arc::clone(&batch_schema)))
    };
    let source = DatagenSource::new(schema, Arc::new(make)).rows_per_second(settings.rows_per_second);
    let number_of_rows = match (settings.number_of_rows, spec.limit) {
        (Some(rows), Some(limit)) => Some(rows.min(limit)),
        (rows, limit) => rows.or(limit),
    };
    let source = match number_of_rows {
        Some(rows) => source.number_of_rows(rows),
        None => source,
    };
    source
        .validate()
        .map_err(|error| problem("rows-per-second", error.to_string()))?;
    Ok(Arc::new(source))
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
