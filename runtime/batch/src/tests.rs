//! Each operator over rows in memory. Rows are written as texts: "1 a" of a BIGINT and a STRING, "-" a null.

mod aggregates;
mod joins;
mod memory;
mod ordered;
mod windows;

use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use thalweg_functions::EvaluationEnv;
use thalweg_operators::{Operator, OperatorContext, OperatorError, OutputLimit};
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::spec::AggregateCall;
use thalweg_plan::{
    ChangelogMode, DataType, Distribution, Expr, Field, Input, Node, NodeSpec, Plan, Schema, TypeRoot,
};
use thalweg_state::StateSettings;
use thalweg_types::{KeyGroupRange, OperatorId, StreamBatch};

use crate::{BatchOperator, BatchPlan};

static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| tokio::runtime::Runtime::new().unwrap());

fn bigint() -> DataType {
    DataType::nullable(TypeRoot::BigInt)
}

fn text() -> DataType {
    DataType::nullable(TypeRoot::VarChar(100))
}

/// Written in milliseconds.
fn rowtime() -> DataType {
    DataType::nullable(TypeRoot::Timestamp(3, TimeKind::Rowtime))
}

fn schema(types: &[DataType]) -> Schema {
    let fields = types.iter().enumerate();
    Schema {
        fields: fields
            .map(|(place, data_type)| Field::new(format!("f{place}"), data_type.clone()))
            .collect(),
    }
}

/// A plan from the sources on.
#[derive(Clone, Default)]
struct Made {
    plan: Plan,
    /// By source: its rows.
    rows: Vec<Vec<RecordBatch>>,
    memory_bytes: Option<usize>,
    /// 0: one.
    partitions: usize,
}

impl Made {
    fn source(&mut self, types: &[DataType], rows: &[&str]) -> usize {
        let schema = schema(types);
        let batches = rows.chunks(2).map(|rows| batch(&schema, rows)).collect();
        self.rows.push(batches);
        self.node(NodeSpec::Values(Vec::new()), &[], types)
    }

    fn node(&mut self, spec: NodeSpec, inputs: &[usize], types: &[DataType]) -> usize {
        let id = self.plan.nodes.len();
        let input = |node: &usize| Input {
            node: *node,
            distribution: Distribution::Forward,
        };
        self.plan.nodes.push(Node {
            id,
            spec,
            name: format!("Node {id}"),
            uid: id.to_string(),
            parallelism: None,
            inputs: inputs.iter().map(input).collect(),
            schema: schema(types),
            changelog: ChangelogMode::INSERT_ONLY,
            upsert_keys: Vec::new(),
        });
        id
    }

    /// The rows of the last node, in the order in which they come.
    fn run(mut self) -> Vec<String> {
        let partitions = std::mem::take(&mut self.partitions).max(1);
        let root = self.plan.nodes.len() - 1;
        let types: Vec<DataType> = self.plan.nodes[root]
            .schema
            .fields
            .iter()
            .map(|field| field.data_type.clone())
            .collect();
        let sink = self.node(NodeSpec::DropUpdateBefore, &[root], &types);
        match outputs(&self, sink, partitions) {
            Ok(batches) => batches.iter().flat_map(shown).collect(),
            Err(error) => vec![error.to_string()],
        }
    }

    /// The same, sorted, on one thread and on several.
    fn rows(self) -> Vec<String> {
        let several = Self {
            partitions: 3,
            ..self.clone()
        };
        let [one, several] = [self, several].map(|made| {
            let mut rows = made.run();
            rows.sort_unstable();
            rows
        });
        assert_eq!(one, several);
        one
    }
}

fn outputs(made: &Made, sink: usize, partitions: usize) -> Result<Vec<RecordBatch>, OperatorError> {
    let plan = BatchPlan::of(&made.plan, sink, &env().functions).unwrap();
    let context = context(made.memory_bytes.unwrap_or(64 << 20));
    let mut operator = BatchOperator::new(&plan, &env(), &context, partitions)?;
    let sources: Vec<usize> = plan.sources().to_vec();
    let mut outputs = Vec::new();
    for (input, source) in sources.iter().enumerate() {
        // Sources are made first, in their order.
        for rows in &made.rows[*source] {
            drain(&mut operator, &mut outputs)?;
            operator.push(input, StreamBatch::new(rows.clone()))?;
        }
        drain(&mut operator, &mut outputs)?;
        operator.end_input(input)?;
    }
    drain(&mut operator, &mut outputs)?;
    Ok(outputs)
}

/// As a task: until the operator is ready and has nothing.
fn drain(operator: &mut BatchOperator, outputs: &mut Vec<RecordBatch>) -> Result<(), OperatorError> {
    let limit = OutputLimit {
        rows: 1000,
        bytes: 1 << 20,
    };
    loop {
        RUNTIME.block_on(std::future::poll_fn(|cx: &mut Context<'_>| -> Poll<_> {
            operator.poll_ready(cx)
        }))?;
        match operator.poll_output(limit)? {
            Some(batch) => outputs.push(batch.rows),
            None => return Ok(()),
        }
    }
}

