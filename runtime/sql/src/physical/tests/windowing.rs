//! Window table functions, and what is grouped and joined by their windows.

use thalweg_plan::spec::{WindowKind, WindowSpec, Windowing};

use super::*;

/// `TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND)`.
pub(super) fn tumbled() -> Rel {
    windowed(scan(&bids()), WindowKind::Tumble { size_ms: 10_000 })
}

fn windowed(input: Rel, kind: WindowKind) -> Rel {
    let mut schema = input.schema.clone();
    let bound = timestamp().with_nullable(false);
    schema.fields.push(Field::new("window_start", bound.clone()));
    schema.fields.push(Field::new("window_end", bound));
    schema
        .fields
        .push(Field::new("window_time", rowtime().with_nullable(false)));
    Rel {
        schema,
        position: None,
        kind: RelKind::WindowTableFunction {
            window: WindowSpec {
                kind,
                time: index(&input, "ts"),
                offset_ms: 0,
                partition: Vec::new(),
                time_zone: "UTC".to_owned(),
            },
            input: Box::new(input),
        },
    }
}

#[test]
fn groups_of_windows_assign_them() {
    let query = group(
        tumbled(),
        &["window_start", "auction", "window_end"],
        vec![count()],
    );
    assert_eq!(
        shown(insert("append", &[], select(query, &["window_start", "auction", "n"]))),
        "Sink(table=[c.d.results], fields=[window_start, auction, n])
+- Calc(select=[window_start, auction, n], changelogMode=[I])
   +- WindowAggregate(groupBy=[auction], window=[TUMBLE(time_col=[ts], size=[10 s])], select=[auction, COUNT(*) AS n, start('w$) AS window_start, end('w$) AS window_end], changelogMode=[I])
      +- Exchange(distribution=[hash[auction]], changelogMode=[I])
         +- WatermarkAssigner(rowtime=[ts], watermark=[(ts - 3000:INTERVAL DAY TO SECOND)], changelogMode=[I])
            +- TableSourceScan(table=[[c, d, bids]], fields=[auction, ts], changelogMode=[I])

"
    );
}

#[test]
fn groups_of_groups_of_windows_take_the_windows_as_they_are() {
    let keys = ["window_start", "window_end", "auction"];
    let counts = group(tumbled(), &keys, vec![count()]);
    let query = group(
        counts,
        &["window_start", "window_end"],
        vec![aggregation("MAX", &[3], bigint(), "m")],
    );
    let plan = planned(&[insert("append", &[], query)]).unwrap();
    let windowings = plan.nodes.iter().filter_map(|node| match &node.spec {
        NodeSpec::WindowAggregate(spec) => Some(matches!(spec.windowing, Windowing::Assign(_))),
        _ => None,
    });
    assert_eq!(windowings.collect::<Vec<_>>(), [true, false]);
}

#[test]
fn one_bound_alone_is_a_group_like_others() {
    let query = group(tumbled(), &["window_start"], vec![count()]);
    let plan = planned(&[insert("retract", &[], query)]).unwrap();
    assert_eq!(kinds(&plan), ["WindowTableFunction", "GroupAggregate"]);
}

#[test]
fn rows_of_the_same_windows_are_joined_when_they_are_over() {
    let on = |both: &Rel| {
        let right = |column: usize| {
            let column = column + both.schema.fields.len() / 2;
            Expr::column(column, both.schema.fields[column].data_type.clone())
        };
        let bound = |name: &str| equal(col(both, name), right(index(both, name)));
        let bounds = call("AND", vec![bound("window_start"), bound("window_end")]);
        call("AND", vec![bounds, equal(col(both, "auction"), right(0))])
    };
    let query = join(tumbled(), tumbled(), JoinKind::Left, on);
    let query = rewrite::project_columns(query, &[0, 9]);
    let shown = shown(insert("append", &[], query));
    assert!(
        shown.contains(
            "WindowJoin(leftWindow=[win_start=[window_start], win_end=[window_end]], \
             rightWindow=[win_start=[window_start], win_end=[window_end]], joinType=[LeftOuterJoin], where=[(auction = auction)]"
        ),
        "{shown}"
    );
}

#[test]
fn a_column_that_is_no_time_attribute_has_no_windows() {
    let counts = group(scan(&bids()), &["ts"], vec![count()]);
    let query = windowed(counts, WindowKind::Tumble { size_ms: 1000 });
    let (_, message) = refusal(insert("retract", &[], query));
    assert_eq!(
        message,
        "The window function requires the timecol is a time attribute type, but is TIMESTAMP(3)."
    );
}

#[test]
fn a_filter_of_windowed_rows_goes_below_the_windows() {
    let cheap = call("<", vec![col(&tumbled(), "price"), literal(9)]);
    let query = group(
        filter(tumbled(), cheap),
        &["window_start", "window_end"],
        vec![count()],
    );
    let shown = shown(insert("append", &[], query));
    assert!(shown.contains("Calc(select=[ts], where=[(price < 9)]"), "{shown}");
}
