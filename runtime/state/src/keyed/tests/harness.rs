//! A keyed state with every kind of table, and the store of rows that its snapshots build.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, AsArray, Int8Array, Int64Array, RecordBatch, StringArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, FieldRef, Int8Type, Int64Type, UInt32Type};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use futures::FutureExt;
use thalweg_types::KeyGroupRange;
use thalweg_types::key_group::key_group;
use thalweg_types::key_hash::hash_rows;

use crate::file::reader::StateFileReader;
use crate::file::source::Source;
use crate::run::Scope;
use crate::run::encode::encode_snapshot;
use crate::*;

pub(super) const MAX_PARALLELISM: u32 = 128;
pub(super) const ALL: KeyGroupRange = KeyGroupRange { start: 0, end: 127 };
/// Time-to-live of the tables that have one.
pub(super) const TTL_MS: i64 = 10;

pub(super) fn config(key_groups: KeyGroupRange, memory_bytes: usize) -> KeyedStateConfig {
    KeyedStateConfig {
        operator: "Test".into(),
        key: vec![Arc::new(Field::new("key", DataType::Utf8, true))],
        key_groups,
        max_parallelism: MAX_PARALLELISM,
        settings: Arc::new(StateSettings::in_memory(memory_bytes)),
    }
}

pub(super) fn empty(memory_bytes: usize) -> KeyedState {
    KeyedState::new(config(ALL, memory_bytes)).unwrap()
}

pub(super) fn ttl(update: TtlUpdate) -> Option<StateTtl> {
    Some(StateTtl {
        time: Duration::from_millis(TTL_MS as u64),
        update,
        visibility: TtlVisibility::NeverReturnExpired,
    })
}

/// The columns and hashes of text keys.
pub(super) fn keys(texts: &[&str]) -> (Vec<ArrayRef>, UInt64Array) {
    let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(texts.to_vec()))];
    let mut hashes = Vec::new();
    hash_rows(&columns, &mut hashes).unwrap();
    (columns, UInt64Array::from(hashes))
}

pub(super) fn group_of(key: &str) -> u32 {
    key_group(keys(&[key]).1.value(0), MAX_PARALLELISM)
}

/// Begins a batch of these keys.
pub(super) fn begin(state: &mut KeyedState, texts: &[&str], now_ms: i64) -> Vec<Slot> {
    let (columns, hashes) = keys(texts);
    let mut slots = Vec::new();
    state.begin_batch(&columns, &hashes, now_ms, &mut slots).unwrap();
    slots
}

/// One BIGINT column.
pub(super) struct Numbers(ColumnStore);

impl SlotColumn for Numbers {
    fn fields(&self) -> Vec<FieldRef> {
        vec![Arc::new(Field::new("number", DataType::Int64, false))]
    }
    fn resize(&mut self, count: usize) {
        self.0.resize(count);
    }
    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, ArrowError> {
        Ok(vec![self.0.gather(slots)?])
    }
    fn scatter(&mut self, slots: &[Slot], columns: &[ArrayRef]) -> Result<(), ArrowError> {
        self.0.scatter(slots, Arc::clone(&columns[0]))
    }
    fn clear(&mut self, slots: &[Slot]) {
        self.0.clear(slots);
    }
    fn memory_size(&self) -> usize {
        self.0.memory_size()
    }
    fn cleared_bytes(&self) -> usize {
        self.0.cleared_bytes()
    }
    fn give_back(&mut self) -> Result<(), ArrowError> {
        self.0.give_back()
    }
}

impl Numbers {
    pub(super) fn new() -> Self {
        Self(ColumnStore::new(DataType::Int64))
    }

    pub(super) fn set(&mut self, slot: Slot, number: i64) {
        let numbers = Arc::new(Int64Array::from(vec![number]));
        self.0.scatter(&[slot], numbers).unwrap();
    }

