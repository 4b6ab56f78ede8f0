//! What a checkpoint holds of a file sink: protobuf messages, which grow by fields and are read for ever.

use prost::{Message, Oneof};
use thalweg_storage::Staged;

use crate::split_state::{decode, encode};
use crate::{Committable, ConnectorError};

/// Where a part becomes visible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartFile {
    /// The sink's folder when it was begun, a URI.
    pub(crate) folder: String,
    /// In the folder.
    pub(crate) path: String,
}

/// A part that takes no more, and becomes visible when its checkpoint is complete; or the durable begin of an open one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileCommittable {
    pub(crate) file: PartFile,
    pub(crate) staged: Staged,
    pub(crate) bytes: u64,
    pub(crate) rows: u64,
}

/// A part that takes rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartState {
    pub(crate) bucket: String,
    pub(crate) created_ms: i64,
    /// What is at the other side.
    pub(crate) part: Option<FileCommittable>,
    /// Behind it, whole rows.
    pub(crate) tail: Vec<u8>,
    pub(crate) tail_rows: u64,
}

#[derive(Clone, PartialEq, Message)]
struct StagedPart {
    #[prost(string, tag = "1")]
    folder: String,
    #[prost(string, tag = "2")]
    path: String,
    #[prost(uint64, tag = "3")]
    bytes: u64,
    #[prost(uint64, tag = "4")]
    rows: u64,
    #[prost(oneof = "Place", tags = "5, 6")]
    place: Option<Place>,
    /// Hidden files that its own was copied from.
    #[prost(string, repeated, tag = "7")]
    older: Vec<String>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Place {
    /// A hidden file's name.
    #[prost(string, tag = "5")]
    Hidden(String),
    #[prost(message, tag = "6")]
    Upload(Upload),
}

#[derive(Clone, PartialEq, Message)]
struct Upload {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, repeated, tag = "2")]
    parts: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct OpenPart {
    #[prost(string, tag = "1")]
    bucket: String,
    #[prost(int64, tag = "2")]
    created_ms: i64,
    #[prost(message, optional, tag = "3")]
    part: Option<StagedPart>,
    #[prost(bytes = "vec", tag = "4")]
    tail: Vec<u8>,
    #[prost(uint64, tag = "5")]
    tail_rows: u64,
}

impl From<&FileCommittable> for StagedPart {
    fn from(part: &FileCommittable) -> Self {
        let (place, older) = match part.staged.clone() {
            Staged::File { name, older } => (Place::Hidden(name), older),
            Staged::Upload { id, parts } => (Place::Upload(Upload { id, parts }), Vec::new()),
        };
        Self {
            folder: part.file.folder.clone(),
            path: part.file.path.clone(),
            bytes: part.bytes,
            rows: part.rows,
            place: Some(place),
            older,
        }
    }
}

impl TryFrom<StagedPart> for FileCommittable {
    type Error = ConnectorError;

    fn try_from(part: StagedPart) -> Result<Self, ConnectorError> {
        let staged = match part.place {
            Some(Place::Hidden(name)) => Staged::File {
                name,
                older: part.older,
            },
            Some(Place::Upload(Upload { id, parts })) => Staged::Upload { id, parts },
            None => {
                return Err(ConnectorError::Refused(format!(
                    "file sink: the checkpoint holds {}/{} in a way that this version doesn't know: restore it with the version that \
                     wrote it",
                    part.folder, part.path
                )));
            }
        };
        Ok(Self {
            file: PartFile {
                folder: part.folder,
                path: part.path,
            },
            staged,
            bytes: part.bytes,
            rows: part.rows,
        })
    }
}

/// As a checkpoint stores it.
pub(crate) fn committable(part: &FileCommittable) -> Committable {
    Committable {
        bytes: encode(&StagedPart::from(part)),
    }
}

/// From a checkpoint.
pub(crate) fn committables(stored: &[Committable]) -> Result<Vec<FileCommittable>, ConnectorError> {
    let bytes: Vec<Vec<u8>> = stored
        .iter()
        .map(|committable| committable.bytes.clone())
        .collect();
    decode::<StagedPart>("file sink", &bytes)?
        .into_iter()
        .map(FileCommittable::try_from)
        .collect()
}

/// As a checkpoint stores it.
pub(crate) fn stored(state: PartState) -> Vec<u8> {
    encode(&OpenPart {
        bucket: state.bucket,
        created_ms: state.created_ms,
        part: state.part.as_ref().map(StagedPart::from),
        tail: state.tail,
        tail_rows: state.tail_rows,
    })
}

/// From a checkpoint.
pub(crate) fn restored(states: &[Vec<u8>]) -> Result<Vec<PartState>, ConnectorError> {
    let read = |open: OpenPart| {
        Ok(PartState {
            bucket: open.bucket,
            created_ms: open.created_ms,
            part: open.part.map(FileCommittable::try_from).transpose()?,
            tail: open.tail,
            tail_rows: open.tail_rows,
        })
    };
    decode::<OpenPart>("file sink", states)?
        .into_iter()
        .map(read)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(staged: Staged) -> FileCommittable {
        FileCommittable {
            file: PartFile {
                folder: "s3://b/x".to_owned(),
                path: "h/part-1-0".to_owned(),
            },
            staged,
            bytes: 7,
            rows: 2,
        }
    }

    #[test]
    fn what_a_checkpoint_holds_comes_back_and_its_bytes_stay_as_they_are() {
        let file = part(Staged::File {
            name: ".h".to_owned(),
            older: vec![".g".to_owned()],
        });
        let upload = part(Staged::Upload {
            id: "u".to_owned(),
            parts: vec!["e1".to_owned(), "e2".to_owned()],
        });
        let bytes = committable(&file);
        let golden = b"\x0a\x08s3://b/x\x12\x0ah/part-1-0\x18\x07\x20\x02\x2a\x02.h\x3a\x02.g";
        assert_eq!(bytes.bytes, golden);
        let both = [bytes, committable(&upload)];
        assert_eq!(committables(&both).unwrap(), [file, upload.clone()]);
        let open = PartState {
            bucket: "h".to_owned(),
            created_ms: -1,
            part: Some(upload),
            tail: b"a\n".to_vec(),
            tail_rows: 1,
        };
        assert_eq!(restored(&[stored(open.clone())]).unwrap(), [open]);
    }

    #[test]
    fn what_no_file_sink_wrote_is_refused() {
        let foreign = Committable { bytes: vec![0xFF; 4] };
        assert!(matches!(
            committables(&[foreign]),
            Err(ConnectorError::Refused(_))
        ));
        let unknown = Committable {
            bytes: b"\x0a\x01x".to_vec(),
        };
        let error = committables(&[unknown]).unwrap_err().to_string();
        assert!(error.contains("restore it with the version"), "{error}");
    }
}
