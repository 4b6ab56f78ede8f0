//! A real S3 server over a folder, behind a proxy that breaks what it is told to.

use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::net::TcpStream;

use super::eventually;
use super::processes::Process;
use super::proxy::Proxy;
use super::server::Fault as Failing;
use crate::cluster::free_port;

const ACCESS_KEY: &str = "thalweg";
const SECRET_KEY: &str = "thalweg-secret";
pub(super) const BUCKET: &str = "thalweg";

pub(super) struct Store {
    proxy: Proxy,
    folder: PathBuf,
    _server: Process,
}

impl Store {
    /// By the S3 server's program (versitygw).
    pub(super) async fn start(program: &Path, folder: PathBuf, logs: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder.join(BUCKET))?;
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(program);
        command.args([
            "--access",
            ACCESS_KEY,
            "--secret",
            SECRET_KEY,
            "--region",
            "us-east-1",
        ]);
        command.args(["--port", &address, "posix"]).arg(&folder);
        let server = Process::start("s3", &mut command, logs)?;
        eventually("the S3 server", async || {
            Ok(TcpStream::connect(&address).await.is_ok())
        })
        .await?;
        Ok(Self {
            proxy: Proxy::start(&format!("http://{address}")).await,
            folder,
            _server: server,
        })
    }

    /// Where the objects are that have this beginning: the server keeps each as a file.
    pub(super) fn folder_of(&self, prefix: &str) -> PathBuf {
        self.folder.join(BUCKET).join(prefix)
    }

    /// What each request meets from now on, until `None` is told.
    pub(super) fn outage(&self, failing: Option<Failing>) {
        self.proxy.outage(failing);
    }

    /// Flink's keys for it.
    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("s3.endpoint", self.proxy.endpoint()),
            ("s3.region", "us-east-1".to_owned()),
            ("s3.access-key", ACCESS_KEY.to_owned()),
            ("s3.secret-key", SECRET_KEY.to_owned()),
            ("s3.path.style.access", "true".to_owned()),
        ]
    }
}
