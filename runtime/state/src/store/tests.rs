//! Whole snapshots through a folder on disk: written, read back, merged, damaged.

mod damage;
mod export;
mod fixtures;
mod merging;
#[allow(dead_code)] // other tests use the rest of it
#[path = "../../../storage/tests/storage/proxy.rs"]
mod proxy;
mod s3;
mod sample;
#[allow(dead_code)] // other tests use the rest of it
#[path = "../../../storage/tests/storage/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray,
};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type};
use thalweg_proto::state::v1::SnapshotKind;
use thalweg_types::{Classify, FailureClass, KeyGroupRange};

use crate::{ListDistribution, StateError, SubtaskChain};
use fixtures::{Fixture, MAX_PARALLELISM, absolute, changes, list, list_items, rows, table_changes, whole};

#[test]
fn a_full_and_an_incremental_checkpoint_restore_the_newest_rows() {
    let fixture = Fixture::new(0);
    let chain = SubtaskChain::new(whole(), MAX_PARALLELISM);
    let first = fixture.checkpoint(&chain, 1, changes((0..5000).map(|id| (id, Some(id)))));
    assert_eq!(first.state.runs.len(), 1);
    let second = fixture.checkpoint(&chain, 2, changes([(3, None), (4, Some(40)), (9000, Some(1))]));
    assert_eq!(second.state.runs.len(), 2);
    assert!(second.written_bytes < first.written_bytes / 10);
    assert_eq!(second.full_bytes, first.full_bytes + second.written_bytes);
    let paths = second
        .state
        .runs
        .iter()
        .map(|run| run.file.as_ref().unwrap().path.as_str());
    assert!(paths.into_iter().all(|path| path.starts_with("shared/")));
    let mut expected: BTreeMap<i64, i64> = (0..5000).map(|id| (id, id)).collect();
    expected.remove(&3);
    expected.extend([(4, 40), (9000, 1)]);
    assert_eq!(fixture.restore(&[second.state], whole()), expected);
}

#[test]
fn a_restored_subtask_of_the_same_range_goes_on_with_its_runs() {
    let fixture = Fixture::new(0);
    let chain = SubtaskChain::new(whole(), MAX_PARALLELISM);
    let before = fixture.checkpoint(&chain, 1, changes((0..100).map(|id| (id, Some(id)))));
    let mut restore = fixture.operator_restore(&[before.state]);
    restore.own_runs = true;
    let (_, chain) = fixture.read(&restore, whole()).unwrap();
    let ticket = chain.begin(2, SnapshotKind::Checkpoint);
    assert!(!ticket.full());
    let after = fixture
        .write(ticket, changes([(7, None)]), SnapshotKind::Checkpoint)
        .unwrap();
    assert_eq!(after.state.runs.len(), 2);
    assert_eq!(fixture.restore(&[after.state], whole()).len(), 99);
}

#[test]
fn another_parallelism_restores_each_row_once() {
    let fixture = Fixture::new(0);
    let write = |index| {
        let range = KeyGroupRange::of_subtask(index, 2, MAX_PARALLELISM);
        let chain = SubtaskChain::new(range, MAX_PARALLELISM);
        let own = (0..3000).filter(|id| range.contains(fixtures::group_of(*id)));
        fixture
            .checkpoint(&chain, 1, changes(own.map(|id| (id, Some(id)))))
            .state
    };
    let old = [write(0), write(1)];
    let mut found = BTreeMap::new();
    for index in 0..5 {
        let range = KeyGroupRange::of_subtask(index, 5, MAX_PARALLELISM);
        for (id, value) in fixture.restore(&old, range) {
            assert!(range.contains(fixtures::group_of(id)));
            assert_eq!(found.insert(id, value), None);
        }
    }
    assert_eq!(found, (0..3000).map(|id| (id, id)).collect());
}

