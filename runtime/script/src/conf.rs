//! Configuration: config.yaml, then the environment, then `-D`; checked before anything starts.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use thalweg_types::config::{ConfigError, Configuration};

use crate::cli::ConfigurationOptions;

/// Environment variable of Flink's images for the JobManager's address.
const RPC_ADDRESS_VARIABLE: &str = "JOB_MANAGER_RPC_ADDRESS";

/// Loads and checks it; notes on keys without meaning here go to the log.
pub fn load(options: &ConfigurationOptions) -> anyhow::Result<Configuration> {
    let mut configuration = from_folder(options)?;
    for (key, value) in definitions(&options.define)? {
        configuration.set(key, value);
    }
    checked(configuration)
}

/// The same for a script, which may have variables of its own: a `-D` whose key is no key of the configuration is one. Also gives all
/// that `-D` says, for the script.
pub fn load_with_variables(
    options: &ConfigurationOptions,
) -> anyhow::Result<(Configuration, BTreeMap<String, String>)> {
    let variables: BTreeMap<String, String> = definitions(&options.define)?.into_iter().collect();
    let configuration = from_folder(options)?.merged_with(&known(&variables));
    Ok((checked(configuration)?, variables))
}

/// Those whose key is one of the configuration.
pub fn known(variables: &BTreeMap<String, String>) -> Configuration {
    let entries = variables.clone().into_iter();
    Configuration::from_map(entries.filter(|(key, value)| is_known(key, value)))
}

/// The others.
pub fn unknown(mut variables: BTreeMap<String, String>) -> BTreeMap<String, String> {
    variables.retain(|key, value| !is_known(key, value));
    variables
}

fn is_known(key: &str, value: &str) -> bool {
    let alone = Configuration::from_map([(key.to_owned(), value.to_owned())]);
    !matches!(alone.check(), Err(ConfigError::UnknownKey { .. }))
}

/// Of `KEY=VALUE`, as `-D` takes it.
pub fn definitions(defined: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let definitions = defined.iter().map(|definition| match definition.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
        None => bail!("-D {definition}: KEY=VALUE is expected"),
    });
    definitions.collect()
}

fn checked(configuration: Configuration) -> anyhow::Result<Configuration> {
    for note in configuration.check()? {
        tracing::info!("{note}");
    }
    Ok(configuration)
}

fn from_folder(options: &ConfigurationOptions) -> anyhow::Result<Configuration> {
    let mut configuration = match &options.conf_dir {
        Some(folder) => read(folder)?,
        None => Configuration::default(),
    };
    if let Ok(address) = std::env::var(RPC_ADDRESS_VARIABLE) {
        configuration.set("jobmanager.rpc.address", address);
    }
    Ok(configuration)
}

fn read(folder: &Path) -> anyhow::Result<Configuration> {
    let path = folder.join("config.yaml");
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Configuration::from_yaml(&path.display().to_string(), &text)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Configuration::default()),
        Err(error) => Err(error).with_context(|| format!("{} can't be read", path.display())),
    }
}
