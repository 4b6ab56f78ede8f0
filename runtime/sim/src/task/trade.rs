//! What tasks do: read, keep state, write transactions or files; and how a checkpoint holds it, a line a thing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use thalweg_proto::control::v1::TaskDeployment;
use thalweg_proto::state::v1::{Distribution, KeyedRun, OperatorList, OperatorRestore, StateFile};

use super::TaskKey;
use crate::outside::{BrokerError, Row};
use crate::shared::{Shared, line_of};
use crate::steps::Step;

/// A transaction as a checkpoint holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Transaction {
    pub(super) id: String,
    pub(super) epoch: u32,
    pub(super) prepared_for: u64,
}

#[derive(Debug)]
pub(super) enum Trade {
    Source(BTreeMap<u32, u32>),
    Operator {
        /// By source: the row that comes next.
        next: BTreeMap<u32, u32>,
        chain: Vec<KeyedRun>,
        full: bool,
    },
    Broker {
        ids: Ids,
        open: Option<(String, u32)>,
        prepared: Vec<Transaction>,
        /// Held by the checkpoint that was restored: to be committed first.
        restored: Vec<Transaction>,
        /// Open transactions of earlier attempts: to be aborted then.
        left: Vec<String>,
    },
    Files {
        rows: Vec<Row>,
        prepared: Vec<Transaction>,
        restored: Vec<Transaction>,
    },
}

/// Which attempt is the later one, as connectors know it: when the job was submitted, the leader, the attempt's number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Order(u64, u64, u32);

impl Order {
    pub(super) fn of(deployment: &TaskDeployment) -> Self {
        let attempt = deployment
            .execution
            .as_ref()
            .map_or(0, |execution| execution.attempt);
        Self(deployment.job_started_ms, deployment.leader_epoch, attempt)
    }

    fn behind(self, restored: Option<Self>) -> Self {
        match restored {
            Some(before) if self <= before => Self(before.0 + 1, self.1, self.2),
            _ => self,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.').map(str::parse);
        let (started, epoch) = (parts.next()?.ok()?, parts.next()?.ok()?);
        Some(Self(started, epoch, u32::try_from(parts.next()?.ok()?).ok()?))
    }
}

impl std::fmt::Display for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// An attempt's transactional ids, as the Kafka sink's pool has them.
#[derive(Debug, Default)]
pub(super) struct Ids {
    order: Order,
    free: BTreeSet<u32>,
    known: BTreeMap<u32, u32>,
    next: u32,
}

impl Ids {
    /// Whether the id is not one of a later attempt.
    pub(super) fn comes_after(&self, id: &str) -> bool {
        let order = id.split('-').nth(2).and_then(Order::parse);
        order.is_some_and(|order| order <= self.order)
    }

    /// An id and its epoch, ready to be written with.
    pub(super) fn open(&mut self, shared: &mut Shared, key: &TaskKey) -> Result<(String, u32), BrokerError> {
        let counter = self.free.pop_first().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        let id = format!("{}-{}-{}-{counter}", line_of(&key.job), key.subtask, self.order);
        let known = self.known.remove(&counter);
        let epoch = shared.broker.init(&id, known)?;
        Ok((id, epoch))
    }

