//! Joins.

use super::*;

fn orders() -> Arc<CatalogTable> {
    table(
        "orders",
        "append",
        &[("id", bigint()), ("qty", int()), ("ts", rowtime())],
        &["id"],
    )
}

fn payments() -> Arc<CatalogTable> {
    let columns = [("pay", bigint()), ("order_id", bigint()), ("pts", rowtime())];
    table("payments", "append", &columns, &[])
}

fn by_id(both: &Rel) -> Expr {
    equal(col(both, "id"), col(both, "order_id"))
}

#[test]
fn an_inner_join_of_added_rows_adds_rows() {
    let query = select(
        join(scan(&orders()), scan(&payments()), JoinKind::Inner, by_id),
        &["id", "pay"],
    );
    let shown = shown(insert("append", &[], query));
    assert!(
        shown.contains(
            "Join(joinType=[InnerJoin], where=[(id = order_id)], select=[id, pay, order_id], \
             leftInputSpec=[JoinKeyContainsUniqueKey], rightInputSpec=[NoUniqueKey], changelogMode=[I])"
        ),
        "{shown}"
    );
}

#[test]
fn an_outer_join_takes_back_what_it_padded() {
    let query = select(
        join(scan(&orders()), scan(&payments()), JoinKind::Left, by_id),
        &["id", "pay"],
    );
    let plan = planned(&[insert("retract", &[], query.clone())]).unwrap();
    assert_eq!(plan.nodes.last().unwrap().changelog, ChangelogMode::ALL);
    let (_, message) = refusal(insert("append", &[], query));
    assert!(
        message.contains("doesn't support consuming update and delete changes"),
        "{message}"
    );
}

#[test]
fn a_condition_on_the_padded_side_makes_an_outer_join_an_inner_one() {
    let joined = join(scan(&orders()), scan(&payments()), JoinKind::Left, by_id);
    let condition = call(">", vec![col(&joined, "pay"), literal(1)]);
    let query = select(filter(joined, condition), &["id", "pay"]);
    let shown = shown(insert("append", &[], query));
    assert!(shown.contains("joinType=[InnerJoin]"), "{shown}");
    assert!(shown.contains("where=[(pay > 1)]"), "{shown}");
}

#[test]
fn times_that_are_near_make_an_interval_join() {
    let near = |both: &Rel| {
        let moved = |operator: &str| Expr::call(operator, vec![col(both, "pts"), seconds(4)], timestamp());
        let lower = call(">=", vec![col(both, "ts"), moved("-")]);
        let upper = call("<", vec![col(both, "ts"), moved("+")]);
        call("AND", vec![by_id(both), call("AND", vec![lower, upper])])
    };
    let query = select(
        join(scan(&orders()), scan(&payments()), JoinKind::Full, near),
        &["id", "pay"],
    );
    let shown = shown(insert("append", &[], query));
    assert!(
        shown.contains(
            "windowBounds=[leftLowerBound=-4000, leftUpperBound=3999, leftTimeIndex=1, rightTimeIndex=2]"
        ),
        "{shown}"
    );
}

#[test]
fn a_key_that_is_no_column_is_computed_below() {
    let next = |both: &Rel| {
        let next = Expr::call("+", vec![col(both, "order_id"), literal(1)], bigint());
        equal(col(both, "id"), next)
    };
    let query = select(
        join(scan(&orders()), scan(&payments()), JoinKind::Inner, next),
        &["id", "pay"],
    );
    let shown = shown(insert("append", &[], query));
    assert!(
        shown.contains("Calc(select=[pay, order_id, (order_id + 1) AS $f2]"),
        "{shown}"
    );
    assert!(
        shown.contains("Calc(select=[id, pay], changelogMode=[I])"),
        "{shown}"
    );
}

#[test]
fn a_join_by_a_key_of_both_sides_passes_upserts_on() {
    let counts = || group(scan(&bids()), &["auction"], vec![count()]);
    let query = join(counts(), counts(), JoinKind::Inner, |both| {
        let right = Expr::column(2, both.schema.fields[2].data_type.clone());
        equal(col(both, "auction"), right)
    });
    let mut query = rewrite::project_columns(query, &[0, 1, 3]);
    query.schema.fields[2].name = "m".to_owned();
    let plan = planned(&[insert("upsert", &["auction"], query)]).unwrap();
    assert_eq!(
        kinds(&plan),
        ["GroupAggregate", "Join"],
        "both sides are the same rows"
    );
    assert_eq!(plan.nodes.last().unwrap().changelog.to_string(), "I,UA");
}

