//! A query's rows on the console, in Flink's result modes (`sql-client.execution.result-mode`).
//!
//! ```text
//!   tableau    rows in boxes as they come, with their kinds        (in batch mode: without)
//!   changelog  +I[1, Alice] a line, as they come
//!   table      the rows that are left at the end, in boxes
//! ```
//!
//! Values are written as CAST to STRING writes them, bytes as x'0a'. Invariant: a batch is written under one lock, so that subtasks never mix within a line.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{ErrorKind, Write};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType as ArrowType;
use thalweg_connectors::ConnectorError;
use thalweg_functions::{EvaluationEnv, EvaluationError, Evaluator};
use thalweg_plan::{DataType, Expr, Schema, TypeRoot};
use thalweg_types::StreamBatch;
use thalweg_types::element::RowKind;

use crate::collect::Collector;
use crate::tableau::{NULL, Tableau};

/// How rows are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultMode {
    /// The rows that are left.
    Table,
    /// Each change a line.
    Changelog,
    /// Each change in a box.
    Tableau,
}

/// What a [`Console`] needs to know.
#[derive(Debug, Clone)]
pub struct ConsoleOptions {
    /// How rows are shown.
    pub mode: ResultMode,
    /// Whether rows show their kinds; not in batch mode.
    pub with_kind: bool,
    /// `table.display.max-column-width`, for types without a length of their own.
    pub max_column_width: usize,
    /// `sql-client.execution.max-table-result.rows`: how many different rows the table mode keeps; more fail the job.
    pub max_table_rows: usize,
}

/// Shows the rows of one query.
pub struct Console {
    options: ConsoleOptions,
    texts: Evaluator,
    tableau: Tableau,
    shown: Mutex<Shown>,
}

struct Shown {
    out: Box<dyn Write + Send>,
    text: String,
    rows: u64,
    /// Table mode: rows and how often they are there, in the order in which they came first.
    table: HashMap<Vec<String>, (usize, i64)>,
}

impl Console {
    /// Shows rows of `schema`.
    pub fn new(
        schema: &Schema,
        options: ConsoleOptions,
        env: Arc<EvaluationEnv>,
        out: Box<dyn Write + Send>,
    ) -> Result<Self, EvaluationError> {
        let columns = schema.fields.iter().enumerate();
        let texts: Vec<_> = columns
            .map(|(column, field)| {
                let value = Expr::column(column, field.data_type.clone());
                match field.data_type.root {
                    TypeRoot::Binary(_) | TypeRoot::VarBinary(_) => value,
                    _ => value.cast(DataType::string().with_nullable(field.data_type.nullable)),
                }
            })
            .collect();
        let with_kind = options.with_kind && options.mode == ResultMode::Tableau;
        Ok(Self {
            texts: Evaluator::new(&texts, &schema.to_arrow(), env)?,
            tableau: Tableau::of_types(schema, with_kind, options.max_column_width),
            shown: Mutex::new(Shown {
                out,
                text: String::new(),
                rows: 0,
                table: HashMap::new(),
            }),
            options,
        })
    }

    /// The last lines: what is left, how many rows there were.
    pub fn finish(&self) -> Result<(), ConnectorError> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = &mut *shown;
        shown.text.clear();
        if self.options.mode == ResultMode::Table {
            self.table(shown);
        }
        if self.options.mode != ResultMode::Changelog {
            match shown.rows {
                0 => shown.text.push_str("Empty set\n"),
                rows => {
                    self.tableau.border(&mut shown.text);
                    let unit = if rows == 1 { "row" } else { "rows" };
                    shown.text.push_str(&format!("{rows} {unit} in set\n"));
                }
            }
        }
        shown.write()
    }

    fn table(&self, shown: &mut Shown) {
        let mut rows: Vec<_> = shown.table.drain().filter(|(_, (_, count))| *count > 0).collect();
        rows.sort_unstable_by_key(|(_, (place, _))| *place);
        shown.rows = rows.iter().map(|(_, (_, count))| count.unsigned_abs()).sum();
        if shown.rows > 0 {
            self.tableau.header(&mut shown.text);
        }
        for (row, (_, count)) in rows {
            for _ in 0..count {
                self.tableau.row(row.iter().map(String::as_str), &mut shown.text);
            }
        }
    }

    fn texts_of(&self, batch: &StreamBatch) -> Result<Vec<StringArray>, ConnectorError> {
        let refused = |error: String| ConnectorError::Malformed(format!("a row can't be shown: {error}"));
        let columns = self
            .texts
            .evaluate(&batch.rows)
            .map_err(|error| refused(error.to_string()))?;
        let strings = |column: ArrayRef| {
            if let Some(bytes) = column.as_binary_opt::<i32>() {
                let hex = bytes
                    .iter()
                    .map(|bytes| bytes.map(|bytes| format!("x'{}'", hex::encode(bytes))));
                return Ok(hex.collect());
            }
            let column = cast(&column, &ArrowType::Utf8).map_err(|error| refused(error.to_string()))?;
            Ok(StringArray::from(column.to_data()))
        };
        columns.into_iter().map(strings).collect()
    }
}

