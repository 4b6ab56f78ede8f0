//! What the generator's events are like.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int32Type, Int64Type};
use thalweg_plan::connector::SourceColumn;
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::{DataType, Field, TypeRoot};
use thalweg_types::config::Configuration;
use tokio::runtime::Runtime;

use super::*;
use crate::SourceEvent;
use crate::table::create_source;
use crate::table::testing::{read, scan, table, texts, whole};
use crate::testing::{batches, context_of, next, restored_context_of};

fn big() -> DataType {
    DataType::nullable(TypeRoot::BigInt)
}

fn time() -> DataType {
    DataType::nullable(TypeRoot::Timestamp(3, TimeKind::Regular))
}

fn row(fields: &[(&str, DataType)]) -> DataType {
    let field = |(name, data_type): &(&str, DataType)| Field::new(*name, data_type.clone());
    DataType::nullable(TypeRoot::Row(fields.iter().map(field).collect()))
}

pub(super) fn nexmark(options: &[(&str, &str)]) -> CatalogTable {
    let text = DataType::string;
    let mut all = vec![("connector", "nexmark"), ("seed", "7")];
    all.extend(options);
    table(
        &all,
        &[
            ("event_type", DataType::nullable(TypeRoot::Int)),
            (
                "person",
                row(&[
                    ("id", big()),
                    ("name", text()),
                    ("emailAddress", text()),
                    ("creditCard", text()),
                    ("city", text()),
                    ("state", text()),
                    ("dateTime", time()),
                    ("extra", text()),
                ]),
            ),
            (
                "auction",
                row(&[
                    ("id", big()),
                    ("itemName", text()),
                    ("description", text()),
                    ("initialBid", big()),
                    ("reserve", big()),
                    ("dateTime", time()),
                    ("expires", time()),
                    ("seller", big()),
                    ("category", big()),
                    ("extra", text()),
                ]),
            ),
            (
                "bid",
                row(&[
                    ("auction", big()),
                    ("bidder", big()),
                    ("price", big()),
                    ("channel", text()),
                    ("url", text()),
                    ("dateTime", time()),
                    ("extra", text()),
                ]),
            ),
        ],
    )
}

fn path(names: &[&str], data_type: DataType) -> SourceColumn {
    SourceColumn::Physical {
        path: names.iter().map(|name| (*name).to_owned()).collect(),
        data_type,
    }
}

#[test]
fn the_same_seed_gives_the_same_events_at_any_parallelism() {
    let table = nexmark(&[("events.num", "20000")]);
    let (spec, output) = whole(&table);
    let at = |parallelism| {
        let mut texts = texts(&read(&spec, &output, parallelism).unwrap());
        texts.sort();
        texts
    };
    let one = at(1);
    assert_eq!(one.len(), 20_000);
    assert_eq!(one, at(3));
    let other = nexmark(&[("events.num", "20000"), ("seed", "8")]);
    let (spec, output) = whole(&other);
    assert_ne!(one[0], texts(&read(&spec, &output, 1).unwrap())[0]);
}

#[test]
fn kinds_sizes_ids_and_prices_are_distributed_as_in_the_reference() {
    let table = nexmark(&[("events.num", "50000"), ("first-event.rate", "1000")]);
    let (spec, output) = whole(&table);
    let batches = read(&spec, &output, 1).unwrap();
    let mut counts = [0; 3];
    let (mut hot, mut bids, mut prices, mut extra) = (0, 0, 0.0, 0);
    for batch in &batches {
        let kinds = batch.rows.column(0).as_primitive::<Int32Type>();
        kinds.values().iter().for_each(|kind| counts[*kind as usize] += 1);
        let bid = batch.rows.column(3).as_struct();
        let column = |name: &str| {
            bid.column_by_name(name)
                .unwrap()
                .as_primitive::<Int64Type>()
                .clone()
        };
        let (auctions, bidders) = (column("auction"), column("bidder"));
        for row in (0..batch.num_rows()).filter(|row| bid.is_valid(*row)) {
            bids += 1;
            hot += i32::from(auctions.value(row) % 100 == 0);
            assert!(bidders.value(row) >= 2_000);
            prices += (column("price").value(row) as f64).log10();
            extra += bid
                .column_by_name("extra")
                .unwrap()
                .as_string::<i32>()
                .value(row)
                .len();
        }
    }
    assert_eq!(counts, [1_000, 3_000, 46_000]);
    assert!(
        (22_000..25_500).contains(&hot),
        "half of the bids are for hot auctions: {hot}"
    );
    // The logarithm is even between 2 and 8.
    assert!(
        (4.9..5.1).contains(&(prices / f64::from(bids))),
        "{}",
        prices / f64::from(bids)
    );
    // 100 bytes less 32, a fifth more or less.
    let average = extra as f64 / f64::from(bids);
    assert!((66.5..69.5).contains(&average), "{average}");
    let last = texts(&batches).pop().unwrap();
    // A thousand events a second, from the seeded base on.
    assert!(last.contains("2015-07-15T00:00:50"), "{last}");
}

