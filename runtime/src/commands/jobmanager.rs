//! `thalweg jobmanager`.

use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;

use anyhow::Context;
use thalweg_jobmanager::{Application, JobManager, JobManagerConfig};
use thalweg_types::config::{Configuration, options};

use crate::cli::JobManagerArguments;
use crate::signals;
use crate::temp_folder::TempFolder;

/// Runs until it is asked to end. An application that can't start is told by REST and to the operator, not by an exit: a
/// crash loop would hide the reason.
pub(crate) async fn run(
    configuration: Configuration,
    arguments: JobManagerArguments,
) -> anyhow::Result<ExitCode> {
    let bind = bind_address(&configuration)?;
    let rest_port = configuration
        .get(&options::REST_BIND_PORT)?
        .unwrap_or(configuration.get(&options::REST_PORT)?);
    let folder = TempFolder::new(&configuration)?;
    let config = JobManagerConfig {
        rpc_bind: (bind, configuration.get(&options::RPC_PORT)?).into(),
        rest_bind: (bind, rest_port).into(),
        metrics_bind: (bind, configuration.get(&options::METRICS_PORT)?).into(),
        data_directory: folder.path().join("jobmanager"),
        temp_directory: folder.path().to_owned(),
        host: std::env::var("POD_NAME")
            .or_else(|_| std::env::var("HOSTNAME"))
            .unwrap_or_else(|_| bind.to_string()),
        application: arguments.application.then(|| application(arguments)),
        default_checkpoint_directory: None,
        configuration,
    };
    let job_manager = JobManager::start(config).await?;
    signals::shutdown().await?;
    job_manager.shutdown().await;
    Ok(ExitCode::SUCCESS)
}

fn application(arguments: JobManagerArguments) -> Application {
    Application {
        package_uri: arguments.package.unwrap_or_default(),
        package_sha256: arguments.package_sha256.unwrap_or_default(),
        arguments: arguments.arguments,
        parallelism: arguments.parallelism.unwrap_or_default(),
        job_name: arguments.job_name.unwrap_or_default(),
        operation_id: arguments.operation_id.unwrap_or_default(),
    }
}

fn bind_address(configuration: &Configuration) -> anyhow::Result<IpAddr> {
    match configuration.get(&options::JOBMANAGER_BIND_HOST)? {
        None => Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        Some(host) => host
            .parse()
            .with_context(|| format!("jobmanager.bind-host {host:?} is not an address")),
    }
}
