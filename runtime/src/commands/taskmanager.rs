//! `thalweg taskmanager`.

use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;

use thalweg_script::signals;
use thalweg_taskmanager::{TaskManager, TaskManagerConfig, WorkerOutput};
use thalweg_types::TaskManagerId;
use thalweg_types::config::{Configuration, options};

use crate::cli::TaskManagerArguments;
use crate::temp_folder::TempFolder;

/// Runs until it is asked to end.
pub(crate) async fn run(
    configuration: Configuration,
    arguments: TaskManagerArguments,
) -> anyhow::Result<ExitCode> {
    let host = match arguments.host {
        Some(host) => host,
        None => configuration
            .get(&options::TASKMANAGER_HOST)?
            .unwrap_or_else(|| Ipv4Addr::LOCALHOST.to_string()),
    };
    let id = arguments
        .resource_id
        .unwrap_or_else(|| format!("{host}-{}", std::process::id()));
    let address = configuration
        .get(&options::RPC_ADDRESS)?
        .unwrap_or_else(|| "localhost".to_owned());
    let port = configuration.get(&options::RPC_PORT)?;
    let metrics_port = configuration.get(&options::METRICS_PORT)?;
    let folder = TempFolder::new(&configuration)?;
    let config = TaskManagerConfig {
        id: TaskManagerId(id),
        data_bind: data_bind(&host),
        host,
        job_manager: with_port(&address, port),
        metrics_bind: (Ipv4Addr::UNSPECIFIED, metrics_port).into(),
        data_directory: folder.path().to_owned(),
        worker_output: WorkerOutput::Log,
        configuration,
    };
    let task_manager = TaskManager::start(config).await?;
    signals::shutdown().await?;
    task_manager.shutdown().await;
    Ok(ExitCode::SUCCESS)
}

/// Each host of a comma list with the port, unless it brings its own.
fn with_port(hosts: &str, port: u16) -> String {
    let hosts = hosts.split(',').map(str::trim).filter(|host| !host.is_empty());
    let addresses = hosts.map(|host| match host.rsplit_once(':') {
        // A colon more is one of an IPv6 address.
        Some((name, own)) if own.parse::<u16>().is_ok() && (!name.contains(':') || name.ends_with(']')) => {
            host.to_owned()
        }
        _ if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{port}"),
        _ => format!("{host}:{port}"),
    });
    addresses.collect::<Vec<_>>().join(",")
}

/// Bound to the host's own address where that is one, so that nothing else is opened.
fn data_bind(host: &str) -> IpAddr {
    host.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_job_manager_has_the_port_unless_it_brings_its_own() {
        assert_eq!(with_port("jm", 6123), "jm:6123");
        assert_eq!(
            with_port("a, b:7000,,10.0.0.1", 6123),
            "a:6123,b:7000,10.0.0.1:6123"
        );
        assert_eq!(
            with_port("::1, [::2]:7000, [::3]", 6123),
            "[::1]:6123,[::2]:7000,[::3]:6123"
        );
    }
}
