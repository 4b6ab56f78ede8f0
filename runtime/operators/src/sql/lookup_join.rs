//! A join with a table that is read as a whole and held by key: FOR SYSTEM_TIME AS OF processing time.
//!
//! ```text
//!   first poll_ready, then each interval: LookupTable --rows--> filter --> waiting batches --their end--> Index, made on the I/O runtime
//!   left batch --keys--> walk: (left row, table row) pairs, at most one piece's --condition--> left columns | the table's
//! ```
//!
//! Invariants: no row is joined before the table is there; while it is read again, rows are joined with what was read before; a change of the
//! left side goes on with its kind, joined with what the table has then. There is no state: whoever is restored reads the table again.

mod index;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{filter_record_batch, take};
use arrow::datatypes::{Field as ArrowField, Schema as Columns, SchemaRef};
use arrow::error::ArrowError;
use thalweg_functions::{EvaluationEnv, Evaluator};
use thalweg_plan::connector::SourceColumn;
use thalweg_plan::spec::{JoinKind, LookupJoinSpec};
use thalweg_plan::{Expr, Field, Schema};
use thalweg_types::{FailureClass, StreamBatch, WatermarkCut};
use tokio::task::JoinHandle;

use self::index::{Index, KeyRows, Keys, NONE, bytes_of};
use super::SqlOperator;
use super::output::{Output, arrow_error, evaluation_error, record_batch};
use crate::{Operator, OperatorContext, OperatorError, OutputLimit};

/// Why a table can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LookupError {
    /// What is wrong, where, and what to do.
    pub message: String,
    /// Whether it can pass.
    pub class: FailureClass,
}

/// Reads a table once, from its first row to its last.
pub trait TableReader: Send {
    /// The next rows, with the columns of [`LookupJoinSpec::columns`]; `None` behind the last. `Pending` after arranging for a wake-up.
    fn poll_rows(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<RecordBatch>, LookupError>>;
}

/// A table that is read as a whole, again and again.
pub trait LookupTable: Send {
    /// A reader of what the table has now. Must not block.
    fn read(&mut self) -> Result<Box<dyn TableReader>, LookupError>;
}

/// How a table is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookupSettings {
    /// When it is read again; `None`: never.
    pub reload: Option<Reload>,
    /// More is refused, in each subtask.
    pub max_bytes: u64,
}

/// When a table is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reload {
    /// From one time to the next.
    pub interval: Duration,
    /// Counted from the beginning of a reading, not from its end.
    pub fixed_rate: bool,
}

/// The rows that a lookup reads: [`LookupJoinSpec::columns`].
pub fn table_schema(spec: &LookupJoinSpec) -> Schema {
    let field = |column: &SourceColumn| match column {
        SourceColumn::Physical { path, data_type } => {
            Field::new(path.join("."), data_type.clone().materialized())
        }
        SourceColumn::Metadata { key, data_type } => Field::new(key, data_type.clone().materialized()),
    };
    Schema {
        fields: spec.columns.iter().map(field).collect(),
    }
}

/// [`thalweg_plan::NodeSpec::LookupJoin`].
pub struct LookupJoin {
    context: OperatorContext,
    env: Arc<EvaluationEnv>,
    /// For messages.
    table_path: String,
    table: Box<dyn LookupTable>,
    settings: LookupSettings,
    table_schema: SchemaRef,
    left_keys: Vec<usize>,
    keys: Arc<Keys>,
    left_outer: bool,
    filter: Option<Evaluator>,
    condition: Option<Evaluator>,
    /// What the condition sees.
    pair_schema: SchemaRef,
    schema: SchemaRef,
    index: Option<Index>,
    loading: Option<Loading>,
    next_reload_ms: Option<i64>,
    pending: Option<Walk>,
    output: Output,
}

/// A table that is being read.
struct Loading {
    begun_ms: i64,
    step: LoadStep,
}

enum LoadStep {
    Read {
        reader: Box<dyn TableReader>,
        batches: Vec<RecordBatch>,
        bytes: usize,
    },
    Build(JoinHandle<Result<Index, ArrowError>>),
}

/// A batch that is worked off.
struct Walk {
    batch: StreamBatch,
    keys: KeyRows,
    next_row: usize,
    /// The next partner of that row, if the walk is in the middle of its partners.
    partner: Option<u32>,
    /// Whether that row was put out.
    is_joined: bool,
    next_cut: usize,
}

