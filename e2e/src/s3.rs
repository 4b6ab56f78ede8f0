//! The cluster's S3 server.

use anyhow::Context;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use serde_json::{Map, Value, json};

/// How it is reached: what `cluster s3 up` prints.
#[derive(Debug, Clone)]
pub struct S3 {
    /// `http://host:port`.
    pub endpoint: String,
    /// Of the only account.
    pub access_key: String,
    /// Of the only account.
    pub secret_key: String,
    /// A bucket that exists.
    pub bucket: String,
}

impl S3 {
    /// Reads `key=value` lines.
    pub fn parse(settings: &str) -> anyhow::Result<Self> {
        let value = |name: &str| {
            settings
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                .map(str::to_owned)
                .with_context(|| format!("the settings of S3 have no {name}"))
        };
        Ok(Self {
            endpoint: value("endpoint")?,
            access_key: value("access_key")?,
            secret_key: value("secret_key")?,
            bucket: value("bucket")?,
        })
    }

    /// Writes an object; its URI.
    pub async fn put(&self, key: &str, content: Vec<u8>) -> anyhow::Result<String> {
        self.store()?
            .put(&Path::parse(key)?, PutPayload::from(content))
            .await
            .with_context(|| format!("{key} can't be written to S3"))?;
        Ok(self.uri(key))
    }

    /// Whether there is an object at this URI.
    pub async fn exists(&self, uri: &str) -> anyhow::Result<bool> {
        let key = uri
            .strip_prefix(&format!("s3://{}/", self.bucket))
            .with_context(|| format!("{uri} is not in bucket {}", self.bucket))?;
        match self.store()?.head(&Path::parse(key)?).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error).with_context(|| format!("{uri} can't be looked at")),
        }
    }

    /// Where an object is.
    pub fn uri(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket)
    }

    /// Flink's keys for it.
    pub fn configuration(&self) -> Map<String, Value> {
        let keys = json!({
            "s3.endpoint": self.endpoint,
            "s3.access-key": self.access_key,
            "s3.secret-key": self.secret_key,
            "s3.path.style.access": "true",
        });
        keys.as_object().cloned().unwrap_or_default()
    }

    fn store(&self) -> anyhow::Result<AmazonS3> {
        Ok(AmazonS3Builder::new()
            .with_endpoint(&self.endpoint)
            .with_allow_http(true)
            .with_access_key_id(&self.access_key)
            .with_secret_access_key(&self.secret_key)
            .with_bucket_name(&self.bucket)
            .build()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_by_name_and_a_missing_one_is_named() {
        let settings = "endpoint=http://s3\nregion=r\naccess_key=a\nsecret_key=s=\nbucket=b\n";
        let s3 = S3::parse(settings).unwrap();
        assert_eq!(
            (s3.secret_key.as_str(), s3.uri("k/1")),
            ("s=", "s3://b/k/1".to_owned())
        );
        let error = S3::parse("endpoint=http://s3").unwrap_err().to_string();
        assert!(error.contains("access_key"), "{error}");
    }
}
