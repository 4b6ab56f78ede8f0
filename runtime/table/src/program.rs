//! From a plan to a program: a StreamGraph node for each operator, and the code behind it.
//!
//! ```text
//!   Node: Source -> connector's reader     others -> thalweg_operators::sql     Sink -> connector's writer
//!   Union -> no node: edges of its inputs on one logical input of its consumer
//!   LookupJoin -> its operator with the reader of its table ([`lookup`])
//!   in batch mode: all between sources and a sink is one node ([`batch`])
//! ```
//!
//! Invariants: uids are the plan's, so that state finds its operator again; a node that takes all rows of an input has
//! parallelism 1.

mod batch;
mod lookup;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use thalweg_batch::BatchError;
use thalweg_connectors::table::{create_sink, create_source};
use thalweg_connectors::{CollectionSource, Source};
use thalweg_functions::{EvaluationEnv, EvaluationError};
use thalweg_graph::{FORMAT_VERSION, GraphError, assign_operator_ids, validate};
use thalweg_operators::sql::values::{self, ValuesError};
use thalweg_operators::sql::{SqlOperator, create};
use thalweg_operators::{KeySelector, OperatorContext, OperatorError};
use thalweg_plan::connector::{ConnectorProblem, SinkSpec};
use thalweg_plan::{Distribution, Node, NodeSpec, Plan, Schema};
use thalweg_proto::graph::v1::{
    ChainingStrategy, NodeKind, Partitioner, StreamEdge, StreamGraph, StreamNode,
};
use thalweg_task::{JobProgram, NodeFactory, OperatorFactory};
use thalweg_types::config::{ConfigError, Configuration, options};
use thalweg_types::{Classify, FailureClass};

use crate::collect::{self, CollectSink, Collector};
use crate::watermark;

/// Why a plan is no program.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// A table's connector refuses it.
    #[error("table {table}: {source}")]
    Connector {
        /// Which table.
        table: String,
        /// What is wrong.
        #[source]
        source: ConnectorProblem,
    },
    /// A table's watermark can't be evaluated.
    #[error("the watermark of table {table}: {source}")]
    Watermark {
        /// Which table.
        table: String,
        /// What is wrong.
        #[source]
        source: EvaluationError,
    },
    /// An operator has no batch form.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A node's input comes behind it.
    #[error("malformed plan: {0}")]
    Malformed(String),
    /// Constant rows are none.
    #[error(transparent)]
    Values(#[from] ValuesError),
    /// What the graph's own checks found.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A key of the configuration.
    #[error(transparent)]
    Configuration(#[from] ConfigError),
}

impl Classify for TableError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Malformed(_) => FailureClass::Bug,
            Self::Batch(source) => source.class(),
            Self::Connector { .. }
            | Self::Watermark { .. }
            | Self::Values(_)
            | Self::Graph(_)
            | Self::Configuration(_) => FailureClass::Fatal,
        }
    }
}

/// A plan's program. What `configuration` says goes into the graph, as what `main` of another program configures.
/// `collector` takes the rows of a query without INSERT.
pub fn job_program(
    plan: &Plan,
    job_name: &str,
    configuration: &Configuration,
    env: &Arc<EvaluationEnv>,
    collector: Option<Arc<dyn Collector>>,
) -> Result<JobProgram, TableError> {
    let mut builder = Builder {
        collector,
        ..Builder::default()
    };
    match env.is_batch {
        true => builder.add_batch(plan, configuration, env)?,
        false => {
            for node in &plan.nodes {
                builder.add(plan, node, configuration, env)?;
            }
        }
    }
    builder.finish(job_name, configuration)
}

#[derive(Default)]
struct Builder {
    nodes: Vec<StreamNode>,
    edges: Vec<StreamEdge>,
    factories: HashMap<u32, NodeFactory>,
    keys: HashMap<u32, Arc<dyn KeySelector>>,
    /// By plan node: the graph's nodes that give its rows.
    outputs: Vec<Vec<u32>>,
    collector: Option<Arc<dyn Collector>>,
}

