//! Clients of object stores, made from Flink's keys.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::multipart::MultipartStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use thalweg_types::config::{ConfigOption, Configuration, options};

use crate::StorageError;
use crate::uri::{Location, Scheme};

/// How long and how often a request is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSettings {
    /// For a connection.
    pub connect_timeout: Duration,
    /// For one try of one request, its body included.
    pub request_timeout: Duration,
    /// How often a request that failed in passing (5xx, 429, time-out, lost connection) is tried again.
    pub retries: usize,
    /// After how long no try begins any more.
    pub retry_timeout: Duration,
    /// Before the first try again; doubles with each, up to `longest_backoff`.
    pub first_backoff: Duration,
    /// See `first_backoff`.
    pub longest_backoff: Duration,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(60),
            retries: 8,
            retry_timeout: Duration::from_secs(120),
            first_backoff: Duration::from_millis(100),
            longest_backoff: Duration::from_secs(10),
        }
    }
}

impl ClientSettings {
    fn retry_config(&self) -> RetryConfig {
        RetryConfig {
            backoff: BackoffConfig {
                init_backoff: self.first_backoff,
                max_backoff: self.longest_backoff,
                base: 2.0,
            },
            max_retries: self.retries,
            retry_timeout: self.retry_timeout,
        }
    }

    fn client_options(&self) -> ClientOptions {
        ClientOptions::new()
            .with_allow_http(true)
            .with_connect_timeout(self.connect_timeout)
            .with_timeout(self.request_timeout)
    }
}

/// A client, for objects and for uploads in parts.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) uploads: Arc<dyn MultipartStore>,
}

impl Store {
    fn of(client: impl ObjectStore + MultipartStore) -> Self {
        let client = Arc::new(client);
        Self {
            objects: Arc::clone(&client) as _,
            uploads: client,
        }
    }
}

/// The client for a location's bucket or container.
pub(crate) fn connect(
    location: &Location,
    configuration: &Configuration,
    settings: &ClientSettings,
) -> Result<Store, StorageError> {
    let built: object_store::Result<Store> = match location.scheme {
        Scheme::S3 => s3(location, configuration, settings)?.build().map(Store::of),
        Scheme::Gs => GoogleCloudStorageBuilder::from_env()
            .with_bucket_name(&location.authority)
            .with_retry(settings.retry_config())
            .with_client_options(settings.client_options())
            .build()
            .map(Store::of),
        Scheme::Abfs => azure(location, configuration, settings).build().map(Store::of),
        Scheme::File => {
            return Err(StorageError::Uri {
                uri: location.uri(),
                message: "files are in no object store".to_owned(),
            });
        }
    };
    built.map_err(|error| StorageError::Uri {
        uri: location.uri(),
        message: error.to_string(),
    })
}

/// Flink's keys go over the environment's (`AWS_ACCESS_KEY_ID` and so on), and those over the machine's identity.
fn s3(
    location: &Location,
    configuration: &Configuration,
    settings: &ClientSettings,
) -> Result<AmazonS3Builder, StorageError> {
    // Malformed values are refused when a configuration is checked; here they are as good as none.
    let set = |option: &ConfigOption<Option<String>>| configuration.get(option).ok().flatten();
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(&location.authority)
        .with_retry(settings.retry_config())
        .with_client_options(settings.client_options());
    let endpoint = set(&options::S3_ENDPOINT);
    let path_style = endpoint.is_some() || configuration.get(&options::S3_PATH_STYLE_ACCESS).unwrap_or(false);
    if let Some(endpoint) = endpoint {
        let url = endpoint_url(&endpoint).ok_or_else(|| StorageError::Uri {
            uri: location.uri(),
            message: format!(
                "s3.endpoint {endpoint:?} is not an HTTP address: http://host:port or https://host is expected"
            ),
        })?;
        builder = builder.with_endpoint(url);
    }
    if let Some(region) = set(&options::S3_REGION) {
        builder = builder.with_region(region);
    }
    if let Some(key) = set(&options::S3_ACCESS_KEY) {
        builder = builder.with_access_key_id(key);
    }
    if let Some(key) = set(&options::S3_SECRET_KEY) {
        builder = builder.with_secret_access_key(key);
    }
    if let Some(token) = set(&options::S3_SESSION_TOKEN) {
        builder = builder.with_token(token);
    }
    Ok(builder.with_virtual_hosted_style_request(!path_style))
}

/// A bare `host:port` is taken as https, as Flink's file systems do.
fn endpoint_url(given: &str) -> Option<String> {
    let (scheme, host) = given.split_once("://").unwrap_or(("https", given));
    let is_host = !host.is_empty() && !host.starts_with('/') && !host.contains(char::is_whitespace);
    (matches!(scheme, "http" | "https") && is_host).then(|| format!("{scheme}://{host}"))
}

/// `container@account.dfs.core.windows.net`, with the account's key under Hadoop's name for it.
fn azure(
    location: &Location,
    configuration: &Configuration,
    settings: &ClientSettings,
) -> MicrosoftAzureBuilder {
    let builder = MicrosoftAzureBuilder::from_env()
        .with_url(format!("abfss://{}/", location.authority))
        .with_retry(settings.retry_config())
        .with_client_options(settings.client_options());
    let host = location
        .authority
        .split_once('@')
        .map_or("", |(_container, host)| host);
    let key = ["", ".blob.core.windows.net", ".dfs.core.windows.net"]
        .iter()
        .find_map(|suffix| {
            let account = host.split('.').next().unwrap_or_default();
            configuration.get_raw(&format!("fs.azure.account.key.{account}{suffix}"))
        });
    match key {
        Some(key) => builder.with_access_key(key),
        None => builder,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_http_address() {
        let url = |given| endpoint_url(given).unwrap_or_default();
        assert_eq!(url("http://minio:9000"), "http://minio:9000");
        assert_eq!(url("minio:9000"), "https://minio:9000");
        for wrong in ["ftp://minio", "http://", "http://mi nio", ""] {
            assert_eq!(endpoint_url(wrong), None, "{wrong:?}");
        }
    }
}