#[test]
fn only_what_is_read_is_made_and_is_the_same_as_in_the_whole_row() {
    let table = nexmark(&[("events.num", "1000")]);
    let (whole_spec, whole_output) = whole(&table);
    let all = read(&whole_spec, &whole_output, 1).unwrap();
    let columns = vec![
        path(&["bid", "url"], DataType::string()),
        path(&["auction", "expires"], time()),
        path(&["person", "extra"], DataType::string()),
    ];
    let (spec, output) = scan(&table, columns);
    let some = read(&spec, &output, 1).unwrap();
    for (all, some) in all.iter().zip(&some) {
        for (column, (row, field)) in [(3, "url"), (2, "expires"), (1, "extra")].into_iter().enumerate() {
            let whole = all.rows.column(row).as_struct().column_by_name(field).unwrap();
            assert_eq!(whole, some.rows.column(column));
        }
    }
}

#[test]
fn a_filter_on_the_type_leaves_the_others_out() {
    let table = nexmark(&[("events.num", "1000")]);
    let columns = vec![
        path(&["event_type"], DataType::nullable(TypeRoot::Int)),
        path(&["auction", "id"], big()),
    ];
    let (mut spec, output) = scan(&table, columns);
    let int = || DataType::nullable(TypeRoot::Int);
    spec.filters = vec![Expr::call(
        "=",
        vec![Expr::column(0, int()), Expr::literal(Literal::Int(1), int())],
        DataType::nullable(TypeRoot::Boolean),
    )];
    let batches = read(&spec, &output, 1).unwrap();
    let texts = texts(&batches);
    // 3 of 50; ids count up.
    assert_eq!(texts.len(), 60);
    assert_eq!(texts[0], "+I[1, 1001]");
    assert!(texts.iter().all(|text| text.starts_with("+I[1, ")));
}

#[test]
fn a_restored_reader_goes_on_at_another_parallelism() {
    let table = nexmark(&[("events.num", "100000")]);
    let (spec, output) = scan(&table, vec![path(&["bid", "price"], big())]);
    let source = create_source(&spec, &output, &Configuration::default(), None).unwrap();
    let io = Runtime::new().unwrap();
    let mut given = Vec::new();
    let mut states = Vec::new();
    for subtask in 0..2 {
        let mut reader = source.create_reader(context_of(&io, subtask, 2)).unwrap();
        for _ in 0..=subtask {
            let SourceEvent::Batch(batch) = next(reader.as_mut()).unwrap() else {
                panic!("a batch is expected");
            };
            given.push(batch);
        }
        states.extend(reader.snapshot(1).unwrap());
    }
    for subtask in 0..3 {
        let context = restored_context_of(&io, subtask, 3, states.clone());
        given.extend(batches(source.create_reader(context).unwrap().as_mut()).unwrap());
    }
    let sorted = |batches: &[thalweg_types::StreamBatch]| {
        let mut texts = texts(batches);
        texts.sort();
        texts
    };
    assert_eq!(sorted(&given), sorted(&read(&spec, &output, 1).unwrap()));
}

#[test]
fn options_and_columns_are_checked() {
    let refusal = |options: &[(&str, &str)]| source_abilities(&nexmark(options)).unwrap_err().message;
    assert!(refusal(&[("x", "1")]).starts_with("Unsupported options found for 'nexmark'."));
    assert_eq!(
        refusal(&[("person.proportion", "0")]),
        "Invalid value for option 'person.proportion': 0 is below 1."
    );
    let other = table(&[("connector", "nexmark")], &[("seller", big())]);
    assert!(
        source_abilities(&other)
            .unwrap_err()
            .message
            .contains("has no column \"seller\"")
    );
    assert!(!source_abilities(&nexmark(&[])).unwrap().bounded);
    assert!(
        source_abilities(&nexmark(&[("events.num", "1")]))
            .unwrap()
            .bounded
    );
}
