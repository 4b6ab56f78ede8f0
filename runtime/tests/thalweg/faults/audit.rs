//! The account of what came out, entry by entry: each half of a transfer once, each balance the one before it plus the delta.
//!
//! A reader (`topic.rs`, `folder.rs`) goes along while the job runs and everything breaks: it tells how far the output is, and the first
//! entry that is wrong at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{bail, ensure};

use super::transfers::{FIRST_BALANCE, transfer};

const PAUSE: Duration = Duration::from_millis(20);

/// The entries so far.
#[derive(Debug)]
pub(super) struct Ledger {
    seed: u64,
    balances: HashMap<i64, i64>,
    /// By transfer: 1 = its debit was seen, 2 = its credit.
    halves: Vec<u8>,
    /// Transfers before this one were seen whole.
    whole: i64,
    /// Whether an account's entries come in order from its first one on, and not only within a piece.
    in_order: bool,
}

impl Ledger {
    /// Of a topic.
    pub(super) fn in_order(seed: u64) -> Self {
        Self {
            seed,
            balances: HashMap::new(),
            halves: Vec::new(),
            whole: 0,
            in_order: true,
        }
    }

    /// Of files, each in order: [`Ledger::next_piece`] says where one begins.
    pub(super) fn in_pieces(seed: u64) -> Self {
        Self {
            in_order: false,
            ..Self::in_order(seed)
        }
    }

    pub(super) fn next_piece(&mut self) {
        self.balances.clear();
    }

    /// Takes in an entry; what is wrong with it.
    pub(super) fn enter(&mut self, entry: &str) -> Result<(), String> {
        let numbers: Option<Vec<i64>> = entry.split(' ').map(|word| word.parse().ok()).collect();
        let Some([id, account, delta, balance]) = numbers.as_deref() else {
            return Err(format!("{entry:?} is not `id account delta balance`"));
        };
        let (id, account, delta, balance) = (*id, *account, *delta, *balance);
        let made = transfer(self.seed, id);
        let half = match (account, delta) {
            debit if debit == (made.from, -made.amount) => 1,
            credit if credit == (made.to, made.amount) => 2,
            _ => return Err(format!("{entry:?} is no half of transfer {id}, {made:?}")),
        };
        let index = usize::try_from(id).map_err(|_| format!("{entry:?}: no transfer has such a number"))?;
        if self.halves.len() <= index {
            self.halves.resize(index + 1, 0);
        }
        if self.halves[index] & half != 0 {
            return Err(format!("{entry:?} comes a second time"));
        }
        self.halves[index] |= half;
        while self.halves.get(self.whole as usize) == Some(&3) {
            self.whole += 1;
        }
        let first = self.in_order.then_some(FIRST_BALANCE);
        match self.balances.insert(account, balance).or(first) {
            Some(before) if before + delta != balance => {
                Err(format!("{entry:?}: the account had {before} before it"))
            }
            _ => Ok(()),
        }
    }

    /// Whether these are exactly so many transfers, each whole, and no money was made or lost.
    pub(super) fn complete(&self, transfers: i64) -> anyhow::Result<()> {
        let seen = self.halves.len() as i64;
        ensure!(
            seen <= transfers,
            "{transfers} transfers were written, {seen} came out"
        );
        if self.whole != transfers {
            let halves = |id: &i64| self.halves.get(*id as usize).copied().unwrap_or(0);
            let missing: Vec<i64> = (0..transfers).filter(|id| halves(id) != 3).collect();
            bail!(
                "{} of {transfers} transfers are not whole: {:?} ..",
                missing.len(),
                &missing[..missing.len().min(20)]
            );
        }
        let gained: i64 = self
            .balances
            .values()
            .map(|balance| balance - FIRST_BALANCE)
            .sum();
        ensure!(
            gained == 0 || !self.in_order,
            "all accounts together have {gained} more than before"
        );
        Ok(())
    }
}

