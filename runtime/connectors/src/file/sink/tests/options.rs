//! What users may ask for.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::Sink;
use crate::file::sink::{BucketAssigner, FileSink, FileSinkBuilder, OutputFileConfig, RollingPolicy};

fn sink() -> FileSinkBuilder {
    FileSink::for_row_format("s3a://bucket/out/")
}

fn refusal(sink: FileSinkBuilder) -> String {
    sink.build().unwrap_err().to_string()
}

fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    let field = |(name, data_type): &(&str, DataType)| Field::new(*name, data_type.clone(), true);
    Arc::new(Schema::new(fields.iter().map(field).collect::<Vec<_>>()))
}

#[test]
fn malformed_options_are_refused_when_the_sink_is_built() {
    assert_eq!(
        sink().build().unwrap().settings.folder.as_ref(),
        "s3://bucket/out"
    );
    assert!(refusal(FileSink::for_row_format("out")).contains("a scheme is expected"));
    let pattern = sink().with_bucket_assigner(BucketAssigner::date_time("yyyy-ww"));
    assert!(refusal(pattern).contains("the pattern \"yyyy-ww\" of the bucket assigner: \"ww\" is not known"));
    let policy = RollingPolicy::default().with_inactivity_interval(Duration::ZERO);
    assert!(refusal(sink().with_rolling_policy(policy)).contains("intervals"));
    for prefix in ["", ".x", "_x", "a/b"] {
        let names = OutputFileConfig::default().with_part_prefix(prefix);
        assert!(
            refusal(sink().with_output_file_config(names)).contains("prefix"),
            "{prefix}"
        );
    }
}

#[test]
#[cfg(feature = "parquet")]
fn bulk_formats_roll_at_each_checkpoint_and_hold_all_columns() {
    use crate::file::sink::parquet::ParquetFormat;

    let bulk = || FileSink::for_bulk_format("s3://bucket/out", ParquetFormat::default());
    let rows = schema(&[("a", DataType::Utf8View), ("b", DataType::Int64)]);
    bulk().build().unwrap().validate(&rows).unwrap();
    assert!(refusal(bulk().value_column("a")).contains("holds all columns"));
    assert!(refusal(bulk().with_rolling_policy(RollingPolicy::default())).contains("on_checkpoint()"));
    let sized = RollingPolicy::on_checkpoint().with_max_part_size(1 << 20);
    bulk().with_rolling_policy(sized).build().unwrap();
}

#[test]
fn one_column_of_text_or_bytes_becomes_lines() {
    let refused =
        |sink: FileSinkBuilder, rows| sink.build().unwrap().validate(&rows).unwrap_err().to_string();
    let two = schema(&[("a", DataType::Utf8View), ("b", DataType::Int64)]);
    assert!(refused(sink(), Arc::clone(&two)).contains("the columns \"a\", \"b\": name the one"));
    assert!(refused(sink().value_column("c"), Arc::clone(&two)).contains("\"c\" is not among \"a\", \"b\""));
    assert!(refused(sink().value_column("b"), Arc::clone(&two)).contains("\"b\" is Int64: text or bytes"));
    sink().value_column("a").build().unwrap().validate(&two).unwrap();
}