#[test]
fn small_state_is_inline_and_needs_no_file() {
    let fixture = Fixture::new(20 << 10);
    let chain = SubtaskChain::new(whole(), MAX_PARALLELISM);
    let written = fixture.checkpoint(&chain, 1, changes([(1, Some(2))]));
    let file = written.state.runs[0].file.as_ref().unwrap();
    assert_eq!((file.path.as_str(), file.inline.len() as u64), ("", file.size));
    assert_eq!(fixture.files(), Vec::<String>::new());
    assert_eq!(
        fixture.restore(&[written.state], whole()),
        BTreeMap::from([(1, 2)])
    );
}

#[test]
fn a_checkpoint_without_changes_writes_nothing_and_keeps_what_was() {
    let fixture = Fixture::new(0);
    let chain = SubtaskChain::new(whole(), MAX_PARALLELISM);
    fixture.checkpoint(&chain, 1, changes([(1, Some(2))]));
    let again = fixture.checkpoint(&chain, 2, changes([]));
    assert_eq!((again.written_bytes, again.state.runs.len()), (0, 1));
    assert_eq!(again.tables.len(), 1, "tables are known though none changed");
}

#[test]
fn many_small_checkpoints_are_merged_and_earlier_ones_stay_readable() {
    let fixture = Fixture::new(0);
    let chain = SubtaskChain::new(whole(), MAX_PARALLELISM);
    let mut expected = BTreeMap::new();
    let (mut merges, mut most_runs) = (0, 0);
    let mut kept = Vec::new();
    for checkpoint in 1..60 {
        let ids = (0..40).map(|step| (checkpoint * 7 + step * 13) % 500);
        let batch: Vec<(i64, Option<i64>)> = ids
            .map(|id| (id, (id % 5 != checkpoint % 5).then_some(checkpoint)))
            .collect();
        for (id, value) in batch.iter().copied() {
            match value {
                Some(value) => expected.insert(id, value),
                None => expected.remove(&id),
            };
        }
        let written = fixture.checkpoint(&chain, checkpoint as u64, changes(batch));
        most_runs = most_runs.max(written.state.runs.len());
        kept.push((written.state, expected.clone()));
        merges += usize::from(fixture.merge(&chain));
    }
    assert!(merges >= 5, "{merges} merges");
    assert!(most_runs <= 9, "{most_runs} runs");
    for (state, expected) in kept {
        assert_eq!(fixture.restore(&[state], whole()), expected);
    }
}

#[test]
fn a_savepoint_is_complete_in_its_own_folder_and_the_next_checkpoint_is_full() {
    let fixture = Fixture::new(0);
    let chain = SubtaskChain::new(whole(), MAX_PARALLELISM);
    fixture.checkpoint(&chain, 1, changes([(1, Some(1))]));
    let ticket = chain.begin(2, SnapshotKind::Savepoint);
    assert!(ticket.full());
    let both = changes([(1, Some(1)), (2, Some(2))]);
    let savepoint = fixture.write(ticket, both, SnapshotKind::Savepoint).unwrap();
    assert_eq!(savepoint.state.runs.len(), 1);
    let path = &savepoint.state.runs[0].file.as_ref().unwrap().path;
    assert!(!path.contains('/'), "{path}");
    let state = absolute(savepoint.state, &fixture.savepoint_folder());
    assert_eq!(
        fixture.restore_absolute(&[state], whole()),
        BTreeMap::from([(1, 1), (2, 2)])
    );
    assert!(chain.begin(3, SnapshotKind::Checkpoint).full());
}

