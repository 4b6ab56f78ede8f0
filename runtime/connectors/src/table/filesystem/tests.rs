//! Files that are written and read again, and the options.

use std::fs;
use std::path::Path;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use futures::future::poll_fn;
use thalweg_plan::{DataType, TypeRoot};
use thalweg_types::{StreamBatch, WatermarkCut};
use tokio::runtime::Runtime;

use super::*;
use crate::table::testing::{insert, read, scan, table, texts, whole};
use crate::testing::context_of;
use crate::{Committable, SinkWriter};

fn int() -> DataType {
    DataType::nullable(TypeRoot::Int)
}

fn files(path: &Path, options: &[(&str, &str)], partitioned: bool) -> CatalogTable {
    let path = format!("file://{}", path.display());
    let mut all = vec![
        ("connector", "filesystem"),
        ("path", path.as_str()),
        ("format", "csv"),
    ];
    all.retain(|(key, _)| options.iter().all(|(other, _)| other != key));
    all.extend(options.iter().filter(|(_, value)| !value.is_empty()));
    let mut table = table(
        &all,
        &[
            ("n", int()),
            ("dt", DataType::string()),
            ("hm", DataType::string()),
        ],
    );
    if partitioned {
        table.partition_keys = vec!["dt".to_owned(), "hm".to_owned()];
    }
    table
}

fn rows(table: &CatalogTable, numbers: &[i32], dt: Option<&str>, hm: &str) -> StreamBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(numbers.to_vec())),
        Arc::new(StringArray::from(vec![dt; numbers.len()])),
        Arc::new(StringArray::from(vec![hm; numbers.len()])),
    ];
    let schema = insert(table).schema.to_arrow();
    StreamBatch::new(RecordBatch::try_new(schema, columns).unwrap())
}

/// A writer, driven by hand.
pub(super) struct Driven {
    io: Runtime,
    writer: Box<dyn SinkWriter>,
}

impl Driven {
    pub(super) fn new(table: &CatalogTable) -> Self {
        let io = Runtime::new().unwrap();
        let sink = sink(&insert(table)).unwrap();
        let spec = insert(table);
        sink.validate(&spec.schema.to_arrow()).unwrap();
        let writer = sink.create_writer(context_of(&io, 0, 1)).unwrap();
        Self { io, writer }
    }

    pub(super) fn write(&mut self, batch: &StreamBatch) {
        self.io
            .block_on(poll_fn(|cx| self.writer.poll_ready(cx)))
            .unwrap();
        assert_eq!(self.writer.write(batch).unwrap(), batch.num_rows());
    }

    /// What a checkpoint has to commit.
    pub(super) fn checkpoint(&mut self, id: u64, end: bool) -> Vec<Committable> {
        self.io
            .block_on(poll_fn(|cx| self.writer.poll_flush(cx, end)))
            .unwrap();
        let prepared = self.writer.prepare_commit(id).unwrap();
        self.writer.snapshot(id).unwrap();
        prepared
    }

    pub(super) fn commit(&mut self, committables: &[Committable]) {
        self.io
            .block_on(poll_fn(|cx| self.writer.poll_commit(cx, committables)))
            .unwrap();
    }
}

