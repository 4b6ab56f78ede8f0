//! Top-N, deduplication, ORDER BY.

use super::*;

fn sorted(input: Rel, name: &str, fetch: Option<u64>) -> Rel {
    let keys = vec![SortKey {
        column: index(&input, name),
        descending: false,
        nulls_first: true,
    }];
    Rel {
        schema: input.schema.clone(),
        position: None,
        kind: RelKind::Sort {
            input: Box::new(input),
            keys,
            offset: 0,
            fetch,
        },
    }
}

#[test]
fn the_first_rows_of_a_key_are_a_top_n() {
    let query = select(
        at_most(numbered(scan(&bids()), &["auction"], &[("price", true)]), 3),
        &["auction", "price", "rn"],
    );
    let shown = shown(insert("retract", &[], query));
    assert!(
        shown.contains(
            "Rank(strategy=[AppendFastStrategy], rankType=[ROW_NUMBER], rankRange=[rankStart=1, rankEnd=3], \
             partitionBy=[auction], orderBy=[price DESC], select=[auction, price, rn], changelogMode=[I,UB,UA,D])"
        ),
        "{shown}"
    );
}

#[test]
fn a_top_1_is_taken_for_a_first_row_as_flink_does() {
    let modes = [
        (&[("price", false)][..], "I"),
        (&[("price", true)], "I,UB,UA,D"),
        (&[("price", true), ("bidder", true)], "I"),
    ];
    for (order, mode) in modes {
        let top = at_most(numbered(scan(&bids()), &["auction"], order), 1);
        let plan = planned(&[insert("retract", &[], select(top, &["auction", "price"]))]).unwrap();
        let rank = plan
            .nodes
            .iter()
            .find(|node| matches!(node.spec, NodeSpec::Rank(_)));
        assert_eq!(rank.unwrap().changelog.to_string(), mode, "{order:?}");
    }
}

#[test]
fn a_rank_that_nobody_reads_is_no_column() {
    let query = select(
        at_most(numbered(scan(&bids()), &["auction"], &[("price", true)]), 3),
        &["auction"],
    );
    let plan = planned(&[insert("retract", &[], query)]).unwrap();
    let rank = plan.nodes.iter().find_map(|node| match &node.spec {
        NodeSpec::Rank(rank) => Some(rank),
        _ => None,
    });
    assert!(!rank.unwrap().with_rank);
}

#[test]
fn one_row_by_time_is_a_deduplication() {
    for (descending, keep, mode) in [(false, "FirstRow", "I"), (true, "LastRow", "I,UB,UA,D")] {
        let query = select(
            at_most(numbered(scan(&bids()), &["auction"], &[("ts", descending)]), 1),
            &["auction", "price"],
        );
        let shown = shown(insert("retract", &[], query));
        let expected =
            format!("Deduplicate(keep=[{keep}], key=[auction], order=[ROWTIME], changelogMode=[{mode}])");
        assert!(shown.contains(&expected), "{shown}");
    }
}

#[test]
fn the_greatest_counts_are_updated_in_place() {
    let counts = group(scan(&bids()), &["auction", "bidder"], vec![count()]);
    let query = at_most(numbered(counts, &["auction"], &[("n", true)]), 2);
    let shown = shown(insert("retract", &[], query));
    assert!(
        shown.contains("strategy=[UpdateFastStrategy[auction, bidder]]"),
        "{shown}"
    );
    assert!(shown.contains("COUNT(*) AS n], changelogMode=[I,UA])"), "{shown}");
}

#[test]
fn rows_of_a_window_are_ranked_when_it_is_over() {
    let query = at_most(
        numbered(
            windowing::tumbled(),
            &["window_start", "window_end"],
            &[("price", true)],
        ),
        3,
    );
    let query = select(query, &["window_start", "price", "rn"]);
    let plan = planned(&[insert("append", &[], query)]).unwrap();
    assert_eq!(kinds(&plan), ["WindowTableFunction", "WindowRank"]);
}

#[test]
fn rows_are_sorted_by_time_alone() {
    let plan = planned(&[insert("append", &[], sorted(scan(&bids()), "ts", None))]).unwrap();
    assert_eq!(kinds(&plan), ["TemporalSort"]);
    let (_, message) = refusal(insert("append", &[], sorted(scan(&bids()), "price", None)));
    assert_eq!(message, "Sort on a non-time-attribute field is not supported.");
    let first = planned(&[insert("retract", &[], sorted(scan(&bids()), "price", Some(5)))]).unwrap();
    assert_eq!(kinds(&first), ["SortLimit"]);
    let sink = first.nodes.last().unwrap();
    assert_eq!(sink.parallelism, Some(1), "updates must not overtake one another");
}

#[test]
fn over_by_anything_but_time_is_refused() {
    let query = numbered(scan(&bids()), &["auction"], &[("price", false)]);
    let (_, message) = refusal(insert("append", &[], query));
    assert_eq!(
        message,
        "OVER ordered by a column that is no time attribute is not supported."
    );
}