    pub(super) fn get(&self, slot: Slot) -> i64 {
        let numbers = self.0.gather(&[slot]).unwrap();
        numbers.as_primitive::<Int64Type>().value(0)
    }
}

/// A record inside of a record: a removed row has neither.
pub(super) type Nested = (i64, (String, Option<i64>));

/// Handles of one table of each kind.
#[derive(Clone, Copy)]
pub(super) struct Handles {
    pub(super) value: ValueHandle<(i64, Option<String>)>,
    pub(super) value_ttl: ValueHandle<String>,
    pub(super) value_read: ValueHandle<i64>,
    pub(super) list: ListHandle<String>,
    pub(super) list_ttl: ListHandle<i64>,
    pub(super) map: MapHandle<String, i64>,
    pub(super) map_ttl: MapHandle<i64, String>,
    pub(super) window: WindowHandle<Nested>,
    pub(super) window_list: WindowListHandle<String>,
    pub(super) column: ColumnHandle<Numbers>,
}

/// A process's folder for local state, in one of the test's.
pub(super) struct Disk {
    pub(super) folder: Arc<LocalFolder>,
    _base: tempfile::TempDir,
}

impl Disk {
    pub(super) fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        Self {
            folder: LocalFolder::of_process(base.path()).unwrap(),
            _base: base,
        }
    }

    /// State whose rows go to disk when it is larger than `resident_bytes` in memory.
    pub(super) fn settings(&self, memory_bytes: usize, resident_bytes: usize) -> StateSettings {
        StateSettings {
            exact_columns: false,
            memory_bytes,
            disk: Some(DiskSettings {
                folder: Arc::clone(&self.folder),
                resident_bytes,
                wait_bytes: resident_bytes.saturating_add(resident_bytes / 6),
            }),
            scratch: None,
        }
    }

    /// The same, but batches never wait for the disk.
    pub(super) fn settings_without_waiting(
        &self,
        memory_bytes: usize,
        resident_bytes: usize,
    ) -> StateSettings {
        let mut settings = self.settings(memory_bytes, resident_bytes);
        settings.disk.as_mut().unwrap().wait_bytes = usize::MAX;
        settings
    }

    pub(super) fn empty(&self, memory_bytes: usize, resident_bytes: usize) -> KeyedState {
        let settings = Arc::new(self.settings(memory_bytes, resident_bytes));
        let config = config(ALL, memory_bytes);
        KeyedState::new(KeyedStateConfig { settings, ..config }).unwrap()
    }
}

pub(super) fn full_set(key_groups: KeyGroupRange, settings: StateSettings) -> (KeyedState, Handles) {
    let config = config(key_groups, usize::MAX);
    let settings = Arc::new(settings);
    let mut state = KeyedState::new(KeyedStateConfig { settings, ..config }).unwrap();
    let write = ttl(TtlUpdate::OnCreateAndWrite);
    let read = ttl(TtlUpdate::OnReadAndWrite);
    let handles = Handles {
        value: state.register_value("value", None).unwrap(),
        value_ttl: state.register_value("value_ttl", write).unwrap(),
        value_read: state.register_value("value_read", read).unwrap(),
        list: state.register_list("list", None).unwrap(),
        list_ttl: state.register_list("list_ttl", write).unwrap(),
        map: state.register_map("map", None).unwrap(),
        map_ttl: state.register_map("map_ttl", write).unwrap(),
        window: state.register_window("window").unwrap(),
        window_list: state.register_window_list("window_list").unwrap(),
        column: state.register_columns("column", Numbers::new(), None).unwrap(),
    };
    (state, handles)
}

