//! What several modules' tests need: sample packages, graphs, a scripted TaskManager.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prost::Message as _;
use thalweg_proto::cluster::v1 as cluster;
use thalweg_proto::control::v1::job_manager_client::JobManagerClient;
use thalweg_proto::control::v1::job_manager_command::Command;
use thalweg_proto::control::v1::task_manager_message::Message;
use thalweg_proto::control::v1::{
    AcknowledgeCheckpoint, CheckpointFailureReason, DeclineCheckpoint, ExecutionAttempt, ExtractionResult,
    Failure, FailureClass, RegisterTaskManager, TaskDeployment, TaskManagerHeartbeat, TaskManagerMessage,
    TaskMetrics, TaskState, TaskStateUpdate, TriggerCheckpoint, WorkerReady, extraction_result,
};
use thalweg_proto::graph::v1::{JobVertex, NodeKind, Partitioner, StreamEdge, StreamGraph, StreamNode};
use thalweg_proto::state::v1::{
    CheckpointMetrics, Distribution, OperatorList, OperatorSubtaskState, StateFile, TaskOperatorSnapshot,
    TaskSnapshot,
};
use thalweg_types::JobId;
use thalweg_types::config::Configuration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::config::{Application, JobManagerConfig};
use crate::dispatcher::{JobRequest, Submission};
use crate::error::JobManagerError;
use crate::extraction::ExtractedJob;
use crate::high_availability::Election;
use crate::job_manager::{JobManager, JobManagerHandle};
use crate::package::{PackageStore, PackageStoreConfig};

/// A `job.yaml` that this engine accepts, with `bin/job` as its entry.
pub(crate) fn manifest() -> String {
    format!(
        "formatVersion: 1\nname: sample\nentry: {{kind: native, path: bin/job}}\napiVersion: \"{}.{}\"\ntarget: {}-unknown-linux-gnu\n",
        env!("CARGO_PKG_VERSION_MAJOR"),
        env!("CARGO_PKG_VERSION_MINOR"),
        std::env::consts::ARCH
    )
}

/// A package whose program is a script.
pub(crate) fn package_directory(directory: &Path, script: &str) {
    fs::create_dir_all(directory.join("bin")).unwrap();
    fs::write(directory.join("job.yaml"), manifest()).unwrap();
    executable(&directory.join("bin/job"), script);
}

/// A file that can be run.
pub(crate) fn executable(file: &Path, script: &str) {
    fs::write(file, script).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A valid graph: source, keyed map, sink; two tasks if the hash edge is one.
pub(crate) fn stream_graph(job_name: &str) -> StreamGraph {
    let node = |id: u32, kind: NodeKind, operator: &str| StreamNode {
        id,
        kind: kind.into(),
        operator: operator.to_owned(),
        name: operator.to_owned(),
        uid: String::new(),
        operator_id: format!("{id:032x}"),
        output_columns: vec!["word: STRING NOT NULL".to_owned()],
        key_columns: if id == 2 {
            vec!["word".to_owned()]
        } else {
            Vec::new()
        },
        ..StreamNode::default()
    };
    let edge = |id: u32, source: u32, target: u32, partitioner: Partitioner| StreamEdge {
        id,
        source,
        target,
        input: 0,
        partitioner: partitioner.into(),
        side_output: 0,
    };
    let mut sink = node(3, NodeKind::Sink, "Print");
    sink.output_columns.clear();
    StreamGraph {
        format_version: 1,
        engine_version: env!("CARGO_PKG_VERSION").to_owned(),
        job_name: job_name.to_owned(),
        nodes: vec![
            node(1, NodeKind::Source, "Lines"),
            node(2, NodeKind::Operator, "KeyedReduce"),
            sink,
        ],
        edges: vec![
            edge(1, 1, 2, Partitioner::Hash),
            edge(2, 2, 3, Partitioner::Forward),
        ],
        configuration: HashMap::new(),
    }
}

/// A package store in a folder of its own.
pub(crate) struct Packages {
    pub(crate) store: PackageStore,
    pub(crate) folder: tempfile::TempDir,
}

impl Packages {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = PackageStore::open(PackageStoreConfig {
            directory: folder.path().join("store"),
            max_package_bytes: 1 << 20,
            max_total_bytes: 1 << 30,
            configuration: Configuration::default(),
        });
        Self {
            store: store.unwrap(),
            folder,
        }
    }
}

