//! Checkpoints of all subtasks, cut anew for other subtasks.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::UInt32Type;
use thalweg_state::{
    ListDistribution, ListSnapshot, OperatorSnapshot, RestoredList, RestoredState, RestoredTable,
    TableDescriptor, TableSnapshot,
};
use thalweg_types::key_hash::hash_rows;
use thalweg_types::{KeyGroupRange, StreamBatch};

use crate::OperatorContext;

pub(super) fn hashes(batch: &StreamBatch, columns: &[usize]) -> UInt64Array {
    let columns: Vec<ArrayRef> = columns
        .iter()
        .map(|column| Arc::clone(batch.rows.column(*column)))
        .collect();
    let mut hashes = Vec::new();
    hash_rows(&columns, &mut hashes).unwrap();
    hashes.into()
}

/// What all subtasks gave for a checkpoint.
#[derive(Default)]
pub(super) struct Snapshots {
    taken: bool,
    tables: Vec<TableSnapshot>,
    lists: Vec<ListSnapshot>,
}

impl Snapshots {
    pub(super) fn add(&mut self, snapshot: OperatorSnapshot) {
        self.taken = true;
        self.tables.extend(snapshot.tables);
        self.lists.extend(snapshot.lists);
    }

    pub(super) fn share_of(&self, context: &OperatorContext) -> RestoredState {
        if !self.taken {
            return RestoredState::default();
        }
        let mut tables: Vec<(TableDescriptor, Vec<RecordBatch>)> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for table in &self.tables {
            let place = *places.entry(&table.descriptor.name).or_insert_with(|| {
                tables.push((TableDescriptor::clone(&table.descriptor), Vec::new()));
                tables.len() - 1
            });
            tables[place].1.extend(rows_in(table, context.key_groups));
        }
        let tables = tables.into_iter().map(|(descriptor, rows)| RestoredTable {
            descriptor,
            rows: Box::new(rows.into_iter().map(Ok)),
        });
        let mut lists: Vec<RestoredList> = Vec::new();
        for list in &self.lists {
            if lists.iter().any(|known| known.name == list.name) {
                continue;
            }
            let all = self.lists.iter().filter(|other| other.name == list.name);
            lists.push(RestoredList {
                name: list.name.clone(),
                distribution: list.distribution,
                items: match list.distribution {
                    ListDistribution::Union => all.map(|list| list.items.clone()).collect(),
                    ListDistribution::Broadcast => vec![list.items.clone()],
                    ListDistribution::Split => all.map(|list| in_turn(&list.items, context)).collect(),
                },
            });
        }
        RestoredState {
            checkpoint_id: 1,
            tables: tables.collect(),
            lists,
            ..RestoredState::default()
        }
    }
}

/// The rows of a full snapshot that belong to these key groups: slices of batches, as those that are read from files.
fn rows_in(table: &TableSnapshot, groups: KeyGroupRange) -> Vec<RecordBatch> {
    let schema = table.descriptor.row_schema();
    let pieces = table.changes.iter().map(|batch| {
        let key_groups = batch.column(0).as_primitive::<UInt32Type>();
        let is_kept = |row: &u32| groups.contains(key_groups.value(*row as usize));
        let (kept, others): (Vec<u32>, Vec<u32>) = (0..batch.num_rows() as u32).partition(is_kept);
        let (before, behind) = others.split_at(others.len() / 2);
        let order = [before, &kept, behind].concat();
        let whole = take_record_batch(batch, &UInt32Array::from(order)).unwrap();
        let kept = whole.slice(before.len(), kept.len());
        let columns = kept.columns();
        let columns = columns[1..2].iter().chain(&columns[3..]).cloned().collect();
        RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()
    });
    pieces.collect()
}

fn in_turn(items: &RecordBatch, context: &OperatorContext) -> RecordBatch {
    let mine = (0..items.num_rows() as u32).filter(|row| row % context.parallelism == context.subtask);
    take_record_batch(items, &UInt32Array::from_iter_values(mine)).unwrap()
}
