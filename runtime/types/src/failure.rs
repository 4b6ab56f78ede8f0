//! Failures as they travel between processes: one line for people, a class for the restart strategy.

use std::error::Error;
use std::fmt;

/// Whether running the same thing again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// Lost process, broken connection, a broker away: the restart strategy decides.
    Retryable,
    /// The job can't succeed as it is: bad configuration, incompatible package. No restart.
    Fatal,
    /// An invariant of ours is broken. No restart; to be reported.
    Bug,
}

/// Errors that know their class.
pub trait Classify: Error {
    /// The class of this error.
    fn class(&self) -> FailureClass;
}

/// A failure, detached from the error type that it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What a restart can do about it.
    pub class: FailureClass,
    /// One line: what, where, what to do.
    pub message: String,
    /// The chain of causes, a line each; may be empty.
    pub detail: String,
}

impl Failure {
    /// A failure of a class with a message and no detail.
    pub fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
            detail: String::new(),
        }
    }

    /// Takes an error's message, its class and its chain of causes.
    pub fn from_error(error: &impl Classify) -> Self {
        let mut causes = Vec::new();
        let mut next = error.source();
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        let message = match causes.last() {
            Some(root) if !error.to_string().contains(root.as_str()) => format!("{error}: {root}"),
            _ => error.to_string(),
        };
        Self {
            class: error.class(),
            message,
            detail: causes.join("\n"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {}

impl Classify for Failure {
    fn class(&self) -> FailureClass {
        self.class
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the topic \"in\" can't be read")]
    struct Outer(#[source] std::io::Error);

    impl Classify for Outer {
        fn class(&self) -> FailureClass {
            FailureClass::Retryable
        }
    }

    #[test]
    fn the_message_names_the_root_cause_and_the_detail_the_chain() {
        let failure = Failure::from_error(&Outer(std::io::Error::other("broker away")));
        assert_eq!(failure.message, "the topic \"in\" can't be read: broker away");
        assert_eq!(failure.detail, "broker away");
        assert_eq!(failure.class, FailureClass::Retryable);
    }
}