fn env() -> Arc<EvaluationEnv> {
    Arc::new(EvaluationEnv {
        time_zone: "UTC".to_owned(),
        clock: Arc::new(|| 0),
        statement_time_ms: 0,
        is_batch: true,
        functions: Arc::default(),
    })
}

fn context(memory_bytes: usize) -> OperatorContext {
    OperatorContext {
        task_name: "Batch (1/1)".into(),
        operator_name: "Batch".into(),
        operator_id: OperatorId::from_u128(1),
        subtask: 0,
        parallelism: 1,
        max_parallelism: 128,
        key_groups: KeyGroupRange::of_subtask(0, 1, 128),
        state: Arc::new(StateSettings {
            memory_bytes,
            ..StateSettings::default()
        }),
        io: RUNTIME.handle().clone(),
    }
}

fn batch(schema: &Schema, rows: &[&str]) -> RecordBatch {
    let schema = schema.to_arrow();
    let columns = schema.fields().iter().enumerate().map(|(place, field)| {
        let texts = rows
            .iter()
            .map(|row| row.split(' ').nth(place).filter(|text| *text != "-"));
        let texts = StringArray::from_iter(texts);
        if field.data_type().is_temporal() {
            let numbers = cast(&texts, &arrow::datatypes::DataType::Int64).unwrap();
            return cast(&numbers, field.data_type()).unwrap();
        }
        cast(&texts, field.data_type()).unwrap()
    });
    let columns: Vec<ArrayRef> = columns.collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

fn shown(rows: &RecordBatch) -> Vec<String> {
    let columns = rows.columns().iter().map(|column| match column.data_type() {
        arrow::datatypes::DataType::Timestamp(..) => {
            cast(column, &arrow::datatypes::DataType::Int64).unwrap()
        }
        _ => Arc::clone(column),
    });
    let columns: Vec<ArrayRef> = columns.collect();
    let options = FormatOptions::default().with_null("-");
    let formatters: Vec<ArrayFormatter<'_>> = columns
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap())
        .collect();
    (0..rows.num_rows())
        .map(|row| {
            let values: Vec<String> = formatters
                .iter()
                .map(|column| column.value(row).to_string())
                .collect();
            values.join(" ")
        })
        .collect()
}

fn call(function: &str, args: &[usize], arg: &DataType, result: DataType) -> AggregateCall {
    AggregateCall {
        function: function.to_owned(),
        args: args.to_vec(),
        arg_types: args.iter().map(|_| arg.clone()).collect(),
        distinct: false,
        filter: None,
        data_type: result,
        name: function.to_lowercase(),
        retracts: false,
    }
}

fn is_greater(left: usize, right: usize) -> Expr {
    Expr::call(
        ">",
        vec![Expr::column(left, bigint()), Expr::column(right, bigint())],
        DataType::nullable(TypeRoot::Boolean),
    )
}

#[test]
fn a_calc_filters_and_projects() {
    let mut made = Made::default();
    let input = made.source(
        &[bigint(), bigint(), text()],
        &["1 2 a", "3 2 b", "- 1 c", "5 1 d"],
    );
    let spec = NodeSpec::Calc {
        projection: vec![Expr::column(2, text()), Expr::column(0, bigint())],
        filter: Some(is_greater(0, 1)),
    };
    made.node(spec, &[input], &[text(), bigint()]);
    assert_eq!(made.run(), ["b 3", "d 5"]);
}

#[test]
fn a_value_that_cant_be_computed_fails_with_its_operator() {
    let mut made = Made::default();
    let input = made.source(&[bigint(), bigint()], &["1 0"]);
    let division = Expr::call(
        "/",
        vec![Expr::column(0, bigint()), Expr::column(1, bigint())],
        bigint(),
    );
    let spec = NodeSpec::Calc {
        projection: vec![division],
        filter: None,
    };
    made.node(spec, &[input], &[bigint()]);
    let rows = made.run();
    assert!(rows.len() == 1 && rows[0].contains("/ by zero"), "{rows:?}");
}

#[test]
fn a_union_has_the_rows_of_all_its_inputs() {
    let mut made = Made::default();
    let one = made.source(&[bigint()], &["1", "2", "3"]);
    let other = made.source(&[bigint()], &["3", "-"]);
    made.node(NodeSpec::Union, &[one, other], &[bigint()]);
    assert_eq!(made.rows(), ["-", "1", "2", "3", "3"]);
}

#[test]
fn a_source_that_is_read_twice_gives_all_rows_to_both() {
    let mut made = Made::default();
    let input = made.source(&[bigint()], &["1", "2", "3"]);
    made.node(NodeSpec::Union, &[input, input], &[bigint()]);
    assert_eq!(made.rows(), ["1", "1", "2", "2", "3", "3"]);
}

#[test]
fn a_source_without_rows_gives_none() {
    let mut made = Made::default();
    let input = made.source(&[bigint()], &[]);
    made.node(NodeSpec::Union, &[input], &[bigint()]);
    assert!(made.run().is_empty());
}
