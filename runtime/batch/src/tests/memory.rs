use thalweg_plan::spec::{GroupAggregateSpec, JoinKeys, JoinKind, JoinSideKey, JoinSpec, SortKey};

use super::*;

/// So many rows "i i".
fn many(rows: i64) -> Vec<String> {
    (0..rows).map(|row| format!("{row} {row}")).collect()
}

fn made(memory_bytes: usize) -> Made {
    Made {
        memory_bytes: Some(memory_bytes),
        ..Made::default()
    }
}

/// In batches as sources make them.
fn many_source(made: &mut Made, rows: i64) -> usize {
    let types = [bigint(), bigint()];
    let source = made.source(&types, &[]);
    let rows = many(rows);
    let texts: Vec<&str> = rows.iter().map(String::as_str).collect();
    let schema = schema(&types);
    made.rows[source] = texts.chunks(1000).map(|rows| batch(&schema, rows)).collect();
    source
}

#[test]
fn a_sort_of_more_rows_than_memory_goes_on_in_files() {
    let mut made = made(4 << 20);
    let input = many_source(&mut made, 300_000);
    let key = SortKey {
        column: 0,
        descending: true,
        nulls_first: false,
    };
    made.node(NodeSpec::Sort(vec![key]), &[input], &[bigint(), bigint()]);
    let rows = made.run();
    assert_eq!(rows.len(), 300_000, "{:?}", rows.first());
    assert_eq!(rows[0], "299999 299999");
    assert_eq!(rows[299_999], "0 0");
}

#[test]
fn groups_of_more_keys_than_memory_go_on_in_files() {
    let mut made = made(8 << 20);
    let input = many_source(&mut made, 600_000);
    let spec = GroupAggregateSpec {
        keys: vec![0],
        aggregates: vec![
            call("SUM", &[1], &bigint(), bigint()),
            AggregateCall {
                distinct: true,
                ..call("SUM", &[1], &bigint(), bigint())
            },
        ],
        retracts: false,
        emit_update_before: true,
        fold_batches: true,
        state_ttl_ms: 0,
    };
    made.node(
        NodeSpec::GroupAggregate(spec),
        &[input],
        &[bigint(), bigint(), bigint()],
    );
    let rows = made.run();
    assert_eq!(rows.len(), 600_000, "{:?}", rows.first());
    assert!(rows.contains(&"4711 4711 4711".to_owned()));
}

fn join(made: &mut Made, left: usize, right: usize) {
    let spec = JoinSpec {
        kind: JoinKind::Inner,
        keys: JoinKeys {
            left: vec![0],
            right: vec![0],
            null_safe: vec![false],
        },
        condition: None,
        left_key: JoinSideKey::None,
        right_key: JoinSideKey::None,
        left_ttl_ms: 0,
        right_ttl_ms: 0,
    };
    made.node(NodeSpec::Join(spec), &[left, right], &vec![bigint(); 4]);
}

#[test]
fn rows_that_a_join_reads_later_wait_in_files() {
    let mut made = made(4 << 20);
    let left = many_source(&mut made, 300_000);
    let right = many_source(&mut made, 10);
    join(&mut made, left, right);
    assert_eq!(made.rows().len(), 10);
}

#[test]
fn a_join_whose_right_side_has_no_room_says_so() {
    let mut made = made(1 << 20);
    let left = many_source(&mut made, 10);
    let right = many_source(&mut made, 100_000);
    join(&mut made, left, right);
    let rows = made.run();
    assert!(
        rows.len() == 1 && rows[0].contains("taskmanager.memory.managed"),
        "{rows:?}"
    );
}
