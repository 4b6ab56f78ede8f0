//! Helpers of the unit tests: tables, scans, and their rows as text.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use thalweg_plan::connector::{
    CatalogTable, ColumnKind, ObjectPath, SinkSpec, SourceColumn, SourceSpec, TableColumn, TableSchema,
};
use thalweg_plan::{ChangelogMode, DataType, Field, Schema};
use thalweg_types::StreamBatch;
use thalweg_types::config::Configuration;
use tokio::runtime::Runtime;

use super::{create_source, physical_fields};
use crate::testing::{batches, context_of};
use crate::{PrintFormat, PrintSink, PrintTarget, Sink};

/// A table of physical columns.
pub(crate) fn table(options: &[(&str, &str)], columns: &[(&str, DataType)]) -> CatalogTable {
    let column = |(name, data_type): &(&str, DataType)| TableColumn {
        name: (*name).to_owned(),
        data_type: data_type.clone(),
        kind: ColumnKind::Physical,
        comment: None,
    };
    CatalogTable {
        path: ObjectPath {
            catalog: "default_catalog".to_owned(),
            database: "default_database".to_owned(),
            name: "t".to_owned(),
        },
        schema: TableSchema {
            columns: columns.iter().map(column).collect(),
            ..TableSchema::default()
        },
        options: options
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        partition_keys: Vec::new(),
        comment: None,
    }
}

/// The same table with a metadata column behind the others.
pub(crate) fn with_metadata(
    mut table: CatalogTable,
    name: &str,
    key: &str,
    is_virtual: bool,
    data_type: DataType,
) -> CatalogTable {
    table.schema.columns.push(TableColumn {
        name: name.to_owned(),
        data_type,
        kind: ColumnKind::Metadata {
            key: key.to_owned(),
            is_virtual,
        },
        comment: None,
    });
    table
}

/// A scan of these paths; their types are the table's.
pub(crate) fn scan(table: &CatalogTable, columns: Vec<SourceColumn>) -> (SourceSpec, Schema) {
    let fields = columns.iter().map(|column| match column {
        SourceColumn::Physical { path, data_type } => Field::new(path.join("_"), data_type.clone()),
        SourceColumn::Metadata { key, data_type } => Field::new(key, data_type.clone()),
    });
    let output = Schema {
        fields: fields.collect(),
    };
    let spec = SourceSpec {
        table: table.clone(),
        columns,
        filters: Vec::new(),
        limit: None,
        watermark: None,
    };
    (spec, output)
}

/// All physical columns.
pub(crate) fn whole(table: &CatalogTable) -> (SourceSpec, Schema) {
    let column = |field: Field| SourceColumn::Physical {
        path: vec![field.name],
        data_type: field.data_type,
    };
    scan(table, physical_fields(table).into_iter().map(column).collect())
}

/// What a bounded scan gives at a parallelism, by subtask.
pub(crate) fn read(spec: &SourceSpec, output: &Schema, parallelism: u32) -> Result<Vec<StreamBatch>, String> {
    let io = Runtime::new().unwrap();
    let source =
        create_source(spec, output, &Configuration::default(), None).map_err(|problem| problem.message)?;
    let mut all = Vec::new();
    for subtask in 0..parallelism {
        let mut reader = source
            .create_reader(context_of(&io, subtask, parallelism))
            .unwrap();
        all.extend(batches(reader.as_mut()).map_err(|error| error.to_string())?);
    }
    for batch in &all {
        assert_eq!(batch.rows.schema(), output.to_arrow());
    }
    Ok(all)
}

/// Rows as the print sink writes them.
pub(crate) fn texts(batches: &[StreamBatch]) -> Vec<String> {
    let io = Runtime::new().unwrap();
    let out = Arc::new(Mutex::new(Vec::new()));
    let sink = PrintSink::new(PrintFormat::Changelog).to(PrintTarget::Writer(Arc::clone(&out) as _));
    let mut writer = sink.create_writer(context_of(&io, 0, 1)).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    let text = String::from_utf8(out.lock().unwrap().clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// An INSERT of all of the table's columns.
pub(crate) fn insert(table: &CatalogTable) -> SinkSpec {
    SinkSpec {
        table: table.clone(),
        schema: Schema {
            fields: physical_fields(table),
        },
        changelog: ChangelogMode::ALL,
        metadata: Vec::new(),
        overwrite: false,
        static_partition: BTreeMap::new(),
    }
}