/// The changes of a snapshot, wherever they are.
pub(super) fn all_changes(tables: &[TableSnapshot]) -> Vec<TableSnapshot> {
    if tables.iter().all(|table| table.stored.is_empty()) {
        return tables.to_vec();
    }
    let mut content = Vec::new();
    encode_snapshot(tables, &Scope::new(ALL, MAX_PARALLELISM), &mut content).unwrap();
    let source = Source::Memory {
        name: "snapshot".to_owned(),
        content: content.into(),
    };
    let reader = StateFileReader::open(source).now_or_never().unwrap().unwrap();
    let changes = |descriptor: &Arc<TableDescriptor>, number: usize| {
        let mut blocks = reader.blocks(number, ALL, 1 << 20).unwrap();
        let mut changes = Vec::new();
        while let Some(block) = blocks.next() {
            let (batch, with_kinds) = block.unwrap();
            let mut columns = batch.columns().to_vec();
            if !with_kinds {
                let upserts = vec![ChangeKind::Upsert as i8; batch.num_rows()];
                columns.insert(0, Arc::new(Int8Array::from(upserts)));
            }
            let mut hashes = Vec::new();
            hash_rows(&columns[1..1 + descriptor.key.len()], &mut hashes).unwrap();
            let groups = hashes.iter().map(|hash| key_group(*hash, MAX_PARALLELISM));
            columns.insert(0, Arc::new(UInt32Array::from_iter_values(groups)));
            columns.insert(1, Arc::new(UInt64Array::from(hashes)));
            changes.push(RecordBatch::try_new(descriptor.change_schema(), columns).unwrap());
        }
        changes
    };
    let tables = reader.tables().iter().enumerate();
    tables
        .map(|(number, descriptor)| TableSnapshot {
            descriptor: Arc::clone(descriptor),
            changes: changes(descriptor, number),
            stored: StoredRows::default(),
        })
        .collect()
}

/// Rows by table, key and sub-key, as a reader of the snapshots' files would have them.
#[derive(Default, Clone)]
pub(super) struct Store {
    tables: BTreeMap<String, StoredTable>,
}

#[derive(Clone)]
struct StoredTable {
    descriptor: Arc<TableDescriptor>,
    /// By encoded key, then by encoded sub-key: a batch of the one row.
    rows: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, RecordBatch>>,
}

fn encode(columns: &[ArrayRef]) -> Vec<Vec<u8>> {
    if columns.is_empty() {
        return Vec::new();
    }
    let fields = columns
        .iter()
        .map(|column| SortField::new(column.data_type().clone()));
    let converter = RowConverter::new(fields.collect()).unwrap();
    let rows = converter.convert_columns(columns).unwrap();
    rows.iter().map(|row| row.data().to_vec()).collect()
}

fn group_of_row(row: &RecordBatch) -> u32 {
    row.column(0).as_primitive::<UInt32Type>().value(0)
}

impl Store {
    /// Takes a snapshot, and checks that it is well formed; how many rows changed.
    pub(super) fn apply(&mut self, full: bool, snapshots: &[TableSnapshot]) -> usize {
        let mut changes = 0;
        for TableSnapshot {
            descriptor,
            changes: batches,
            ..
        } in all_changes(snapshots)
        {
            let table = self.tables.entry(descriptor.name.clone());
            let table = table.or_insert_with(|| StoredTable {
                descriptor: Arc::clone(&descriptor),
                rows: BTreeMap::new(),
            });
            if full {
                table.rows.clear();
            }
            changes += batches.iter().map(RecordBatch::num_rows).sum::<usize>();
            let mut said = BTreeSet::new();
            for deletes in [true, false] {
                for batch in &batches {
                    table.apply(batch, deletes, &mut said);
                }
            }
        }
        changes
    }