/// A part of the pairs of a batch, in order.
#[derive(Default)]
struct Candidates {
    left: Vec<u32>,
    right: Vec<u32>,
    /// Watermarks, and before which pair they are.
    cuts: Vec<(usize, i64)>,
}

impl LookupJoin {
    /// An operator for one subtask.
    pub fn new(
        spec: &LookupJoinSpec,
        operator: &SqlOperator<'_>,
        context: OperatorContext,
        table: Box<dyn LookupTable>,
        settings: LookupSettings,
    ) -> Result<Self, OperatorError> {
        let table_schema = nullable(&table_schema(spec).to_arrow());
        let left = operator.inputs[0].to_arrow();
        let fields = left.fields().iter().chain(table_schema.fields()).cloned();
        let pair_schema = Arc::new(Columns::new(fields.collect::<Vec<_>>()));
        let evaluator = |expr: &Option<Expr>, schema: &SchemaRef| {
            let make = |expr| Evaluator::new(std::slice::from_ref(expr), schema, Arc::clone(&operator.env));
            let made = expr.as_ref().map(make).transpose();
            made.map_err(|error| evaluation_error(&context, &error))
        };
        let keys = Keys::new(
            &table_schema,
            spec.keys.right.clone(),
            spec.keys.null_safe.clone(),
        );
        Ok(Self {
            env: Arc::clone(&operator.env),
            table_path: spec.table.path.to_string(),
            table,
            settings,
            filter: evaluator(&spec.filter, &table_schema)?,
            condition: evaluator(&spec.condition, &pair_schema)?,
            left_keys: spec.keys.left.clone(),
            keys: Arc::new(keys.map_err(|source| arrow_error(&context, source))?),
            left_outer: spec.kind == JoinKind::Left,
            table_schema,
            pair_schema,
            schema: operator.output.to_arrow(),
            index: None,
            loading: None,
            next_reload_ms: None,
            pending: None,
            output: Output::default(),
            context,
        })
    }

    fn failed(&self, source: LookupError) -> OperatorError {
        OperatorError::Lookup {
            operator: self.context.operator_name.to_string(),
            table: self.table_path.clone(),
            source,
        }
    }

    fn begin_loading(&mut self) -> Result<(), OperatorError> {
        let reader = self.table.read().map_err(|error| self.failed(error))?;
        self.next_reload_ms = None;
        self.loading = Some(Loading {
            begun_ms: (self.env.clock)(),
            step: LoadStep::Read {
                reader,
                batches: Vec::new(),
                bytes: 0,
            },
        });
        Ok(())
    }

