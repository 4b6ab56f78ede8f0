//! The print sink: Flink's `PrintSink` and `print` table.
//!
//! ```text
//!   identifier:subtask> record        "identifier:" only with an identifier, "subtask" (from 1) only above parallelism 1
//!   +I[a, 1]                          PrintFormat::Changelog, as a table's rows print
//!   (a,1) or a                        PrintFormat::Value, as a stream's tuples and single values print
//! ```
//!
//! A batch is formatted into one buffer and written under one lock, so that subtasks never mix within a line.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use arrow::datatypes::SchemaRef;
use thalweg_types::StreamBatch;
use thalweg_types::element::RowKind;

use crate::java_text::{self, write_value};
use crate::{ConnectorContext, ConnectorError, Gauge, Sink, SinkWriter};

/// How a row is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrintFormat {
    /// `+I[a, 1]`: row kind and all columns.
    Changelog,
    /// `(a,1)`, or the bare value of a single column.
    Value,
}

/// Where rows are written.
#[derive(Clone)]
pub enum PrintTarget {
    /// Standard output of the process that runs the task.
    Stdout,
    /// Its standard error.
    Stderr,
    /// Anything else, for programs that embed the engine and for tests.
    Writer(Arc<Mutex<dyn Write + Send>>),
}

/// Writes rows as text.
#[derive(Clone)]
pub struct PrintSink {
    format: PrintFormat,
    target: PrintTarget,
    identifier: String,
}

impl PrintSink {
    /// To standard output, without an identifier.
    pub fn new(format: PrintFormat) -> Self {
        Self {
            format,
            target: PrintTarget::Stdout,
            identifier: String::new(),
        }
    }

    /// Writes somewhere else.
    #[must_use]
    pub fn to(self, target: PrintTarget) -> Self {
        Self { target, ..self }
    }

    /// Puts this before each row; Flink's `print-identifier`.
    #[must_use]
    pub fn identifier(self, identifier: impl Into<String>) -> Self {
        Self {
            identifier: identifier.into(),
            ..self
        }
    }
}

/// Flink's prefix: `id:1> `, `id> `, `1> ` or nothing.
fn prefix(identifier: &str, subtask: u32, parallelism: u32) -> String {
    match (identifier.is_empty(), parallelism > 1) {
        (true, false) => String::new(),
        (true, true) => format!("{}> ", subtask + 1),
        (false, false) => format!("{identifier}> "),
        (false, true) => format!("{identifier}:{}> ", subtask + 1),
    }
}

impl Sink for PrintSink {
    fn kind(&self) -> &'static str {
        "PrintSink"
    }

    fn validate(&self, _input: &SchemaRef) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn create_writer(&self, context: ConnectorContext) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        Ok(Box::new(PrintWriter {
            format: self.format,
            target: self.target.clone(),
            prefix: prefix(&self.identifier, context.subtask, context.parallelism),
            text: String::new(),
            rows: 0,
        }))
    }
}

struct PrintWriter {
    format: PrintFormat,
    target: PrintTarget,
    prefix: String,
    text: String,
    rows: u64,
}

impl PrintWriter {
    fn format_row(&mut self, batch: &StreamBatch, row: usize) -> std::fmt::Result {
        let Self {
            text, prefix, format, ..
        } = self;
        text.write_str(prefix)?;
        let columns = batch.rows.columns();
        match format {
            PrintFormat::Changelog => {
                let kind = batch
                    .kinds
                    .as_ref()
                    .map_or(RowKind::Insert as i8, |kinds| kinds.value(row));
                text.write_str(kind_text(kind))?;
                java_text::write_joined(text, columns, row, ["[", ", ", "]"])?;
            }
            PrintFormat::Value if columns.len() == 1 => write_value(text, columns[0].as_ref(), row)?,
            PrintFormat::Value => java_text::write_joined(text, columns, row, ["(", ",", ")"])?,
        }
        text.write_char('\n')
    }

    fn print(&self) -> io::Result<()> {
        let write = |out: &mut dyn Write| out.write_all(self.text.as_bytes()).and_then(|()| out.flush());
        match &self.target {
            PrintTarget::Stdout => write(&mut io::stdout().lock()),
            PrintTarget::Stderr => write(&mut io::stderr().lock()),
            PrintTarget::Writer(writer) => write(&mut *writer.lock().unwrap_or_else(PoisonError::into_inner)),
        }
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

impl SinkWriter for PrintWriter {
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), ConnectorError>> {
        Poll::Ready(Ok(()))
    }

    fn write(&mut self, batch: &StreamBatch) -> Result<usize, ConnectorError> {
        self.text.clear();
        for row in 0..batch.num_rows() {
            self.format_row(batch, row).map_err(|_| {
                ConnectorError::Malformed(format!("row {row} of a batch can't be printed as text"))
            })?;
        }
        self.print().map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => {
                ConnectorError::Refused("the print sink's output was closed by its reader".to_owned())
            }
            _ => ConnectorError::Unavailable(format!("the print sink can't write its output: {error}")),
        })?;
        self.rows += batch.num_rows() as u64;
        Ok(batch.num_rows())
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>, _end_of_input: bool) -> Poll<Result<(), ConnectorError>> {
        Poll::Ready(Ok(()))
    }

    fn gauges(&self) -> Vec<Gauge> {
        vec![("numRecordsSend", self.rows as f64)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::context_of;
    use arrow::array::{Int8Array, Int64Array, RecordBatch, StringArray};
    use tokio::runtime::Runtime;

    fn words() -> StreamBatch {
        let word = Arc::new(StringArray::from(vec![Some("a"), None])) as _;
        let n = Arc::new(Int64Array::from(vec![1, -2])) as _;
        StreamBatch::new(RecordBatch::try_from_iter([("word", word), ("n", n)]).unwrap())
    }

    fn printed(sink: PrintSink, parallelism: u32, batch: &StreamBatch) -> String {
        let out = Arc::new(Mutex::new(Vec::new()));
        let io = Runtime::new().unwrap();
        let sink = sink.to(PrintTarget::Writer(Arc::clone(&out) as _));
        let mut writer = sink
            .create_writer(context_of(&io, parallelism - 1, parallelism))
            .unwrap();
        assert_eq!(writer.write(batch).unwrap(), batch.num_rows());
        let text = out.lock().unwrap().clone();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_tables_rows_print_with_kind_identifier_and_subtask() {
        let mut batch = words();
        batch.kinds = Some(Int8Array::from(vec![
            RowKind::UpdateAfter as i8,
            RowKind::Delete as i8,
        ]));
        let text = printed(
            PrintSink::new(PrintFormat::Changelog).identifier("out"),
            2,
            &batch,
        );
        assert_eq!(text, "out:2> +U[a, 1]\nout:2> -D[null, -2]\n");
    }

    #[test]
    fn a_streams_tuples_and_single_values_print_as_in_java() {
        let sink = || PrintSink::new(PrintFormat::Value);
        assert_eq!(printed(sink(), 1, &words()), "(a,1)\n(null,-2)\n");
        let single = StreamBatch::new(words().rows.project(&[1]).unwrap());
        assert_eq!(printed(sink(), 3, &single), "3> 1\n3> -2\n");
    }

    #[test]
    fn a_closed_output_ends_the_job_with_a_line_that_says_so() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let io = Runtime::new().unwrap();
        let sink = PrintSink::new(PrintFormat::Value).to(PrintTarget::Writer(Arc::new(Mutex::new(Closed))));
        let error = sink
            .create_writer(context_of(&io, 0, 1))
            .unwrap()
            .write(&words())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the print sink's output was closed by its reader"
        );
    }
}
