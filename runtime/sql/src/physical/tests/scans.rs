//! Scans, projections and filters.

use super::*;

#[test]
fn only_what_a_query_needs_is_read() {
    let bids = bids();
    let cheap = call("<", vec![col(&scan(&bids), "price"), literal(100)]);
    let query = select(filter(scan(&bids), cheap), &["auction"]);
    assert_eq!(
        shown(insert("append", &[], query)),
        "Sink(table=[c.d.results], fields=[auction])
+- Calc(select=[auction], where=[(price < 100)], changelogMode=[I])
   +- WatermarkAssigner(rowtime=[ts], watermark=[(ts - 3000:INTERVAL DAY TO SECOND)], changelogMode=[I])
      +- TableSourceScan(table=[[c, d, bids]], fields=[auction, price, ts], changelogMode=[I])

"
    );
}

#[test]
fn projections_and_filters_become_one_calc() {
    let rel = select(scan(&bids()), &["price", "auction"]);
    let condition = call(">", vec![col(&rel, "price"), literal(1)]);
    let rel = select(filter(rel, condition), &["auction", "price"]);
    let plan = planned(&[insert("append", &[], rel)]).unwrap();
    let calcs = plan
        .nodes
        .iter()
        .filter(|node| matches!(node.spec, NodeSpec::Calc { .. }));
    assert_eq!(calcs.count(), 1);
}

#[test]
fn statements_share_the_scan_of_a_table() {
    let bids = bids();
    let first = insert("append", &[], select(scan(&bids), &["auction"]));
    let second = insert("append", &[], select(scan(&bids), &["price"]));
    let plan = planned(&[first, second]).unwrap();
    let sources: Vec<_> = plan
        .nodes
        .iter()
        .filter(|node| matches!(node.spec, NodeSpec::Source(_)))
        .collect();
    assert_eq!(sources.len(), 1);
    assert_eq!(
        sources[0].name,
        "TableSourceScan(table=[[c, d, bids]], fields=[auction, price, ts])"
    );
}

#[test]
fn of_a_row_only_the_fields_that_are_needed_are_read() {
    let bid = Field::new("price", bigint());
    let person = Field::new("name", DataType::string());
    let row = DataType::nullable(TypeRoot::Row(vec![person, bid]));
    let events = table("events", "append", &[("kind", int()), ("bid", row)], &[]);
    let rel = scan(&events);
    let price = Expr::call("FIELD", vec![col(&rel, "bid"), literal(1)], bigint());
    let query = rewrite::project(rel, vec![price], ["price".to_owned()]);
    assert_eq!(
        shown(insert("append", &[], query)),
        "Sink(table=[c.d.results], fields=[price])
+- TableSourceScan(table=[[c, d, events]], fields=[bid_price], changelogMode=[I])

"
    );
}

#[test]
fn a_computed_rowtime_is_computed_before_the_watermark() {
    let mut made = (*table("t", "append", &[("ms", timestamp()), ("rt", rowtime())], &[])).clone();
    made.schema.columns[1].kind = ColumnKind::Computed(Expr::column(0, timestamp()));
    let query = select(scan(&Arc::new(made)), &["rt"]);
    assert_eq!(
        shown(insert("append", &[], query)),
        "Sink(table=[c.d.results], fields=[rt])
+- Calc(select=[rt], changelogMode=[I])
   +- WatermarkAssigner(rowtime=[rt], watermark=[(rt - 3000:INTERVAL DAY TO SECOND)], changelogMode=[I])
      +- Calc(select=[ms, ms AS rt], changelogMode=[I])
         +- TableSourceScan(table=[[c, d, t]], fields=[ms], changelogMode=[I])

"
    );
}

#[test]
fn a_source_that_can_makes_the_watermarks_by_split() {
    let plain = table("t", "splits", &[("a", int()), ("ts", rowtime())], &[]);
    assert_eq!(
        shown(insert("append", &[], scan(&plain))),
        "Sink(table=[c.d.results], fields=[a, ts])
+- TableSourceScan(table=[[c, d, t]], fields=[a, ts], watermark=[(ts - 3000:INTERVAL DAY TO SECOND)], changelogMode=[I])

"
    );
    let mut made = (*table("t", "splits", &[("ms", timestamp()), ("rt", rowtime())], &[])).clone();
    let later = vec![Expr::column(0, timestamp()), seconds(1)];
    made.schema.columns[1].kind = ColumnKind::Computed(Expr::call("+", later, timestamp()));
    let query = select(scan(&Arc::new(made.clone())), &["rt"]);
    let plan = planned(&[insert("append", &[], query.clone())]).unwrap();
    assert_eq!(
        plan.nodes[1].schema.fields[0].data_type.time_kind(),
        TimeKind::Rowtime
    );
    assert_eq!(
        shown(insert("append", &[], query)),
        "Sink(table=[c.d.results], fields=[rt])
+- Calc(select=[(ms + 1000:INTERVAL DAY TO SECOND) AS rt], changelogMode=[I])
   +- TableSourceScan(table=[[c, d, t]], fields=[ms], watermark=[((ms + 1000:INTERVAL DAY TO SECOND) - 3000:INTERVAL DAY TO SECOND)], changelogMode=[I])

"
    );
    for computed in [
        Expr::call("NOW", Vec::new(), timestamp()),
        Expr::column(0, timestamp()),
    ] {
        made.schema.columns[1].kind = ColumnKind::Computed(computed);
        let plan = shown(insert(
            "append",
            &[],
            select(scan(&Arc::new(made.clone())), &["rt"]),
        ));
        assert!(plan.contains("WatermarkAssigner"), "{plan}");
    }
}