impl Builder {
    fn add(
        &mut self,
        plan: &Plan,
        node: &Node,
        configuration: &Configuration,
        env: &Arc<EvaluationEnv>,
    ) -> Result<(), TableError> {
        if matches!(node.spec, NodeSpec::Union) {
            let inputs = node.inputs.iter().map(|input| self.outputs_of(input.node));
            let outputs = inputs.collect::<Result<Vec<_>, _>>()?.concat();
            self.outputs.push(outputs);
            return Ok(());
        }
        let (kind, operator, factory) = self.factory(plan, node, configuration, env)?;
        let id = self.nodes.len() as u32 + 1;
        let all_to_one = |input: &thalweg_plan::Input| input.distribution == Distribution::Singleton;
        let parallelism = match node.parallelism {
            _ if node.inputs.iter().any(all_to_one) => 1,
            given => given.unwrap_or_default(),
        };
        self.nodes.push(StreamNode {
            id,
            kind: kind.into(),
            operator,
            name: node.name.clone(),
            uid: node.uid.clone(),
            parallelism,
            chaining: ChainingStrategy::Always.into(),
            output_columns: match kind {
                NodeKind::Sink => Vec::new(),
                _ => columns(&node.schema),
            },
            key_columns: key_columns(plan, node),
            ..StreamNode::default()
        });
        self.factories.insert(id, factory);
        for (number, input) in (0..).zip(&node.inputs) {
            for source in self.outputs_of(input.node)? {
                self.connect(source, id, number, &input.distribution);
            }
        }
        self.outputs.push(vec![id]);
        Ok(())
    }

    /// A node's kind, its operator's name and what makes it.
    fn factory(
        &self,
        plan: &Plan,
        node: &Node,
        configuration: &Configuration,
        env: &Arc<EvaluationEnv>,
    ) -> Result<(NodeKind, String, NodeFactory), TableError> {
        let refused = |table: &thalweg_plan::connector::CatalogTable| {
            let table = table.path.to_string();
            move |source| TableError::Connector { table, source }
        };
        match &node.spec {
            NodeSpec::Source(spec) => {
                let watermarks = spec.watermark.as_ref();
                let watermarks = watermarks
                    .map(|watermark| watermark::of_rows(watermark, &node.schema, env))
                    .transpose()
                    .map_err(|source| TableError::Watermark {
                        table: spec.table.path.to_string(),
                        source,
                    })?;
                let source = create_source(spec, &node.schema, configuration, watermarks)
                    .map_err(refused(&spec.table))?;
                let kind = source.kind().to_owned();
                Ok((NodeKind::Source, kind, NodeFactory::Source(source)))
            }
            NodeSpec::Values(rows) => {
                let rows = values::rows(rows, &node.schema, env)?;
                let source: Arc<dyn Source> = Arc::new(CollectionSource::from_elements(rows));
                let kind = source.kind().to_owned();
                Ok((NodeKind::Source, kind, NodeFactory::Source(source)))
            }
            NodeSpec::Sink(spec) => {
                let sink = match &self.collector {
                    Some(collector) if is_collected(spec) => Arc::new(CollectSink(Arc::clone(collector))),
                    _ => create_sink(spec, configuration).map_err(refused(&spec.table))?,
                };
                let kind = sink.kind().to_owned();
                Ok((NodeKind::Sink, kind, NodeFactory::Sink(sink)))
            }
            spec => {
                let inputs = node.inputs.iter().map(|input| {
                    let input = plan.nodes.get(input.node).map(|input| input.schema.clone());
                    input.ok_or_else(|| TableError::Malformed(format!("node {} has no input", node.id)))
                });
                let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
                let kind = node.name.split('(').next().unwrap_or_default().to_owned();
                let (output, env) = (node.schema.clone(), Arc::clone(env));
                let factory = match spec {
                    NodeSpec::LookupJoin(spec) => {
                        lookup::operator_factory(spec, inputs, output, env, configuration)
                            .map_err(refused(&spec.table))?
                    }
                    spec => {
                        let may_change = configuration.get(&options::TABLE_STATE_CHANGED_COLUMNS)?;
                        operator_factory(spec.clone(), inputs, output, env, !may_change)
                    }
                };
                Ok((NodeKind::Operator, kind, NodeFactory::Operator(factory)))
            }
        }
    }