/// Output that grows.
pub(super) trait Reader: Send + 'static {
    /// Takes in what has come since; waits a little if it likes.
    ///
    /// # Errors
    /// What is wrong with it.
    fn read(&mut self, ledger: &mut Ledger) -> Result<(), String>;

    fn ledger(&self, seed: u64) -> Ledger;

    /// What makes reading hard at the moment: brokers that are away.
    fn complaint(&self) -> Option<String> {
        None
    }
}

#[derive(Default)]
struct Seen {
    whole: i64,
    wrong: Option<String>,
    complaint: Option<String>,
}

/// Reads along until it is dropped.
pub(super) struct Auditor {
    seen: Arc<Mutex<Seen>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Auditor {
    pub(super) fn start(mut reader: Box<dyn Reader>, seed: u64) -> Self {
        let (seen, ended) = (
            Arc::new(Mutex::new(Seen::default())),
            Arc::new(AtomicBool::new(false)),
        );
        let (told, end) = (Arc::clone(&seen), Arc::clone(&ended));
        let thread = std::thread::spawn(move || {
            let mut ledger = reader.ledger(seed);
            while !end.load(Ordering::Relaxed) {
                let read = reader.read(&mut ledger);
                let mut seen = told.lock().unwrap();
                seen.whole = ledger.whole;
                seen.complaint = reader.complaint();
                if let Err(wrong) = read {
                    seen.wrong = Some(wrong);
                    return;
                }
                drop(seen);
                std::thread::sleep(PAUSE);
            }
        });
        Self {
            seen,
            ended,
            thread: Some(thread),
        }
    }

    /// How many transfers, from the first on, were seen whole; an error if an entry was wrong.
    pub(super) fn whole(&self) -> anyhow::Result<i64> {
        let seen = self.seen.lock().unwrap();
        match &seen.wrong {
            Some(wrong) => bail!("a reader sees: {wrong}"),
            None => Ok(seen.whole),
        }
    }

    pub(super) fn complaint(&self) -> String {
        let complaint = self.seen.lock().unwrap().complaint.clone();
        complaint.unwrap_or_else(|| "nothing".to_owned())
    }
}

impl Drop for Auditor {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halves(seed: u64, id: i64, balances: &mut HashMap<i64, i64>) -> [String; 2] {
        let made = transfer(seed, id);
        [(made.from, -made.amount), (made.to, made.amount)].map(|(account, delta)| {
            let balance = balances.entry(account).or_insert(FIRST_BALANCE);
            *balance += delta;
            format!("{id} {account} {delta} {balance}")
        })
    }

    #[test]
    fn whole_transfers_are_complete_and_one_that_is_missing_is_named() {
        let (mut ledger, mut balances) = (Ledger::in_order(5), HashMap::new());
        for id in 0..100 {
            for half in halves(5, id, &mut balances) {
                ledger.enter(&half).unwrap();
            }
        }
        ledger.complete(100).unwrap();
        let error = ledger.complete(101).unwrap_err().to_string();
        assert_eq!(error, "1 of 101 transfers are not whole: [100] ..");
        assert!(ledger.complete(99).is_err());
    }

    #[test]
    fn halves_that_come_twice_are_false_or_leave_one_out_are_refused() {
        let mut balances = HashMap::new();
        let [debit, credit] = halves(5, 0, &mut balances);
        let mut ledger = Ledger::in_order(5);
        ledger.enter(&debit).unwrap();
        assert!(ledger.enter(&debit).unwrap_err().contains("a second time"));
        assert!(ledger.complete(1).is_err());
        ledger.enter(&credit).unwrap();
        assert!(
            ledger
                .enter("0 1 2")
                .unwrap_err()
                .contains("is not `id account delta balance`")
        );
        assert!(
            ledger
                .enter("1 1 0 1000")
                .unwrap_err()
                .contains("no half of transfer 1")
        );
        // The account's entry between is missing.
        let account = transfer(5, 0).from;
        let next = (1..).find(|id| transfer(5, *id).from == account).unwrap();
        let [_, _] = halves(5, 0, &mut balances);
        let [debit, _] = halves(5, next, &mut balances);
        assert!(ledger.enter(&debit).unwrap_err().contains("the account had"));
    }
}
