//! Carries out a writer's actions on the I/O runtime.
//!
//! ```text
//!   Action --by part--> orders of the part --its task--> stage, write, sync --> report
//!   committables --------> publish, a few at a time ----------------------> done
//! ```
//!
//! Invariants: the orders of one part are carried out one after another, parts go on side by side; commits wait for no
//! part. What is bounded is the bytes of the orders ([`super::handover::counted`]), and parts by the limits of
//! [`super::parts`]. When it is dropped, parts that no checkpoint counts on are taken back.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, TryStreamExt};
use thalweg_storage::{Staged, StorageError};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, JoinSet};

use super::files::{Folders, PartFiles, failed};
use super::handover::{Commit, Handover, Unclaimed, counted};
use super::parts::{Action, PartId, Report, Step};
use super::state::{FileCommittable, PartFile};
use crate::ConnectorError;

/// Files that are made visible at a time.
const COMMITS_AT_A_TIME: usize = 8;

/// One writer's I/O.
pub(crate) struct PartIo {
    io: Handle,
    folders: Arc<dyn Folders>,
    handover: Arc<Handover>,
    orders: HashMap<PartId, UnboundedSender<Order>>,
    tasks: JoinSet<()>,
    others: Vec<AbortHandle>,
}

enum Order {
    Write(Bytes),
    Sync,
    Close,
}

/// How a part's task begins.
enum Begin {
    New,
    Behind(Staged, u64),
}

struct PartTask {
    id: PartId,
    path: String,
    files: Arc<dyn PartFiles>,
    handover: Arc<Handover>,
}

impl PartIo {
    /// Looks at once whether the folder takes files.
    pub(crate) fn start(
        io: Handle,
        folders: Arc<dyn Folders>,
        folder: Arc<dyn PartFiles>,
        handover: Arc<Handover>,
    ) -> Self {
        let shared = Arc::clone(&handover);
        let probe = io.spawn(async move {
            match folder.probe().await {
                Ok(()) => shared.tell(|state| state.writable = true),
                Err(error) => shared.fail(failed(&error)),
            }
        });
        Self {
            io,
            folders,
            handover,
            orders: HashMap::new(),
            tasks: JoinSet::new(),
            others: vec![probe.abort_handle()],
        }
    }

    pub(crate) fn perform(&mut self, actions: Vec<Action>) -> Result<(), ConnectorError> {
        while self.tasks.try_join_next().is_some() {}
        for Action { part, step } in actions {
            match step {
                Step::Begin(file) => self.begin(part, file, Begin::New)?,
                Step::Adopt(file, staged, length) => self.begin(part, file, Begin::Behind(staged, length))?,
                Step::Write(piece) => {
                    let piece = counted(&self.handover, piece);
                    self.order(part, Order::Write(piece));
                }
                Step::Sync => self.order(part, Order::Sync),
                Step::Close => {
                    self.order(part, Order::Close);
                    self.orders.remove(&part);
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, id: PartId, file: PartFile, begin: Begin) -> Result<(), ConnectorError> {
        let files = self.folders.open(&file.folder).map_err(|error| failed(&error))?;
        let (sender, orders) = unbounded_channel();
        self.orders.insert(id, sender);
        let task = PartTask {
            id,
            path: file.path,
            files,
            handover: Arc::clone(&self.handover),
        };
        self.tasks.spawn_on(task.run(begin, orders), &self.io);
        Ok(())
    }

    /// A part whose task has failed takes none: the writer has its error.
    fn order(&self, part: PartId, order: Order) {
        if let Some(orders) = self.orders.get(&part) {
            let _ = orders.send(order);
        }
    }

    /// Makes files visible; the end is told by [`Commit::Done`].
    pub(crate) fn commit(&mut self, committables: Vec<FileCommittable>, may_vanish: bool) {
        let (folders, handover) = (Arc::clone(&self.folders), Arc::clone(&self.handover));
        let commit = self.io.spawn(async move {
            match commit(folders.as_ref(), committables, may_vanish).await {
                Ok(()) => handover.tell(|state| state.commit = Commit::Done),
                Err(error) => handover.fail(error),
            }
        });
        self.others.retain(|other| !other.is_finished());
        self.others.push(commit.abort_handle());
    }
}

impl Drop for PartIo {
    fn drop(&mut self) {
        for other in &self.others {
            other.abort();
        }
        self.orders.clear();
        let (mut tasks, handover) = (mem::take(&mut self.tasks), Arc::clone(&self.handover));
        self.io.spawn(async move {
            tasks.shutdown().await;
            let unclaimed = mem::take(&mut handover.lock().unclaimed);
            for part in unclaimed.into_values() {
                if let Err(error) = part.files.discard(&part.path, &part.staged).await {
                    tracing::warn!(%error, "a part file that nobody needs could not be taken back");
                }
            }
        });
    }
}

impl PartTask {
    async fn run(self, begin: Begin, orders: UnboundedReceiver<Order>) {
        if let Err(error) = self.carry_out(begin, orders).await {
            self.handover.fail(failed(&error));
        }
    }

    async fn carry_out(
        &self,
        begin: Begin,
        mut orders: UnboundedReceiver<Order>,
    ) -> Result<(), StorageError> {
        let (mut writer, known) = match begin {
            Begin::New => (self.files.stage(&self.path).await?, None),
            Begin::Behind(staged, length) => {
                let writer = self.files.resume(&self.path, &staged, length).await?;
                (writer, Some(staged))
            }
        };
        let staged = writer.staged();
        if known.is_none_or(|known| known != staged) {
            self.unclaimed(staged);
        }
        while let Some(order) = orders.recv().await {
            match order {
                Order::Write(piece) => writer.write(piece).await?,
                Order::Sync => self.report(writer.sync().await?, false),
                Order::Close => {
                    self.report(writer.sync().await?, true);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// No checkpoint knows it yet.
    fn unclaimed(&self, staged: Staged) {
        let unclaimed = Unclaimed {
            files: Arc::clone(&self.files),
            path: self.path.clone(),
            staged,
        };
        self.handover.lock().unclaimed.insert(self.id, unclaimed);
    }

    fn report(&self, staged: Staged, closed: bool) {
        let part = self.id;
        let report = Report { part, staged, closed };
        self.handover.tell(|state| state.reports.push(report));
    }
}

/// Makes files visible. Those that are already stay as they are; with `may_vanish`, what is neither hidden nor visible counts
/// as moved away by a reader.
pub(crate) async fn commit(
    folders: &dyn Folders,
    committables: Vec<FileCommittable>,
    may_vanish: bool,
) -> Result<(), ConnectorError> {
    let publish = |part: FileCommittable| async move {
        let files = folders.open(&part.file.folder).map_err(|error| failed(&error))?;
        let Err(error) = files.publish(&part.file.path, &part.staged, part.bytes).await else {
            return Ok(());
        };
        if !matches!(error, StorageError::Lost { .. }) {
            return Err(failed(&error));
        }
        if may_vanish {
            tracing::warn!(%error, rows = part.rows, "taken as committed before and moved away since");
            return Ok(());
        }
        Err(ConnectorError::Refused(format!(
            "file sink: {error}. Its {} rows are in no visible file: restore a checkpoint or savepoint from before them to write them \
             again; if a reader moved the file away after it was finished, build the sink with `finished_files_may_vanish`",
            part.rows
        )))
    };
    stream::iter(committables.into_iter().map(Ok))
        .try_for_each_concurrent(COMMITS_AT_A_TIME, publish)
        .await
}
