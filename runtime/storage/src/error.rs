//! What storage says when it fails, in words that name the URI.

use std::error::Error;
use std::io;

use thalweg_types::{Classify, FailureClass};

/// Longest text of a server's answer that is passed on.
const MESSAGE_CHARS: usize = 400;

/// Why a file can't be written, read, listed or deleted.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The URI or its settings can't be used.
    #[error("storage URI {uri:?}: {message}")]
    Uri {
        /// As it was given.
        uri: String,
        /// What is wrong, what is expected.
        message: String,
    },
    /// No such file, folder or bucket.
    #[error("{uri} does not exist")]
    NotFound {
        /// What was looked for.
        uri: String,
    },
    /// It was to be created and is there.
    #[error("{uri} exists already")]
    AlreadyExists {
        /// What is there.
        uri: String,
    },
    /// No right to do this.
    #[error("{step} {uri}: permission denied: {message}")]
    Denied {
        /// "write", "read" and so on.
        step: &'static str,
        /// What it was about.
        uri: String,
        /// What the server or system said.
        message: String,
    },
    /// No space or quota left.
    #[error("{step} {uri}: no space left: {message}")]
    Full {
        /// "write", "read" and so on.
        step: &'static str,
        /// What it was about.
        uri: String,
        /// What the server or system said.
        message: String,
    },
    /// The store doesn't answer, or answers that it can't now; all tries are used up.
    #[error("{step} {uri}: storage is unavailable: {message}")]
    Unavailable {
        /// "write", "read" and so on.
        step: &'static str,
        /// What it was about.
        uri: String,
        /// What it said.
        message: String,
    },
    /// Any other failure of a disk or store.
    #[error("{step} {uri}: {message}")]
    Failed {
        /// "write", "read" and so on.
        step: &'static str,
        /// What it was about.
        uri: String,
        /// What it said.
        message: String,
    },
    /// A folder that has to take files takes none. Found out at start.
    #[error("folder {uri} is not writable: {source}")]
    NotWritable {
        /// The folder.
        uri: String,
        /// What happened when it was tried.
        source: Box<StorageError>,
    },
}

impl Classify for StorageError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Uri { .. } | Self::NotFound { .. } | Self::AlreadyExists { .. } | Self::Denied { .. } => {
                FailureClass::Fatal
            }
            Self::Full { .. } | Self::Unavailable { .. } | Self::Failed { .. } => FailureClass::Retryable,
            Self::NotWritable { source, .. } => source.class(),
        }
    }
}

impl StorageError {
    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.class() == FailureClass::Retryable
    }

    /// What happened, without the URI: for errors that name the file themselves.
    pub fn reason(&self) -> String {
        match self {
            Self::Uri { message, .. } | Self::Failed { message, .. } => message.clone(),
            Self::NotFound { .. } => "it does not exist".to_owned(),
            Self::AlreadyExists { .. } => "it exists already".to_owned(),
            Self::Denied { message, .. } => format!("permission denied: {message}"),
            Self::Full { message, .. } => format!("no space left: {message}"),
            Self::Unavailable { message, .. } => format!("storage is unavailable: {message}"),
            Self::NotWritable { source, .. } => format!("not writable: {}", source.reason()),
        }
    }

    pub(crate) fn from_io(step: &'static str, uri: &str, error: &io::Error) -> Self {
        let (uri, message) = (uri.to_owned(), error.to_string());
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound { uri },
            io::ErrorKind::AlreadyExists => Self::AlreadyExists { uri },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Denied { step, uri, message }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::Full { step, uri, message }
            }
            _ => Self::Failed { step, uri, message },
        }
    }

    pub(crate) fn from_store(step: &'static str, uri: &str, error: &object_store::Error) -> Self {
        use object_store::Error as Store;
        let message = one_line(error);
        let uri = uri.to_owned();
        match error {
            Store::NotFound { .. } if message.contains("NoSuchBucket") => Self::NotFound {
                uri: format!("the bucket of {uri}"),
            },
            Store::NotFound { .. } => Self::NotFound { uri },
            Store::AlreadyExists { .. } | Store::Precondition { .. } => Self::AlreadyExists { uri },
            Store::PermissionDenied { .. } | Store::Unauthenticated { .. } => {
                Self::Denied { step, uri, message }
            }
            Store::InvalidPath { .. } | Store::NotSupported { .. } | Store::NotImplemented { .. } => {
                Self::Uri { uri, message }
            }
            _ if message_says_full(&message) => Self::Full { step, uri, message },
            _ => Self::Unavailable { step, uri, message },
        }
    }
}

/// S3 servers have no one code for it: 507, or one of these in the body.
fn message_says_full(message: &str) -> bool {
    ["507 Insufficient Storage", "StorageFull", "QuotaExceeded"]
        .iter()
        .any(|code| message.contains(code))
}

/// The outermost message, and the root cause if that is not part of it.
fn one_line(error: &dyn Error) -> String {
    let mut root = error;
    while let Some(cause) = root.source() {
        root = cause;
    }
    let (outer, root) = (error.to_string(), root.to_string());
    let text = if outer.contains(&root) {
        outer
    } else {
        format!("{outer}: {root}")
    };
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MESSAGE_CHARS) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}