#[test]
fn a_checkpoint_that_builds_on_a_failed_one_fails_and_the_next_is_full() {
    let fixture = Fixture::new(0);
    let chain = SubtaskChain::new(whole(), MAX_PARALLELISM);
    fixture.checkpoint(&chain, 1, changes([(1, Some(1))]));
    let lost = chain.begin(2, SnapshotKind::Checkpoint);
    let builds_on_it = chain.begin(3, SnapshotKind::Checkpoint);
    drop(lost);
    let error = fixture
        .write(builds_on_it, changes([(3, Some(3))]), SnapshotKind::Checkpoint)
        .unwrap_err();
    assert!(matches!(error, StateError::Superseded { checkpoint_id: 3 }));
    assert_eq!(fixture.files().len(), 1, "its own file is of no use");
    assert_eq!(error.class(), FailureClass::Retryable);
    assert!(chain.begin(4, SnapshotKind::Checkpoint).full());
}

#[test]
fn a_checkpoint_waits_for_the_one_before_it() {
    let fixture = Fixture::new(0);
    let chain = SubtaskChain::new(whole(), MAX_PARALLELISM);
    let first = chain.begin(1, SnapshotKind::Checkpoint);
    let second = chain.begin(2, SnapshotKind::Checkpoint);
    let waiting = fixture.spawn_write(second, changes([(2, Some(2))]));
    fixture
        .write(first, changes([(1, Some(1))]), SnapshotKind::Checkpoint)
        .unwrap();
    let written = fixture.wait(waiting).unwrap();
    assert_eq!(
        fixture.restore(&[written.state], whole()),
        BTreeMap::from([(1, 1), (2, 2)])
    );
}

#[test]
fn a_folder_that_takes_no_files_fails_the_checkpoint_by_name() {
    let fixture = Fixture::new(0);
    std::fs::write(fixture.job_folder_path(), b"not a folder").unwrap();
    let chain = SubtaskChain::new(whole(), MAX_PARALLELISM);
    let ticket = chain.begin(1, SnapshotKind::Checkpoint);
    let error = fixture
        .write(ticket, changes([(1, Some(1))]), SnapshotKind::Checkpoint)
        .unwrap_err();
    assert!(error.to_string().contains("/shared/"), "{error}");
    assert_eq!(error.class(), FailureClass::Retryable);
}

#[test]
fn parts_of_lists_come_back_in_order() {
    let fixture = Fixture::new(0);
    let chain = SubtaskChain::new(whole(), MAX_PARALLELISM);
    let snapshot = list("offsets", ListDistribution::Split, 0..20_000);
    let written = fixture.checkpoint(&chain, 1, snapshot);
    assert_eq!(written.state.lists[0].items, 20_000);
    let mut restore = fixture.operator_restore(&[written.state]);
    (restore.lists[0].first, restore.lists[0].count) = (7_000, 5_500);
    let (mut state, _) = fixture.read(&restore, whole()).unwrap();
    let found = state.take_list("offsets").unwrap();
    assert_eq!(found.distribution, ListDistribution::Split);
    assert_eq!(list_items(&found), (7_000..12_500).collect::<Vec<_>>());
}

#[test]
fn an_empty_list_is_known_to_be_empty() {
    let fixture = Fixture::new(20 << 10);
    let chain = SubtaskChain::new(whole(), MAX_PARALLELISM);
    let written = fixture.checkpoint(&chain, 1, list("none", ListDistribution::Union, 0..0));
    let restore = fixture.operator_restore(&[written.state]);
    let (mut state, _) = fixture.read(&restore, whole()).unwrap();
    assert_eq!(list_items(&state.take_list("none").unwrap()), Vec::<i64>::new());
}

#[test]
fn state_larger_than_one_request_is_written_in_parts() {
    let fixture = Fixture::new(0);
    let chain = SubtaskChain::new(whole(), MAX_PARALLELISM);
    // Values without a pattern: LZ4 can't make them small.
    let value = |id: i64| id.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64);
    let written = fixture.checkpoint(
        &chain,
        1,
        changes((0..900_000).map(|id| (value(id), Some(value(!id))))),
    );
    assert!(written.full_bytes > 9 << 20, "{} bytes", written.full_bytes);
    let found = fixture.restore(&[written.state], KeyGroupRange { start: 0, end: 7 });
    assert!(found.len() > 30_000);
    assert!(found.iter().all(|(id, _)| fixtures::group_of(*id) <= 7));
}

