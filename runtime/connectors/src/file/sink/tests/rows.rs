//! What becomes of rows: lines in folders, and refusals.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, RecordBatch, StringArray};
use futures::future::poll_fn;
use thalweg_types::StreamBatch;
use tokio::runtime::Runtime;

use crate::file::sink::{BucketAssigner, FileSink, FileSinkBuilder, OutputFileConfig};
use crate::testing::context_of;
use crate::{ConnectorError, Sink, SinkWriter};

pub(super) fn batch(column: ArrayRef) -> StreamBatch {
    StreamBatch::new(RecordBatch::try_from_iter([("line", column)]).unwrap())
}

pub(super) fn lines(lines: &[&str]) -> StreamBatch {
    batch(Arc::new(StringArray::from(lines.to_vec())))
}

fn started(io: &Runtime, sink: FileSinkBuilder) -> Result<Box<dyn SinkWriter>, ConnectorError> {
    let mut writer = sink.build()?.create_writer(context_of(io, 0, 1))?;
    io.block_on(poll_fn(|cx| writer.poll_ready(cx)))?;
    Ok(writer)
}

fn end(io: &Runtime, writer: &mut dyn SinkWriter) -> Result<(), ConnectorError> {
    io.block_on(poll_fn(|cx| writer.poll_flush(cx, true)))?;
    let prepared = writer.prepare_commit(1)?;
    io.block_on(poll_fn(|cx| writer.poll_commit(cx, &prepared)))
}

#[test]
fn rows_become_lines_in_the_folders_that_the_assigner_says() {
    let io = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let names = OutputFileConfig::default()
        .with_part_prefix("words")
        .with_part_suffix(".txt");
    let by_first = BucketAssigner::by_row(|row, bucket| {
        bucket.push_str("first=");
        bucket.push(char::from(row.value[0]));
        if row.timestamp_ms.is_some() {
            bucket.push('!');
        }
    });
    let sink = FileSink::for_row_format(folder.path().to_str().unwrap())
        .with_bucket_assigner(by_first)
        .with_output_file_config(names);
    let mut writer = started(&io, sink).unwrap();
    writer.write(&lines(&["ape", "ant", "bee", "auk"])).unwrap();
    let bytes: ArrayRef = Arc::new(BinaryArray::from_vec(vec![b"b\xFF".as_slice()]));
    writer.write(&batch(bytes)).unwrap();
    let gauge = |writer: &dyn SinkWriter, name: &str| {
        let gauges = writer.gauges();
        gauges.iter().find(|(shown, _)| *shown == name).unwrap().1
    };
    assert_eq!(
        (
            gauge(writer.as_ref(), "numRecordsSend"),
            gauge(writer.as_ref(), "numBytesSend")
        ),
        (5.0, 19.0)
    );
    end(&io, writer.as_mut()).unwrap();
    assert_eq!(gauge(writer.as_ref(), "successfulCommittables"), 2.0);
    for (bucket, content) in [("first=a", &b"ape\nant\nauk\n"[..]), ("first=b", b"bee\nb\xFF\n")] {
        let files: Vec<_> = std::fs::read_dir(folder.path().join(bucket)).unwrap().collect();
        let file = files[0].as_ref().unwrap().path();
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(name.starts_with("words-") && name.ends_with(".txt"), "{name}");
        assert_eq!((files.len(), std::fs::read(file).unwrap()), (1, content.to_vec()));
    }
}

#[test]
#[cfg(feature = "parquet")]
fn a_bulk_part_is_finished_at_the_checkpoint_and_holds_all_columns() {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    let io = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let by_column = BucketAssigner::by_row(|row, bucket| {
        let number = row.rows.column(0).as_primitive::<Int64Type>().value(row.row);
        bucket.push_str(if number % 2 == 0 { "even" } else { "odd" });
    });
    let format = crate::file::sink::parquet::ParquetFormat::default();
    let sink =
        FileSink::for_bulk_format(folder.path().to_str().unwrap(), format).with_bucket_assigner(by_column);
    let mut writer = started(&io, sink).unwrap();
    let numbers: ArrayRef = Arc::new(arrow::array::Int64Array::from_iter_values(0..10));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..10).map(|n| n.to_string())));
    let rows = RecordBatch::try_from_iter([("n", numbers), ("text", texts)]).unwrap();
    writer.write(&StreamBatch::new(rows)).unwrap();
    io.block_on(poll_fn(|cx| writer.poll_flush(cx, false))).unwrap();
    let prepared = writer.prepare_commit(1).unwrap();
    assert_eq!((prepared.len(), writer.snapshot(1).unwrap().len()), (2, 0));
    io.block_on(poll_fn(|cx| writer.poll_commit(cx, &prepared)))
        .unwrap();
    for (bucket, first) in [("even", 0), ("odd", 1)] {
        let file = std::fs::read_dir(folder.path().join(bucket)).unwrap().next();
        let file = std::fs::File::open(file.unwrap().unwrap().path()).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let batch = reader.build().unwrap().next().unwrap().unwrap();
        let numbers = batch.column(0).as_primitive::<Int64Type>().values().to_vec();
        assert!(numbers.into_iter().eq((first..10).step_by(2)));
        assert_eq!(
            batch.column(1).as_string::<i32>().value(1),
            (first + 2).to_string()
        );
    }
}

