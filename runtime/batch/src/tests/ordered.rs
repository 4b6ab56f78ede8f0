use thalweg_plan::spec::{DeduplicateSpec, RankEnd, RankSpec, RankStrategy, SortKey};

use super::*;

fn by(column: usize, descending: bool) -> SortKey {
    SortKey {
        column,
        descending,
        nulls_first: !descending,
    }
}

fn rank(partition: &[usize], order: &[SortKey], ranks: (u64, u64), with_rank: bool) -> RankSpec {
    RankSpec {
        partition: partition.to_vec(),
        order: order.to_vec(),
        start: ranks.0,
        end: RankEnd::Constant(ranks.1),
        with_rank,
        strategy: RankStrategy::Retract,
        emit_update_before: true,
        state_ttl_ms: 0,
    }
}

const ROWS: &[&str] = &["2 b", "- x", "3 a", "1 b", "2 a", "9 b"];

fn over_rows(spec: NodeSpec, types: &[DataType]) -> Vec<String> {
    let mut made = Made::default();
    let input = made.source(&[bigint(), text()], ROWS);
    made.node(spec, &[input], types);
    made.run()
}

#[test]
fn nulls_are_low() {
    let types = [bigint(), text()];
    let up = over_rows(NodeSpec::Sort(vec![by(0, false), by(1, false)]), &types);
    assert_eq!(up, ["- x", "1 b", "2 a", "2 b", "3 a", "9 b"]);
    let down = over_rows(NodeSpec::Sort(vec![by(0, true), by(1, false)]), &types);
    assert_eq!(down, ["9 b", "3 a", "2 a", "2 b", "1 b", "- x"]);
}

#[test]
fn a_limit_takes_the_first_rows_behind_its_offset() {
    let types = [bigint(), text()];
    let spec = NodeSpec::SortLimit(rank(&[], &[by(0, false)], (2, 3), false));
    let rows = over_rows(spec, &types);
    assert!(
        rows[0] == "1 b" && rows[1].starts_with('2') && rows.len() == 2,
        "{rows:?}"
    );
    let limit = NodeSpec::Limit {
        offset: 1,
        fetch: Some(4),
    };
    assert_eq!(over_rows(limit, &types).len(), 4);
}

#[test]
fn each_partition_has_its_first_rows_with_their_ranks() {
    let spec = NodeSpec::Rank(rank(&[1], &[by(0, true)], (1, 2), true));
    let mut rows = over_rows(spec, &[bigint(), text(), bigint()]);
    rows.sort_unstable();
    assert_eq!(rows, ["- x 1", "2 a 2", "2 b 2", "3 a 1", "9 b 1"]);
}

#[test]
fn ranks_begin_where_they_should() {
    let spec = NodeSpec::Rank(rank(&[1], &[by(0, false)], (2, 3), false));
    let mut rows = over_rows(spec, &[bigint(), text()]);
    rows.sort_unstable();
    assert_eq!(rows, ["2 b", "3 a", "9 b"]);
}

#[test]
fn of_each_key_the_first_or_the_last_row_by_time_stays() {
    let of = |keep_last| {
        let mut made = Made::default();
        let types = [text(), rowtime()];
        let input = made.source(&types, &["a 2", "b 1", "a 1", "a 3"]);
        let spec = DeduplicateSpec {
            keys: vec![0],
            rowtime: Some(1),
            keep_last,
            emit_update_before: true,
            emit_insert: true,
            state_ttl_ms: 0,
        };
        made.node(NodeSpec::Deduplicate(spec), &[input], &types);
        made.rows()
    };
    assert_eq!(of(false), ["a 1", "b 1"]);
    assert_eq!(of(true), ["a 3", "b 1"]);
}
