use thalweg_plan::spec::{Frame, GroupAggregateSpec, OverAggregateSpec, SortKey};

use super::*;

fn grouped(keys: &[usize], aggregates: Vec<AggregateCall>) -> NodeSpec {
    NodeSpec::GroupAggregate(GroupAggregateSpec {
        keys: keys.to_vec(),
        aggregates,
        retracts: false,
        emit_update_before: true,
        fold_batches: true,
        state_ttl_ms: 0,
    })
}

fn int() -> DataType {
    DataType::nullable(TypeRoot::Int)
}

const ROWS: &[&str] = &["a 1", "b 5", "a 2", "- 7", "a -", "- 1", "a 2"];

#[test]
fn sums_and_averages_have_flinks_types() {
    let mut made = Made::default();
    let input = made.source(&[text(), int()], ROWS);
    let calls = ["SUM", "AVG", "MIN", "MAX", "COUNT"].map(|function| {
        let result = if function == "COUNT" { bigint() } else { int() };
        call(function, &[1], &int(), result)
    });
    let types = [text(), int(), int(), int(), int(), bigint()];
    made.node(grouped(&[0], calls.to_vec()), &[input], &types);
    assert_eq!(made.rows(), ["- 8 4 1 7 2", "a 5 1 1 2 3", "b 5 5 5 5 1"]);
}

#[test]
fn distinct_and_filtered_rows_count_once_and_only_where_they_should() {
    let mut made = Made::default();
    let boolean = DataType::nullable(TypeRoot::Boolean);
    let rows = [
        "a 1 true",
        "a 1 true",
        "a 2 false",
        "a 4 -",
        "a 3 true",
        "b 1 false",
    ];
    let input = made.source(&[text(), bigint(), boolean], &rows);
    let distinct = |function| AggregateCall {
        distinct: true,
        ..call(function, &[1], &bigint(), bigint())
    };
    let filtered = |call| AggregateCall {
        filter: Some(2),
        ..call
    };
    let calls = vec![
        distinct("SUM"),
        distinct("COUNT"),
        filtered(distinct("SUM")),
        filtered(call("COUNT", &[], &bigint(), bigint())),
    ];
    let types = [text(), bigint(), bigint(), bigint(), bigint()];
    made.node(grouped(&[0], calls), &[input], &types);
    assert_eq!(made.rows(), ["a 10 4 4 3", "b 1 1 - 0"]);
}

#[test]
fn without_a_key_there_is_one_row_also_of_no_rows() {
    let mut made = Made::default();
    let input = made.source(&[bigint()], &[]);
    let calls = vec![
        call("COUNT", &[], &bigint(), bigint()),
        call("SUM", &[0], &bigint(), bigint()),
    ];
    made.node(grouped(&[], calls), &[input], &[bigint(), bigint()]);
    assert_eq!(made.run(), ["0 -"]);
}

#[test]
fn keys_alone_are_the_distinct_rows() {
    let mut made = Made::default();
    let input = made.source(&[text(), bigint()], &["a 1", "a 1", "- 1", "- 1", "a 2"]);
    made.node(grouped(&[0, 1], Vec::new()), &[input], &[text(), bigint()]);
    assert_eq!(made.rows(), ["- 1", "a 1", "a 2"]);
}

#[test]
fn texts_are_joined_by_group() {
    let mut made = Made::default();
    let input = made.source(&[bigint(), text()], &["1 x", "2 y", "1 z"]);
    let calls = vec![call("LISTAGG", &[1], &text(), text())];
    made.node(grouped(&[0], calls), &[input], &[bigint(), text()]);
    assert_eq!(made.rows(), ["1 x,z", "2 y"]);
}

#[test]
fn frames_end_at_the_current_row_or_its_peers() {
    let of = |frame| {
        let mut made = Made::default();
        let rows = ["a 1000 1", "a 3000 4", "b 1000 9", "a 2000 2", "a 2000 3"];
        let input = made.source(&[text(), rowtime(), bigint()], &rows);
        let order = SortKey {
            column: 1,
            descending: false,
            nulls_first: true,
        };
        let sum = call("SUM", &[2], &bigint(), bigint());
        let spec = OverAggregateSpec {
            partition: vec![0],
            order: vec![order],
            groups: vec![(frame, vec![sum])],
            state_ttl_ms: 0,
        };
        let types = [text(), rowtime(), bigint(), bigint()];
        made.node(NodeSpec::OverAggregate(spec), &[input], &types);
        made.rows()
    };
    let last = |rows: Vec<String>| -> Vec<String> {
        let last = |row: &String| row.rsplit(' ').next().unwrap().to_owned();
        rows.iter().map(last).collect()
    };
    assert_eq!(last(of(Frame::Range(None))), ["1", "6", "6", "10", "9"]);
    assert_eq!(last(of(Frame::Range(Some(1000)))), ["1", "6", "6", "9", "9"]);
    assert_eq!(last(of(Frame::Rows(Some(0)))), ["1", "2", "3", "4", "9"]);
}
