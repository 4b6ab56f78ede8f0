//! Configuration: config.yaml, then the environment, then `-D`; checked before anything starts.

use anyhow::{Context, bail};
use thalweg_types::config::Configuration;

use crate::cli::ConfigurationOptions;

/// Environment variable of Flink's images for the JobManager's address.
const RPC_ADDRESS_VARIABLE: &str = "JOB_MANAGER_RPC_ADDRESS";

/// Loads and checks it; notes on keys without meaning here go to the log.
pub(crate) fn load(options: &ConfigurationOptions) -> anyhow::Result<Configuration> {
    let mut configuration = from_folder(options)?;
    if let Ok(address) = std::env::var(RPC_ADDRESS_VARIABLE) {
        configuration.set("jobmanager.rpc.address", address);
    }
    for definition in &options.define {
        let Some((key, value)) = definition.split_once('=') else {
            bail!("-D {definition}: KEY=VALUE is expected");
        };
        configuration.set(key.trim(), value.trim());
    }
    for note in configuration.check()? {
        tracing::info!("{note}");
    }
    Ok(configuration)
}

fn from_folder(options: &ConfigurationOptions) -> anyhow::Result<Configuration> {
    let Some(folder) = &options.conf_dir else {
        return Ok(Configuration::default());
    };
    let path = folder.join("config.yaml");
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Configuration::from_yaml(&path.display().to_string(), &text)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Configuration::default()),
        Err(error) => Err(error).with_context(|| format!("{} can't be read", path.display())),
    }
}
