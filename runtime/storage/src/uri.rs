//! URIs of files and folders, as Flink takes them.

use crate::StorageError;

/// Where a URI leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) scheme: Scheme,
    /// Bucket or container; empty for files.
    pub(crate) authority: String,
    /// Without slashes at its ends; for files the begin is the root.
    pub(crate) path: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    File,
    S3,
    Gs,
    Abfs,
}

/// Reads a URI; a text without a scheme is an absolute path of a file.
pub(crate) fn parse(uri: &str) -> Result<Location, StorageError> {
    let refused = |message: &str| StorageError::Uri {
        uri: uri.to_owned(),
        message: message.to_owned(),
    };
    let (scheme, rest) = match uri.split_once("://") {
        None if uri.starts_with('/') => (Scheme::File, uri),
        // Java writes file URIs with one slash.
        None => match uri.strip_prefix("file:/") {
            Some(path) => (Scheme::File, &uri[uri.len() - path.len() - 1..]),
            None => {
                return Err(refused(
                    "a scheme is expected, as in file:///folder or s3://bucket/folder",
                ));
            }
        },
        Some(("file" | "local", rest)) => (Scheme::File, rest),
        Some(("s3" | "s3a" | "s3n" | "s3p", rest)) => (Scheme::S3, rest),
        Some(("gs", rest)) => (Scheme::Gs, rest),
        Some(("abfs" | "abfss" | "wasb" | "wasbs", rest)) => (Scheme::Abfs, rest),
        Some((other, _)) => {
            return Err(refused(&format!(
                "the scheme {other:?} is not supported: file, s3, s3a, gs, abfs and abfss are"
            )));
        }
    };
    let (authority, path) = match scheme {
        Scheme::File if rest.starts_with('/') => ("", rest),
        Scheme::File => return Err(refused("a file's path must be absolute, as in file:///folder")),
        _ => rest.split_once('/').unwrap_or((rest, "")),
    };
    if scheme != Scheme::File && authority.is_empty() {
        return Err(refused("the bucket is missing"));
    }
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    if segments.iter().any(|segment| matches!(*segment, "." | "..")) {
        return Err(refused("a path may not have . or .. in it"));
    }
    Ok(Location {
        scheme,
        authority: authority.to_owned(),
        path: segments.join("/"),
    })
}

impl Location {
    /// The folder's or file's URI, without a slash at its end.
    pub(crate) fn uri(&self) -> String {
        let scheme = match self.scheme {
            Scheme::File => "file",
            Scheme::S3 => "s3",
            Scheme::Gs => "gs",
            Scheme::Abfs => "abfss",
        };
        if self.path.is_empty() && self.scheme != Scheme::File {
            return format!("{scheme}://{}", self.authority);
        }
        format!("{scheme}://{}/{}", self.authority, self.path)
    }

    /// The folder it is in, and its name.
    pub(crate) fn split_name(&self) -> (Self, String) {
        let (folder, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let folder = Self {
            path: folder.to_owned(),
            ..self.clone()
        };
        (folder, name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flinks_ways_to_write_a_folder_are_understood() {
        for (text, uri) in [
            ("/data/checkpoints", "file:///data/checkpoints"),
            ("file:///data//checkpoints/", "file:///data/checkpoints"),
            ("file:/data/checkpoints", "file:///data/checkpoints"),
            ("s3://bucket/a/b/", "s3://bucket/a/b"),
            ("s3a://bucket", "s3://bucket"),
            ("gs://bucket/x", "gs://bucket/x"),
            (
                "abfs://box@account.dfs.core.windows.net/x",
                "abfss://box@account.dfs.core.windows.net/x",
            ),
        ] {
            assert_eq!(
                parse(text).map(|location| location.uri()).map_err(drop),
                Ok(uri.to_owned())
            );
        }
    }

    #[test]
    fn others_are_refused_by_name() {
        for text in [
            "",
            "checkpoints",
            "hdfs://host/x",
            "s3://",
            "file://host",
            "s3://b/../c",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
    }
}