#[test]
fn a_temporal_join_needs_the_versioned_tables_key() {
    let rates = |key: &[&str]| {
        let columns = [("currency", bigint()), ("rate", bigint()), ("rts", rowtime())];
        table("rates", "retract", &columns, key)
    };
    let temporal = |key: &[&str]| {
        let (left, right) = (scan(&orders()), scan(&rates(key)));
        let schema = rewrite::joined(&left, &right);
        let rel = Rel {
            kind: RelKind::Values(Vec::new()),
            schema: schema.clone(),
            position: None,
        };
        let condition = Some(equal(col(&rel, "id"), col(&rel, "currency")));
        let joined = Rel {
            schema,
            position: None,
            kind: RelKind::TemporalJoin {
                time: index(&left, "ts"),
                left: Box::new(left),
                right: Box::new(right),
                kind: JoinKind::Left,
                condition,
            },
        };
        insert("append", &[], select(joined, &["id", "rate"]))
    };
    let plan = planned(&[temporal(&["currency"])]).unwrap();
    assert_eq!(kinds(&plan), ["DropUpdateBefore", "TemporalJoin"]);
    let (_, message) = refusal(temporal(&[]));
    assert!(
        message.contains("requires primary key in versioned table"),
        "{message}"
    );
}

#[test]
fn intersect_is_a_semi_join_of_distinct_rows() {
    let left = select(scan(&orders()), &["id"]);
    let right = select(scan(&payments()), &["order_id"]);
    let query = Rel {
        schema: left.schema.clone(),
        position: None,
        kind: RelKind::SetOperation {
            except: false,
            all: false,
            left: Box::new(left),
            right: Box::new(right),
        },
    };
    let plan = planned(&[insert("retract", &[], query)]).unwrap();
    assert_eq!(kinds(&plan), ["Join", "GroupAggregate"]);
}

#[test]
fn except_all_counts_and_repeats_rows() {
    let left = select(scan(&orders()), &["id"]);
    let right = select(scan(&payments()), &["order_id"]);
    let query = Rel {
        schema: left.schema.clone(),
        position: None,
        kind: RelKind::SetOperation {
            except: true,
            all: true,
            left: Box::new(left),
            right: Box::new(right),
        },
    };
    let shown = shown(insert("retract", &[], query));
    assert!(
        shown.contains("UNNEST(MAP(ROW(id), CAST(vcol_count_0 AS INT)))"),
        "{shown}"
    );
    assert!(shown.contains("where=[(vcol_count_0 > 0)]"), "{shown}");
}

/// `orders JOIN customers FOR SYSTEM_TIME AS OF pt`, of a connector.
fn looked_up(connector: &str, condition: impl Fn(&Rel) -> Expr) -> BoundStatement {
    let proctime = DataType::not_null(TypeRoot::TimestampLtz(3, TimeKind::Proctime));
    let columns = [("id", bigint()), ("qty", bigint())];
    let orders = scan(&table("orders", "retract", &columns, &["id"]));
    let mut schema = orders.schema.clone();
    schema.fields.push(Field::new("pt", proctime.clone()));
    let left = Rel {
        kind: RelKind::Project {
            exprs: vec![
                col(&orders, "id"),
                col(&orders, "qty"),
                Expr::call("PROCTIME", Vec::new(), proctime),
            ],
            input: Box::new(orders),
        },
        schema,
        position: None,
    };
    let columns = [("customer", bigint()), ("city", bigint()), ("age", bigint())];
    let right = scan(&table("customers", connector, &columns, &[]));
    let schema = rewrite::joined(&left, &right);
    let both = Rel {
        kind: RelKind::Values(Vec::new()),
        schema: schema.clone(),
        position: None,
    };
    let joined = Rel {
        schema,
        position: None,
        kind: RelKind::TemporalJoin {
            time: index(&left, "pt"),
            left: Box::new(left),
            right: Box::new(right),
            kind: JoinKind::Left,
            condition: Some(condition(&both)),
        },
    };
    insert("retract", &[], select(joined, &["id", "city"]))
}

#[test]
fn a_lookup_join_passes_changes_on_and_filters_the_table_by_what_is_of_the_table_alone() {
    let statement = looked_up("lookup", |both| {
        let key = equal(col(both, "id"), col(both, "customer"));
        let adult = call(">", vec![col(both, "age"), literal(17)]);
        let fewer = call("<", vec![col(both, "qty"), col(both, "age")]);
        call("AND", vec![key, call("AND", vec![adult, fewer])])
    });
    let shown = shown(statement);
    let expected = "LookupJoin(table=[c.d.customers], joinType=[LeftOuterJoin], lookup=[customer=id], where=[(age > 17)], \
                    joinCondition=[(qty < age)], select=[id, qty, pt, customer, city, age], changelogMode=[I,UB,UA,D])";
    assert!(shown.contains(expected), "{shown}");
}

#[test]
fn a_lookup_join_needs_a_table_that_can_be_looked_up_and_a_key() {
    let by_id = |both: &Rel| equal(col(both, "id"), col(both, "customer"));
    let (_, message) = refusal(looked_up("append", by_id));
    assert_eq!(message, "Processing-time temporal join is not supported yet.");
    let (_, message) = refusal(looked_up("lookup", |both| {
        call("<", vec![col(both, "qty"), col(both, "age")])
    }));
    assert_eq!(
        message,
        "Temporal table join requires an equality condition on fields of table [c.d.customers]."
    );
}
