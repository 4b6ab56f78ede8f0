//! Which files a subtask reads.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::ConnectorError;
use crate::java_text::string_hash;

/// More files under one path than this are refused: each listing is held in memory.
const MAX_FILES: usize = 1_000_000;

/// A file and its length when it was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundFile {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

/// The subtask that reads a file.
pub(crate) fn owner(path: &Path, parallelism: u32) -> u32 {
    (string_hash(&path.to_string_lossy()) & i32::MAX) as u32 % parallelism
}

/// The files at or below `root` that belong to a subtask, ordered by path.
pub(crate) fn files_of(
    root: &Path,
    subtask: u32,
    parallelism: u32,
) -> Result<Vec<FoundFile>, ConnectorError> {
    let metadata = fs::metadata(root).map_err(|error| read_error(root, &error))?;
    let mut files = Vec::new();
    if metadata.is_dir() {
        list(root, &mut files)?;
    } else {
        files.push(FoundFile {
            path: root.to_owned(),
            bytes: metadata.len(),
        });
    }
    files.retain(|file| owner(&file.path, parallelism) == subtask);
    files.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(files)
}

fn list(directory: &Path, files: &mut Vec<FoundFile>) -> Result<(), ConnectorError> {
    let failed = |error: io::Error| read_error(directory, &error);
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if matches!(name.as_encoded_bytes().first(), Some(b'.' | b'_')) {
            continue;
        }
        let path = entry.path();
        // follows links; what vanished since it was listed is no file of this listing
        let Ok(metadata) = fs::metadata(&path) else {
            continue;
        };
        if metadata.is_dir() {
            list(&path, files)?;
        } else if metadata.is_file() {
            files.push(FoundFile {
                path,
                bytes: metadata.len(),
            });
        }
        if files.len() > MAX_FILES {
            return Err(ConnectorError::Refused(format!(
                "{} holds more than {MAX_FILES} files: read a part of them, or join small files",
                directory.display()
            )));
        }
    }
    Ok(())
}

/// An I/O error at a path, classed by whether it can pass.
pub(crate) fn read_error(path: &Path, error: &io::Error) -> ConnectorError {
    let path = path.display();
    match error.kind() {
        ErrorKind::NotFound => ConnectorError::Refused(format!(
            "file source: {path} doesn't exist; it has to be there for every TaskManager that reads it"
        )),
        ErrorKind::PermissionDenied => ConnectorError::Refused(format!(
            "file source: {path} may not be read by this process: {error}"
        )),
        _ => ConnectorError::Unavailable(format!("file source: {path} can't be read: {error}")),
    }
}
