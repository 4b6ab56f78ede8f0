//! A Kafka broker of our own, which may be killed: one process that is its own controller (KRaft), on loopback.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use tokio::net::TcpStream;

use super::processes::Process;
use super::{PARTITIONS, eventually};
use crate::cluster::free_port;

pub(super) struct Broker {
    jars: PathBuf,
    folder: PathBuf,
    logs: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Broker {
    /// With Kafka's jars in a folder; `transaction_version` is 1 or 2.
    pub(super) async fn start(
        jars: &Path,
        folder: &Path,
        logs: &Path,
        transaction_version: u64,
    ) -> anyhow::Result<Self> {
        let (port, controller) = (free_port(), free_port());
        std::fs::create_dir_all(folder)?;
        std::fs::write(
            folder.join("server.properties"),
            properties(folder, port, controller),
        )?;
        let mut broker = Self {
            jars: jars.to_owned(),
            folder: folder.to_owned(),
            logs: logs.to_owned(),
            port,
            process: None,
        };
        let feature = format!("transaction.version={transaction_version}");
        let formatted = broker
            .java("kafka.tools.StorageTool")
            .args(["format", "--standalone", "--cluster-id", "dGhhbHdlZy1mYXVsdHMtMA"])
            .args(["--feature", &feature, "--config"])
            .arg(broker.folder.join("server.properties"))
            .output()?;
        let said = String::from_utf8_lossy(&formatted.stderr);
        ensure!(
            formatted.status.success(),
            "formatting Kafka's storage failed: {said}"
        );
        broker.launch()?;
        broker.serves().await?;
        Ok(broker)
    }

    pub(super) fn servers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.process.take().context("the broker does not run")?.kill()
    }

    /// Asks it to end, and waits until it has.
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        self.process
            .take()
            .context("the broker does not run")?
            .terminate()
    }

    pub(super) fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Starts it with the data that it has.
    pub(super) fn launch(&mut self) -> anyhow::Result<()> {
        let mut command = self.java("kafka.Kafka");
        command.arg(self.folder.join("server.properties"));
        self.process = Some(Process::start("kafka", &mut command, &self.logs)?);
        Ok(())
    }

    /// Returns when it does: then it opens its port.
    pub(super) async fn serves(&self) -> anyhow::Result<()> {
        let address = self.servers();
        eventually("the broker", async || {
            Ok(TcpStream::connect(&address).await.is_ok())
        })
        .await
    }

    pub(super) async fn create_topic(&self, name: &str) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", self.servers())
            .create()?;
        let topic = NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1));
        for created in admin.create_topics([&topic], &AdminOptions::new()).await? {
            created.map_err(|(topic, code)| anyhow::anyhow!("topic {topic} can't be made: {code}"))?;
        }
        Ok(())
    }

    fn java(&self, class: &str) -> Command {
        let mut command = Command::new("java");
        // It starts fast, and is small.
        command.args([
            "-Xmx384m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Xshare:auto",
        ]);
        command.args(["-Dorg.slf4j.simpleLogger.showDateTime=true", "-cp"]);
        command.arg(self.jars.join("*")).arg(class);
        command
    }
}

fn properties(folder: &Path, port: u16, controller: u16) -> String {
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         controller.listener.names=CONTROLLER\n\
         controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
         log.dirs={}\n\
         auto.create.topics.enable=false\n\
         offsets.topic.replication.factor=1\n\
         offsets.topic.num.partitions=4\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         transaction.state.log.num.partitions=4\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n",
        folder.join("data").display()
    )
}
