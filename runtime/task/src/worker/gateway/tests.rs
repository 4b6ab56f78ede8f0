//! A worker against a TaskManager that the test plays, over real gRPC.

use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use futures::Stream;
use thalweg_proto::control::v1::task_manager_server::{TaskManager, TaskManagerServer};
use thalweg_types::JobId;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::*;
use crate::testkit::*;

/// What the gateway hands to the test: what the worker says, and the way to command it.
struct Connection {
    messages: Streaming<WorkerMessage>,
    commands: mpsc::Sender<Result<WorkerCommand, Status>>,
}

struct FakeTaskManager {
    connections: mpsc::Sender<Connection>,
    refusal: Option<&'static str>,
}

#[tonic::async_trait]
impl TaskManager for FakeTaskManager {
    type ConnectWorkerStream = Pin<Box<dyn Stream<Item = Result<WorkerCommand, Status>> + Send>>;

    async fn connect_worker(
        &self,
        request: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Self::ConnectWorkerStream>, Status> {
        if let Some(refusal) = self.refusal {
            return Err(Status::permission_denied(refusal));
        }
        let (commands, outgoing) = mpsc::channel(16);
        let connection = Connection {
            messages: request.into_inner(),
            commands,
        };
        self.connections
            .send(connection)
            .await
            .map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

struct Bench {
    worker: JoinHandle<Result<(), WorkerError>>,
    connections: mpsc::Receiver<Connection>,
}

async fn start(
    program: JobProgram,
    refusal: Option<&'static str>,
    change: impl FnOnce(&mut WorkerSettings),
) -> Bench {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let gateway = format!("http://{}", listener.local_addr().unwrap());
    let (sender, connections) = mpsc::channel(1);
    let service = TaskManagerServer::new(FakeTaskManager {
        connections: sender,
        refusal,
    });
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let mut settings = WorkerSettings {
        gateway,
        token: "secret".to_owned(),
        job_id: JobId::from_u128(7),
        memory_bytes: 256 << 20,
        slots: 1,
        data_bind: [127, 0, 0, 1].into(),
        data_host: "127.0.0.1".to_owned(),
        exchange_token: "token".to_owned(),
        local_state: None,
        api_version: "0.1".to_owned(),
        allocated_bytes: || 4242,
    };
    change(&mut settings);
    Bench {
        worker: tokio::spawn(serve(program, settings)),
        connections,
    }
}

impl Connection {
    async fn command(&self, command: worker_command::Command) {
        self.commands
            .send(Ok(WorkerCommand {
                command: Some(command),
            }))
            .await
            .unwrap();
    }

    async fn next(&mut self) -> worker_message::Message {
        let message = timeout(Duration::from_secs(60), self.messages.message())
            .await
            .expect("no message came");
        message
            .unwrap()
            .expect("the worker ended its messages")
            .message
            .unwrap()
    }

    async fn hello(&mut self) -> WorkerHello {
        match self.next().await {
            worker_message::Message::Hello(hello) => hello,
            other => panic!("the first message is {other:?}"),
        }
    }

    /// Messages up to and with the first terminal state.
    async fn until_end(&mut self) -> Vec<worker_message::Message> {
        let mut messages = Vec::new();
        loop {
            let message = self.next().await;
            let terminal = matches!(&message, worker_message::Message::TaskState(update)
                if matches!(update.state(), TaskState::Finished | TaskState::Canceled | TaskState::Failed));
            messages.push(message);
            if terminal {
                return messages;
            }
        }
    }
}

fn states(messages: &[worker_message::Message]) -> Vec<TaskState> {
    let state = |message: &worker_message::Message| match message {
        worker_message::Message::TaskState(update) => Some(update.state()),
        _ => None,
    };
    messages.iter().filter_map(state).collect()
}

fn deploy(chain: &[u32]) -> worker_command::Command {
    let tasks = vec![deployment(&vertex(chain, 1), 0)];
    worker_command::Command::Deploy(control::DeployTasks { tasks })
}

/// Source -> sink, and the reader's existence.
fn job(then: Then, sink: &CollectSink) -> (JobProgram, Arc<std::sync::atomic::AtomicUsize>) {
    let source = ScriptedSource::new(vec![rows(0..3)], then);
    let open = source.open.clone();
    (program(vec![(1, source.node()), (2, sink.node())], &[]), open)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployed_task_runs_to_its_end_and_shutdown_ends_the_worker() {
    let sink = CollectSink::default();
    let (program, _) = job(Then::End, &sink);
    let expected = thalweg_graph::fingerprint(&program.stream_graph);
    let mut bench = start(program, None, |_| {}).await;
    let mut connection = bench.connections.recv().await.unwrap();
    let hello = connection.hello().await;
    assert_eq!(
        (hello.token.as_str(), hello.api_version.as_str()),
        ("secret", "0.1")
    );
    assert_eq!(hello.job_id, JobId::from_u128(7).to_string());
    assert_eq!(hello.fingerprint, expected);
    assert_eq!(hello.stream_graph.unwrap().nodes.len(), 2);
    assert_ne!(hello.data_port, 0);

    connection.command(deploy(&[1, 2])).await;
    let messages = connection.until_end().await;
    assert_eq!(
        states(&messages),
        [
            TaskState::Deploying,
            TaskState::Initializing,
            TaskState::Running,
            TaskState::Finished
        ]
    );
    assert_eq!(sink.values(), [0, 1, 2]);
    let [.., worker_message::Message::Heartbeat(last), _] = messages.as_slice() else {
        panic!("no heartbeat is right before the end: {messages:?}");
    };
    assert_eq!(last.allocated_bytes, 4242);
    assert_eq!(last.tasks.last().unwrap().operators[1].records_in, 3);

    connection
        .command(worker_command::Command::Shutdown(control::Shutdown {}))
        .await;
    while connection.messages.next().await.is_some() {}
    drop(connection);
    bench.worker.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_and_shutdown_reach_running_tasks() {
    for shutdown in [false, true] {
        let sink = CollectSink::default();
        let (program, open) = job(Then::Wait, &sink);
        let mut bench = start(program, None, |_| {}).await;
        let mut connection = bench.connections.recv().await.unwrap();
        connection.hello().await;
        connection.command(deploy(&[1, 2])).await;
        while open.load(Ordering::SeqCst) == 0 {
            connection.next().await;
        }
        let executions = vec![attempt(&vertex(&[1, 2], 1), 0)];
        connection
            .command(match shutdown {
                true => worker_command::Command::Shutdown(control::Shutdown {}),
                false => worker_command::Command::Cancel(control::CancelTasks { executions }),
            })
            .await;
        let messages = connection.until_end().await;
        assert_eq!(states(&messages).last(), Some(&TaskState::Canceled));
        assert_eq!(open.load(Ordering::SeqCst), 0);
    }
}

/// Messages up to one that is wanted.
async fn until<T>(connection: &mut Connection, wanted: impl Fn(worker_message::Message) -> Option<T>) -> T {
    loop {
        if let Some(found) = wanted(connection.next().await) {
            return found;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_are_triggered_answered_and_their_ends_passed_on() {
    let folder = tempfile::tempdir().unwrap();
    let uri = format!("file://{}", folder.path().display());
    let source = ScriptedSource::new(vec![rows(0..3)], Then::Wait);
    let heard = source.heard.clone();
    let sink = CollectSink::default();
    let program = program(vec![(1, source.node()), (2, sink.node())], &[]);
    let mut bench = start(program, None, |_| {}).await;
    let mut connection = bench.connections.recv().await.unwrap();
    connection.hello().await;
    let task = attempt(&vertex(&[1, 2], 1), 0);
    let trigger = control::TriggerCheckpoint {
        executions: vec![task.clone()],
        checkpoint_id: 5,
        options: Some(thalweg_proto::state::v1::CheckpointOptions {
            exclusive_folder: format!("{uri}/chk-5"),
            shared_folder: format!("{uri}/shared"),
            ..Default::default()
        }),
        ..Default::default()
    };
    let command = worker_command::Command::TriggerCheckpoint(trigger);
    connection.command(deploy(&[1, 2])).await;
    let running = until(&mut connection, |message| match message {
        worker_message::Message::TaskState(update) => (update.state() == TaskState::Running).then_some(()),
        _ => None,
    });
    running.await;
    connection.command(command).await;
    let acknowledged = until(&mut connection, |message| match message {
        worker_message::Message::AcknowledgeCheckpoint(acknowledge) => Some(acknowledge),
        _ => None,
    });
    let acknowledged = acknowledged.await;
    assert_eq!(
        (acknowledged.checkpoint_id, acknowledged.execution.as_ref()),
        (5, Some(&task))
    );
    assert_eq!(acknowledged.snapshot.unwrap().operators.len(), 1);
    connection
        .command(worker_command::Command::NotifyCheckpoint(
            control::NotifyCheckpoint {
                executions: vec![task],
                checkpoint_id: 5,
                completed: true,
            },
        ))
        .await;
    tokio::task::spawn_blocking(move || {
        eventually("the notification", || *heard.lock().unwrap() == [(0, 5, true)]);
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_gateway_cancels_the_tasks_and_ends_the_worker_with_an_error() {
    let sink = CollectSink::default();
    let (program, open) = job(Then::Wait, &sink);
    let mut bench = start(program, None, |_| {}).await;
    let mut connection = bench.connections.recv().await.unwrap();
    connection.hello().await;
    connection.command(deploy(&[1, 2])).await;
    while open.load(Ordering::SeqCst) == 0 {
        connection.next().await;
    }
    drop(connection);
    let error = bench.worker.await.unwrap().unwrap_err();
    assert!(matches!(error, WorkerError::GatewayLost { .. }), "{error}");
    tokio::task::spawn_blocking(move || eventually("the reader's end", || open.load(Ordering::SeqCst) == 0))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_does_not_fit_is_reported_as_failed() {
    let sink = CollectSink::default();
    let (program, _) = job(Then::End, &sink);
    let mut bench = start(program, None, |_| {}).await;
    let mut connection = bench.connections.recv().await.unwrap();
    connection.hello().await;
    connection.command(deploy(&[1, 9])).await;
    let messages = connection.until_end().await;
    let Some(worker_message::Message::TaskState(update)) = messages.last() else {
        panic!("{messages:?}")
    };
    let failure = update.failure.as_ref().unwrap();
    assert!(
        failure.message.contains("the program has no operator 9"),
        "{failure:?}"
    );
    assert_eq!(failure.class(), control::FailureClass::Bug);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_cannot_open_its_data_port_says_so_and_ends() {
    let (program, _) = job(Then::End, &CollectSink::default());
    // An address of the documentation range, which no interface has.
    let mut bench = start(program, None, |settings| {
        settings.data_bind = [192, 0, 2, 1].into();
    })
    .await;
    let mut connection = bench.connections.recv().await.unwrap();
    connection.hello().await;
    let worker_message::Message::Failed(failure) = connection.next().await else {
        panic!("no failure came")
    };
    assert!(failure.message.contains("192.0.2.1"), "{failure:?}");
    drop(connection);
    assert!(matches!(
        bench.worker.await.unwrap(),
        Err(WorkerError::Exchange(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_worker_ends_with_the_reason() {
    let (program, _) = job(Then::End, &CollectSink::default());
    let bench = start(program, Some("unknown token"), |_| {}).await;
    let error = bench.worker.await.unwrap().unwrap_err();
    assert!(
        error.to_string().contains("refused this worker: unknown token"),
        "{error}"
    );
}

static BEATS: Mutex<u64> = Mutex::new(0);

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_ask_for_the_allocated_bytes_each_time() {
    let (program, _) = job(Then::Wait, &CollectSink::default());
    let counting = || {
        let mut beats = BEATS.lock().unwrap();
        *beats += 1;
        *beats
    };
    let mut bench = start(program, None, |settings| settings.allocated_bytes = counting).await;
    let mut connection = bench.connections.recv().await.unwrap();
    connection.hello().await;
    for expected in 1..=2 {
        let worker_message::Message::Heartbeat(heartbeat) = connection.next().await else {
            panic!("no heartbeat")
        };
        assert_eq!(heartbeat.allocated_bytes, expected);
    }
}
