//! `thalweg-values`: rows given in the table's options, or in a file of them. Made for tests of SQL.
//!
//! | Option | |
//! |---|---|
//! | `data` | a JSON object a line; `"op"` is its row kind, `+I` if it isn't there |
//! | `from-file` | a file of such lines instead, read when the job is built |
//! | `bounded` | whether the source ends behind the last row; `true` |
//! | `changelog-mode` | which kinds there may be, as `I,UB,UA,D`; `I` |
//! | `rows-per-batch` | cuts batches; 4096 |
//! | `rows-per-second` | without it, as fast as possible |
//!
//! One subtask gives all rows, in order, whatever the parallelism.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arrow::array::{Array, AsArray, Int8Array};
use arrow::datatypes::SchemaRef;
use thalweg_formats::{Format, FormatKind, Projection};
use thalweg_plan::connector::{CatalogTable, ConnectorProblem, SourceAbilities, SourceColumn, SourceSpec};
use thalweg_plan::{ChangelogMode, DataType, Field, Schema};
use thalweg_types::StreamBatch;
use thalweg_types::element::{RowKind, TARGET_BATCH_ROWS};
use tokio::runtime::Handle;
use tokio::time::Sleep;

use super::columns::batch_of;
use super::options::{SOURCE_KEYS, TableOptions, problem, refusal};
use super::{insert_only_source, physical_fields};
use crate::split_state::{decode, encode};
use crate::{ConnectorContext, ConnectorError, Gauge, Source, SourceEvent, SourceReader};

const KEYS: [&str; 6] = [
    "data",
    "from-file",
    "bounded",
    "changelog-mode",
    "rows-per-batch",
    "rows-per-second",
];
/// The field of a line that is its row kind.
const OP: &str = "op";

struct Settings {
    data: String,
    bounded: bool,
    changelog: ChangelogMode,
    rows_per_batch: usize,
    interval: Option<Duration>,
}

fn read(table: &CatalogTable) -> Result<Settings, ConnectorProblem> {
    let mut options = TableOptions::new("thalweg-values", table, SOURCE_KEYS.into_iter().chain(KEYS));
    options.validate(&[])?;
    let data = match (options.get("data"), options.get("from-file")) {
        (Some(data), None) => data.to_owned(),
        (None, Some(path)) => std::fs::read_to_string(path).map_err(|error| {
            problem(
                "from-file",
                format!("'from-file'='{path}' can't be read: {error}"),
            )
        })?,
        _ => return Err(problem("data", "Either 'data' or 'from-file' must be set.")),
    };
    let rows_per_batch = options.number("rows-per-batch")?.unwrap_or(TARGET_BATCH_ROWS);
    if rows_per_batch == 0 {
        return Err(problem("rows-per-batch", "'rows-per-batch' must be above 0."));
    }
    let interval = match options.number::<f64>("rows-per-second")? {
        Some(rate) if rate.is_finite() && rate > 0.001 => {
            Some(Duration::from_secs_f64(rows_per_batch as f64 / rate))
        }
        Some(rate) => {
            return Err(problem(
                "rows-per-second",
                format!("'rows-per-second' must be above 0.001, not {rate}."),
            ));
        }
        None => None,
    };
    Ok(Settings {
        data,
        bounded: options.boolean("bounded", true)?,
        changelog: changelog(options.get("changelog-mode").unwrap_or("I"))?,
        rows_per_batch,
        interval,
    })
}

fn changelog(text: &str) -> Result<ChangelogMode, ConnectorProblem> {
    let mut mode = ChangelogMode::default();
    for kind in text.split(',') {
        match kind.trim() {
            "I" => mode.insert = true,
            "UB" => mode.update_before = true,
            "UA" => mode.update_after = true,
            "D" => mode.delete = true,
            "PD" => {
                mode.delete = true;
                mode.key_only_deletes = true;
            }
            other => {
                return Err(problem(
                    "changelog-mode",
                    format!(
                        "'changelog-mode' has {other:?}: I, UB, UA, D, PD are known, separated by commas."
                    ),
                ));
            }
        }
    }
    Ok(mode)
}

pub(crate) fn source_abilities(table: &CatalogTable) -> Result<SourceAbilities, ConnectorProblem> {
    let settings = read(table)?;
    if settings.changelog.update_after
        && !settings.changelog.update_before
        && table.schema.primary_key.is_none()
    {
        return Err(problem(
            "changelog-mode",
            "a changelog with UA and without UB needs a PRIMARY KEY.",
        ));
    }
    Ok(SourceAbilities {
        changelog: settings.changelog,
        ..insert_only_source(settings.bounded)
    })
}