/// A job as extraction would have made it, of a package that is in the store.
pub(crate) async fn submission(
    packages: &Packages,
    job_id: JobId,
    configuration: &[(&str, &str)],
) -> Submission {
    submission_of(stream_graph("counts"), packages, job_id, configuration).await
}

/// [`submission`] of another graph.
pub(crate) async fn submission_of(
    stream_graph: StreamGraph,
    packages: &Packages,
    job_id: JobId,
    configuration: &[(&str, &str)],
) -> Submission {
    let directory = packages.folder.path().join("package");
    package_directory(&directory, "#!/bin/sh\n");
    let package = packages
        .store
        .import(&directory.to_string_lossy(), "")
        .await
        .unwrap();
    let entries = configuration
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let configuration = Configuration::from_map(entries);
    let job_graph = thalweg_graph::job_graph(&stream_graph, job_id, &configuration).unwrap();
    let extracted = ExtractedJob {
        fingerprint: thalweg_graph::fingerprint(&stream_graph),
        stream_graph,
        arguments: vec!["--sample".to_owned()],
        environment: Default::default(),
        api_version: "0.1".to_owned(),
    };
    Submission {
        job_id,
        operation_id: String::new(),
        is_application: false,
        package: Some(package),
        package_follows: false,
        submitted_ms: 1,
        extracted,
        job_graph,
        file_systems: thalweg_storage::FileSystems::new(configuration.clone()),
        configuration,
        restored: None,
        earlier_checkpoint: None,
        earlier_files: Vec::new(),
        recoverable: false,
        operations: Vec::new(),
    }
}

/// A script that answers extraction with the file `answer` of its package.
const ANSWERING: &str = "#!/bin/sh\nexec python3 -c \"import os,socket;s=socket.socket(socket.AF_UNIX);s.connect(os.environ['THALWEG_EXTRACT_SOCKET']);s.sendall(open('answer','rb').read());s.close()\"\n";

/// A package whose program builds [`stream_graph`].
pub(crate) fn job_package(directory: &Path, job_name: &str) {
    job_package_with(directory, job_name, |_| {});
}

/// [`job_package`] of a changed graph.
pub(crate) fn job_package_with(directory: &Path, job_name: &str, change: impl FnOnce(&mut StreamGraph)) {
    package_directory(directory, ANSWERING);
    let mut graph = stream_graph(job_name);
    change(&mut graph);
    let result = ExtractionResult {
        protocol_version: thalweg_proto::WORKER_PROTOCOL_VERSION,
        api_version: "0.1".to_owned(),
        result: Some(extraction_result::Result::StreamGraph(graph)),
    };
    fs::write(directory.join("answer"), result.encode_length_delimited_to_vec()).unwrap();
}

/// [`job_package`] as the bytes of an archive.
pub(crate) fn job_archive(job_name: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    job_package(folder.path(), job_name);
    let mut file = tempfile::tempfile().unwrap();
    crate::package::pack_directory("test", folder.path(), &mut file, 1 << 30).unwrap();
    let mut bytes = Vec::new();
    std::io::Seek::rewind(&mut file).unwrap();
    std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
    bytes
}

/// A JobManager on free loopback ports, and the folder that it works in.
pub(crate) struct Running {
    pub(crate) handle: JobManagerHandle,
    pub(crate) folder: tempfile::TempDir,
}

pub(crate) async fn job_manager(configuration: &[(&str, &str)], application: Option<Application>) -> Running {
    configured_job_manager(configuration, application, None).await
}

/// [`job_manager`] with an election.
pub(crate) async fn configured_job_manager(
    configuration: &[(&str, &str)],
    application: Option<Application>,
    election: Option<Arc<dyn Election>>,
) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let config = job_manager_config(configuration, application, folder.path());
    Running {
        handle: JobManager::start_with(config, election).await.unwrap(),
        folder,
    }
}

