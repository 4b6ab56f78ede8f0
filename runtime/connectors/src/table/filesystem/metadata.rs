//! Metadata columns of files: Flink's FileSystemTableSource.ReadableFileInfo.

use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMillisecondArray};
use thalweg_plan::data_type::TimeKind;
use thalweg_plan::{DataType, TypeRoot};

use crate::ConnectorError;
use crate::table::metadata::owned;

/// One of the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileMetadata {
    Path,
    Name,
    Size,
    ModificationTime,
}

impl FileMetadata {
    const ALL: [Self; 4] = [Self::Path, Self::Name, Self::Size, Self::ModificationTime];

    fn key(self) -> &'static str {
        match self {
            Self::Path => "file.path",
            Self::Name => "file.name",
            Self::Size => "file.size",
            Self::ModificationTime => "file.modification-time",
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Self::Path | Self::Name => DataType::string().with_nullable(false),
            Self::Size => DataType::not_null(TypeRoot::BigInt),
            Self::ModificationTime => DataType::not_null(TypeRoot::TimestampLtz(3, TimeKind::Regular)),
        }
    }

    pub(super) fn of(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metadata| metadata.key() == key)
    }

    /// A value for each file.
    pub(super) fn column(self, files: &[FileFacts]) -> ArrayRef {
        let texts = |text: fn(&FileFacts) -> &str| StringArray::from_iter_values(files.iter().map(text));
        let numbers = |number: fn(&FileFacts) -> i64| files.iter().map(number);
        match self {
            Self::Path => Arc::new(texts(|file| &file.path)),
            Self::Name => Arc::new(texts(|file| &file.name)),
            Self::Size => Arc::new(Int64Array::from_iter_values(numbers(|file| file.size))),
            Self::ModificationTime => {
                let times = TimestampMillisecondArray::from_iter_values(numbers(|file| file.modified_ms));
                Arc::new(times.with_data_type(self.data_type().to_arrow()))
            }
        }
    }
}

/// What can be read beside files' rows.
pub(super) fn readable() -> Vec<(String, DataType)> {
    owned(&FileMetadata::ALL.map(|metadata| (metadata.key(), metadata.data_type())))
}

/// What metadata columns say of a file.
pub(super) struct FileFacts {
    path: String,
    name: String,
    size: i64,
    modified_ms: i64,
}

impl FileFacts {
    /// As the file is now.
    pub(super) fn of(path: &Path) -> Result<Self, ConnectorError> {
        let failed = |error: std::io::Error| {
            ConnectorError::Unavailable(format!("file source: {} can't be read: {error}", path.display()))
        };
        let facts = std::fs::metadata(path).map_err(failed)?;
        let modified = facts.modified().map_err(failed)?;
        let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = path.file_name().unwrap_or_default();
        Ok(Self {
            path: path.to_string_lossy().into_owned(),
            name: name.to_string_lossy().into_owned(),
            size: i64::try_from(facts.len()).unwrap_or(i64::MAX),
            modified_ms: i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        })
    }
}