pub(crate) fn source(spec: &SourceSpec, output: &Schema) -> Result<Arc<dyn Source>, ConnectorProblem> {
    let settings = read(&spec.table)?;
    let batch = rows(&settings, spec, output)?;
    Ok(Arc::new(ValuesSource { settings, batch }))
}

/// All rows, in one batch.
fn rows(settings: &Settings, spec: &SourceSpec, output: &Schema) -> Result<StreamBatch, ConnectorProblem> {
    let mut fields = physical_fields(&spec.table);
    let has_op = fields.iter().any(|field| field.name == OP);
    let mut columns = spec.columns.clone();
    if !has_op {
        fields.push(Field::new(OP, DataType::string()));
        columns.push(SourceColumn::Physical {
            path: vec![OP.to_owned()],
            data_type: DataType::string(),
        });
    }
    let options = std::collections::BTreeMap::new();
    let format = Format::new(
        FormatKind::Json,
        &thalweg_formats::OptionReader::new(&options, "json."),
    );
    let format = format.map_err(refusal)?;
    format.check(&fields).map_err(refusal)?;
    let projection = Projection::new(&fields, &columns).map_err(refusal)?;
    let mut decoder = format.decoder(&fields, projection);
    for (number, line) in settings.data.lines().enumerate() {
        let line = line.trim();
        decoder.decode(line.as_bytes()).map_err(|error| {
            problem(
                "data",
                format!("line {} of the rows: {error}: {line}", number + 1),
            )
        })?;
    }
    let mut decoded = decoder
        .flush()
        .map_err(|error| problem("data", error.to_string()))?;
    let kinds = match has_op {
        true => None,
        false => decoded
            .columns
            .pop()
            .map(|ops| kinds(ops.as_ref(), settings.changelog)),
    };
    let rows = batch_of(&output.to_arrow(), decoded.columns, decoded.rows)
        .map_err(|error| problem("data", error.to_string()))?;
    let mut batch = StreamBatch::new(rows);
    batch.kinds = kinds
        .transpose()?
        .filter(|kinds| kinds.values().iter().any(|kind| *kind != RowKind::Insert as i8));
    Ok(batch)
}

fn kinds(ops: &dyn Array, allowed: ChangelogMode) -> Result<Int8Array, ConnectorProblem> {
    let kind = |op: Option<&str>| {
        let (kind, is_allowed) = match op.unwrap_or("+I") {
            "+I" => (RowKind::Insert, allowed.insert),
            "-U" => (RowKind::UpdateBefore, allowed.update_before),
            "+U" => (RowKind::UpdateAfter, allowed.update_after),
            "-D" => (RowKind::Delete, allowed.delete),
            other => {
                return Err(problem(
                    "data",
                    format!("\"op\" is {other:?}: +I, -U, +U, -D are known."),
                ));
            }
        };
        match is_allowed {
            true => Ok(kind as i8),
            false => Err(problem(
                "changelog-mode",
                format!(
                    "\"op\" is {:?}, which is not in 'changelog-mode' = '{allowed}'.",
                    op.unwrap_or("+I")
                ),
            )),
        }
    };
    ops.as_string::<i32>()
        .iter()
        .map(kind)
        .collect::<Result<Vec<i8>, _>>()
        .map(Int8Array::from)
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct ReaderState {
    /// Rows that were given.
    #[prost(uint64, tag = "1")]
    given: u64,
}

struct ValuesSource {
    settings: Settings,
    batch: StreamBatch,
}

impl Source for ValuesSource {
    fn schema(&self) -> SchemaRef {
        self.batch.rows.schema()
    }

    fn kind(&self) -> &'static str {
        "ValuesSource"
    }

    fn create_reader(&self, context: ConnectorContext) -> Result<Box<dyn SourceReader>, ConnectorError> {
        let states = context
            .restored
            .as_ref()
            .map(|restored| restored.states.as_slice());
        let states: Vec<ReaderState> = decode("thalweg-values source", states.unwrap_or_default())?;
        let given = states.iter().map(|state| state.given).sum::<u64>();
        let all = self.batch.num_rows();
        let is_first = context.subtask == 0;
        Ok(Box::new(ValuesReader {
            batch: self.batch.clone(),
            given: if is_first { (given as usize).min(all) } else { all },
            is_first,
            bounded: self.settings.bounded || !is_first,
            rows_per_batch: self.settings.rows_per_batch,
            interval: self.settings.interval,
            waiting: None,
            idle: false,
            io: context.io,
        }))
    }
}

struct ValuesReader {
    batch: StreamBatch,
    given: usize,
    is_first: bool,
    bounded: bool,
    rows_per_batch: usize,
    interval: Option<Duration>,
    waiting: Option<Pin<Box<Sleep>>>,
    idle: bool,
    io: Handle,
}

