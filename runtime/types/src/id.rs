//! Identifiers, written as Flink writes them: 32 lower-case hex digits for jobs, vertices and operators.

use std::fmt;
use std::str::FromStr;

/// A text that is not 32 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an id: 32 hex digits are expected")]
pub struct ParseIdError {
    /// What was given.
    pub text: String,
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// The id with these 128 bits, most significant byte first.
            pub fn from_u128(bits: u128) -> Self {
                Self(bits.to_be_bytes())
            }

            /// A fresh one from the caller's source of randomness.
            pub fn random(rng: &mut impl rand::Rng) -> Self {
                let mut bytes = [0; 16];
                rng.fill_bytes(&mut bytes);
                Self(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let mut bytes = [0; 16];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseIdError { text: text.to_owned() })?;
                Ok(Self(bytes))
            }
        }
    };
}

hex_id!(
    /// One job; Flink's JobID.
    JobId
);
hex_id!(
    /// One JobVertex: the id of its head operator.
    VertexId
);
hex_id!(
    /// One operator: a hash of its uid, else of its place in the graph. State is matched by it.
    OperatorId
);

/// One TaskManager: its pod's name, or `host:port-suffix` outside Kubernetes. Flink's ResourceID.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskManagerId(pub String);

impl fmt::Display for TaskManagerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One attempt to run one subtask of one vertex. Flink's ExecutionAttemptID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecutionId {
    /// The job.
    pub job: JobId,
    /// The vertex.
    pub vertex: VertexId,
    /// 0-based.
    pub subtask: u32,
    /// 0 for the first attempt.
    pub attempt: u32,
}

impl fmt::Display for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}_{}_{}_{}",
            self.job, self.vertex, self.subtask, self.attempt
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_what_it_wrote() {
        let id = JobId::from_u128(0x1234);
        assert_eq!(id.to_string(), "00000000000000000000000000001234");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn a_text_of_another_length_is_refused_by_name() {
        let error = "zz".parse::<JobId>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"zz\" is not an id: 32 hex digits are expected"
        );
    }
}
