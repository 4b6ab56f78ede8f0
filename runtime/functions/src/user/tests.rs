use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::Int64Type;
use thalweg_plan::{Field, Literal, Schema, TypeRoot};

use super::*;
use crate::testing::env;
use crate::{EvaluationEnv, Evaluator, is_deterministic};

struct CountChar;

impl ScalarFunction for CountChar {
    fn types(&self, args: &[DataType]) -> Result<FunctionTypes, String> {
        let text = |arg: &DataType| matches!(arg.root, TypeRoot::Char(_) | TypeRoot::VarChar(_));
        if args.len() != 2 || !args.iter().all(text) {
            return Err("(STRING, STRING)".into());
        }
        Ok(FunctionTypes {
            args: vec![DataType::string(), DataType::string()],
            result: DataType::not_null(TypeRoot::BigInt),
        })
    }

    fn evaluate(&self, args: &[ArrayRef], _rows: usize) -> Result<ArrayRef, String> {
        let (texts, letters) = (args[0].as_string::<i32>(), args[1].as_string::<i32>());
        let counts = texts.iter().zip(letters).map(|(text, letter)| {
            text.zip(letter)
                .map(|(text, letter)| text.matches(letter).count() as i64)
        });
        Ok(Arc::new(counts.collect::<Int64Array>()))
    }
}

struct Ticks(AtomicI64);

impl ScalarFunction for Ticks {
    fn types(&self, _: &[DataType]) -> Result<FunctionTypes, String> {
        Ok(FunctionTypes {
            args: Vec::new(),
            result: DataType::not_null(TypeRoot::BigInt),
        })
    }

    fn evaluate(&self, _: &[ArrayRef], rows: usize) -> Result<ArrayRef, String> {
        let ticks = (0..rows).map(|_| self.0.fetch_add(1, Ordering::Relaxed));
        Ok(Arc::new(ticks.collect::<Int64Array>()))
    }

    fn is_deterministic(&self) -> bool {
        false
    }
}

/// Words and how long they are; of the text "!" what it must not give.
struct Words;

impl TableFunction for Words {
    fn types(&self, args: &[DataType]) -> Result<TableFunctionTypes, String> {
        if args.len() != 1 {
            return Err("(STRING)".into());
        }
        Ok(TableFunctionTypes {
            args: vec![DataType::string()],
            columns: vec![
                Field::new("word", DataType::string()),
                Field::new("length", DataType::nullable(TypeRoot::BigInt)),
            ],
        })
    }

    fn evaluate(&self, args: &[ArrayRef], rows: usize) -> Result<TableRows, String> {
        let texts = args[0].as_string::<i32>();
        if texts.iter().any(|text| text == Some("!")) {
            let column: ArrayRef = Arc::new(StringArray::from(vec!["!"]));
            let columns = vec![Arc::clone(&column), column];
            let rows = vec![rows as u32].into();
            return Ok(TableRows { rows, columns });
        }
        let words = texts.iter().enumerate().flat_map(|(row, text)| {
            let words = text.unwrap_or_default().split_whitespace();
            words.map(move |word| (row as u32, word))
        });
        let words: Vec<(u32, &str)> = words.collect();
        Ok(TableRows {
            rows: UInt32Array::from_iter_values(words.iter().map(|(row, _)| *row)),
            columns: vec![
                Arc::new(StringArray::from_iter_values(words.iter().map(|(_, word)| *word))),
                Arc::new(Int64Array::from_iter_values(
                    words.iter().map(|(_, word)| word.len() as i64),
                )),
            ],
        })
    }
}

/// The mean of whole numbers, rounded down.
struct Mean;

impl AggregateFunction for Mean {
    fn types(&self, _: &[DataType]) -> Result<AggregateFunctionTypes, String> {
        let number = DataType::nullable(TypeRoot::BigInt);
        Ok(AggregateFunctionTypes {
            args: vec![number.clone()],
            accumulator: ["sum", "count"]
                .map(|name| Field::new(name, number.clone()))
                .to_vec(),
            result: number,
        })
    }

    fn accumulate(
        &self,
        before: &[ArrayRef],
        groups: &[u32],
        args: &[ArrayRef],
    ) -> Result<Vec<ArrayRef>, String> {
        let mut columns = [0, 1].map(|field: usize| -> Vec<i64> {
            let column = before[field].as_primitive::<Int64Type>().iter();
            column.map(Option::unwrap_or_default).collect()
        });
        for (group, number) in groups.iter().zip(args[0].as_primitive::<Int64Type>()) {
            columns[0][*group as usize] += number.unwrap_or_default();
            columns[1][*group as usize] += i64::from(number.is_some());
        }
        Ok(columns
            .map(|column| Arc::new(Int64Array::from(column)) as ArrayRef)
            .to_vec())
    }

    fn evaluate(&self, accumulators: &[ArrayRef], _groups: usize) -> Result<ArrayRef, String> {
        let [sums, counts] = [0, 1].map(|field: usize| accumulators[field].as_primitive::<Int64Type>());
        let means = sums
            .iter()
            .zip(counts)
            .map(|(sum, count)| sum?.checked_div(count?));
        Ok(Arc::new(means.collect::<Int64Array>()))
    }
}

fn functions() -> UserFunctions {
    UserFunctions::default()
        .scalar("a.CountChar", CountChar)
        .scalar("a.Ticks", Ticks(AtomicI64::new(0)))
        .table("a.Words", Words)
        .aggregate("a.Mean", Mean)
}

