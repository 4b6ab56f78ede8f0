//! Packages in S3, or in what speaks S3: Flink's `s3.*` keys over the usual AWS environment variables.
//!
//! | key | |
//! |---|---|
//! | `s3.endpoint` | `http://host:port` or `https://host`; without a scheme https. Without it: AWS |
//! | `s3.access-key`, `s3.secret-key`, `s3.session-token` | without them: the environment, then the machine's role |
//! | `s3.endpoint.region`, `s3.region` | `us-east-1` without |
//! | `s3.path.style.access` | accepted: buckets are always addressed by path, which every server takes |
//!
//! Invariant: an answer's XML, which repeats parts of the request's signature, never gets into a message.

use std::time::Duration;

use futures::StreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path as ObjectPath;
use object_store::{ClientConfigKey, ObjectStoreExt, RetryConfig};
use thalweg_types::config::Configuration;

use super::PackageError;
use super::fetch::{Download, READ_TIMEOUT};

/// Within an attempt; the JobManager repeats the whole attempt, and tells why, if it fails.
const RETRIES: usize = 3;
const RETRY_FOR: Duration = Duration::from_secs(15);
/// The address of the service that gives a cloud's machine its credentials: asked when there are no others.
const METADATA_SERVICE: &str = "169.254.169.254";
/// What servers answer when they don't accept who asks.
const REFUSALS: [&str; 7] = [
    "AccessDenied",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidSecurity",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
];

/// Where an object lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Object<'a> {
    pub(super) uri: &'a str,
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
}

impl Object<'_> {
    /// Copies it to `download`.
    pub(super) async fn fetch(
        self,
        configuration: &Configuration,
        download: &mut Download<'_>,
    ) -> Result<(), PackageError> {
        let failed = |error: object_store::Error| self.error(&error);
        let key = ObjectPath::parse(self.key).map_err(|_| PackageError::Uri {
            uri: self.uri.to_owned(),
        })?;
        let store = store(self.bucket, configuration)?;
        let found = tokio::time::timeout(READ_TIMEOUT, store.get(&key)).await;
        let mut body = found.map_err(|_| self.silent())?.map_err(failed)?.into_stream();
        while let Some(chunk) = tokio::time::timeout(READ_TIMEOUT, body.next())
            .await
            .map_err(|_| self.silent())?
        {
            download.write(&chunk.map_err(failed)?).await?;
        }
        Ok(())
    }

    fn silent(self) -> PackageError {
        self.failed(format!("nothing came for {} s", READ_TIMEOUT.as_secs()))
    }

    fn failed(self, reason: String) -> PackageError {
        PackageError::Fetch {
            uri: self.uri.to_owned(),
            reason,
        }
    }

    fn denied(self, reason: &str) -> PackageError {
        PackageError::Denied {
            uri: self.uri.to_owned(),
            reason: reason.to_owned(),
        }
    }

    /// What a failure of the store means. The server's own code decides: servers differ in the status they send with it.
    fn error(self, error: &object_store::Error) -> PackageError {
        let chain = chain(error);
        let whole = chain.join(": ");
        let (code, message) = (element(&whole, "Code"), element(&whole, "Message"));
        match code {
            Some("NoSuchBucket") => {
                return PackageError::BucketMissing {
                    uri: self.uri.to_owned(),
                    bucket: self.bucket.to_owned(),
                };
            }
            Some(code) if REFUSALS.contains(&code) => {
                return self.denied(&format!("{code}: {}", message.unwrap_or("no more is said")));
            }
            _ => {}
        }
        match error {
            // Some servers answer 404 to an unknown user, too.
            object_store::Error::NotFound { .. } if matches!(code, None | Some("NoSuchKey")) => {
                PackageError::Missing {
                    uri: self.uri.to_owned(),
                }
            }
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                self.denied(code.unwrap_or("the server gives no reason"))
            }
            _ if whole.contains(METADATA_SERVICE) => {
                self.denied("no credentials are configured, and this machine has none of its own")
            }
            _ => self.failed(match (code, message) {
                (Some(code), message) => format!("{code}: {}", message.unwrap_or_default()),
                // The innermost cause: what is around it says again where and how often it was tried.
                _ => chain.last().map(|text| one_line(text)).unwrap_or_default(),
            }),
        }
    }
}

/// The messages of an error and its causes, the outermost first.
fn chain(error: &dyn std::error::Error) -> Vec<String> {
    let mut messages = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        messages.push(cause.to_string());
        next = cause.source();
    }
    messages
}

/// The text of an XML element without children.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once('<')
        .map(|(content, _)| content.trim())
        .filter(|content| !content.is_empty())
}

