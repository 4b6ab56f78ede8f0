use thalweg_plan::spec::{
    WindowAggregateSpec, WindowColumns, WindowKind, WindowProperty, WindowSpec, Windowing,
};

use super::*;

fn window(kind: WindowKind) -> WindowSpec {
    WindowSpec {
        kind,
        time: 1,
        offset_ms: 0,
        partition: Vec::new(),
        time_zone: "UTC".to_owned(),
    }
}

fn timestamp() -> DataType {
    DataType::nullable(TypeRoot::Timestamp(3, TimeKind::Regular))
}

fn aggregated(windowing: Windowing, types: &[DataType], rows: &[&str]) -> Vec<String> {
    let mut made = Made::default();
    let input = made.source(types, rows);
    let properties = [WindowProperty::Start, WindowProperty::End, WindowProperty::Time];
    let spec = WindowAggregateSpec {
        keys: vec![0],
        aggregates: vec![call("COUNT", &[], &bigint(), bigint())],
        windowing,
        properties: properties.map(|property| (property, timestamp())).to_vec(),
        legacy: false,
    };
    let types = [text(), bigint(), timestamp(), timestamp(), timestamp()];
    made.node(NodeSpec::WindowAggregate(spec), &[input], &types);
    made.rows()
}

const ROWS: &[&str] = &["a 1000", "b 4000", "a 11000", "a 4000", "a -"];

#[test]
fn rows_are_counted_by_key_and_window() {
    let tumble = Windowing::Assign(window(WindowKind::Tumble { size_ms: 10_000 }));
    let rows = aggregated(tumble, &[text(), rowtime()], ROWS);
    assert_eq!(
        rows,
        ["a 1 10000 20000 19999", "a 2 0 10000 9999", "b 1 0 10000 9999"]
    );
}

#[test]
fn a_row_is_in_each_of_its_windows() {
    let hop = Windowing::Assign(window(WindowKind::Hop {
        slide_ms: 5_000,
        size_ms: 10_000,
    }));
    let rows = aggregated(hop, &[text(), rowtime()], &["a 6000"]);
    assert_eq!(rows, ["a 1 0 10000 9999", "a 1 5000 15000 14999"]);
}

#[test]
fn windows_that_rows_have_are_keys() {
    let attached = Windowing::Attached(WindowColumns {
        start: 1,
        end: 2,
        event_time: true,
        local_time: false,
    });
    let types = [text(), timestamp(), timestamp()];
    let rows = aggregated(attached, &types, &["a 0 10", "a 0 10", "a 0 20"]);
    assert_eq!(rows, ["a 1 0 20 19", "a 2 0 10 9"]);
}