/// Why one does not start.
pub(crate) async fn refused_job_manager(configuration: &[(&str, &str)]) -> JobManagerError {
    let folder = tempfile::tempdir().unwrap();
    let config = job_manager_config(configuration, None, folder.path());
    match JobManager::start(config).await {
        Ok(_) => panic!("it started"),
        Err(error) => error,
    }
}

fn job_manager_config(
    configuration: &[(&str, &str)],
    application: Option<Application>,
    folder: &Path,
) -> JobManagerConfig {
    let entries = configuration
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    JobManagerConfig {
        configuration: Configuration::from_map(entries),
        rpc_bind: any,
        rest_bind: any,
        metrics_bind: any,
        advertised_host: None,
        data_directory: folder.join("data"),
        temp_directory: folder.to_owned(),
        host: "here".to_owned(),
        application,
        default_checkpoint_directory: None,
    }
}

impl Running {
    /// Submits a job of [`job_package`].
    pub(crate) async fn submit(&self, job_name: &str, configuration: &[(&str, &str)]) -> JobId {
        let directory = self.folder.path().join(job_name);
        job_package(&directory, job_name);
        let entries = configuration
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let request = JobRequest {
            package_uri: directory.to_string_lossy().into_owned(),
            configuration: entries.collect(),
            ..JobRequest::default()
        };
        self.handle.submit(request).await.unwrap()
    }

    /// Waits until a job is in a state.
    pub(crate) async fn until(&self, job: JobId, state: &str) -> cluster::JobStatus {
        let mut status = self.handle.watch_job(job).await.unwrap().unwrap();
        let reached = status.wait_for(|status| status.state == state);
        tokio::time::timeout(Duration::from_secs(60), reached)
            .await
            .expect("in time")
            .unwrap()
            .clone()
    }
}

/// What a [`ScriptedTaskManager`] does with a checkpoint that is triggered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnCheckpoint {
    /// All its tasks acknowledge it, each with one inline list; behind a savepoint that ends the job they finish.
    Acknowledge,
    /// The same, but they run on behind a savepoint that ends the job.
    AcknowledgeAndRunOn,
    /// All its tasks decline it.
    Decline,
    /// Nothing.
    KeepSilent,
}

/// A TaskManager that starts every worker, runs every task and cancels what it is told to; what it ran, it can finish.
pub(crate) struct ScriptedTaskManager {
    on_checkpoint: Arc<Mutex<OnCheckpoint>>,
    messages: mpsc::Sender<TaskManagerMessage>,
    seen: Arc<Mutex<Vec<Command>>>,
    pub(crate) epoch: u64,
    pub(crate) client: JobManagerClient<tonic::transport::Channel>,
    task: tokio::task::JoinHandle<()>,
}

impl ScriptedTaskManager {
    pub(crate) async fn connect(running: &Running, id: &str, slots: u32) -> Self {
        let address = format!("http://{}", running.handle.rpc_address());
        let mut client = JobManagerClient::connect(address).await.unwrap();
        let (messages, outgoing) = mpsc::channel(64);
        let register = RegisterTaskManager {
            task_manager_id: id.to_owned(),
            host: "127.0.0.1".to_owned(),
            slots,
            engine_version: env!("CARGO_PKG_VERSION").to_owned(),
            cpu_cores: 2,
            memory_bytes: 64 << 20,
            slot_memory_bytes: 16 << 20,
            workers: Vec::new(),
        };
        let first = TaskManagerMessage {
            epoch: 0,
            message: Some(Message::Register(register)),
        };
        messages.send(first).await.unwrap();
        let response = client
            .connect_task_manager(ReceiverStream::new(outgoing))
            .await
            .unwrap();
        let mut commands = response.into_inner();
        let greeting = commands.message().await.unwrap().unwrap();
        assert!(
            matches!(greeting.command, Some(Command::Registered(_))),
            "{greeting:?}"
        );
        let seen = Arc::new(Mutex::new(Vec::new()));
        let on_checkpoint = Arc::new(Mutex::new(OnCheckpoint::Acknowledge));
        let mut script = Script {
            epoch: greeting.epoch,
            messages: messages.clone(),
            seen: seen.clone(),
            on_checkpoint: on_checkpoint.clone(),
            tasks: Vec::new(),
            last: 0,
        };
        let task = tokio::spawn(async move {
            while let Ok(Some(command)) = commands.message().await {
                let Some(command) = command.command else { continue };
                script.follow(command).await;
            }
        });
        Self {
            on_checkpoint,
            messages,
            seen,
            epoch: greeting.epoch,
            client,
            task,
        }
    }