/// Visible files below a folder, without parts' own names.
fn visible(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if !name.starts_with('.') {
                let relative = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
                let kind = if name.starts_with("part-") { "part" } else { &name };
                found.push(relative.replace(&name, kind));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn what_is_written_is_read_with_its_partitions_from_the_folders() {
    let folder = tempfile::tempdir().unwrap();
    let table = files(folder.path(), &[], true);
    let mut driven = Driven::new(&table);
    driven.write(&rows(&table, &[1, 2], Some("2020-01-01"), "00:05"));
    driven.write(&rows(&table, &[3], None, "00:05"));
    let prepared = driven.checkpoint(1, true);
    driven.commit(&prepared);
    assert_eq!(
        visible(folder.path()),
        [
            "dt=2020-01-01/hm=00%3A05/part",
            "dt=__DEFAULT_PARTITION__/hm=00%3A05/part"
        ]
    );
    let (spec, output) = whole(&table);
    let mut lines = texts(&read(&spec, &output, 2).unwrap());
    lines.sort();
    assert_eq!(
        lines,
        [
            "+I[1, 2020-01-01, 00:05]",
            "+I[2, 2020-01-01, 00:05]",
            "+I[3, null, 00:05]"
        ]
    );
    let column = |name: &str, data_type| SourceColumn::Physical {
        path: vec![name.to_owned()],
        data_type,
    };
    let (spec, output) = scan(&table, vec![column("hm", DataType::string()), column("n", int())]);
    let mut lines = texts(&read(&spec, &output, 1).unwrap());
    lines.sort();
    assert_eq!(lines, ["+I[00:05, 1]", "+I[00:05, 2]", "+I[00:05, 3]"]);
}

#[test]
fn a_partition_is_marked_when_the_watermark_has_passed_its_time_and_delay() {
    let folder = tempfile::tempdir().unwrap();
    let options = [
        ("sink.partition-commit.trigger", "partition-time"),
        ("sink.partition-commit.delay", "1 min"),
        ("sink.partition-commit.policy.kind", "success-file"),
        ("partition.time-extractor.timestamp-pattern", "$dt $hm:00"),
    ];
    let table = files(folder.path(), &options, true);
    let mut driven = Driven::new(&table);
    let mut first = rows(&table, &[1], Some("1970-01-01"), "00:05");
    first.watermarks = vec![WatermarkCut {
        row: 1,
        timestamp_ms: 360_000,
    }];
    driven.write(&first);
    driven.write(&rows(&table, &[2], Some("1970-01-01"), "00:06"));
    let prepared = driven.checkpoint(1, false);
    driven.commit(&prepared);
    let parts = ["dt=1970-01-01/hm=00%3A05/part", "dt=1970-01-01/hm=00%3A06/part"];
    assert_eq!(
        visible(folder.path()),
        parts,
        "6 minutes are not behind 00:05 and a minute"
    );
    let mut later = rows(&table, &[], None, "");
    later.watermarks = vec![WatermarkCut {
        row: 0,
        timestamp_ms: 360_001,
    }];
    driven.write(&later);
    let prepared = driven.checkpoint(2, false);
    driven.commit(&prepared);
    let marked = "dt=1970-01-01/hm=00%3A05/_SUCCESS";
    assert_eq!(visible(folder.path()), [marked, parts[0], parts[1]]);
    let prepared = driven.checkpoint(3, true);
    driven.commit(&prepared);
    assert!(visible(folder.path()).contains(&"dt=1970-01-01/hm=00%3A06/_SUCCESS".to_owned()));
}

#[test]
fn a_restored_writer_marks_what_was_pending() {
    let folder = tempfile::tempdir().unwrap();
    let options = [
        ("sink.partition-commit.trigger", "partition-time"),
        ("sink.partition-commit.policy.kind", "success-file"),
    ];
    let table = files(folder.path(), &options, true);
    let mut driven = Driven::new(&table);
    driven.write(&rows(&table, &[1], Some("1970-01-02"), "x"));
    let prepared = driven.checkpoint(1, false);
    let states = driven.writer.snapshot(1).unwrap();
    drop(driven.writer);
    let mut context = crate::testing::restored_context_of(&driven.io, 0, 1, states);
    if let Some(restored) = &mut context.restored {
        restored.committables.clone_from(&prepared);
    }
    let mut driven = Driven {
        writer: sink(&insert(&table)).unwrap().create_writer(context).unwrap(),
        io: driven.io,
    };
    driven.commit(&prepared);
    assert_eq!(visible(folder.path()), ["dt=1970-01-02/hm=x/part"]);
    let prepared = driven.checkpoint(2, true);
    driven.commit(&prepared);
    assert_eq!(
        visible(folder.path()),
        ["dt=1970-01-02/hm=x/_SUCCESS", "dt=1970-01-02/hm=x/part"]
    );
}

#[test]
fn quoted_values_may_hold_newlines_and_a_bad_record_is_named_by_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.csv"), "1,\"a\nb\",c\n\n2,\"d\"\"\n\",e\n").unwrap();
    let table = files(folder.path(), &[], false);
    let (spec, output) = whole(&table);
    let batches = read(&spec, &output, 1).unwrap();
    assert_eq!(texts(&batches).join("\n"), "+I[1, a\nb, c]\n+I[2, d\"\n, e]");
    fs::write(folder.path().join("b.csv"), "3,a,b\nx,a,b\n").unwrap();
    let error = read(&spec, &output, 1).unwrap_err();
    assert!(
        error.ends_with("b.csv line 2: field \"n\": \"x\" is no value of INT"),
        "{error}"
    );
    fs::remove_file(folder.path().join("b.csv")).unwrap();
    let mut strict = table;
    strict
        .options
        .insert("csv.null-literal".to_owned(), "1".to_owned());
    strict.schema.columns[0].data_type = DataType::not_null(TypeRoot::Int);
    let (spec, output) = whole(&strict);
    let error = read(&spec, &output, 1).unwrap_err();
    assert!(
        error.ends_with("a.csv line 1: column \"n\" is NOT NULL and has no value"),
        "{error}"
    );
}

