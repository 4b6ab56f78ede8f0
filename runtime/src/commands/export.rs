//! `thalweg state export`: an operator's state as Parquet files, without a cluster.
//!
//! ```text
//!   snapshot --> operator, by uid --> its states, one or all --batches, on a thread--> NAME.parquet
//! ```
//!
//! Invariants: an output that exists is never touched; a file is there under its name only if it is whole; memory holds
//! one row group and a few blocks of the snapshot.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use tempfile::NamedTempFile;
use thalweg_jobmanager::snapshot;
use thalweg_proto::state::v1::{OperatorState, SnapshotMetadata};
use thalweg_state::{ExportedState, SnapshotStore, StateKind};
use thalweg_storage::FileSystems;
use thalweg_types::config::Configuration;

use super::print;
use super::state::absolute;
use crate::cli::ExportArguments;

/// A row group is closed at about this size.
const ROW_GROUP_BYTES: usize = 32 << 20;
/// How alike a name must be to be offered, from 0 to 1.
const ALIKE: f64 = 0.7;

/// Writes the state of one operator.
pub(crate) async fn run(
    configuration: &Configuration,
    arguments: &ExportArguments,
) -> anyhow::Result<ExitCode> {
    let file_systems = FileSystems::new(configuration.clone());
    let snapshot = snapshot::open(&file_systems, &absolute(&arguments.path)?).await?;
    let operator = find_operator(&snapshot.metadata, &arguments.operator)?;
    if let Some(name) = &arguments.state {
        check_state(operator, name)?;
    }
    let store = SnapshotStore::new(file_systems);
    let states = store
        .export(operator, snapshot.base(), arguments.key_groups)
        .await?;
    let wanted = |state: &ExportedState| arguments.state.as_ref().is_none_or(|name| *name == state.name);
    let states: Vec<ExportedState> = states.into_iter().filter(wanted).collect();
    ensure!(
        !states.is_empty(),
        "{} has nothing stored: no rows, no items",
        match &arguments.state {
            Some(name) => format!("state {name:?} of operator {}", in_words(operator)),
            None => format!("operator {}", in_words(operator)),
        }
    );
    let states = with_files(states, &arguments.output)?;
    let written = tokio::task::spawn_blocking(move || {
        let written = states.into_iter().map(|(path, state)| write(&path, state));
        written.collect::<anyhow::Result<Vec<String>>>()
    });
    print(&written.await??.concat())
}

/// By uid, or by id or name where there is none.
fn find_operator<'a>(metadata: &'a SnapshotMetadata, wanted: &str) -> anyhow::Result<&'a OperatorState> {
    let by = |of: fn(&OperatorState) -> &str| -> Vec<&OperatorState> {
        let same = |operator: &&OperatorState| of(operator) == wanted;
        metadata.operators.iter().filter(same).collect()
    };
    let found = [
        by(|operator| &operator.uid),
        by(|operator| &operator.operator_id),
        by(|operator| &operator.name),
    ];
    match found.iter().find(|found| !found.is_empty()).map(Vec::as_slice) {
        Some([one]) => Ok(one),
        Some(several) => {
            let ids = several.iter().map(|operator| operator.operator_id.as_str());
            bail!(
                "{} operators are called {wanted:?}: name one by its id: {}",
                several.len(),
                ids.collect::<Vec<_>>().join(", ")
            )
        }
        None => {
            let names = metadata
                .operators
                .iter()
                .map(|operator| match operator.uid.as_str() {
                    "" => operator.name.as_str(),
                    uid => uid,
                });
            bail!(
                "the snapshot has no operator {wanted:?}{}",
                what_there_is(wanted, &names.collect::<Vec<_>>())
            )
        }
    }
}

/// What is stored says what there is; a state that is empty is known by the metadata alone.
fn check_state(operator: &OperatorState, wanted: &str) -> anyhow::Result<()> {
    let tables = operator.tables.iter().map(|table| table.name.as_str());
    let lists = operator.subtasks.iter().flat_map(|subtask| &subtask.lists);
    let names: BTreeSet<&str> = tables.chain(lists.map(|list| list.name.as_str())).collect();
    ensure!(
        names.contains(wanted),
        "operator {} has no state {wanted:?}{}",
        in_words(operator),
        what_there_is(wanted, &names.into_iter().collect::<Vec<_>>())
    );
    Ok(())
}

fn in_words(operator: &OperatorState) -> String {
    match operator.uid.as_str() {
        "" => format!("{:?}", operator.name),
        uid => format!("{:?} (uid {uid:?})", operator.name),
    }
}

/// `: did you mean "a"? There is "a", "b"`
fn what_there_is(wanted: &str, names: &[&str]) -> String {
    if names.is_empty() {
        return ": it has none".to_owned();
    }
    let likeness = |name: &&str| strsim::jaro_winkler(wanted, name);
    let nearest = names
        .iter()
        .copied()
        .max_by(|left, right| likeness(left).total_cmp(&likeness(right)));
    let offered = match nearest.filter(|name| likeness(name) >= ALIKE) {
        Some(name) => format!("did you mean {name:?}? "),
        None => String::new(),
    };
    let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    format!(": {offered}There is {}", names.join(", "))
}