    /// The rows of a key-group range, as they are restored.
    pub(super) fn restored(&self, key_groups: KeyGroupRange) -> RestoredState {
        let tables = self.tables.values().map(|table| {
            let schema = table.descriptor.row_schema();
            let rows = table.rows.values().flat_map(|rows| rows.values());
            let mut rows: Vec<&RecordBatch> = rows
                .filter(|row| key_groups.contains(group_of_row(row)))
                .collect();
            // As those of files: by key group, then by key.
            rows.sort_by_key(|row| group_of_row(row));
            let rows: Vec<RecordBatch> = rows
                .into_iter()
                .map(|row| {
                    let mut columns = row.columns().to_vec();
                    columns.remove(2);
                    columns.remove(0);
                    RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()
                })
                .collect();
            // Two batches a table, so that a key's rows may be in both.
            let batches: Vec<RecordBatch> = rows
                .chunks(rows.len().div_ceil(2).max(1))
                .map(|rows| arrow::compute::concat_batches(&schema, rows).unwrap())
                .collect();
            RestoredTable {
                descriptor: TableDescriptor::clone(&table.descriptor),
                rows: Box::new(batches.into_iter().map(Ok)),
            }
        });
        RestoredState {
            checkpoint_id: 1,
            tables: tables.collect(),
            ..RestoredState::default()
        }
    }

    /// The rows of a key-group range, as a store of its own.
    pub(super) fn part(&self, key_groups: KeyGroupRange) -> Self {
        let mut part = self.clone();
        for table in part.tables.values_mut() {
            let is_mine = |row: &RecordBatch| key_groups.contains(group_of_row(row));
            table
                .rows
                .retain(|_, rows| rows.values().next().is_some_and(is_mine));
        }
        part
    }

    /// Adds the rows of another key-group range.
    pub(super) fn merge(&mut self, other: Self) {
        for (name, table) in other.tables {
            match self.tables.get_mut(&name) {
                Some(mine) => mine.rows.extend(table.rows),
                None => {
                    self.tables.insert(name, table);
                }
            }
        }
    }

    /// How many rows a table has that are not expired at a time.
    pub(super) fn rows(&self, table: &str, now_ms: i64) -> usize {
        let table = &self.tables[table];
        let is_live = |row: &&RecordBatch| {
            let accessed = row.columns().last().unwrap().as_primitive_opt::<Int64Type>();
            table.descriptor.ttl.is_none() || accessed.unwrap().value(0) + TTL_MS > now_ms
        };
        let rows = table.rows.values().flat_map(|rows| rows.values());
        rows.filter(is_live).count()
    }
}

impl StoredTable {
    fn apply(&mut self, batch: &RecordBatch, deletes: bool, said: &mut BTreeSet<(Vec<u8>, Vec<u8>)>) {
        assert_eq!(batch.schema(), self.descriptor.change_schema());
        let (key, sub) = (3 + self.descriptor.key.len(), self.descriptor.sub_key.len());
        let keys = encode(&batch.columns()[3..key]);
        let sub_keys = encode(&batch.columns()[key..key + sub]);
        let kinds: &Int8Array = batch.column(2).as_primitive::<Int8Type>();
        let groups = batch.column(0).as_primitive::<UInt32Type>();
        let mut hashes = Vec::new();
        hash_rows(&batch.columns()[3..key], &mut hashes).unwrap();
        assert_eq!(
            batch.column(1).as_ref(),
            &UInt64Array::from(hashes.clone()) as &dyn Array
        );
        for row in 0..batch.num_rows() {
            assert_eq!(groups.value(row), key_group(hashes[row], MAX_PARALLELISM));
            let kind = kinds.value(row);
            if deletes != (kind == ChangeKind::DeleteKey as i8) {
                continue;
            }
            let key = keys[row].clone();
            if deletes {
                self.rows.remove(&key);
                continue;
            }
            let sub_key = sub_keys.get(row).cloned().unwrap_or_default();
            let is_first = said.insert((key.clone(), sub_key.clone()));
            assert!(is_first, "a row comes once in a snapshot");
            if kind == ChangeKind::Upsert as i8 {
                let rows = self.rows.entry(key).or_default();
                rows.insert(sub_key, batch.slice(row, 1));
            } else if let Some(rows) = self.rows.get_mut(&key) {
                rows.remove(&sub_key);
                if rows.is_empty() {
                    self.rows.remove(&key);
                }
            }
        }
    }
}