    fn outputs_of(&self, node: usize) -> Result<Vec<u32>, TableError> {
        let missing = || TableError::Malformed(format!("node {node} is used before it is there"));
        self.outputs.get(node).cloned().ok_or_else(missing)
    }

    fn connect(&mut self, source: u32, target: u32, input: u32, distribution: &Distribution) {
        let id = self.edges.len() as u32 + 1;
        let (from, to) = (self.parallelism(source), self.parallelism(target));
        let partitioner = match distribution {
            // Where the job's default decides, it is known when the JobGraph is made.
            Distribution::Forward if from == to => Partitioner::Forward,
            Distribution::Forward => Partitioner::Unspecified,
            Distribution::Hash(_) => Partitioner::Hash,
            Distribution::Singleton => Partitioner::Global,
            Distribution::Broadcast => Partitioner::Broadcast,
        };
        if let Distribution::Hash(columns) = distribution {
            self.keys.insert(id, Arc::new(Columns(columns.clone())));
        }
        self.edges.push(StreamEdge {
            id,
            source,
            target,
            input,
            partitioner: partitioner.into(),
            side_output: 0,
        });
    }

    fn parallelism(&self, node: u32) -> u32 {
        self.nodes[node as usize - 1].parallelism
    }

    fn finish(self, job_name: &str, configuration: &Configuration) -> Result<JobProgram, TableError> {
        let mut stream_graph = StreamGraph {
            format_version: FORMAT_VERSION,
            engine_version: env!("CARGO_PKG_VERSION").to_owned(),
            job_name: job_name.to_owned(),
            nodes: self.nodes,
            edges: self.edges,
            configuration: configuration.to_map(),
        };
        assign_operator_ids(&mut stream_graph);
        validate(&stream_graph)?;
        Ok(JobProgram {
            stream_graph,
            nodes: self.factories,
            keys: self.keys,
        })
    }
}

fn operator_factory(
    spec: NodeSpec,
    inputs: Vec<Schema>,
    output: Schema,
    env: Arc<EvaluationEnv>,
    exact_columns: bool,
) -> OperatorFactory {
    Arc::new(move |mut context: OperatorContext| {
        Arc::make_mut(&mut context.state).exact_columns = exact_columns;
        let operator = SqlOperator {
            spec: &spec,
            inputs: &inputs,
            output: &output,
            env: Arc::clone(&env),
        };
        create(&operator, context)
    })
}

fn is_collected(spec: &SinkSpec) -> bool {
    spec.table
        .options
        .get("connector")
        .is_some_and(|connector| connector == collect::CONNECTOR)
}

/// "name: TYPE" a column, as the graph tells schemas apart.
fn columns(schema: &Schema) -> Vec<String> {
    let column = |field: &thalweg_plan::Field| format!("{}: {}", field.name, field.data_type);
    schema.fields.iter().map(column).collect()
}

/// The names of the columns by which a node's first keyed input is shared out.
fn key_columns(plan: &Plan, node: &Node) -> Vec<String> {
    let key = node.inputs.iter().find_map(|input| match &input.distribution {
        Distribution::Hash(columns) => Some((plan.nodes.get(input.node)?, columns)),
        _ => None,
    });
    let Some((input, columns)) = key else {
        return Vec::new();
    };
    let name = |column: &usize| input.schema.fields.get(*column).map(|field| field.name.clone());
    columns.iter().filter_map(name).collect()
}

/// A key that is columns of the rows.
struct Columns(Vec<usize>);

impl KeySelector for Columns {
    fn select(&self, rows: RecordBatch) -> Result<(RecordBatch, Vec<usize>), OperatorError> {
        Ok((rows, self.0.clone()))
    }
}
