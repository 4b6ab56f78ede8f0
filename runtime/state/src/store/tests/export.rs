//! What an export gives: the newest rows of all subtasks, deletes applied, under names of their own.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, UInt32Type};
use thalweg_proto::state::v1::{OperatorState, OperatorSubtaskState};
use thalweg_types::{Classify, FailureClass, KeyGroupRange};

use super::fixtures::{Fixture, MAX_PARALLELISM, changes, group_of, list, table_changes, whole};
use crate::{ExportedState, ListDistribution, StateError, StateKind, SubtaskChain};

fn operator(subtasks: Vec<OperatorSubtaskState>) -> OperatorState {
    OperatorState {
        name: "Counter".to_owned(),
        max_parallelism: MAX_PARALLELISM,
        parallelism: subtasks.len() as u32,
        subtasks,
        ..OperatorState::default()
    }
}

fn export(
    fixture: &Fixture,
    operator: &OperatorState,
    key_groups: bool,
) -> Result<Vec<ExportedState>, StateError> {
    let folder = fixture.job_folder();
    let exported = fixture.store.export(operator, &folder, key_groups);
    fixture.runtime.block_on(exported)
}

fn columns(state: &ExportedState) -> Vec<&str> {
    state
        .schema
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect()
}

fn rows(state: ExportedState) -> Vec<RecordBatch> {
    state.rows.map(Result::unwrap).collect()
}

#[test]
fn rows_of_all_subtasks_come_once_the_newest_ones_with_deletes_applied() {
    let fixture = Fixture::new(0);
    let mut states = Vec::new();
    for subtask in 0..3 {
        let range = KeyGroupRange::of_subtask(subtask, 3, MAX_PARALLELISM);
        let chain = SubtaskChain::new(range, MAX_PARALLELISM);
        let own = |ids: std::ops::Range<i64>| ids.filter(move |id| range.contains(group_of(*id)));
        fixture.checkpoint(&chain, 1, changes(own(0..3000).map(|id| (id, Some(id)))));
        let next = own(0..200).map(|id| (id, (id % 2 == 0).then_some(-id)));
        let mut state = fixture.checkpoint(&chain, 2, changes(next)).state;
        state.subtask = subtask;
        states.push(state);
    }
    let exported = export(&fixture, &operator(states), true).unwrap();
    let [count]: [ExportedState; 1] = exported.try_into().ok().unwrap();
    assert_eq!(
        (count.name.as_str(), count.kind),
        ("count", StateKind::Keyed("value"))
    );
    assert_eq!(columns(&count), ["$key_group", "id", "n"]);
    let mut found = BTreeMap::new();
    for batch in rows(count) {
        let numbers = |index: usize| batch.column(index).as_primitive::<Int64Type>().values().to_vec();
        let groups = batch.column(0).as_primitive::<UInt32Type>().values();
        for ((id, value), group) in numbers(1).into_iter().zip(numbers(2)).zip(groups) {
            assert_eq!(group_of(id), *group);
            assert_eq!(found.insert(id, value), None, "{id} came twice");
        }
    }
    let newest = |id: i64| match id {
        0..200 if id % 2 == 1 => None,
        0..200 => Some((id, -id)),
        _ => Some((id, id)),
    };
    assert_eq!(found, (0..3000).filter_map(newest).collect());
}

#[test]
fn lists_come_in_the_order_of_the_subtasks_and_a_broadcast_one_once() {
    let fixture = Fixture::new(20 << 10);
    let mut states = Vec::new();
    for subtask in 0..2_i64 {
        let chain = SubtaskChain::new(whole(), MAX_PARALLELISM);
        let mut snapshot = list("split", ListDistribution::Split, subtask * 10..subtask * 10 + 3);
        snapshot
            .lists
            .extend(list("same", ListDistribution::Broadcast, 0..2).lists);
        snapshot
            .lists
            .extend(list("none", ListDistribution::Union, 0..0).lists);
        states.push(fixture.checkpoint(&chain, 1, snapshot).state);
    }
    let exported = export(&fixture, &operator(states), true).unwrap();
    let found: Vec<(String, Vec<i64>)> = exported
        .into_iter()
        .map(|state| {
            assert_eq!((state.kind, columns(&state)), (StateKind::List, vec!["item"]));
            let name = state.name.clone();
            let items = rows(state).into_iter();
            let items = items.flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec());
            (name, items.collect())
        })
        .collect();
    let expected = [
        ("none", vec![]),
        ("same", vec![0, 1]),
        ("split", vec![0, 1, 2, 10, 11, 12]),
    ];
    assert_eq!(found, expected.map(|(name, items)| (name.to_owned(), items)));
}