#[test]
fn metadata_of_another_type_is_cast_behind_the_source_and_before_the_sink() {
    let mut made = (*table("t", "splits", &[("a", int()), ("at", rowtime())], &[])).clone();
    made.schema.columns[1].kind = ColumnKind::Metadata {
        key: "time".to_owned(),
        is_virtual: false,
    };
    let made = Arc::new(made);
    let query = BoundStatement::Insert {
        table: Arc::clone(&made),
        query: scan(&made),
        overwrite: false,
        static_partition: BTreeMap::new(),
        target_columns: None,
        on_conflict: None,
        position: None,
    };
    assert_eq!(
        shown(query),
        "Sink(table=[c.d.t], fields=[a, at])
+- Calc(select=[a, CAST(CAST(at AS TIMESTAMP(3)) AS TIMESTAMP_LTZ(3)) AS at], changelogMode=[I])
   +- TableSourceScan(table=[[c, d, t]], fields=[a, at], watermark=[(CAST(at AS TIMESTAMP(3)) - 3000:INTERVAL DAY TO SECOND)], changelogMode=[I])

"
    );
    let mut odd = (*made).clone();
    odd.schema.watermark = None;
    odd.schema.columns[1].data_type = DataType::nullable(TypeRoot::Boolean);
    let (_, message) = refusal(insert("append", &[], scan(&Arc::new(odd))));
    assert_eq!(
        message,
        "Invalid data type for metadata column 'at' of table 'c.d.t'. The column cannot be declared as 'BOOLEAN' because the type must be castable \
         from metadata type 'TIMESTAMP_LTZ(3)'."
    );
}

#[test]
fn an_unknown_connector_is_refused_with_the_tables_name() {
    let unknown = table("t", "nothing", &[("a", int())], &[]);
    let (kind, message) = refusal(insert("append", &[], scan(&unknown)));
    assert_eq!(kind, SqlErrorKind::Option);
    assert_eq!(
        message,
        "Unable to create a source for reading table 'c.d.t' with options 'connector'='nothing': Cannot discover a connector using option: 'connector'='nothing'"
    );
}

#[test]
fn a_source_is_told_which_rows_are_enough() {
    let plain = || scan(&table("t", "append", &[("a", int()), ("b", int())], &[]));
    let small = call("<", vec![col(&plain(), "b"), literal(3)]);
    let query = || select(filter(plain(), small.clone()), &["a"]);
    let shown = shown(insert("append", &[], query()));
    assert!(
        shown.contains("TableSourceScan(table=[[c, d, t]], fields=[a, b], filter=[(b < 3)]"),
        "{shown}"
    );
    let both = planned(&[insert("append", &[], query()), insert("append", &[], plain())]).unwrap();
    assert_eq!(
        both.nodes[0].name,
        "TableSourceScan(table=[[c, d, t]], fields=[a, b])"
    );
}

#[test]
fn a_limit_is_told_to_the_source_and_kept() {
    let plain = scan(&table("t", "append", &[("a", int())], &[]));
    let query = Rel {
        schema: plain.schema.clone(),
        position: None,
        kind: RelKind::Sort {
            input: Box::new(plain),
            keys: Vec::new(),
            offset: 1,
            fetch: Some(2),
        },
    };
    let plan = planned(&[insert("append", &[], query)]).unwrap();
    assert_eq!(
        plan.nodes[0].name,
        "TableSourceScan(table=[[c, d, t]], fields=[a], limit=[3])"
    );
    assert_eq!(kinds(&plan), ["Limit"]);
}

#[test]
fn a_select_without_from_has_one_row() {
    let one_row = Rel {
        kind: RelKind::Values(vec![Vec::new()]),
        schema: Schema::default(),
        position: None,
    };
    let query = rewrite::project(one_row, vec![literal(7)], ["a".to_owned()]);
    assert_eq!(
        shown(insert("append", &[], query)),
        "Sink(table=[c.d.results], fields=[a])
+- Calc(select=[7 AS a], changelogMode=[I])
   +- Values(tuples=[[{ 0 }]], changelogMode=[I])

"
    );
}