/// Each state with the file that it goes to, none of which exists.
fn with_files(states: Vec<ExportedState>, output: &Path) -> anyhow::Result<Vec<(PathBuf, ExportedState)>> {
    let paths = match output.extension().is_some_and(|extension| extension == "parquet") {
        true => {
            let names: Vec<&str> = states.iter().map(|state| state.name.as_str()).collect();
            ensure!(
                names.len() == 1,
                "the operator has {} states, {}, and a file takes one: choose it by --state, or let --output be a folder",
                names.len(),
                names.join(", ")
            );
            vec![output.to_owned()]
        }
        false => {
            let mut used = BTreeSet::new();
            states
                .iter()
                .map(|state| output.join(file_name(state, &mut used)))
                .collect()
        }
    };
    for path in &paths {
        ensure!(!path.exists(), "{} exists already", path.display());
    }
    Ok(paths.into_iter().zip(states).collect())
}

/// The state's name, with what a file's name can't have left out.
fn file_name(state: &ExportedState, used: &mut BTreeSet<String>) -> String {
    let allowed = |letter: char| match letter {
        '/' | '\\' | '\0' => '_',
        other => other,
    };
    let name: String = state.name.chars().map(allowed).collect();
    let name = match name.trim_start_matches('.') {
        "" => "state".to_owned(),
        name => name.to_owned(),
    };
    let mut number = 1;
    loop {
        let file = match number {
            1 => format!("{name}.parquet"),
            _ => format!("{name}-{number}.parquet"),
        };
        if used.insert(file.clone()) {
            return file;
        }
        number += 1;
    }
}