#[test]
fn dictionaries_come_back() {
    let fixture = Fixture::new(0);
    let words: DictionaryArray<Int32Type> = ["a", "b", "a", "c"].into_iter().collect();
    let columns: [(&str, ArrayRef); 1] = [("word", Arc::new(words))];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let found = fixture.batches(vec![batch.clone(), batch.slice(1, 3)]);
    assert_eq!(
        found.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(),
        [4, 3]
    );
    let words = |batch: &RecordBatch| cast(batch.column(0), &DataType::Utf8).unwrap();
    assert_eq!(&words(&found[0]), &words(&batch));
    assert_eq!(&words(&found[1]), &words(&batch).slice(1, 3));
}

#[test]
fn elements_under_way_come_back_as_they_were() {
    let fixture = Fixture::new(0);
    let batches = vec![rows([(1, 2), (3, 4)]), rows([(5, 6)])];
    assert_eq!(fixture.batches(batches.clone()), batches);
    assert_eq!(fixture.batches(Vec::new()), Vec::new());
}

#[test]
fn runs_of_an_older_program_are_adapted_to_the_newest() {
    let fixture = Fixture::new(0);
    let chain = SubtaskChain::new(whole(), MAX_PARALLELISM);
    let old = table_changes(
        &[(1, false), (2, false), (3, false)],
        &[
            Field::new("gone", DataType::Utf8, false),
            Field::new("n", DataType::Int32, false),
        ],
        vec![
            Arc::new(StringArray::from(vec!["a", "b", "c"])),
            Arc::new(Int32Array::from(vec![10, 20, 30])),
        ],
    );
    fixture.checkpoint(&chain, 1, old);
    let new = table_changes(
        &[(2, false), (3, true)],
        &[
            Field::new("n", DataType::Int64, false),
            Field::new("label", DataType::Utf8, true),
        ],
        vec![
            Arc::new(Int64Array::from(vec![Some(1 << 40), None])),
            Arc::new(StringArray::from(vec![Some("new"), None])),
        ],
    );
    let written = fixture.checkpoint(&chain, 2, new);
    assert_eq!(
        written.tables[0].value_columns,
        ["n: BIGINT NOT NULL", "label: STRING"]
    );
    let restore = fixture.operator_restore(&[written.state]);
    let (mut state, _) = fixture.read(&restore, whole()).unwrap();
    let table = state.take_table("count").unwrap();
    let batches: Vec<RecordBatch> = table.rows.collect::<Result<_, _>>().unwrap();
    let found = concat_batches(&table.descriptor.row_schema(), &batches).unwrap();
    let values = found.column(2).as_primitive::<Int64Type>();
    let mut values: Vec<i64> = values.values().to_vec();
    values.sort_unstable();
    assert_eq!(values, [10, 1 << 40]);
    assert_eq!(found.column(3).null_count(), 1);
}

#[test]
fn inspect_says_what_is_inside() {
    let fixture = Fixture::new(0);
    let chain = SubtaskChain::new(whole(), MAX_PARALLELISM);
    let written = fixture.checkpoint(&chain, 1, changes((0..1000).map(|id| (id, Some(id)))));
    let facts = fixture.inspect(written);
    let table = &facts.operators[0].tables[0];
    assert_eq!(
        (table.rows, table.deletes, table.spread.used),
        (1000, 0, MAX_PARALLELISM)
    );
    assert!(table.spread.min <= table.spread.median && table.spread.median <= table.spread.max);
    assert!((1..=1000 / MAX_PARALLELISM as u64).contains(&table.spread.min));
    let text = facts.to_string();
    for part in [
        "uid: counter",
        "value state count: 1000 rows",
        "key: id: BIGINT NOT NULL",
        "value: n: BIGINT",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}
