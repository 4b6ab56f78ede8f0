//! Where things are, by the environment.

use anyhow::Context;

use crate::s3::S3;

/// What `e2e/run` tells the tests.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// `host:port` of the Kafka broker.
    pub kafka: String,
    /// `http://host:port` of Prometheus.
    pub prometheus: String,
    /// Image with the runtime and the example job packages.
    pub job_image: String,
    /// An archive with the word count package.
    pub package: String,
    /// The S3 server.
    pub s3: S3,
    /// Namespace of the operator.
    pub operator_namespace: String,
    /// A file of real text with 100,000 lines or more.
    pub text: String,
}

impl Surroundings {
    /// Reads them; an absent variable is named.
    pub fn from_env() -> anyhow::Result<Self> {
        let variable =
            |name: &str| std::env::var(name).with_context(|| format!("{name} is not set: run `make e2e`"));
        Ok(Self {
            kafka: variable("THALWEG_TEST_KAFKA")?,
            prometheus: variable("THALWEG_TEST_PROMETHEUS")?,
            job_image: variable("THALWEG_TEST_JOB_IMAGE")?,
            package: variable("THALWEG_TEST_PACKAGE")?,
            s3: S3::parse(&variable("THALWEG_TEST_S3")?)?,
            operator_namespace: variable("THALWEG_TEST_OPERATOR_NAMESPACE")?,
            text: variable("THALWEG_TEST_TEXT")?,
        })
    }
}
