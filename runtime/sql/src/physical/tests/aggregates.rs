//! GROUP BY without windows.

use crate::ast::ConflictAction;

use super::*;

#[test]
fn a_count_by_key_of_added_rows_gives_updates() {
    let query = group(scan(&bids()), &["auction"], vec![count()]);
    assert_eq!(
        shown(insert("retract", &[], query)),
        "Sink(table=[c.d.results], fields=[auction, n])
+- GroupAggregate(groupBy=[auction], select=[auction, COUNT(*) AS n], changelogMode=[I,UB,UA])
   +- Exchange(distribution=[hash[auction]], changelogMode=[I])
      +- Calc(select=[auction], changelogMode=[I])
         +- WatermarkAssigner(rowtime=[ts], watermark=[(ts - 3000:INTERVAL DAY TO SECOND)], changelogMode=[I])
            +- TableSourceScan(table=[[c, d, bids]], fields=[auction, ts], changelogMode=[I])

"
    );
}

#[test]
fn a_sink_that_takes_no_updates_says_who_gives_them() {
    let query = group(scan(&bids()), &["auction"], vec![count()]);
    let (kind, message) = refusal(insert("append", &[], query));
    assert_eq!(kind, SqlErrorKind::Unsupported);
    assert_eq!(
        message,
        "Table sink 'c.d.results' doesn't support consuming update changes which is produced by node \
         GroupAggregate(groupBy=[auction], select=[auction, COUNT(*) AS n])"
    );
}

#[test]
fn groups_of_groups_take_rows_back() {
    let counts = group(scan(&bids()), &["auction"], vec![count()]);
    let query = group(
        counts,
        &["n"],
        vec![aggregation("COUNT", &[], bigint(), "auctions")],
    );
    let plan = planned(&[insert("retract", &[], query)]).unwrap();
    let spec = plan.nodes.iter().filter_map(|node| match &node.spec {
        NodeSpec::GroupAggregate(spec) => Some((spec.aggregates[0].retracts, spec.emit_update_before)),
        _ => None,
    });
    assert_eq!(spec.collect::<Vec<_>>(), [(false, true), (true, true)]);
}

#[test]
fn an_upsert_sink_by_the_groups_key_needs_no_old_rows() {
    let query = group(scan(&bids()), &["auction"], vec![count()]);
    let plan = planned(&[insert("upsert", &["auction"], query)]).unwrap();
    assert_eq!(plan.nodes.last().unwrap().changelog.to_string(), "I,UA");
    assert_eq!(kinds(&plan), ["GroupAggregate"]);
}

#[test]
fn another_key_of_the_sink_needs_a_materializer() {
    let query = group(scan(&bids()), &["auction", "bidder"], vec![count()]);
    let mut statement = insert("upsert", &["auction"], query);
    let (_, message) = refusal(statement.clone());
    assert!(
        message.contains("Primary key: [auction], upsert key: [auction, bidder]."),
        "{message}"
    );
    if let BoundStatement::Insert { on_conflict, .. } = &mut statement {
        *on_conflict = Some(ConflictAction::Deduplicate);
    }
    let plan = planned(&[statement]).unwrap();
    assert_eq!(kinds(&plan), ["GroupAggregate", "SinkMaterializer"]);
    let materializer = &plan.nodes[plan.nodes.len() - 2];
    let NodeSpec::SinkMaterializer {
        primary_key,
        input_upsert_key,
        ..
    } = &materializer.spec
    else {
        panic!("{materializer:?}");
    };
    assert_eq!(
        (primary_key.as_slice(), input_upsert_key),
        (&[0][..], &Some(vec![0, 1]))
    );
}

#[test]
fn with_mini_batches_groups_are_aggregated_in_two_phases() {
    let query = || group(scan(&bids()), &["auction"], vec![count()]);
    let options = [("table.exec.mini-batch.enabled", "true")];
    let plan = planned_with(&[insert("retract", &[], query())], &options).unwrap();
    assert_eq!(kinds(&plan), ["LocalGroupAggregate", "GlobalGroupAggregate"]);
    let uid = |plan: &Plan| plan.nodes[plan.nodes.len() - 2].uid.clone();
    let one_phase = planned(&[insert("retract", &[], query())]).unwrap();
    assert_eq!(uid(&plan), uid(&one_phase));
}

#[test]
fn grouping_sets_are_expanded() {
    let mut query = group(scan(&bids()), &["auction", "bidder"], vec![count()]);
    if let RelKind::Aggregate {
        sets, grouping_ids, ..
    } = &mut query.kind
    {
        *sets = vec![vec![0], vec![1], vec![]];
        *grouping_ids = vec![vec![0, 1]];
    }
    query
        .schema
        .fields
        .insert(2, Field::new("g", bigint().with_nullable(false)));
    let shown = shown(insert("retract", &[], query));
    assert!(
        shown.contains("Calc(select=[auction, bidder, CASE(($e = 1), 1, ($e = 2), 2, 3) AS g, n]"),
        "{shown}"
    );
    assert!(
        shown.contains(
            "Expand(projects=[{auction, null:INT, 1}, {null:INT, bidder, 2}, {null:INT, null:INT, 3}]"
        ),
        "{shown}"
    );
}

#[test]
fn a_filter_of_a_group_goes_below_it() {
    let counts = group(scan(&bids()), &["auction"], vec![count()]);
    let one = call("=", vec![col(&counts, "auction"), literal(1)]);
    let shown = shown(insert("retract", &[], filter(counts, one)));
    assert!(
        shown.contains("Calc(select=[auction], where=[(auction = 1)]"),
        "{shown}"
    );
}
