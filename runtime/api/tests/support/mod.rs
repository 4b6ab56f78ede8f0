//! Runs a whole job in this process: its graph, its tasks, real threads, real channels.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use thalweg_api::record::{Record, Rows};
use thalweg_api::{StreamExecutionEnvironment, arrow};
use thalweg_connectors::{ConnectorContext, ConnectorError, Sink, SinkWriter};
use thalweg_exchange::{Exchange, ExchangeConfig};
use thalweg_graph::{channels_into, channels_out, job_graph};
use thalweg_proto::control::v1::{
    ExecutionAttempt, InputChannel, InputChannels, OutputChannels, TaskDeployment, TaskState,
};
use thalweg_proto::graph::v1::{JobGraph, JobVertex};
use thalweg_task::{ExecutorSettings, TaskEvent, TaskExecutor};
use thalweg_types::config::Configuration;
use thalweg_types::{JobId, StreamBatch};
use tokio::runtime::Builder;

/// Keeps what is written to it.
#[derive(Clone)]
pub(crate) struct Collected<T>(Arc<Mutex<Vec<T>>>);

impl<T: Record> Collected<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }
}

impl<T: Record + Ord> Collected<T> {
    pub(crate) fn sorted(&self) -> Vec<T> {
        let mut rows = self.0.lock().unwrap().clone();
        rows.sort();
        rows
    }
}

impl<T: Record> Sink for Collected<T> {
    fn kind(&self) -> &'static str {
        "Collected"
    }

    fn validate(&self, _: &SchemaRef) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn create_writer(&self, _: ConnectorContext) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        Ok(Box::new(self.clone()))
    }
}

impl<T: Record> SinkWriter for Collected<T> {
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectorError>> {
        Poll::Ready(Ok(()))
    }

    fn write(&mut self, batch: &StreamBatch) -> Result<usize, ConnectorError> {
        let rows = Rows::<T>::of(&batch.rows).unwrap();
        self.0.lock().unwrap().extend(rows.iter().map(T::own));
        Ok(batch.num_rows())
    }

    fn poll_flush(&mut self, _: &mut Context<'_>, _: bool) -> Poll<Result<(), ConnectorError>> {
        Poll::Ready(Ok(()))
    }
}

/// Runs the job to its end; every task must finish.
pub(crate) fn run(env: StreamExecutionEnvironment) {
    let program = env.into_program("job").unwrap();
    let job = job_graph(
        &program.stream_graph,
        JobId::from_u128(7),
        &Configuration::default(),
    )
    .unwrap();
    let io = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let config = ExchangeConfig::new(([127, 0, 0, 1], 0).into(), 64 << 20, io.handle().clone(), "token");
    let exchange = io.block_on(Exchange::start(config)).unwrap();
    let address = exchange.local_addr().to_string();
    let settings = ExecutorSettings::default();
    let (executor, mut events) = TaskExecutor::new(program, exchange, io.handle().clone(), settings);
    let tasks = job.vertices.iter().flat_map(|vertex| {
        let subtasks = 0..vertex.parallelism;
        subtasks.map(|subtask| deployment(&job, vertex, subtask, &address))
    });
    let tasks: Vec<TaskDeployment> = tasks.collect();
    for task in &tasks {
        executor.deploy(task).unwrap();
    }
    let mut finished = 0;
    while finished < tasks.len() {
        let next = async { tokio::time::timeout(Duration::from_secs(60), events.recv()).await };
        let event = io.block_on(next).expect("no report came").unwrap();
        if let TaskEvent::State(report) = event {
            let failure = report.update.failure.as_ref().map(|failure| &failure.message);
            assert_eq!(failure, None);
            finished += usize::from(report.update.state() == TaskState::Finished);
        }
    }
}

fn attempt(vertex_id: &str, subtask: u32) -> ExecutionAttempt {
    ExecutionAttempt {
        job_id: JobId::from_u128(7).to_string(),
        vertex_id: vertex_id.to_owned(),
        subtask,
        attempt: 0,
    }
}

fn deployment(job: &JobGraph, vertex: &JobVertex, subtask: u32, address: &str) -> TaskDeployment {
    let inputs = job.edges.iter().filter(|edge| edge.target_vertex == vertex.id);
    let outputs = job.edges.iter().filter(|edge| edge.source_vertex == vertex.id);
    TaskDeployment {
        execution: Some(attempt(&vertex.id, subtask)),
        vertex: Some(vertex.clone()),
        inputs: inputs
            .map(|edge| InputChannels {
                edge: edge.edge,
                channels: channels_into(edge, job, subtask)
                    .into_iter()
                    .map(|(producer, subpartition)| InputChannel {
                        producer: Some(attempt(&edge.source_vertex, producer)),
                        subpartition,
                        data_address: address.to_owned(),
                    })
                    .collect(),
            })
            .collect(),
        outputs: outputs
            .map(|edge| {
                let consumer = job.vertices.iter().find(|vertex| vertex.id == edge.target_vertex);
                let consumer = consumer.unwrap();
                OutputChannels {
                    edge: edge.edge,
                    consumers: channels_out(edge, job, subtask),
                    consumer_max_parallelism: consumer.max_parallelism,
                    consumer_parallelism: consumer.parallelism,
                }
            })
            .collect(),
        ..TaskDeployment::default()
    }
}
