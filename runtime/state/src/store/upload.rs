//! One file on its way from the encoder to storage.

use bytes::Bytes;
use thalweg_proto::state::v1::StateFile;
use thalweg_storage::{FileSystem, FileSystems};
use tokio::sync::mpsc;

use crate::StateError;
use crate::file::builder::{FileSummary, Sink};
use crate::file::source::storage_error;

/// Blocks, of about 1 MiB, that may wait for the upload.
const WAITING_BLOCKS: usize = 4;
/// Files up to this size are written with one request.
pub(super) const ONE_REQUEST_BYTES: usize = 8 << 20;

/// A folder that files are written into, under names of their own.
#[derive(Clone)]
pub(super) struct Folder(FileSystem);

impl Folder {
    pub(super) fn open(files: &FileSystems, uri: &str) -> Result<Self, StateError> {
        let opened = files.open_folder(uri);
        opened.map(Self).map_err(|error| storage_error(uri, &error))
    }

    pub(super) fn uri(&self) -> String {
        self.0.uri()
    }

    /// Writes a file under a name of its own. When it fails, nothing is left of it.
    pub(super) async fn write_file(&self, content: Bytes) -> Result<StateFile, StateError> {
        let (name, uri) = self.new_file();
        let size = content.len() as u64;
        let written = self.0.write(&name, content).await;
        written.map_err(|error| storage_error(&uri, &error))?;
        Ok(StateFile {
            path: uri,
            size,
            ..StateFile::default()
        })
    }

    /// Name and URI.
    fn new_file(&self) -> (String, String) {
        let name = format!("{:032x}", rand::random::<u128>());
        let uri = self.0.uri_of(&name);
        (name, uri)
    }
}

/// An encoded file.
pub(super) enum Uploaded {
    /// It is in storage, or inline.
    Stored(StateFile),
    /// It is small, and still to be written.
    Small(Bytes),
}

/// The encoder's end of the queue.
struct Queue(mpsc::Sender<Bytes>);

impl Sink for Queue {
    fn write(&mut self, bytes: Vec<u8>) -> Result<(), StateError> {
        // The upload ended first: its error is the one that is told.
        self.0
            .blocking_send(bytes.into())
            .map_err(|_| StateError::Storage {
                file: String::new(),
                message: "writing it was ended".to_owned(),
                retryable: true,
            })
    }
}

/// Encodes a file and, if it is not small, writes it; inline up to `inline_limit` bytes. When it fails, nothing is left of it.
pub(super) async fn upload(
    folder: &Folder,
    inline_limit: u64,
    encode: impl FnOnce(&mut dyn Sink) -> Result<FileSummary, StateError> + Send + 'static,
) -> Result<(Uploaded, FileSummary), StateError> {
    let (sender, receiver) = mpsc::channel(WAITING_BLOCKS);
    let encoder = tokio::task::spawn_blocking(move || encode(&mut Queue(sender)));
    let (name, uri) = folder.new_file();
    let upload = Upload {
        folder: &folder.0,
        name,
        uri,
        collected: Vec::new(),
        bytes: 0,
    };
    upload.run(receiver, inline_limit, encoder).await
}

struct Upload<'a> {
    folder: &'a FileSystem,
    name: String,
    uri: String,
    collected: Vec<Bytes>,
    bytes: usize,
}

type Encoder = tokio::task::JoinHandle<Result<FileSummary, StateError>>;

impl Upload<'_> {
    async fn run(
        mut self,
        mut blocks: mpsc::Receiver<Bytes>,
        inline_limit: u64,
        encoder: Encoder,
    ) -> Result<(Uploaded, FileSummary), StateError> {
        let held = usize::try_from(inline_limit)
            .unwrap_or(usize::MAX)
            .max(ONE_REQUEST_BYTES);
        while self.bytes <= held
            && let Some(block) = blocks.recv().await
        {
            self.bytes += block.len();
            self.collected.push(block);
        }
        if self.bytes > held {
            let (file, summary) = self.run_in_parts(blocks, encoder).await?;
            return Ok((Uploaded::Stored(file), summary));
        }
        let summary = self.encoded(encoder).await?;
        let content = Bytes::from(self.collected.concat());
        if summary.bytes <= inline_limit {
            let file = StateFile {
                size: summary.bytes,
                inline: content.into(),
                ..StateFile::default()
            };
            return Ok((Uploaded::Stored(file), summary));
        }
        Ok((Uploaded::Small(content), summary))
    }

    async fn run_in_parts(
        mut self,
        mut blocks: mpsc::Receiver<Bytes>,
        encoder: Encoder,
    ) -> Result<(StateFile, FileSummary), StateError> {
        let failed = |error| storage_error(&self.uri, &error);
        let mut writer = self.folder.writer(&self.name).await.map_err(failed)?;
        for block in std::mem::take(&mut self.collected) {
            writer.write(block).await.map_err(failed)?;
        }
        while let Some(block) = blocks.recv().await {
            writer.write(block).await.map_err(failed)?;
        }
        match self.encoded(encoder).await {
            Ok(summary) => {
                writer.finish().await.map_err(failed)?;
                Ok((self.file(summary), summary))
            }
            Err(error) => {
                writer.abort().await;
                Err(error)
            }
        }
    }

    async fn encoded(&self, encoder: Encoder) -> Result<FileSummary, StateError> {
        encoder.await.unwrap_or_else(|error| {
            Err(StateError::Malformed {
                state: self.uri.clone(),
                message: format!("encoding it failed: {error}"),
            })
        })
    }

    fn file(&self, summary: FileSummary) -> StateFile {
        StateFile {
            path: self.uri.clone(),
            size: summary.bytes,
            ..StateFile::default()
        }
    }
}
