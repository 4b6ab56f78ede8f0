//! What a FlinkApplication and a FlinkSessionJob have in common: the job.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest inline script. With `config.yaml` it has to fit into a ConfigMap, whose limit is 1 MiB.
pub const SQL_MAX_LENGTH: usize = 256 << 10;

/// A packaged job or a SQL script, and how it is to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.savepointRedeployNonce) || has(self.initialSavepointPath)",
        "message": "savepointRedeployNonce needs initialSavepointPath: the job starts anew from it",
        "fieldPath": ".savepointRedeployNonce"
    },
    {
        "rule": "has(self.__package__) != has(self.sql)",
        "message": "exactly one of package and sql says what the job is",
        "fieldPath": ".package"
    }
]))]
pub struct JobSpec {
    /// The job package. This or `sql`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<Package>,
    /// A SQL script, whose INSERTs run as one job. This or `package`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = SQL_MAX_LENGTH))]
    pub sql: Option<String>,
    /// Arguments of the package's `main`. Of a script: `-D`, then `key=value`, for each of its variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub args: Vec<String>,
    /// Default parallelism of the job's operators. Unset: `parallelism.default`, else 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32768))]
    pub parallelism: Option<i32>,
    /// Whether the job is to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<JobStateSpec>,
    /// What becomes of the job's state when its spec changes, or it is suspended and resumed. `last-state` needs
    /// `execution.checkpointing.interval` and `execution.checkpointing.dir`, `savepoint` needs
    /// `execution.checkpointing.savepoint-dir`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade_mode: Option<UpgradeMode>,
    /// Savepoint or retained checkpoint that the first start restores from; has no effect once the job has started, but for
    /// `savepointRedeployNonce`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub initial_savepoint_path: Option<String>,
    /// Start although the savepoint holds state that no operator of the job claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_non_restored_state: Option<bool>,
    /// Another value drops the job's state and starts it anew from `initialSavepointPath`, whatever its upgrade mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub savepoint_redeploy_nonce: Option<i64>,
    /// Another value takes a savepoint of the running job, as a FlinkStateSnapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub savepoint_trigger_nonce: Option<i64>,
    /// Another value takes a checkpoint of the running job out of turn, as a FlinkStateSnapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_trigger_nonce: Option<i64>,
}

impl JobSpec {
    /// Whether the job is to be suspended.
    #[must_use]
    pub fn suspended(&self) -> bool {
        self.state == Some(JobStateSpec::Suspended)
    }
}

/// Where a job package is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "self.uri.matches('^(local|file|s3|https)://.+')",
        "message": "uri must begin with local:// (in the image), file://, s3:// or https://",
        "fieldPath": ".uri"
    },
    {
        "rule": "!self.uri.startsWith('https://') || has(self.sha256)",
        "message": "a package reached by https:// needs sha256",
        "fieldPath": ".sha256"
    },
    {
        "rule": "!has(self.sha256) || self.sha256.matches('^[0-9a-f]{64}$')",
        "message": "sha256 must be 64 lower-case hex digits",
        "fieldPath": ".sha256"
    }
]))]
pub struct Package {
    /// `local://` (a path in the image), `file://`, `s3://`, or `https://` with a sha256. A folder or archive with a `job.yaml`, or a SQL
    /// script that ends in `.sql`.
    #[schemars(length(min = 1, max = 4096))]
    pub uri: String,
    /// SHA-256 of the package's bytes: 64 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub sha256: Option<String>,
}

/// The state that a job is wanted in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobStateSpec {
    /// It runs.
    #[default]
    Running,
    /// It doesn't, and holds no pods.
    Suspended,
}

/// What becomes of a job's state at an upgrade.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UpgradeMode {
    /// It is dropped.
    #[default]
    Stateless,
    /// The job continues from its newest checkpoint.
    LastState,
    /// The job is stopped with a savepoint and continues from it.
    Savepoint,
}

impl UpgradeMode {
    /// The spelling in a spec.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stateless => "stateless",
            Self::LastState => "last-state",
            Self::Savepoint => "savepoint",
        }
    }
}
