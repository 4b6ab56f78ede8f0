//! Runs against a naive twin: what is restored is what the twin holds, whatever the cuts, merges and parallelisms.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int8Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::array::{UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, UInt64Type};
use bytes::Bytes;
use proptest::prelude::*;
use thalweg_types::KeyGroupRange;
use thalweg_types::key_group::key_group;
use thalweg_types::key_hash::hash_rows;

use super::Scope;
use super::encode::encode_run;
use super::merge::{Deletes, TableMerge, merge_into_run, tables_of};
use crate::file::reader::StateFileReader;
use crate::file::source::Source;
use crate::{ChangeKind, StoredRows, TableDescriptor, TableKind, TableSnapshot};

const MAX_PARALLELISM: u32 = 13;

/// Two key columns, one of which may be null.
type Key = (Option<String>, i64);
/// By table: (key, sub-key) -> value. A table without sub-keys or values uses 0 and "".
type Twin = [BTreeMap<(Key, i32), String>; 3];

/// What happened to a key since the last cut: whether all was deleted first, then rows.
#[derive(Default, Clone)]
struct Dirty {
    delete_key: bool,
    rows: BTreeMap<i32, Option<String>>,
}

/// One table's changes since the last cut.
type Changes = BTreeMap<Key, Dirty>;

fn field(name: &str, data_type: DataType) -> Arc<Field> {
    Arc::new(Field::new(name, data_type, name == "word"))
}

/// A value, a map and timers, all by the same key.
fn table(number: usize) -> TableDescriptor {
    let (name, kind) = [
        ("count", TableKind::Value),
        ("names", TableKind::Map),
        ("timers", TableKind::Timers),
    ][number];
    TableDescriptor {
        name: name.to_owned(),
        kind,
        key: vec![field("word", DataType::Utf8), field("id", DataType::Int64)],
        sub_key: match number {
            0 => vec![],
            _ => vec![field("sub", DataType::Int32)],
        },
        value: match number {
            2 => vec![],
            _ => vec![field("text", DataType::Utf8)],
        },
        ttl: None,
    }
}

fn keys_as_columns<'a>(keys: impl Iterator<Item = &'a Key> + Clone) -> [ArrayRef; 2] {
    [
        Arc::new(StringArray::from_iter(keys.clone().map(|key| key.0.clone()))),
        Arc::new(Int64Array::from_iter_values(keys.map(|key| key.1))),
    ]
}

fn group_of(key: &Key) -> u32 {
    let mut hashes = Vec::new();
    hash_rows(&keys_as_columns([key].into_iter()), &mut hashes).unwrap();
    key_group(hashes[0], MAX_PARALLELISM)
}

/// The changes of the keys in these groups, in an order of no meaning but for DeleteKey, in batches of some rows.
fn table_snapshot(number: usize, changes: &Changes, range: KeyGroupRange) -> TableSnapshot {
    let descriptor = Arc::new(table(number));
    let mut rows: Vec<(&Key, i32, i8, Option<&str>)> = Vec::new();
    for (key, dirty) in changes
        .iter()
        .rev()
        .filter(|(key, _)| range.contains(group_of(key)))
    {
        let upserts = dirty.rows.iter().rev().map(|(sub, value)| match value {
            Some(value) => (key, *sub, ChangeKind::Upsert as i8, Some(value.as_str())),
            None => (key, *sub, ChangeKind::Delete as i8, None),
        });
        if dirty.delete_key {
            rows.push((key, 0, ChangeKind::DeleteKey as i8, None));
        }
        rows.extend(upserts);
    }
    let batches = rows.chunks(7).map(|rows| {
        let keys = keys_as_columns(rows.iter().map(|row| row.0));
        let mut hashes = Vec::new();
        hash_rows(&keys, &mut hashes).unwrap();
        let groups = hashes.iter().map(|hash| key_group(*hash, MAX_PARALLELISM));
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from_iter_values(groups)),
            Arc::new(UInt64Array::from(hashes.clone())),
            Arc::new(Int8Array::from_iter_values(rows.iter().map(|row| row.2))),
        ];
        columns.extend(keys);
        if number > 0 {
            columns
                .push(Arc::new(Int32Array::from_iter(rows.iter().map(|row| {
                    (row.2 != ChangeKind::DeleteKey as i8).then_some(row.1)
                }))));
        }
        if number < 2 {
            columns.push(Arc::new(StringArray::from_iter(rows.iter().map(|row| row.3))));
        }
        RecordBatch::try_new(descriptor.change_schema(), columns).unwrap()
    });
    TableSnapshot {
        changes: batches.collect(),
        stored: StoredRows::default(),
        descriptor: Arc::clone(&descriptor),
    }
}

fn scope(range: KeyGroupRange) -> Scope {
    Scope {
        block_bytes: 200,
        sort_rows: 10,
        batch_rows: 9,
        ..Scope::new(range, MAX_PARALLELISM)
    }
}