    pub(crate) fn on_checkpoint(&self, what: OnCheckpoint) {
        *self.on_checkpoint.lock().unwrap() = what;
    }

    /// What was deployed last: the tasks of the newest attempts, by their deployments.
    pub(crate) fn deployments(&self) -> Vec<TaskDeployment> {
        let deployments = self.commands().into_iter().filter_map(|command| match command {
            Command::Deploy(deploy) => Some(deploy.tasks),
            _ => None,
        });
        deployments.flatten().collect()
    }

    pub(crate) fn commands(&self) -> Vec<Command> {
        self.seen.lock().unwrap().clone()
    }

    fn executions(&self) -> Vec<ExecutionAttempt> {
        let deployments = self.commands().into_iter().filter_map(|command| match command {
            Command::Deploy(deploy) => Some(deploy.tasks),
            _ => None,
        });
        deployments.flatten().filter_map(|task| task.execution).collect()
    }

    pub(crate) async fn send(&self, epoch: u64, message: Message) {
        self.messages
            .send(TaskManagerMessage {
                epoch,
                message: Some(message),
            })
            .await
            .unwrap();
    }

    /// Says of all tasks that ever came that they are in this state.
    pub(crate) async fn report_all(&self, state: TaskState) {
        for execution in self.executions() {
            let update = TaskStateUpdate {
                execution: Some(execution),
                state: state.into(),
                ..TaskStateUpdate::default()
            };
            self.send(self.epoch, Message::TaskState(update)).await;
        }
    }

    /// Says of all tasks that ever came that they have finished, with what they counted to their end.
    pub(crate) async fn finish_all(&self, records_in: u64) {
        for execution in self.executions() {
            let update = TaskStateUpdate {
                execution: Some(execution.clone()),
                state: TaskState::Finished.into(),
                metrics: Some(counters(execution, records_in)),
                ..TaskStateUpdate::default()
            };
            self.send(self.epoch, Message::TaskState(update)).await;
        }
    }

    /// Counters of all tasks that ever came.
    pub(crate) async fn heartbeat(&self, records_in: u64) {
        let tasks = self
            .executions()
            .into_iter()
            .map(|execution| counters(execution, records_in));
        let heartbeat = TaskManagerHeartbeat {
            tasks: tasks.collect(),
            ..Default::default()
        };
        self.send(self.epoch, Message::Heartbeat(heartbeat)).await;
    }

    /// Waits for the end of its stream.
    pub(crate) async fn ended(self) -> Vec<Command> {
        let seen = self.seen;
        tokio::time::timeout(Duration::from_secs(60), self.task)
            .await
            .expect("in time")
            .unwrap();
        let commands = seen.lock().unwrap();
        commands.clone()
    }

    /// Vanishes, as a killed process does.
    pub(crate) fn kill(self) {
        self.task.abort();
    }
}

fn counters(execution: ExecutionAttempt, records_in: u64) -> TaskMetrics {
    TaskMetrics {
        execution: Some(execution),
        records_in,
        busy_ms_per_second: 250.0,
        ..TaskMetrics::default()
    }
}

/// One inline list for each operator of a chain.
fn snapshot_of(vertex: &JobVertex) -> TaskSnapshot {
    let operators = vertex.chain.iter().map(|node| TaskOperatorSnapshot {
        operator_id: node.operator_id.clone(),
        state: Some(OperatorSubtaskState {
            lists: vec![OperatorList {
                name: "items".to_owned(),
                distribution: Distribution::Union.into(),
                file: Some(StateFile {
                    size: 5,
                    inline: b"items".to_vec(),
                    ..StateFile::default()
                }),
                items: 1,
            }],
            ..OperatorSubtaskState::default()
        }),
        tables: Vec::new(),
    });
    TaskSnapshot {
        operators: operators.collect(),
    }
}