/// Writes one state; what there is to say about it.
fn write(path: &Path, state: ExportedState) -> anyhow::Result<String> {
    let failed = || format!("state {:?} can't be written to {}", state.name, path.display());
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).with_context(failed)?;
    let mut file = NamedTempFile::new_in(folder).with_context(failed)?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(format!("thalweg {}", env!("CARGO_PKG_VERSION")))
        .build();
    let writer = ArrowWriter::try_new(&mut file, state.schema.clone(), Some(properties));
    let mut writer = writer.with_context(failed)?;
    let mut rows = 0;
    for batch in state.rows {
        let batch = batch?;
        rows += batch.num_rows();
        writer.write(&batch).with_context(failed)?;
        if writer.in_progress_size() >= ROW_GROUP_BYTES {
            writer.flush().with_context(failed)?;
        }
    }
    writer.close().with_context(failed)?;
    file.as_file().sync_all().with_context(failed)?;
    // A temporary file is for its owner only; this one is as any other.
    let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644);
    file.as_file().set_permissions(mode).with_context(failed)?;
    file.persist_noclobber(path)
        .map_err(|error| error.error)
        .with_context(failed)?;
    let what = match state.kind {
        StateKind::Keyed(kind) => format!("{kind} state {}: {rows} rows", state.name),
        StateKind::List => format!("list {}: {rows} items", state.name),
    };
    Ok(format!("{what} -> {}\n", path.display()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
    use arrow::compute::cast;
    use arrow::datatypes::{DataType, Field, Int32Type, IntervalUnit, Schema, TimeUnit};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    fn state(columns: Vec<(Field, ArrayRef)>) -> ExportedState {
        let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
        let schema = Arc::new(Schema::new(fields));
        let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
        ExportedState {
            name: "all".to_owned(),
            kind: StateKind::Keyed("value"),
            schema,
            rows: Box::new([Ok(batch.clone()), Ok(batch)].into_iter()),
        }
    }

    /// Three numbers as this type.
    fn numbers(to: &DataType) -> ArrayRef {
        let numbers: ArrayRef = Arc::new(arrow::array::Int32Array::from(vec![Some(1), None, Some(3)]));
        cast(&numbers, to).unwrap()
    }

    #[test]
    fn every_type_that_state_can_have_comes_back() {
        let item = Arc::new(Field::new("item", DataType::Int32, true));
        let row = DataType::Struct(vec![Field::new("a", DataType::Utf8, true)].into());
        let entries = Field::new(
            "entries",
            DataType::Struct(
                vec![
                    Field::new("keys", DataType::Utf8, false),
                    Field::new("values", DataType::Int64, true),
                ]
                .into(),
            ),
            false,
        );
        let cast = [
            DataType::Boolean,
            DataType::Int8,
            DataType::Int16,
            DataType::Int32,
            DataType::Int64,
            DataType::UInt32,
            DataType::UInt64,
            DataType::Float32,
            DataType::Float64,
            DataType::Utf8,
            DataType::LargeUtf8,
            DataType::Utf8View,
            DataType::Decimal128(12, 2),
            DataType::Decimal256(40, 3),
            DataType::Date32,
            DataType::Time32(TimeUnit::Millisecond),
            DataType::Timestamp(TimeUnit::Second, None),
            DataType::Timestamp(TimeUnit::Millisecond, None),
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            DataType::Timestamp(TimeUnit::Nanosecond, None),
        ];
        let others = [
            DataType::Binary,
            DataType::FixedSizeBinary(4),
            DataType::List(item),
            row,
            DataType::Map(Arc::new(entries), false),
        ];
        let mut columns: Vec<(Field, ArrayRef)> = Vec::new();
        for to in &cast {
            columns.push((Field::new(format!("{to}"), to.clone(), true), numbers(to)));
        }
        for to in &others {
            columns.push((
                Field::new(format!("{to}"), to.clone(), true),
                new_null_array(to, 3),
            ));
        }
        let words: arrow::array::DictionaryArray<Int32Type> = ["a", "b", "a"].into_iter().collect();
        columns.push((
            Field::new("words", words.data_type().clone(), true),
            Arc::new(words),
        ));
        let expected: Vec<ArrayRef> = columns.iter().map(|(_, column)| column.clone()).collect();

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/all.parquet");
        let told = write(&path, state(columns)).unwrap();
        assert!(told.starts_with("value state all: 6 rows -> "), "{told}");
        let file = std::fs::File::open(&path).unwrap();
        let mut reader = ParquetRecordBatchReaderBuilder::try_new(file)
            .unwrap()
            .build()
            .unwrap();
        let batch = reader.next().unwrap().unwrap();
        assert_eq!(batch.num_rows(), 6);
        for (expected, found) in expected.iter().zip(batch.columns()) {
            let found = found.slice(3, 3);
            assert_eq!(found.to_data(), expected.to_data(), "{}", expected.data_type());
        }
        let left: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1);
    }

    #[test]
    fn a_type_without_a_form_in_parquet_is_told_with_the_state_and_leaves_nothing() {
        let interval = DataType::Interval(IntervalUnit::MonthDayNano);
        let column = new_null_array(&interval, 3);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("all.parquet");
        let error = write(&path, state(vec![(Field::new("i", interval, true), column)])).unwrap_err();
        assert!(
            format!("{error:#}").starts_with("state \"all\" can't be written to "),
            "{error:#}"
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn rows_that_can_not_be_read_leave_no_file() {
        let damaged = ExportedState {
            rows: Box::new(std::iter::once(Err(thalweg_state::StateError::Damaged {
                file: "shared/x".to_owned(),
                message: "cut off".to_owned(),
            }))),
            ..state(vec![(
                Field::new("n", DataType::Int32, true),
                numbers(&DataType::Int32),
            )])
        };
        let folder = tempfile::tempdir().unwrap();
        let error = write(&folder.path().join("all.parquet"), damaged).unwrap_err();
        assert!(error.to_string().contains("shared/x"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn files_have_the_states_names_without_what_a_name_can_not_have() {
        let name = |name: &str, used: &mut BTreeSet<String>| {
            let state = ExportedState {
                name: name.to_owned(),
                ..state(vec![(
                    Field::new("n", DataType::Int32, true),
                    numbers(&DataType::Int32),
                )])
            };
            file_name(&state, used)
        };
        let mut used = BTreeSet::new();
        assert_eq!(name("in windows", &mut used), "in windows.parquet");
        assert_eq!(name("../../etc/x", &mut used), "_.._etc_x.parquet");
        assert_eq!(name("in windows", &mut used), "in windows-2.parquet");
        assert_eq!(name("..", &mut used), "state.parquet");
    }

    #[test]
    fn an_unknown_name_is_told_what_there_is_and_what_is_alike() {
        assert_eq!(
            what_there_is("count", &["counts", "lines"]),
            ": did you mean \"counts\"? There is \"counts\", \"lines\""
        );
        assert_eq!(what_there_is("xyz", &["counts"]), ": There is \"counts\"");
        assert_eq!(what_there_is("xyz", &[]), ": it has none");
    }

    #[test]
    fn operators_are_found_by_uid_first_and_a_name_of_several_is_refused_with_their_ids() {
        let operator = |id: char, uid: &str, name: &str| OperatorState {
            operator_id: id.to_string().repeat(32),
            uid: uid.to_owned(),
            name: name.to_owned(),
            ..OperatorState::default()
        };
        let metadata = SnapshotMetadata {
            operators: vec![
                operator('a', "map", "counts"),
                operator('b', "counts", "Count"),
                operator('c', "", "Count"),
            ],
            ..SnapshotMetadata::default()
        };
        let found = |wanted: &str| find_operator(&metadata, wanted).map(|operator| operator.uid.as_str());
        assert_eq!(found("counts").unwrap(), "counts");
        assert_eq!(found(&"c".repeat(32)).unwrap(), "");
        let error = found("Count").unwrap_err().to_string();
        assert!(
            error.contains(&"b".repeat(32)) && error.contains(&"c".repeat(32)),
            "{error}"
        );
        let error = found("conts").unwrap_err().to_string();
        assert!(
            error.contains("did you mean \"counts\"? There is \"map\", \"counts\", \"Count\""),
            "{error}"
        );
    }
}