impl Collector for Console {
    fn collect(&self, batch: &StreamBatch) -> Result<(), ConnectorError> {
        let columns = self.texts_of(batch)?;
        let kind = |row: usize| {
            batch
                .kinds
                .as_ref()
                .map_or(RowKind::Insert as i8, |kinds| kinds.value(row))
        };
        let text = |column: &'_ StringArray, row: usize| match column.is_null(row) {
            true => NULL.to_owned(),
            false => column.value(row).to_owned(),
        };
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = &mut *shown;
        shown.text.clear();
        for row in 0..batch.num_rows() {
            let texts = columns.iter().map(|column| text(column, row));
            match self.options.mode {
                ResultMode::Table => shown.change(texts.collect(), kind(row), self.options.max_table_rows)?,
                ResultMode::Changelog => {
                    let texts: Vec<_> = texts.collect();
                    shown
                        .text
                        .push_str(&format!("{}[{}]\n", kind_text(kind(row)), texts.join(", ")));
                }
                ResultMode::Tableau => {
                    if shown.rows == 0 {
                        self.tableau.header(&mut shown.text);
                    }
                    let kind = self.options.with_kind.then(|| kind_text(kind(row)).to_owned());
                    let texts: Vec<_> = kind.into_iter().chain(texts).collect();
                    self.tableau
                        .row(texts.iter().map(String::as_str), &mut shown.text);
                }
            }
            shown.rows += 1;
        }
        shown.write()
    }
}

impl Shown {
    fn change(&mut self, row: Vec<String>, kind: i8, max_rows: usize) -> Result<(), ConnectorError> {
        let added = kind == RowKind::Insert as i8 || kind == RowKind::UpdateAfter as i8;
        if self.table.len() >= max_rows && !self.table.contains_key(&row) {
            return Err(ConnectorError::Refused(format!(
                "the result has more than {max_rows} rows, which 'sql-client.execution.max-table-result.rows' allows; set \
                 'sql-client.execution.result-mode' to 'tableau' or 'changelog' to see rows as they come"
            )));
        }
        let place = self.rows as usize;
        match self.table.entry(row) {
            Entry::Vacant(vacant) => {
                vacant.insert((place, if added { 1 } else { -1 }));
            }
            Entry::Occupied(mut occupied) => {
                let (_, count) = occupied.get_mut();
                *count += if added { 1 } else { -1 };
                if *count == 0 {
                    occupied.remove();
                }
            }
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), ConnectorError> {
        let written = self
            .out
            .write_all(self.text.as_bytes())
            .and_then(|()| self.out.flush());
        written.map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => {
                ConnectorError::Refused("the console was closed by its reader".to_owned())
            }
            _ => ConnectorError::Unavailable(format!("the console can't be written: {error}")),
        })
    }
}

fn kind_text(kind: i8) -> &'static str {
    match kind {
        kind if kind == RowKind::UpdateBefore as i8 => "-U",
        kind if kind == RowKind::UpdateAfter as i8 => "+U",
        kind if kind == RowKind::Delete as i8 => "-D",
        _ => "+I",
    }
}
