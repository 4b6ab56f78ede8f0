use super::super::testing::{array_of, bigint, row, table, text, value_of};
use super::*;
use thalweg_plan::aggregate::{all_partial_fields, partial_fields};
use thalweg_plan::{DataType as SqlType, TypeRoot};

fn call(function: &str, args: &[(usize, SqlType)], data_type: SqlType) -> AggregateCall {
    AggregateCall {
        function: function.to_owned(),
        args: args.iter().map(|(column, _)| *column).collect(),
        arg_types: args.iter().map(|(_, data_type)| data_type.clone()).collect(),
        distinct: false,
        filter: None,
        data_type,
        name: format!("{function} of {args:?}"),
        retracts: false,
    }
}

fn of(function: &str, data_type: &SqlType, result: &SqlType) -> AggregateCall {
    call(function, &[(0, data_type.clone())], result.clone())
}

fn types() -> Vec<SqlType> {
    let decimal = TypeRoot::Decimal {
        precision: 10,
        scale: 2,
    };
    [
        TypeRoot::TinyInt,
        TypeRoot::Int,
        TypeRoot::BigInt,
        TypeRoot::Float,
        TypeRoot::Double,
        decimal,
    ]
    .map(SqlType::nullable)
    .to_vec()
}

fn sum_type(data_type: &SqlType) -> SqlType {
    match data_type.root {
        TypeRoot::Decimal { scale, .. } => SqlType::nullable(TypeRoot::Decimal { precision: 38, scale }),
        _ => data_type.clone(),
    }
}

#[test]
fn partial_results_have_the_columns_that_the_plan_gives_them() {
    let mut calls = vec![call("COUNT", &[], bigint())];
    for data_type in types() {
        let sum = sum_type(&data_type);
        let average = match data_type.root {
            TypeRoot::Decimal { .. } => SqlType::nullable(TypeRoot::Decimal {
                precision: 38,
                scale: 6,
            }),
            _ => data_type.clone(),
        };
        calls.push(of("SUM", &data_type, &sum));
        calls.push(of("SUM0", &data_type, &sum));
        calls.push(of("AVG", &data_type, &average));
        calls.push(of("MIN", &data_type, &data_type));
        calls.push(of("MAX", &data_type, &data_type));
    }
    for retracts in [false, true] {
        for call in &mut calls {
            call.retracts = retracts;
            let Some(planned) = partial_fields(call) else {
                assert!(
                    retracts && matches!(call.function.as_str(), "MIN" | "MAX"),
                    "{call:?}"
                );
                continue;
            };
            let planned: Vec<DataType> = planned.iter().map(|field| field.data_type.to_arrow()).collect();
            let fields = accumulator(call, &UserFunctions::default()).unwrap().fields();
            let made: Vec<DataType> = fields.iter().map(|field| field.data_type().clone()).collect();
            assert_eq!(planned, made, "{call:?}");
        }
    }
    let calls = [AggregateCall {
        retracts: true,
        ..call("COUNT", &[], bigint())
    }];
    assert_eq!(
        all_partial_fields(&calls).unwrap().len(),
        2,
        "the number of rows comes behind"
    );
}

#[test]
fn equal_calls_share_an_accumulator_and_stored_names_are_those_of_columns() {
    let input = table(&[("price", bigint()), ("bidder", bigint())]);
    let mut renamed = of("SUM", &bigint(), &bigint());
    renamed.name = "total".to_owned();
    let calls = [
        of("SUM", &bigint(), &bigint()),
        renamed,
        call("COUNT", &[], bigint()),
        AggregateCall {
            filter: Some(1),
            ..of("MAX", &bigint(), &bigint())
        },
    ];
    let aggregates = Aggregates::new(&calls, &input, true).unwrap();
    let fields = aggregates.fields();
    let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
    assert_eq!(
        names,
        [
            "SUM(price).sum",
            "COUNT(*).count",
            "MAX(price) FILTER bidder.value",
            "$rows"
        ]
    );
    assert_eq!(aggregates.evaluate(&[]).unwrap().len(), 4);
}

#[test]
fn what_has_no_accumulator_is_refused_by_name_and_types() {
    let calls = [of("SUM", &text(), &text())];
    let error = Aggregates::new(&calls, &table(&[("x", text())]), false)
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "the aggregate function SUM(STRING) is not supported"
    );
    let calls = [of("PERCENTILE", &bigint(), &bigint())];
    assert!(Aggregates::new(&calls, &table(&[("x", bigint())]), false).is_err());
}

#[test]
fn every_accumulator_comes_back_from_what_it_gathered() {
    let values = row![3, None::<i64>, 5, 3, -7];
    let column = array_of(&DataType::Int64, &values.iter().collect::<Vec<_>>());
    let slots = [0, 0, 1, 1, 1];
    for function in [
        "COUNT",
        "SUM",
        "SUM0",
        "AVG",
        "MIN",
        "MAX",
        "FIRST_VALUE",
        "LAST_VALUE",
        "VAR_POP",
        "STDDEV_SAMP",
        "SINGLE_VALUE",
    ] {
        for retracts in [false, true] {
            let call = AggregateCall {
                retracts,
                ..of(function, &bigint(), &bigint())
            };
            let mut accumulator = accumulator(&call, &UserFunctions::default()).unwrap();
            accumulator.resize(2);
            // Only one value may be there for SINGLE_VALUE.
            let rows = match function {
                "SINGLE_VALUE" => Rows {
                    slots: &slots,
                    signs: Some(&[1, 0, 0, 1, 0]),
                },
                _ => Rows {
                    slots: &slots,
                    signs: None,
                },
            };
            accumulator.update(rows, std::slice::from_ref(&column)).unwrap();
            let before = accumulator.evaluate(&[0, 1]).unwrap();
            let parts = accumulator.gather(&[0, 1]).unwrap();
            assert_eq!(parts.len(), accumulator.fields().len());
            accumulator.clear(&[0, 1]);
            accumulator.merge(&[1, 0], &parts).unwrap();
            let after = accumulator.evaluate(&[1, 0]).unwrap();
            for place in 0..2 {
                assert_eq!(
                    value_of(&before, place),
                    value_of(&after, place),
                    "{function}, {retracts}"
                );
            }
        }
    }
}
