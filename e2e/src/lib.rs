//! Helpers of the end-to-end tests: a namespace a test, Kafka topics, waiting for conditions.
//!
//! The tests in `tests/e2e` run inside a cluster's network (`e2e/run` starts one): they find Kubernetes by KUBECONFIG and the
//! rest by the environment ([`Surroundings`]). A test works in a namespace of its own, which is gone when it ends; when
//! it fails, what the cluster knew is printed first.

pub mod kafka;
pub mod manifest;
pub mod namespace;
pub mod s3;
pub mod surroundings;
pub mod text;
pub mod wait;

pub use namespace::{TestNamespace, with_namespace};
pub use s3::S3;
pub use surroundings::Surroundings;
pub use wait::eventually;