fn open(content: Vec<u8>) -> StateFileReader {
    let source = Source::Memory {
        name: "run".to_owned(),
        content: Bytes::from(content),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(StateFileReader::open(source)).unwrap()
}

/// Rows of one table as the twin keeps them; a row that comes twice fails.
fn restored(number: usize, runs: &[StateFileReader], range: KeyGroupRange) -> BTreeMap<(Key, i32), String> {
    let mut rows = BTreeMap::new();
    let name = table(number).name;
    let Some(descriptor) = tables_of(runs).into_iter().find(|table| table.name == name) else {
        return rows;
    };
    let merge = TableMerge::new(&descriptor, runs, &scope(range), Deletes::Drop).unwrap();
    for batch in merge.into_rows() {
        let batch = batch.unwrap();
        let column = |index: usize| batch.column(index);
        let mut hashes = Vec::new();
        hash_rows(&batch.columns()[1..3], &mut hashes).unwrap();
        assert_eq!(column(0).as_primitive::<UInt64Type>().values()[..], hashes[..]);
        for row in 0..batch.num_rows() {
            let words = column(1).as_string::<i32>();
            let word = words.is_valid(row).then(|| words.value(row).to_owned());
            let key = (word, column(2).as_primitive::<Int64Type>().value(row));
            let sub = match number {
                0 => 0,
                _ => column(3).as_primitive::<Int32Type>().value(row),
            };
            let text = match number {
                2 => String::new(),
                _ => batch
                    .columns()
                    .last()
                    .unwrap()
                    .as_string::<i32>()
                    .value(row)
                    .to_owned(),
            };
            assert_eq!(rows.insert((key, sub), text), None, "a row came twice");
        }
    }
    rows
}

/// One old subtask: its runs, oldest first.
struct Subtask {
    range: KeyGroupRange,
    runs: Vec<StateFileReader>,
}

struct World {
    twin: Twin,
    changes: [Changes; 3],
    subtasks: Vec<Subtask>,
}

impl World {
    fn new(parallelism: u32) -> Self {
        let mut world = Self {
            twin: Twin::default(),
            changes: Default::default(),
            subtasks: Vec::new(),
        };
        world.start(parallelism);
        world
    }

    /// Subtasks without runs.
    fn start(&mut self, parallelism: u32) {
        self.subtasks = (0..parallelism)
            .map(|index| Subtask {
                range: KeyGroupRange::of_subtask(index, parallelism, MAX_PARALLELISM),
                runs: Vec::new(),
            })
            .collect();
    }

    fn put(&mut self, number: usize, key: Key, sub: i32, value: Option<String>) {
        let (sub, value) = match number {
            0 => (0, value),
            1 => (sub, value),
            _ => (sub, value.map(|_| String::new())),
        };
        match &value {
            Some(value) => self.twin[number].insert((key.clone(), sub), value.clone()),
            None => self.twin[number].remove(&(key.clone(), sub)),
        };
        self.changes[number]
            .entry(key)
            .or_default()
            .rows
            .insert(sub, value);
    }

    fn delete_key(&mut self, number: usize, key: Key) {
        self.twin[number].retain(|(of, _), _| *of != key);
        let dirty = Dirty {
            delete_key: true,
            ..Dirty::default()
        };
        self.changes[number].insert(key, dirty);
    }

    fn checkpoint(&mut self, full: bool) {
        if full {
            self.changes = std::array::from_fn(|number| {
                let mut all = Changes::new();
                for ((key, sub), value) in &self.twin[number] {
                    all.entry(key.clone())
                        .or_default()
                        .rows
                        .insert(*sub, Some(value.clone()));
                }
                all
            });
        }
        for subtask in &mut self.subtasks {
            let tables: Vec<TableSnapshot> = (0..3)
                .map(|number| table_snapshot(number, &self.changes[number], subtask.range))
                .collect();
            let mut file = Vec::new();
            let summary = encode_run(&tables, &scope(subtask.range), &mut file).unwrap();
            assert_eq!(summary.bytes, file.len() as u64);
            if full {
                subtask.runs.clear();
            }
            subtask.runs.push(open(file));
        }
        self.changes = Default::default();
    }

    /// Merges neighbouring runs of every subtask.
    fn merge(&mut self, from: usize, count: usize) {
        for subtask in &mut self.subtasks {
            let from = from.min(subtask.runs.len());
            let to = (from + count).min(subtask.runs.len());
            if from == to {
                continue;
            }
            let deletes = if from == 0 { Deletes::Drop } else { Deletes::Keep };
            let mut file = Vec::new();
            merge_into_run(&subtask.runs[from..to], &scope(subtask.range), deletes, &mut file).unwrap();
            subtask.runs.splice(from..to, [open(file)]);
        }
    }

    /// What subtasks of another parallelism would be restored with is what the twin held at the last checkpoint.
    fn rescale(&mut self, parallelism: u32) {
        self.checkpoint(false);
        for index in 0..parallelism {
            let range = KeyGroupRange::of_subtask(index, parallelism, MAX_PARALLELISM);
            for number in 0..3 {
                let mut found = BTreeMap::new();
                for subtask in &self.subtasks {
                    let wanted = KeyGroupRange {
                        start: range.start.max(subtask.range.start),
                        end: range.end.min(subtask.range.end),
                    };
                    if wanted.start <= wanted.end {
                        found.extend(restored(number, &subtask.runs, wanted));
                    }
                }
                let mut expected = self.twin[number].clone();
                expected.retain(|(key, _), _| range.contains(group_of(key)));
                assert_eq!(found, expected);
            }
        }
        self.start(parallelism);
        self.checkpoint(true);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(usize, Key, i32, Option<String>),
    DeleteKey(usize, Key),
    Checkpoint(bool),
    Merge(usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || (prop::option::of("[ab]{0,2}"), 0..6_i64);
    let step = prop_oneof![
        30 => (0..3_usize, key(), 0..4_i32, prop::option::weighted(0.7, "[x-z]{0,20}"))
            .prop_map(|(table, key, sub, value)| Step::Put(table, key, sub, value)),
        4 => (0..3_usize, key()).prop_map(|(table, key)| Step::DeleteKey(table, key)),
        4 => prop::bool::weighted(0.1).prop_map(Step::Checkpoint),
        2 => (0..4_usize, 1..5_usize).prop_map(|(from, count)| Step::Merge(from, count)),
    ];
    prop::collection::vec(step, 0..250)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_cuts_merges_and_parallelisms_restore_what_the_twin_holds(
        parts in prop::collection::vec(steps(), 3),
    ) {
        let mut world = World::new(2);
        for (steps, parallelism) in parts.into_iter().zip([5, 3, 1]) {
            for step in steps {
                match step {
                    Step::Put(table, key, sub, value) => world.put(table, key, sub, value),
                    Step::DeleteKey(table, key) => world.delete_key(table, key),
                    Step::Checkpoint(full) => world.checkpoint(full),
                    Step::Merge(from, count) => world.merge(from, count),
                }
            }
            world.rescale(parallelism);
        }
    }
}

fn whole() -> KeyGroupRange {
    KeyGroupRange {
        start: 0,
        end: MAX_PARALLELISM - 1,
    }
}

#[test]
fn a_base_without_older_runs_keeps_no_deletes() {
    let mut world = World::new(1);
    for id in 0..40 {
        world.put(1, (None, id), 1, Some("x".repeat(30)));
    }
    world.checkpoint(true);
    for id in 0..40 {
        world.delete_key(1, (None, id));
    }
    world.checkpoint(false);
    world.merge(0, 2);
    let run = &world.subtasks[0].runs[0];
    let table = &run.footer().tables[run.table_of("names").unwrap()];
    assert_eq!((table.rows, table.deletes), (0, 0));
    assert!(run.footer().blocks.is_empty());
}

#[test]
fn blocks_are_cut_by_size_and_key_groups_and_a_range_reads_only_its_own() {
    let mut world = World::new(1);
    for id in 0..200 {
        world.put(0, (None, id), 0, Some("value".to_owned()));
    }
    world.checkpoint(true);
    let run = &world.subtasks[0].runs[0];
    let blocks = &run.footer().blocks;
    assert!(blocks.len() > MAX_PARALLELISM as usize);
    assert!(
        blocks
            .windows(2)
            .all(|pair| pair[0].last_group <= pair[1].first_group)
    );
    let two = KeyGroupRange { start: 4, end: 5 };
    let mut reader = run.blocks(run.table_of("count").unwrap(), two, 1 << 20).unwrap();
    let mut read = 0;
    while let Some(block) = reader.next() {
        read += block.unwrap().0.num_rows();
    }
    assert!(read < 60, "{read} of 200 rows were read for 2 of 13 key groups");
    let rows = restored(0, std::slice::from_ref(run), two);
    let expected = (0..200).filter(|id| two.contains(group_of(&(None, *id)))).count();
    assert_eq!(rows.len(), expected);
}

#[test]
fn the_index_counts_rows_by_key_group() {
    let mut world = World::new(1);
    for id in 0..100 {
        world.put(1, (None, id), 0, Some(String::new()));
    }
    world.delete_key(1, (None, 0));
    world.checkpoint(false);
    let run = &world.subtasks[0].runs[0];
    let table = &run.footer().tables[run.table_of("names").unwrap()];
    assert_eq!((table.rows, table.deletes), (99, 1));
    let mut expected = BTreeMap::new();
    for id in 1..100 {
        *expected.entry(group_of(&(None, id))).or_insert(0) += 1;
    }
    assert_eq!(table.rows_by_group().collect::<BTreeMap<_, _>>(), expected);
}

#[test]
fn a_row_of_a_foreign_key_group_is_refused_by_the_tables_name() {
    let changes = Changes::from([((None, 1), Dirty::default())]);
    let mut changes = changes;
    changes.values_mut().for_each(|dirty| dirty.delete_key = true);
    let snapshot = table_snapshot(0, &changes, whole());
    let group = group_of(&(None, 1));
    let other = KeyGroupRange {
        start: (group + 1) % MAX_PARALLELISM,
        end: (group + 1) % MAX_PARALLELISM,
    };
    let error = encode_run(&[snapshot], &scope(other), &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("\"count\""), "{error}");
}