    /// Goes on with a reading that is under way; ready when none is.
    fn poll_loading(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), OperatorError>> {
        while let Some(mut loading) = self.loading.take() {
            match self.poll_step(&mut loading.step, cx) {
                Poll::Pending => {
                    self.loading = Some(loading);
                    return Poll::Pending;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(None)) => self.loading = Some(loading),
                Poll::Ready(Ok(Some(index))) => {
                    self.index = Some(index);
                    self.next_reload_ms = self.settings.reload.map(|reload| {
                        let from = match reload.fixed_rate {
                            true => loading.begun_ms,
                            false => (self.env.clock)(),
                        };
                        from.saturating_add(i64::try_from(reload.interval.as_millis()).unwrap_or(i64::MAX))
                    });
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The index, once it is complete.
    fn poll_step(
        &self,
        step: &mut LoadStep,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Index>, OperatorError>> {
        match step {
            LoadStep::Read {
                reader,
                batches,
                bytes,
            } => {
                match ready!(reader.poll_rows(cx)).map_err(|error| self.failed(error))? {
                    Some(rows) => {
                        let rows = self.wanted(&rows)?;
                        *bytes += bytes_of(&rows);
                        self.check_size(*bytes)?;
                        if rows.num_rows() > 0 {
                            batches.push(rows);
                        }
                    }
                    None => {
                        let (schema, keys) = (Arc::clone(&self.table_schema), Arc::clone(&self.keys));
                        let batches = std::mem::take(batches);
                        let build = move || Index::new(&schema, batches, &keys);
                        *step = LoadStep::Build(self.context.io.spawn_blocking(build));
                    }
                }
                Poll::Ready(Ok(None))
            }
            LoadStep::Build(build) => {
                let built = ready!(Pin::new(build).poll(cx)).map_err(|error| {
                    self.failed(LookupError {
                        message: format!("its index was not finished: {error}"),
                        class: FailureClass::Retryable,
                    })
                })?;
                let index = built.map_err(|source| arrow_error(&self.context, source))?;
                self.check_size(index.memory_size())?;
                Poll::Ready(Ok(Some(index)))
            }
        }
    }

    /// The rows of the table that its own conditions keep.
    fn wanted(&self, rows: &RecordBatch) -> Result<RecordBatch, OperatorError> {
        let failed = |source| arrow_error(&self.context, source);
        let rows = record_batch(&self.table_schema, rows.columns().to_vec(), rows.num_rows());
        let rows = rows.map_err(failed)?;
        let Some(filter) = &self.filter else {
            return Ok(rows);
        };
        let mask = filter
            .evaluate_filter(&rows)
            .map_err(|error| evaluation_error(&self.context, &error))?;
        filter_record_batch(&rows, &mask).map_err(failed)
    }

    fn check_size(&self, bytes: usize) -> Result<(), OperatorError> {
        let limit = self.settings.max_bytes;
        if bytes as u64 <= limit {
            return Ok(());
        }
        Err(self.failed(LookupError {
            message: format!(
                "its rows take more than {limit} bytes, what a subtask may hold of a table that it looks up: raise \
                 'lookup.full-cache.max-size', or join with fewer of its rows and columns"
            ),
            class: FailureClass::Fatal,
        }))
    }

    fn begin(&self, batch: StreamBatch) -> Result<Walk, OperatorError> {
        let columns: Vec<ArrayRef> = self
            .left_keys
            .iter()
            .map(|key| Arc::clone(batch.rows.column(*key)))
            .collect();
        let keys = self.keys.of(&columns, batch.num_rows());
        Ok(Walk {
            keys: keys.map_err(|source| arrow_error(&self.context, source))?,
            batch,
            next_row: 0,
            partner: None,
            is_joined: false,
            next_cut: 0,
        })
    }

    /// The next rows, at most so many.
    fn piece(&self, index: &Index, walk: &mut Walk, rows: usize) -> Result<StreamBatch, OperatorError> {
        let failed = |source| arrow_error(&self.context, source);
        let candidates = walk.candidates(index, rows, self.left_outer);
        let mask = self.matching(index, walk, &candidates)?;
        let pairs = walk.joined(candidates, mask.as_ref());
        let left = UInt32Array::from(pairs.left);
        let mut columns = taken(&walk.batch.rows, &left).map_err(failed)?;
        columns.extend(index.gather(pairs.right.into_iter()).map_err(failed)?);
        let kinds = walk.batch.kinds.as_ref();
        let kinds = kinds.map(|kinds| take(kinds, &left, None)).transpose();
        let watermark = |(row, timestamp_ms): (usize, i64)| WatermarkCut {
            row: row as u32,
            timestamp_ms,
        };
        Ok(StreamBatch {
            kinds: kinds.map_err(failed)?.map(|kinds| kinds.to_data().into()),
            watermarks: pairs.cuts.into_iter().map(watermark).collect(),
            ..StreamBatch::new(record_batch(&self.schema, columns, left.len()).map_err(failed)?)
        })
    }

    /// For which pairs with a partner, in order, the condition is true; `None`: for all.
    fn matching(
        &self,
        index: &Index,
        walk: &Walk,
        candidates: &Candidates,
    ) -> Result<Option<BooleanArray>, OperatorError> {
        let Some(condition) = &self.condition else {
            return Ok(None);
        };
        let failed = |source| arrow_error(&self.context, source);
        let pairs = || candidates.left.iter().zip(&candidates.right);
        let partners = || pairs().filter(|(_, right)| **right != NONE);
        let left: UInt32Array = partners().map(|(left, _)| *left).collect();
        if left.is_empty() {
            return Ok(None);
        }
        let mut columns = taken(&walk.batch.rows, &left).map_err(failed)?;
        columns.extend(
            index
                .gather(partners().map(|(_, right)| *right))
                .map_err(failed)?,
        );
        let rows = record_batch(&self.pair_schema, columns, left.len()).map_err(failed)?;
        let mask = condition.evaluate_filter(&rows);
        mask.map(Some)
            .map_err(|error| evaluation_error(&self.context, &error))
    }
}

impl Walk {
    fn is_done(&self) -> bool {
        self.next_row == self.batch.num_rows() && self.next_cut == self.batch.watermarks.len()
    }

    /// The next pairs of rows whose keys are equal. Behind a left row's partners, if it may be put out alone, comes a pair without one.
    fn candidates(&mut self, index: &Index, limit: usize, left_outer: bool) -> Candidates {
        let mut found = Candidates::default();
        loop {
            self.take_cuts(&mut found);
            if self.next_row == self.batch.num_rows() || found.left.len() >= limit {
                return found;
            }
            let row = self.next_row;
            let partner = match self.partner.take() {
                Some(partner) => partner,
                None => index.first(&self.keys, row),
            };
            if partner == NONE {
                self.next_row += 1;
                if !left_outer {
                    continue;
                }
            } else {
                self.partner = Some(index.following(partner, &self.keys, row));
            }
            found.left.push(row as u32);
            found.right.push(partner);
        }
    }

    /// The watermarks before the next row. Not in the middle of a row's partners.
    fn take_cuts(&mut self, found: &mut Candidates) {
        while let Some(cut) = self.batch.watermarks.get(self.next_cut)
            && cut.row as usize <= self.next_row
            && self.partner.is_none()
        {
            found.cuts.push((found.left.len(), cut.timestamp_ms));
            self.next_cut += 1;
        }
    }

    /// The pairs that are put out: those that the mask keeps, and left rows alone of which it kept none.
    fn joined(&mut self, candidates: Candidates, mask: Option<&BooleanArray>) -> Candidates {
        let mut out = Candidates::default();
        let mut cuts = candidates.cuts.into_iter().peekable();
        let mut place = 0;
        for (number, (left, right)) in candidates.left.into_iter().zip(candidates.right).enumerate() {
            while let Some((_, timestamp_ms)) = cuts.next_if(|(before, _)| *before <= number) {
                out.cuts.push((out.left.len(), timestamp_ms));
            }
            let is_kept = if right == NONE {
                !std::mem::take(&mut self.is_joined)
            } else {
                let is_kept = mask.is_none_or(|mask| mask.value(place));
                place += 1;
                self.is_joined |= is_kept;
                is_kept
            };
            if is_kept {
                out.left.push(left);
                out.right.push(right);
            }
        }
        let behind = out.left.len();
        out.cuts
            .extend(cuts.map(|(_, timestamp_ms)| (behind, timestamp_ms)));
        out
    }
}

fn taken(rows: &RecordBatch, places: &UInt32Array) -> Result<Vec<ArrayRef>, ArrowError> {
    let columns = rows.columns().iter();
    columns.map(|column| take(column, places, None)).collect()
}

/// The same columns, which may be null: a row without a partner has nulls in them.
fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter();
    let fields = fields.map(|field| ArrowField::clone(field).with_nullable(true));
    Arc::new(Columns::new(fields.collect::<Vec<_>>()))
}

impl Operator for LookupJoin {
    fn push(&mut self, _input: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        self.pending = Some(self.begin(batch)?);
        Ok(())
    }

    fn poll_output(&mut self, limit: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        while self.output.is_empty() {
            let (Some(index), Some(mut walk)) = (&self.index, self.pending.take()) else {
                break;
            };
            let piece = self.piece(index, &mut walk, limit.rows.max(1))?;
            self.output.push(piece);
            if !walk.is_done() {
                self.pending = Some(walk);
            }
        }
        Ok(self.output.pop(limit))
    }

    fn next_processing_time(&self) -> Option<i64> {
        self.next_reload_ms
    }

    fn on_processing_time(&mut self, now_ms: i64) -> Result<(), OperatorError> {
        match self.next_reload_ms {
            Some(due) if due <= now_ms => self.begin_loading(),
            _ => Ok(()),
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), OperatorError>> {
        if self.index.is_none() && self.loading.is_none() {
            self.begin_loading()?;
        }
        match self.poll_loading(cx) {
            // What was read before is there while it is read again.
            Poll::Pending if self.index.is_some() => Poll::Ready(Ok(())),
            polled => polled,
        }
    }

    fn state_bytes(&self) -> usize {
        self.index.as_ref().map_or(0, Index::memory_size)
    }
}

#[cfg(test)]
mod tests;