impl SourceReader for ValuesReader {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<SourceEvent, ConnectorError>> {
        let left = self.batch.num_rows() - self.given;
        if left == 0 && self.bounded {
            return Poll::Ready(Ok(SourceEvent::EndOfInput));
        }
        if left == 0 {
            if std::mem::replace(&mut self.idle, true) {
                return Poll::Pending;
            }
            return Poll::Ready(Ok(SourceEvent::Idle));
        }
        if let Some(sleep) = &mut self.waiting {
            ready!(sleep.as_mut().poll(cx));
            self.waiting = None;
        }
        if let Some(interval) = self.interval {
            let _runtime = self.io.enter();
            self.waiting = Some(Box::pin(tokio::time::sleep(interval)));
        }
        let rows = left.min(self.rows_per_batch);
        let batch = self.batch.slice(self.given, rows);
        self.given += rows;
        Poll::Ready(Ok(SourceEvent::Batch(batch)))
    }

    fn snapshot(&mut self, _checkpoint_id: u64) -> Result<Vec<Vec<u8>>, ConnectorError> {
        let given = if self.is_first { self.given as u64 } else { 0 };
        Ok(vec![encode(&ReaderState { given })])
    }

    fn position(&self) -> Option<String> {
        Some(format!("the first {} rows", self.given))
    }

    fn gauges(&self) -> Vec<Gauge> {
        vec![("pendingRecords", (self.batch.num_rows() - self.given) as f64)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::testing::{read as read_all, table, texts, whole};
    use crate::testing::{batches, context_of, next, restored_context_of};
    use thalweg_plan::TypeRoot;
    use thalweg_types::config::Configuration;
    use tokio::runtime::Runtime;

    fn values(options: &[(&str, &str)]) -> CatalogTable {
        let mut all = vec![("connector", "thalweg-values")];
        all.extend(options);
        let columns = [
            ("n", DataType::nullable(TypeRoot::Int)),
            ("t", DataType::string()),
        ];
        table(&all, &columns)
    }

    const CHANGES: &str = "{\"n\":1,\"t\":\"a\"}\n{\"op\":\"-U\",\"n\":1,\"t\":\"a\"}\n\n{\"op\":\"+U\",\"n\":1}\n{\"op\":\"-D\",\"n\":1}";

    #[test]
    fn rows_come_in_order_with_their_kinds_from_one_subtask() {
        let table = values(&[
            ("data", CHANGES),
            ("changelog-mode", "I,UB,UA,D"),
            ("rows-per-batch", "3"),
        ]);
        let (spec, output) = whole(&table);
        let batches = read_all(&spec, &output, 3).unwrap();
        assert_eq!(
            batches.iter().map(StreamBatch::num_rows).collect::<Vec<_>>(),
            [3, 1]
        );
        assert_eq!(
            texts(&batches),
            ["+I[1, a]", "-U[1, a]", "+U[1, null]", "-D[1, null]"]
        );
        assert_eq!(source_abilities(&table).unwrap().changelog, ChangelogMode::ALL);
    }

    #[test]
    fn a_restored_reader_goes_on_behind_what_it_gave() {
        let table = values(&[
            ("data", CHANGES),
            ("changelog-mode", "I,UB,UA,D"),
            ("rows-per-batch", "3"),
        ]);
        let (spec, output) = whole(&table);
        let source = crate::table::create_source(&spec, &output, &Configuration::default(), None).unwrap();
        let io = Runtime::new().unwrap();
        let mut reader = source.create_reader(context_of(&io, 0, 1)).unwrap();
        next(reader.as_mut()).unwrap();
        let states = reader.snapshot(1).unwrap();
        let mut rest = Vec::new();
        for subtask in 0..2 {
            let context = restored_context_of(&io, subtask, 2, states.clone());
            rest.extend(batches(source.create_reader(context).unwrap().as_mut()).unwrap());
        }
        assert_eq!(texts(&rest), ["-D[1, null]"]);
    }

    #[test]
    fn wrong_rows_are_named() {
        let refusal = |options: &[(&str, &str)]| {
            let (spec, output) = whole(&values(options));
            source(&spec, &output).err().unwrap().message
        };
        assert_eq!(refusal(&[]), "Either 'data' or 'from-file' must be set.");
        assert!(
            refusal(&[("data", "{}\n{\"n\":\"x\"}")])
                .starts_with("line 2 of the rows: field \"n\": \"x\" is no value of INT")
        );
        assert_eq!(
            refusal(&[("data", "{\"op\":\"-D\"}")]),
            "\"op\" is \"-D\", which is not in 'changelog-mode' = 'I'."
        );
        let upsert = values(&[("data", "{}"), ("changelog-mode", "I,UA,D")]);
        assert!(source_abilities(&upsert).is_err());
    }
}