fn evaluated(expr: &Expr, texts: &[Option<&str>]) -> Vec<Option<i64>> {
    let schema = Schema {
        fields: vec![thalweg_plan::Field::new("text", DataType::string())],
    }
    .to_arrow();
    let batch = RecordBatch::try_new(
        Arc::clone(&schema),
        vec![Arc::new(StringArray::from_iter(texts.iter().copied()))],
    )
    .unwrap();
    let env = Arc::new(EvaluationEnv {
        functions: Arc::new(functions()),
        ..(*env()).clone()
    });
    let evaluator = Evaluator::new(std::slice::from_ref(expr), &schema, env).unwrap();
    let values = evaluator.evaluate(&batch).unwrap();
    values[0].as_primitive::<Int64Type>().iter().collect()
}

#[test]
fn a_call_is_typed_and_computes_a_column() {
    let args = vec![
        Expr::column(0, DataType::string()),
        Expr::literal(Literal::String("c".into()), DataType::not_null(TypeRoot::Char(1))),
    ];
    let call = functions().call("count_char", "a.CountChar", args, None).unwrap();
    assert_eq!(call.data_type, DataType::not_null(TypeRoot::BigInt));
    assert!(is_deterministic(&call));
    assert_eq!(
        evaluated(&call, &[Some("accacc"), None, Some("")]),
        [Some(4), None, Some(0)]
    );
}

#[test]
fn what_is_not_the_same_twice_is_computed_for_each_row() {
    let call = functions().call("ticks", "a.Ticks", Vec::new(), None).unwrap();
    assert!(!is_deterministic(&call));
    assert_eq!(evaluated(&call, &[None, None, None]), [Some(0), Some(1), Some(2)]);
}

#[test]
fn a_class_that_no_package_has_and_arguments_that_do_not_fit_are_refused() {
    let missing = functions().call("f", "a.Missing", Vec::new(), None).unwrap_err();
    assert_eq!(
        missing.message,
        "Function 'f' can't be called: no package has the class 'a.Missing'; this program has a.CountChar, a.Mean, a.Ticks, a.Words"
    );
    let none = UserFunctions::default().call("f", "a.Missing", Vec::new(), None);
    assert!(none.unwrap_err().message.ends_with("this program has none"));
    let unfitting = functions()
        .call("f", "a.CountChar", Vec::new(), None)
        .unwrap_err();
    assert!(
        unfitting
            .message
            .ends_with("Supported form(s): 'f(STRING, STRING)'"),
        "{unfitting}"
    );
}

fn texts(texts: &[&str]) -> Vec<ArrayRef> {
    vec![Arc::new(StringArray::from(texts.to_vec()))]
}

fn literal(text: &str) -> Expr {
    Expr::literal(
        Literal::String(text.into()),
        DataType::not_null(TypeRoot::Char(1)),
    )
}

#[test]
fn a_table_function_gives_rows_for_rows() {
    let call = functions()
        .table_call("words", "a.Words", vec![literal("a")])
        .unwrap();
    assert_eq!(call.function, "words@a.Words");
    assert_eq!(call.columns[1].name, "length");
    let words = functions()
        .table_function(&call.function, &[DataType::string()])
        .unwrap();
    let given = words.evaluate(&texts(&["a bc", "", "d"]), 3).unwrap();
    assert_eq!(given.rows.values(), &[0, 0, 2]);
    assert_eq!(given.columns[1].as_primitive::<Int64Type>().values(), &[1, 2, 1]);
}

#[test]
fn what_a_table_function_gives_is_looked_at() {
    let words = functions()
        .table_function("words@a.Words", &[DataType::string()])
        .unwrap();
    let error = words.evaluate(&texts(&["!"]), 1).unwrap_err();
    assert!(
        error.starts_with("words: it gave row numbers that are not those of its 1 rows"),
        "{error}"
    );
}

#[test]
fn an_aggregate_function_adds_rows_to_its_groups_accumulators() {
    let mean = functions()
        .aggregate_function("mean@a.Mean", &[DataType::nullable(TypeRoot::BigInt)])
        .unwrap();
    let nulls: ArrayRef = Arc::new(Int64Array::from(vec![None, None]));
    let empty = vec![Arc::clone(&nulls), nulls];
    let numbers: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![Some(3), Some(10), None, Some(6)]))];
    let after = mean.accumulate(&empty, 2, &[0, 1, 0, 0], &numbers).unwrap();
    let means = mean.evaluate(&after, 2).unwrap();
    assert_eq!(means.as_primitive::<Int64Type>().values(), &[4, 10]);
    assert!(mean.evaluate(&empty, 2).unwrap().is_null(0));
    let error = mean
        .accumulate(&empty, 3, &[0], &[numbers[0].slice(0, 1)])
        .unwrap_err();
    assert_eq!(error, "mean: it gave 2 values for 3 rows");
    assert!(!mean.merges() && !mean.retracts());
    let error = mean.retract(&empty, 2, &[0], &numbers).unwrap_err();
    assert_eq!(error, "mean: it has no retract");
}

#[test]
fn a_function_of_another_kind_or_program_is_refused() {
    let refused = functions()
        .call("words", "a.Words", vec![literal("a")], None)
        .unwrap_err();
    assert!(
        refused
            .message
            .ends_with("it is called in FROM, as LATERAL TABLE(words(..))"),
        "{refused}"
    );
    let refused = functions().table_call("mean", "a.Mean", Vec::new()).unwrap_err();
    assert_eq!(
        refused.message,
        "'mean' is an aggregate function, which can't stand here"
    );
    let refused = UserFunctions::default()
        .table_function("words@a.Words", &[])
        .err()
        .unwrap();
    assert!(
        refused.contains("words@a.Words: the script was planned by another one"),
        "{refused}"
    );
}