struct Script {
    epoch: u64,
    messages: mpsc::Sender<TaskManagerMessage>,
    seen: Arc<Mutex<Vec<Command>>>,
    on_checkpoint: Arc<Mutex<OnCheckpoint>>,
    /// The newest attempts.
    tasks: Vec<TaskDeployment>,
    /// The checkpoint behind which all ends; 0 = none.
    last: u64,
}

impl Script {
    async fn follow(&mut self, command: Command) {
        self.seen.lock().unwrap().push(command.clone());
        match command {
            Command::StartWorker(start) => {
                let ready = WorkerReady {
                    job_id: start.job_id,
                    worker_generation: start.worker_generation,
                    data_address: "127.0.0.1:1".to_owned(),
                };
                self.say(Message::WorkerReady(ready)).await;
            }
            Command::Deploy(deploy) => {
                for task in deploy.tasks {
                    let execution = task.execution.clone().unwrap();
                    self.tasks.retain(|known| {
                        let known = known.execution.as_ref().unwrap();
                        (&known.job_id, &known.vertex_id, known.subtask)
                            != (&execution.job_id, &execution.vertex_id, execution.subtask)
                    });
                    self.tasks.push(task);
                    self.report(execution, TaskState::Running).await;
                }
            }
            Command::TriggerCheckpoint(trigger) => self.checkpoint(&trigger).await,
            Command::NotifyCheckpoint(notify) if notify.completed && notify.checkpoint_id == self.last => {
                for task in std::mem::take(&mut self.tasks) {
                    self.report(task.execution.unwrap(), TaskState::Finished).await;
                }
            }
            Command::Cancel(cancel) => {
                for execution in cancel.executions {
                    self.report(execution, TaskState::Canceled).await;
                }
            }
            _ => {}
        }
    }

    /// What the barrier would bring about, in all tasks here.
    async fn checkpoint(&mut self, trigger: &TriggerCheckpoint) {
        let what = *self.on_checkpoint.lock().unwrap();
        let options = trigger.options.clone().unwrap();
        if options.terminate && what != OnCheckpoint::AcknowledgeAndRunOn {
            self.last = trigger.checkpoint_id;
        }
        for task in self.tasks.clone() {
            let message = match what {
                OnCheckpoint::Acknowledge | OnCheckpoint::AcknowledgeAndRunOn => {
                    Message::AcknowledgeCheckpoint(AcknowledgeCheckpoint {
                        execution: task.execution,
                        checkpoint_id: trigger.checkpoint_id,
                        snapshot: Some(snapshot_of(&task.vertex.unwrap())),
                        metrics: Some(CheckpointMetrics {
                            sync_us: 1_500,
                            async_ms: 3,
                            checkpointed_bytes: 10,
                            full_bytes: 20,
                            ..CheckpointMetrics::default()
                        }),
                    })
                }
                OnCheckpoint::Decline => Message::DeclineCheckpoint(DeclineCheckpoint {
                    execution: task.execution,
                    checkpoint_id: trigger.checkpoint_id,
                    failure: Some(Failure {
                        class: FailureClass::Retryable.into(),
                        message: "the disk is full".to_owned(),
                        detail: String::new(),
                    }),
                    reason: CheckpointFailureReason::AsyncException.into(),
                }),
                OnCheckpoint::KeepSilent => return,
            };
            self.say(message).await;
        }
    }

    async fn report(&self, execution: ExecutionAttempt, state: TaskState) {
        let update = TaskStateUpdate {
            execution: Some(execution),
            state: state.into(),
            ..TaskStateUpdate::default()
        };
        self.say(Message::TaskState(update)).await;
    }

    async fn say(&self, message: Message) {
        self.messages
            .send(TaskManagerMessage {
                epoch: self.epoch,
                message: Some(message),
            })
            .await
            .ok();
    }
}