#[test]
fn a_quote_within_a_value_ends_no_record_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("a.csv"),
        "1,5\" pipe,x\n2,6\" pipe,y\n3,\"a\nb\",z\n",
    )
    .unwrap();
    let (spec, output) = whole(&files(folder.path(), &[], false));
    let lines = texts(&read(&spec, &output, 1).unwrap());
    assert_eq!(
        lines.join("\n"),
        "+I[1, 5\" pipe, x]\n+I[2, 6\" pipe, y]\n+I[3, a\nb, z]"
    );
}

#[test]
fn each_row_knows_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let write = |place: &str, text: &str| {
        let path = folder.path().join(place);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let modified = std::time::UNIX_EPOCH + std::time::Duration::from_millis(1_500);
        fs::File::options()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_modified(modified))
            .unwrap();
    };
    write("dt=d/hm=1/a.csv", "1\n2\n");
    write("dt=d/hm=2/b.csv", "3\n");
    let table = files(folder.path(), &[], true);
    let offered = source_abilities(&table).unwrap().metadata;
    let metadata = |key: &str| {
        let (_, data_type) = offered.iter().find(|(there, _)| there == key).unwrap();
        SourceColumn::Metadata {
            key: key.to_owned(),
            data_type: data_type.clone(),
        }
    };
    let physical = |name: &str, data_type: DataType| SourceColumn::Physical {
        path: vec![name.to_owned()],
        data_type,
    };
    let columns = vec![
        metadata("file.size"),
        physical("hm", DataType::string()),
        metadata("file.path"),
        physical("n", int()),
        metadata("file.modification-time"),
        metadata("file.name"),
    ];
    let (spec, output) = scan(&table, columns);
    let mut rows = texts(&read(&spec, &output, 1).unwrap());
    rows.sort();
    let root = folder.path().display();
    let at = "1970-01-01T00:00:01.500Z";
    let row =
        |size, hm, n, name: &str| format!("+I[{size}, {hm}, {root}/dt=d/hm={hm}/{name}, {n}, {at}, {name}]");
    assert_eq!(
        rows,
        [
            row(2, 2, 3, "b.csv"),
            row(4, 1, 1, "a.csv"),
            row(4, 1, 2, "a.csv")
        ]
    );
}

#[test]
fn options_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = |options: &[(&str, &str)]| {
        sink_abilities(&files(folder.path(), options, true))
            .unwrap_err()
            .message
    };
    assert!(refusal(&[("path", "")]).ends_with("Missing required options are:\n\npath"));
    assert!(refusal(&[("x", "1")]).starts_with("Unsupported options found for 'filesystem'."));
    assert!(
        refusal(&[("format", "orc")])
            .starts_with("The format 'orc' is not supported by the filesystem connector yet")
    );
    assert!(refusal(&[("auto-compaction", "true")]).contains("is not supported"));
    assert!(refusal(&[("sink.partition-commit.policy.kind", "metastore")]).contains("success-file is"));
    assert!(refusal(&[("path", "hdfs://x/y")]).contains("hdfs"));
    let with_schemas = [
        ("format", "debezium-json"),
        ("debezium-json.schema-include", "true"),
    ];
    assert!(refusal(&with_schemas).starts_with("Debezium JSON serialization doesn't support"));
    let bounded = |options: &[(&str, &str)]| {
        source_abilities(&files(folder.path(), options, false))
            .unwrap()
            .bounded
    };
    assert!(bounded(&[]) && !bounded(&[("source.monitor-interval", "1 s")]));
}
