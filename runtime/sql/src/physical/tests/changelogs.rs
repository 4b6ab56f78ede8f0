//! Sources of changes, and which operators want old rows.

use super::*;

fn items(connector: &str, key: &[&str]) -> Arc<CatalogTable> {
    table(
        "items",
        connector,
        &[("id", bigint()), ("shop", int()), ("amount", int())],
        key,
    )
}

#[test]
fn an_upsert_source_is_normalized() {
    let query = group(scan(&items("upsert", &["id"])), &["shop"], vec![count()]);
    assert_eq!(
        shown(insert("retract", &[], query)),
        "Sink(table=[c.d.results], fields=[shop, n])
+- GroupAggregate(groupBy=[shop], select=[shop, COUNT(*) AS n], changelogMode=[I,UB,UA,D])
   +- Exchange(distribution=[hash[shop]], changelogMode=[I,UB,UA,D])
      +- Calc(select=[shop], changelogMode=[I,UB,UA,D])
         +- ChangelogNormalize(key=[id], changelogMode=[I,UB,UA,D])
            +- Exchange(distribution=[hash[id]], changelogMode=[I,UA,PD])
               +- TableSourceScan(table=[[c, d, items]], fields=[id, shop], changelogMode=[I,UA,PD])

"
    );
}

#[test]
fn an_upsert_source_without_a_key_is_refused() {
    let (_, message) = refusal(insert("retract", &[], scan(&items("upsert", &[]))));
    assert!(
        message.contains("requires defining primary key on the table"),
        "{message}"
    );
}

#[test]
fn old_rows_that_nobody_wants_are_dropped() {
    let query = scan(&items("retract", &["id"]));
    let plan = planned(&[insert("upsert", &["id"], query)]).unwrap();
    assert_eq!(kinds(&plan), ["DropUpdateBefore"]);
    assert_eq!(plan.nodes.last().unwrap().changelog, ChangelogMode::UPSERT);
}

#[test]
fn a_filter_on_no_key_needs_old_rows() {
    let rows = scan(&items("retract", &["id"]));
    let few = call("<", vec![col(&rows, "amount"), literal(3)]);
    let plan = planned(&[insert("upsert", &["id"], filter(rows, few))]).unwrap();
    assert_eq!(kinds(&plan), Vec::<&str>::new());
    assert_eq!(plan.nodes.last().unwrap().changelog, ChangelogMode::ALL);
}

#[test]
fn events_that_may_repeat_are_normalized() {
    let statement = insert("retract", &[], scan(&items("retract", &["id"])));
    let options = [("table.exec.source.cdc-events-duplicate", "true")];
    let plan = planned_with(&[statement], &options).unwrap();
    assert_eq!(kinds(&plan), ["DropUpdateBefore", "ChangelogNormalize"]);
}

#[test]
fn state_that_can_only_grow_is_warned_of() {
    let statement = || insert("retract", &[], group(scan(&bids()), &["auction"], vec![count()]));
    let growing = planned(&[statement()]).unwrap();
    let warnings = super::super::state_warnings(&growing);
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains("GroupAggregate(groupBy=[auction]"),
        "{warnings:?}"
    );
    let ending = planned_with(&[statement()], &[("table.exec.state.ttl", "1 d")]).unwrap();
    assert_eq!(super::super::state_warnings(&ending), Vec::<String>::new());
}

#[test]
fn a_projection_above_the_last_state_changes_no_uid() {
    let counts = || group(scan(&bids()), &["auction"], vec![count()]);
    let uids = |query: Rel| {
        let plan = planned(&[insert("retract", &[], query)]).unwrap();
        let stateful = plan
            .nodes
            .iter()
            .filter(|node| matches!(node.spec, NodeSpec::GroupAggregate(_)));
        stateful.map(|node| node.uid.clone()).collect::<Vec<_>>()
    };
    assert_eq!(uids(counts()), uids(select(counts(), &["n"])));
    assert_eq!(uids(counts()), ["sink c.d.results/GroupAggregate[auction]"]);
}

#[test]
fn rows_with_nulls_where_none_may_be_can_be_left_out() {
    let query = || select(scan(&bids()), &["auction", "bidder"]);
    let statement = |query: Rel| {
        let mut statement = insert("append", &[], query);
        if let BoundStatement::Insert { table, .. } = &mut statement {
            let mut strict = (**table).clone();
            strict.schema.columns[0].data_type.nullable = false;
            *table = Arc::new(strict);
        }
        statement
    };
    let options = [("table.exec.sink.not-null-enforcer", "DROP")];
    let plan = planned_with(&[statement(query())], &options).unwrap();
    assert!(
        plan.nodes
            .iter()
            .any(|node| node.name.contains("where=[auction IS NOT NULL]"))
    );
}

#[test]
fn an_upsert_stream_goes_to_a_sink_of_its_kind_as_it_is() {
    let rows = || scan(&items("upsert", &["id"]));
    let plan = planned(&[insert("upsert", &["id"], select(rows(), &["id", "shop"]))]).unwrap();
    assert_eq!(kinds(&plan), Vec::<&str>::new());
    let few = call("<", vec![col(&rows(), "amount"), literal(3)]);
    let filtered = planned(&[insert("upsert", &["id"], filter(rows(), few))]).unwrap();
    assert_eq!(kinds(&filtered), ["ChangelogNormalize"]);
}
