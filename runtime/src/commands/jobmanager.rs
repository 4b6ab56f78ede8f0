//! `thalweg jobmanager`.

use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use thalweg_jobmanager::high_availability::Election;
use thalweg_jobmanager::{Application, JobManager, JobManagerConfig};
use thalweg_script::signals;
use thalweg_types::config::{Configuration, HighAvailabilityKind, options};

use crate::cli::JobManagerArguments;
use crate::lease_election::LeaseElection;
use crate::temp_folder::TempFolder;

/// Runs until it is asked to end. An application that can't start is told by REST and to the operator, not by an exit: a
/// crash loop would hide the reason. One that leads no longer ends at once: it may do nothing more.
pub(crate) async fn run(
    configuration: Configuration,
    arguments: JobManagerArguments,
) -> anyhow::Result<ExitCode> {
    let bind = bind_address(&configuration)?;
    let rest_port = configuration
        .get(&options::REST_BIND_PORT)?
        .unwrap_or(configuration.get(&options::REST_PORT)?);
    let lease = match configuration.get(&options::HA_TYPE)? {
        HighAvailabilityKind::Kubernetes => Some(Arc::new(LeaseElection::of_pod().await?)),
        HighAvailabilityKind::None | HighAvailabilityKind::Storage => None,
    };
    let folder = TempFolder::new(&configuration)?;
    let config = JobManagerConfig {
        rpc_bind: (bind, configuration.get(&options::RPC_PORT)?).into(),
        rest_bind: (bind, rest_port).into(),
        metrics_bind: (bind, configuration.get(&options::METRICS_PORT)?).into(),
        advertised_host: arguments.host.clone(),
        data_directory: folder.path().join("jobmanager"),
        temp_directory: folder.path().to_owned(),
        host: std::env::var("POD_NAME")
            .or_else(|_| std::env::var("HOSTNAME"))
            .unwrap_or_else(|_| bind.to_string()),
        application: arguments.application.then(|| application(arguments)),
        default_checkpoint_directory: None,
        configuration,
    };
    let election = lease.clone().map(|lease| lease as Arc<dyn Election>);
    let mut job_manager = JobManager::start_with(config, election).await?;
    // Nobody is to lead a cluster that was deleted.
    let release = async |is_retired: bool| {
        if let Some(lease) = lease.as_ref().filter(|_| !is_retired) {
            lease.release().await;
        }
    };
    let ended = tokio::select! {
        asked = signals::shutdown() => {
            let is_retired = job_manager.is_retired();
            // At once: a standby that leads while this one still closes its streams fences it.
            tokio::join!(job_manager.shutdown(), release(is_retired));
            asked.map_err(anyhow::Error::from)
        }
        reason = job_manager.ended() => {
            let is_retired = job_manager.is_retired();
            drop(job_manager);
            release(is_retired).await;
            Err(anyhow::anyhow!(reason))
        }
    };
    ended.map(|()| ExitCode::SUCCESS)
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