/// Without an answer's XML and line breaks.
fn one_line(text: &str) -> String {
    let before = text.split_once("<?xml").map_or(text, |(before, _)| before);
    before.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn store(bucket: &str, configuration: &Configuration) -> Result<AmazonS3, PackageError> {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        // Silence is noticed by us: a large package over a slow link takes its time.
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), "1 hour")
        .with_retry(RetryConfig {
            max_retries: RETRIES,
            retry_timeout: RETRY_FOR,
            ..RetryConfig::default()
        });
    let endpoint = configuration.get_raw("s3.endpoint");
    if let Some(given) = endpoint {
        let url = endpoint_url(given)?;
        builder = builder
            .with_allow_http(url.starts_with("http://"))
            .with_endpoint(url);
    }
    if let Some(key) = configuration.get_raw("s3.access-key") {
        builder = builder.with_access_key_id(key);
    }
    if let Some(key) = configuration.get_raw("s3.secret-key") {
        builder = builder.with_secret_access_key(key);
    }
    if let Some(token) = configuration.get_raw("s3.session-token") {
        builder = builder.with_token(token);
    }
    if let Some(region) = configuration
        .get_raw("s3.endpoint.region")
        .or(configuration.get_raw("s3.region"))
    {
        builder = builder.with_region(region);
    }
    builder.build().map_err(|error| PackageError::S3 {
        reason: one_line(&chain(&error).join(": ")),
    })
}

/// The endpoint as a URL; a bare `host:port` is taken as https, as Flink's file systems do.
fn endpoint_url(given: &str) -> Result<String, PackageError> {
    let wrong = |reason: &str| PackageError::S3 {
        reason: format!("s3.endpoint {given:?} {reason}: http://host:port or https://host is expected"),
    };
    let url = if given.contains("://") {
        given.to_owned()
    } else {
        format!("https://{given}")
    };
    let parsed = reqwest::Url::parse(&url).map_err(|_| wrong("is not an address"))?;
    match parsed.scheme() {
        "http" | "https" if parsed.has_host() => Ok(url),
        _ => Err(wrong("is not an HTTP address")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: Object<'static> = Object {
        uri: "s3://jobs/a.tar",
        bucket: "jobs",
        key: "a.tar",
    };

    fn answer(text: &str) -> Box<dyn std::error::Error + Send + Sync> {
        format!("Server returned non-2xx status code: {text}").into()
    }

    fn not_found(body: &str) -> PackageError {
        OBJECT.error(&object_store::Error::NotFound {
            path: "a.tar".into(),
            source: answer(&format!("404 Not Found: {body}")),
        })
    }

    #[test]
    fn an_object_and_a_bucket_that_are_missing_are_told_apart() {
        let key = not_found("<?xml version=\"1.0\"?>\n<Error><Code>NoSuchKey</Code></Error>");
        assert_eq!(key.to_string(), "there is no package at s3://jobs/a.tar");
        let bucket = not_found("<Error><Code>NoSuchBucket</Code></Error>");
        assert_eq!(
            bucket.to_string(),
            "there is no package at s3://jobs/a.tar: there is no bucket jobs"
        );
    }

    #[test]
    fn refused_credentials_are_one_line_without_the_signature_whatever_the_status() {
        let body = "<?xml version=\"1.0\"?>\n<Error><Code>SignatureDoesNotMatch</Code><Message>Check your key.\
             </Message><StringToSign>AWS4-HMAC secret</StringToSign></Error>";
        let forbidden = OBJECT.error(&object_store::Error::PermissionDenied {
            path: "a.tar".into(),
            source: answer(body),
        });
        for error in [forbidden, not_found(body)] {
            assert_eq!(
                error.to_string(),
                "the package s3://jobs/a.tar can't be read, access is denied (SignatureDoesNotMatch: Check your key.): \
                 see s3.access-key and s3.secret-key"
            );
        }
    }

    #[test]
    fn an_unknown_user_is_not_told_as_a_missing_package() {
        let error =
            not_found("<Error><Code>XAdminUserNotFound</Code><Message>No such user.</Message></Error>");
        assert_eq!(
            error.to_string(),
            "the package s3://jobs/a.tar can't be fetched: XAdminUserNotFound: No such user."
        );
    }

    #[test]
    fn missing_credentials_are_not_told_as_an_unreachable_metadata_service() {
        let error = OBJECT.error(&object_store::Error::Generic {
            store: "S3",
            source: "Error performing PUT http://169.254.169.254/latest/api/token".into(),
        });
        assert!(
            error.to_string().contains("no credentials are configured"),
            "{error}"
        );
    }

    #[test]
    fn other_failures_are_told_by_their_innermost_cause() {
        let error = OBJECT.error(&object_store::Error::Generic {
            store: "S3",
            source: answer("Connection refused\n(os error 111)"),
        });
        assert_eq!(
            error.to_string(),
            "the package s3://jobs/a.tar can't be fetched: Server returned non-2xx status code: Connection refused (os error 111)"
        );
    }

    #[test]
    fn an_endpoint_is_an_http_address() {
        assert_eq!(
            endpoint_url("http://minio:9000").map_err(drop),
            Ok("http://minio:9000".to_owned())
        );
        assert_eq!(
            endpoint_url("minio:9000").map_err(drop),
            Ok("https://minio:9000".to_owned())
        );
        for wrong in ["ftp://minio", "http://", "http://mi nio"] {
            let error = endpoint_url(wrong).unwrap_err().to_string();
            assert!(error.contains(&format!("s3.endpoint {wrong:?}")), "{error}");
        }
    }
}
