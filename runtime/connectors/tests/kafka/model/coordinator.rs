//! A transaction coordinator: what Kafka's answers, for clients of transaction version 1.
//!
//! ```text
//!   Empty -- add --> Ongoing -- end --> Prepared -- markers are written --> Complete -- add --> Ongoing
//!                       '-- init, or time is over: the epoch rises, abort --^
//! ```

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::ResponseError;

/// Producer id and epoch.
pub(crate) type Identity = (i64, i16);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Empty,
    Ongoing,
    Prepared { commit: bool, lag: usize },
    Complete { commit: bool },
}

#[derive(Debug)]
struct Entry {
    identity: Identity,
    /// The epoch before the last one that was asked for with the current one known; -1 = none.
    last_epoch: i16,
    state: State,
    partitions: BTreeSet<usize>,
}

/// A decided transaction, whose partitions get a marker.
pub(crate) struct Marker {
    pub(crate) identity: Identity,
    pub(crate) commit: bool,
    pub(crate) partitions: BTreeSet<usize>,
}

#[derive(Debug, Default)]
pub(crate) struct Coordinator {
    ids: BTreeMap<String, Entry>,
    producers: i64,
    lag: usize,
}

impl Entry {
    fn prepare(&mut self, commit: bool, lag: usize) {
        self.state = State::Prepared { commit, lag };
    }
}

impl Coordinator {
    /// So many requests pass between a decision and its markers.
    pub(crate) fn new(lag: usize) -> Self {
        Self {
            lag,
            ..Self::default()
        }
    }

    /// InitProducerId; `known.1` is -1 if the client says nothing of an identity.
    pub(crate) fn init(&mut self, id: &str, known: Identity) -> Result<Identity, ResponseError> {
        let Some(entry) = self.ids.get_mut(id) else {
            self.producers += 1;
            let identity = (self.producers, 0);
            let entry = Entry {
                identity,
                last_epoch: -1,
                state: State::Empty,
                partitions: BTreeSet::new(),
            };
            self.ids.insert(id.to_owned(), entry);
            return Ok(identity);
        };
        let says = known.1 >= 0;
        if says && known.0 != entry.identity.0 {
            return Err(ResponseError::ProducerFenced);
        }
        match entry.state {
            State::Prepared { .. } => Err(ResponseError::ConcurrentTransactions),
            _ if says && known.1 == entry.last_epoch => Ok(entry.identity),
            _ if says && known.1 != entry.identity.1 => Err(ResponseError::ProducerFenced),
            State::Ongoing => {
                entry.identity.1 += 1;
                entry.prepare(false, self.lag);
                Err(ResponseError::ConcurrentTransactions)
            }
            State::Empty | State::Complete { .. } => {
                entry.last_epoch = if says { entry.identity.1 } else { -1 };
                entry.identity.1 += 1;
                entry.state = State::Empty;
                Ok(entry.identity)
            }
        }
    }

    fn entry(&mut self, id: &str, identity: Identity) -> Result<&mut Entry, ResponseError> {
        match self.ids.get_mut(id) {
            None => Err(ResponseError::InvalidProducerIdMapping),
            Some(entry) if entry.identity.0 != identity.0 => Err(ResponseError::InvalidProducerIdMapping),
            Some(entry) if entry.identity.1 != identity.1 => Err(ResponseError::ProducerFenced),
            Some(entry) => Ok(entry),
        }
    }

    pub(crate) fn add(
        &mut self,
        id: &str,
        identity: Identity,
        partitions: impl Iterator<Item = usize>,
    ) -> Result<(), ResponseError> {
        let entry = self.entry(id, identity)?;
        match entry.state {
            State::Prepared { .. } => return Err(ResponseError::ConcurrentTransactions),
            State::Empty | State::Complete { .. } => entry.partitions.clear(),
            State::Ongoing => {}
        }
        entry.state = State::Ongoing;
        entry.partitions.extend(partitions);
        Ok(())
    }

    pub(crate) fn end(&mut self, id: &str, identity: Identity, commit: bool) -> Result<(), ResponseError> {
        let lag = self.lag;
        let entry = self.entry(id, identity)?;
        match entry.state {
            State::Ongoing => {
                entry.prepare(commit, lag);
                Ok(())
            }
            State::Prepared { commit: decided, .. } if decided == commit => {
                Err(ResponseError::ConcurrentTransactions)
            }
            State::Complete { commit: decided } if decided == commit => Ok(()),
            _ => Err(ResponseError::InvalidTxnState),
        }
    }

    /// What a partition's leader asks before it appends.
    pub(crate) fn verify(
        &mut self,
        id: &str,
        identity: Identity,
        partition: usize,
    ) -> Result<(), ResponseError> {
        let entry = self.entry(id, identity).map_err(|error| match error {
            ResponseError::ProducerFenced => ResponseError::InvalidProducerEpoch,
            other => other,
        })?;
        if entry.state == State::Ongoing && entry.partitions.contains(&partition) {
            return Ok(());
        }
        Err(ResponseError::InvalidTxnState)
    }

    pub(crate) fn ongoing(&self) -> Vec<(String, Identity)> {
        let ongoing = self.ids.iter().filter(|(_, entry)| entry.state == State::Ongoing);
        ongoing.map(|(id, entry)| (id.clone(), entry.identity)).collect()
    }

    /// Everything that is open has been open for too long.
    pub(crate) fn expire(&mut self) {
        for entry in self
            .ids
            .values_mut()
            .filter(|entry| entry.state == State::Ongoing)
        {
            entry.identity.1 += 1;
            entry.prepare(false, self.lag);
        }
    }

    /// No id is known any more: none was used for `transactional.id.expiration.ms`.
    pub(crate) fn forget(&mut self) {
        self.ids
            .retain(|_, entry| !matches!(entry.state, State::Complete { .. } | State::Empty));
    }

    /// A request passes; what is to be marked now. `all`: whatever the lag.
    pub(crate) fn markers(&mut self, all: bool) -> Vec<Marker> {
        let mut markers = Vec::new();
        for entry in self.ids.values_mut() {
            match &mut entry.state {
                State::Prepared { lag, .. } if *lag > 0 && !all => *lag -= 1,
                State::Prepared { commit, .. } => {
                    let commit = *commit;
                    entry.state = State::Complete { commit };
                    markers.push(Marker {
                        identity: entry.identity,
                        commit,
                        partitions: std::mem::take(&mut entry.partitions),
                    });
                }
                State::Empty | State::Ongoing | State::Complete { .. } => {}
            }
        }
        markers
    }
}