#[test]
fn nulls_updates_and_buckets_outside_the_folder_are_refused() {
    let io = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let uri = folder.path().to_str().unwrap();
    let mut writer = started(&io, FileSink::for_row_format(uri)).unwrap();
    let null: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
    let error = writer.write(&batch(null)).unwrap_err();
    assert!(
        error.to_string().contains("row 1 of the batch is null"),
        "{error}"
    );
    let mut update = lines(&["a"]);
    update.kinds = Some(arrow::array::Int8Array::from(vec![3]));
    let error = writer.write(&update).unwrap_err();
    assert!(error.to_string().contains("it takes inserts only"), "{error}");
    let outside = BucketAssigner::by_row(|_, bucket| bucket.push_str("../x"));
    let mut writer = started(&io, FileSink::for_row_format(uri).with_bucket_assigner(outside)).unwrap();
    let error = writer.write(&lines(&["a"])).unwrap_err();
    assert!(
        error.to_string().contains("the bucket \"../x\" is no folder"),
        "{error}"
    );
}

#[test]
fn a_folder_that_takes_no_files_is_refused_before_the_first_row() {
    let io = Runtime::new().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let below = format!("{}/out", file.path().display());
    let error = started(&io, FileSink::for_row_format(&below))
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("is not writable") && error.contains(&below),
        "{error}"
    );
}

#[test]
fn a_finished_file_that_is_gone_fails_the_job_unless_readers_may_move_it() {
    let io = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let sink = || {
        FileSink::for_row_format(folder.path().to_str().unwrap())
            .with_bucket_assigner(BucketAssigner::base_path())
    };
    let mut writer = started(&io, sink()).unwrap();
    writer.write(&lines(&["a", "b"])).unwrap();
    io.block_on(poll_fn(|cx| writer.poll_flush(cx, true))).unwrap();
    let prepared = writer.prepare_commit(1).unwrap();
    let commit = |writer: &mut dyn SinkWriter| io.block_on(poll_fn(|cx| writer.poll_commit(cx, &prepared)));
    commit(writer.as_mut()).unwrap();
    commit(writer.as_mut()).unwrap();
    let part = std::fs::read_dir(folder.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    std::fs::remove_file(&part).unwrap();
    commit(started(&io, sink().finished_files_may_vanish()).unwrap().as_mut()).unwrap();
    let error = commit(writer.as_mut()).unwrap_err();
    assert!(matches!(error, ConnectorError::Refused(_)), "{error}");
    let text = error.to_string();
    let named = text.contains(part.file_name().unwrap().to_str().unwrap());
    assert!(
        named && text.contains("the 4 bytes") && text.contains("2 rows"),
        "{text}"
    );
}

#[test]
fn an_older_checkpoint_whose_open_file_was_finished_since_is_refused() {
    let io = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let sink = FileSink::for_row_format(folder.path().to_str().unwrap());
    let mut writer = started(&io, sink.clone()).unwrap();
    writer.write(&lines(&["a"])).unwrap();
    io.block_on(poll_fn(|cx| writer.poll_flush(cx, false))).unwrap();
    assert!(writer.prepare_commit(1).unwrap().is_empty());
    let states = writer.snapshot(1).unwrap();
    end(&io, writer.as_mut()).unwrap();
    let restored = crate::testing::restored_context_of(&io, 0, 1, states);
    let mut writer = sink.build().unwrap().create_writer(restored).unwrap();
    let error = io
        .block_on(poll_fn(|cx| writer.poll_flush(cx, false)))
        .unwrap_err();
    assert!(
        error.to_string().contains("was finished by a later checkpoint"),
        "{error}"
    );
}