    pub(super) fn put_back(&mut self, id: &str, epoch: u32) {
        let mut parts = id.rsplit('-');
        let counter = parts.next().and_then(|counter| counter.parse().ok());
        let order = parts.next().and_then(Order::parse);
        if let Some(counter) = counter.filter(|_| order == Some(self.order)) {
            self.known.insert(counter, epoch);
            self.free.insert(counter);
        }
    }
}

/// Whether the id still is this transaction's.
pub(super) fn commit(
    shared: &mut Shared,
    key: &TaskKey,
    transaction: &Transaction,
    step: Step,
) -> Result<bool, String> {
    let Transaction {
        id,
        epoch,
        prepared_for,
    } = transaction;
    let line = line_of(&key.job);
    match shared.broker.commit(line, id, *epoch) {
        Ok(false) => {
            shared.step(step, format_args!("{key} {id}/{epoch}"));
            if !shared.truth.has_completed(&key.job, *prepared_for) {
                shared.violated(format_args!(
                    "{key} committed {id}, prepared for checkpoint {prepared_for}, which no log has"
                ));
            }
            Ok(true)
        }
        Ok(true) => {
            shared.step(Step::CommittedAgain, format_args!("{key} {id}/{epoch}"));
            Ok(true)
        }
        Err(BrokerError::Fenced) if shared.broker.was_committed(id, *epoch) => {
            shared.step(
                Step::CommittedAgain,
                format_args!("{key} {id}/{epoch}, used again since"),
            );
            Ok(false)
        }
        Err(_) if shared.broker.leave_out(line, id, *epoch) => {
            shared.step(Step::Expired, format_args!("{key} {id}/{epoch}"));
            Ok(false)
        }
        Err(error) => Err(format!(
            "{id}/{epoch} of checkpoint {prepared_for} can't be committed: {error:?}"
        )),
    }
}

pub(super) fn commit_file(shared: &mut Shared, key: &TaskKey, file: &Transaction) {
    match shared.files.commit(line_of(&key.job), &file.id) {
        Some(false) => shared.step(Step::FileCommitted, format_args!("{key} {}", file.id)),
        Some(true) => shared.step(Step::CommittedAgain, format_args!("{key} {}", file.id)),
        None => shared.violated(format_args!(
            "{key}: file {} of checkpoint {} is gone before it was committed",
            file.id, file.prepared_for
        )),
    }
}

pub(super) fn trade(
    operator: &str,
    order: Order,
    subtask: u32,
    restore: Option<&OperatorRestore>,
    to_read: &mut VecDeque<String>,
) -> Trade {
    let restored = || restore.map(transactions).unwrap_or_default();
    match operator {
        "Numbers" => {
            let restored = restore.map(splits).unwrap_or_default();
            Trade::Source(if restored.is_empty() {
                BTreeMap::from([(subtask, 0)])
            } else {
                restored
            })
        }
        "BrokerSink" => {
            let writers = restore.map(|restore| lines(restore, WRITERS)).unwrap_or_default();
            let before = writers.iter().filter_map(|line| Order::parse(line)).max();
            let ids = Ids {
                order: order.behind(before),
                ..Ids::default()
            };
            Trade::Broker {
                ids,
                open: None,
                prepared: Vec::new(),
                restored: restored(),
                left: Vec::new(),
            }
        }
        "FileSink" => Trade::Files {
            rows: Vec::new(),
            prepared: Vec::new(),
            restored: restored(),
        },
        _ => {
            let runs: Vec<KeyedRun> = restore
                .iter()
                .flat_map(|restore| &restore.keyed)
                .flat_map(|subtask| subtask.runs.clone())
                .collect();
            let paths = runs.iter().filter_map(|run| run.file.as_ref());
            to_read.extend(paths.map(|file| file.path.clone()));
            let own = restore.is_some_and(|restore| restore.own_runs);
            Trade::Operator {
                next: BTreeMap::new(),
                chain: if own { runs } else { Vec::new() },
                full: !own,
            }
        }
    }
}

const SPLITS: &str = "Splits";
const COMMITTABLES: &str = "Committables";
/// Each subtask sees who wrote before it in any.
const WRITERS: &str = "Writers";

impl Trade {
    /// What of it is in a snapshot, but for an operator's runs.
    pub(super) fn lists(&self) -> Vec<OperatorList> {
        match self {
            Self::Source(splits) => {
                let lines = splits.iter().map(|(source, next)| format!("{source}:{next}"));
                vec![list(SPLITS, Distribution::Split, &lines.collect::<Vec<_>>())]
            }
            Self::Operator { .. } => Vec::new(),
            Self::Broker { prepared, ids, .. } => vec![
                list(COMMITTABLES, Distribution::Split, &lines_of(prepared)),
                list(WRITERS, Distribution::Union, &[ids.order.to_string()]),
            ],
            Self::Files { prepared, .. } => {
                vec![list(COMMITTABLES, Distribution::Split, &lines_of(prepared))]
            }
        }
    }
}

fn list(name: &str, distribution: Distribution, lines: &[String]) -> OperatorList {
    let inline = lines.join("\n").into_bytes();
    OperatorList {
        name: name.to_owned(),
        distribution: distribution.into(),
        items: lines.len() as u64,
        file: Some(StateFile {
            size: inline.len() as u64,
            inline,
            ..StateFile::default()
        }),
    }
}

fn lines_of(prepared: &[Transaction]) -> Vec<String> {
    let line = |one: &Transaction| format!("{}:{}:{}", one.id, one.epoch, one.prepared_for);
    prepared.iter().map(line).collect()
}

fn lines(restore: &OperatorRestore, name: &str) -> Vec<String> {
    let mut all = Vec::new();
    for share in &restore.lists {
        let list = share.list.as_ref().filter(|list| list.name == name);
        let file = list.and_then(|list| list.file.as_ref());
        let text = file
            .map(|file| String::from_utf8_lossy(&file.inline).into_owned())
            .unwrap_or_default();
        let share = text.lines().skip(share.first as usize).take(share.count as usize);
        all.extend(share.map(str::to_owned));
    }
    all
}

fn splits(restore: &OperatorRestore) -> BTreeMap<u32, u32> {
    let split = |line: String| {
        let (source, next) = line.split_once(':')?;
        Some((source.parse().ok()?, next.parse().ok()?))
    };
    lines(restore, SPLITS).into_iter().filter_map(split).collect()
}

fn transactions(restore: &OperatorRestore) -> Vec<Transaction> {
    let transaction = |line: String| {
        let mut parts = line.split(':');
        Some(Transaction {
            id: parts.next()?.to_owned(),
            epoch: parts.next()?.parse().ok()?,
            prepared_for: parts.next()?.parse().ok()?,
        })
    };
    lines(restore, COMMITTABLES)
        .into_iter()
        .filter_map(transaction)
        .collect()
}
