//! What storage says when it fails, in words that name the URI.

use std::error::Error;
use std::io;

use thalweg_types::{Classify, FailureClass};

/// Longest text of a server's answer that is passed on.
const MESSAGE_CHARS: usize = 400;
/// What servers answer when they don't accept who asks, whatever the status that they send with it.
const REFUSALS: [&str; 5] = [
    "AccessDenied",
    "InvalidAccessKeyId",
    "InvalidSecurity",
    "InvalidToken",
    "SignatureDoesNotMatch",
];
/// The service that gives a cloud's machine its credentials: asked when there are no others.
const METADATA_SERVICE: &str = "169.254.169.254";

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
    /// No such file or folder.
    #[error("{uri} does not exist")]
    NotFound {
        /// What was looked for.
        uri: String,
    },
    /// Nor a bucket that it could be in.
    #[error("{uri} does not exist: there is no bucket {bucket}")]
    BucketMissing {
        /// What was looked for.
        uri: String,
        /// The bucket.
        bucket: String,
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
    /// Bytes that a checkpoint counts on.
    #[error("{uri}: the {length} bytes that a checkpoint holds of it are lost: {message}")]
    Lost {
        /// The file that they are for.
        uri: String,
        /// From its begin.
        length: u64,
        /// What was found instead.
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
            Self::Uri { .. }
            | Self::NotFound { .. }
            | Self::BucketMissing { .. }
            | Self::AlreadyExists { .. }
            | Self::Denied { .. }
            | Self::Lost { .. } => FailureClass::Fatal,
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
            Self::BucketMissing { bucket, .. } => format!("there is no bucket {bucket}"),
            Self::AlreadyExists { .. } => "it exists already".to_owned(),
            Self::Denied { message, .. } => format!("permission denied: {message}"),
            Self::Full { message, .. } => format!("no space left: {message}"),
            Self::Lost { message, .. } => format!("bytes of it are lost: {message}"),
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

    /// The server's own code decides: servers differ in the status they send with it.
    pub(crate) fn from_store(step: &'static str, uri: &str, error: &object_store::Error) -> Self {
        use object_store::Error as Store;
        let answer = Answer::of(error);
        let (uri, message) = (uri.to_owned(), answer.message());
        match (answer.code(), error) {
            (Some("NoSuchBucket"), _) => Self::BucketMissing {
                bucket: bucket_of(&uri).to_owned(),
                uri,
            },
            (Some(code), _) if REFUSALS.contains(&code) => Self::Denied { step, uri, message },
            (None | Some("NoSuchKey"), Store::NotFound { .. }) => Self::NotFound { uri },
            // Some servers answer so to an unknown user, too.
            (Some(_), Store::NotFound { .. }) => Self::Failed { step, uri, message },
            (_, Store::AlreadyExists { .. } | Store::Precondition { .. }) => Self::AlreadyExists { uri },
            (_, Store::PermissionDenied { .. } | Store::Unauthenticated { .. }) => {
                Self::Denied { step, uri, message }
            }
            (_, Store::InvalidPath { .. } | Store::NotSupported { .. } | Store::NotImplemented { .. }) => {
                Self::Uri { uri, message }
            }
            _ if answer.says_full() => Self::Full { step, uri, message },
            _ => Self::Unavailable { step, uri, message },
        }
    }
}

fn bucket_of(uri: &str) -> &str {
    let path = uri.split_once("://").map_or(uri, |(_, path)| path);
    path.split('/').next().unwrap_or_default()
}

/// What a store said, and what was said around it. A server's XML repeats parts of the request's signature: it never gets
/// into a message.
struct Answer {
    outer: String,
    root: String,
    whole: String,
}

impl Answer {
    fn of(error: &dyn Error) -> Self {
        let mut messages = vec![error.to_string()];
        let mut next = error.source();
        while let Some(cause) = next {
            messages.push(cause.to_string());
            next = cause.source();
        }
        Self {
            whole: messages.join(": "),
            root: messages.last().cloned().unwrap_or_default(),
            outer: messages.swap_remove(0),
        }
    }

    fn code(&self) -> Option<&str> {
        element(&self.whole, "Code")
    }

    /// S3 servers have no one code for it: 507, or one of these in the body.
    fn says_full(&self) -> bool {
        ["507 Insufficient Storage", "StorageFull", "QuotaExceeded"]
            .iter()
            .any(|code| self.whole.contains(code))
    }

    /// In one line: the server's words, else the outermost message, and the root cause if that is not part of it.
    fn message(&self) -> String {
        let text = if let Some(code) = self.code() {
            let message = element(&self.whole, "Message").unwrap_or("no more is said");
            format!("{code}: {message}")
        } else if self.whole.contains(METADATA_SERVICE) {
            "no credentials are configured, and this machine has none of its own".to_owned()
        } else if self.outer.contains(&self.root) {
            without_xml(&self.outer).to_owned()
        } else {
            format!("{}: {}", without_xml(&self.outer), without_xml(&self.root))
        };
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        match line.char_indices().nth(MESSAGE_CHARS) {
            Some((end, _)) => format!("{}...", &line[..end]),
            None => line,
        }
    }
}

/// The text of an XML element without children.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once('<')
        .map(|(content, _)| content.trim())
        .filter(|content| !content.is_empty())
}