#[test]
fn columns_of_one_name_are_told_apart() {
    let fixture = Fixture::new(0);
    let chain = SubtaskChain::new(whole(), MAX_PARALLELISM);
    let value: ArrayRef = Arc::new(Int64Array::from(vec![8]));
    let snapshot = table_changes(
        &[(7, false)],
        &[Field::new("id", DataType::Int64, false)],
        vec![value],
    );
    let written = fixture.checkpoint(&chain, 1, snapshot);
    let exported = export(&fixture, &operator(vec![written.state]), false).unwrap();
    assert_eq!(columns(&exported[0]), ["key.id", "value.id"]);
}

/// A run of rows and a list, each in a file.
fn stored() -> (Fixture, OperatorState) {
    let fixture = Fixture::new(0);
    let chain = SubtaskChain::new(whole(), MAX_PARALLELISM);
    let mut snapshot = changes((0..1000).map(|id| (id, Some(id))));
    snapshot.lists = list("items", ListDistribution::Split, 0..500).lists;
    let written = fixture.checkpoint(&chain, 1, snapshot);
    (fixture, operator(vec![written.state]))
}

#[test]
fn a_cut_flipped_or_missing_file_is_named_whatever_state_it_is_of() {
    let (fixture, operator) = stored();
    let read_all = || -> Result<usize, StateError> {
        let mut rows = 0;
        for state in export(&fixture, &operator, false)? {
            for batch in state.rows {
                rows += batch?.num_rows();
            }
        }
        Ok(rows)
    };
    assert_eq!(read_all().unwrap(), 1500);
    let files = fixture.files();
    assert_eq!(files.len(), 2);
    for file in files {
        let path = fixture.job_folder_path().join(&file);
        let content = std::fs::read(&path).unwrap();
        let refused = |what: &str| {
            let error = read_all().unwrap_err();
            assert!(error.to_string().contains(&file), "{what}: {error}");
            assert_eq!(error.class(), FailureClass::Fatal, "{what}: {error}");
        };
        for place in (0..content.len()).step_by(content.len() / 97) {
            let mut flipped = content.clone();
            flipped[place] ^= 1 << (place % 8);
            std::fs::write(&path, flipped).unwrap();
            refused(&format!("bit flipped in byte {place}"));
            std::fs::write(&path, &content[..place]).unwrap();
            refused(&format!("cut off at {place}"));
        }
        let mut newer = content.clone();
        newer[content.len() - 12] = 9;
        std::fs::write(&path, newer).unwrap();
        assert!(matches!(
            read_all().unwrap_err(),
            StateError::Version { found: 9, .. }
        ));
        std::fs::remove_file(&path).unwrap();
        refused("missing");
        std::fs::write(&path, &content).unwrap();
    }
    assert_eq!(read_all().unwrap(), 1500);
}

#[test]
fn inspecting_names_a_cut_changed_or_missing_run_too() {
    let (fixture, operator) = stored();
    let run = operator.subtasks[0].runs[0].file.clone().unwrap().path;
    let path = fixture.job_folder_path().join(&run);
    let content = std::fs::read(&path).unwrap();
    let metadata = thalweg_proto::state::v1::SnapshotMetadata {
        operators: vec![operator],
        ..Default::default()
    };
    let refused = |what: &str, words: &str| {
        let folder = fixture.job_folder();
        let inspected = fixture.store.inspect(&metadata, &folder);
        let error = fixture.runtime.block_on(inspected).unwrap_err().to_string();
        assert!(error.contains(&run) && error.contains(words), "{what}: {error}");
    };
    std::fs::write(&path, &content[..content.len() - 1]).unwrap();
    refused("cut off", "damaged");
    // The index, which is all that is read, is at the end.
    for place in [content.len() - 30, content.len() - 3] {
        let mut flipped = content.clone();
        flipped[place] ^= 1;
        std::fs::write(&path, flipped).unwrap();
        refused("flipped", "damaged");
    }
    let mut newer = content.clone();
    newer[content.len() - 12] = 9;
    std::fs::write(&path, newer).unwrap();
    refused("newer", "format version 9");
    std::fs::remove_file(&path).unwrap();
    refused("missing", "does not exist");
}