fn without_xml(text: &str) -> &str {
    text.split_once("<?xml").map_or(text, |(before, _)| before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Box<dyn Error + Send + Sync> {
        format!("Server returned non-2xx status code: {text}").into()
    }

    fn said(error: &object_store::Error) -> StorageError {
        StorageError::from_store("read", "s3://jobs/a.tar", error)
    }

    fn not_found(body: &str) -> StorageError {
        said(&object_store::Error::NotFound {
            path: "a.tar".into(),
            source: answer(&format!("404 Not Found: {body}")),
        })
    }

    fn generic(text: &str) -> StorageError {
        said(&object_store::Error::Generic {
            store: "S3",
            source: answer(text),
        })
    }

    #[test]
    fn a_file_and_a_bucket_that_are_missing_are_told_apart() {
        let key = not_found("<?xml version=\"1.0\"?>\n<Error><Code>NoSuchKey</Code></Error>");
        assert_eq!(key.to_string(), "s3://jobs/a.tar does not exist");
        let bucket = not_found("<Error><Code>NoSuchBucket</Code></Error>");
        assert_eq!(
            bucket.to_string(),
            "s3://jobs/a.tar does not exist: there is no bucket jobs"
        );
    }

    #[test]
    fn refused_credentials_are_one_line_without_the_signature_whatever_the_status() {
        let body = "<?xml version=\"1.0\"?>\n<Error><Code>SignatureDoesNotMatch</Code><Message>Check your key.\
             </Message><StringToSign>AWS4-HMAC secret</StringToSign></Error>";
        let forbidden = said(&object_store::Error::PermissionDenied {
            path: "a.tar".into(),
            source: answer(body),
        });
        for error in [forbidden, not_found(body)] {
            assert_eq!(
                error.to_string(),
                "read s3://jobs/a.tar: permission denied: SignatureDoesNotMatch: Check your key."
            );
        }
    }

    #[test]
    fn an_unknown_user_is_not_told_as_a_missing_file() {
        let error =
            not_found("<Error><Code>XAdminUserNotFound</Code><Message>No such user.</Message></Error>");
        assert_eq!(
            error.to_string(),
            "read s3://jobs/a.tar: XAdminUserNotFound: No such user."
        );
    }

    #[test]
    fn missing_credentials_are_not_told_as_an_unreachable_metadata_service() {
        let error = generic("Error performing PUT http://169.254.169.254/latest/api/token");
        assert!(
            error.to_string().contains("no credentials are configured"),
            "{error}"
        );
        assert!(error.is_retryable());
    }

    #[test]
    fn other_failures_are_told_without_the_servers_xml() {
        let error =
            generic("500:\n<?xml version=\"1.0\"?><Error><StringToSign>secret</StringToSign></Error>");
        let text = error.to_string();
        assert!(
            text.contains("non-2xx status code: 500") && !text.contains('<'),
            "{text}"
        );
    }
}
