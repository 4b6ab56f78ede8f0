//! Threads that read pages: one random read of a disk takes long, many at a time take hardly longer.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::page::Page;
use super::run::LocalRun;
use crate::StateError;

/// Reads at a time, in the whole process.
const THREADS: usize = 8;
/// Fewer pages than this are read by the one who wants them.
const LEAST_PAGES: usize = 8;

type Job = Box<dyn FnOnce() + Send>;

static POOL: OnceLock<Option<Mutex<Sender<Job>>>> = OnceLock::new();

/// None if there can be no threads.
fn pool() -> Option<Sender<Job>> {
    let pool = POOL.get_or_init(|| {
        let (sender, receiver) = channel::<Job>();
        let receiver = Arc::new(Mutex::new(receiver));
        let started = (0..THREADS).filter(|_| start(Arc::clone(&receiver))).count();
        (started > 0).then(|| Mutex::new(sender))
    });
    let sender = pool.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
    Some(sender.clone())
}

fn start(jobs: Arc<Mutex<Receiver<Job>>>) -> bool {
    let work = move || {
        loop {
            let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else { return };
            job();
        }
    };
    let thread = std::thread::Builder::new().name("state-read".to_owned());
    thread.spawn(work).is_ok()
}

/// These pages of a run, in their order, which is ascending.
pub(crate) fn read_pages(run: &Arc<LocalRun>, pages: &[usize]) -> Result<Vec<Page>, StateError> {
    let parts = (pages.len() / LEAST_PAGES).clamp(1, THREADS);
    let pool = if parts > 1 { pool() } else { None };
    let Some(pool) = pool else {
        return run.read_pages(pages);
    };
    let (sender, results) = channel();
    let mut chunks = pages.chunks(pages.len().div_ceil(parts));
    let mine = chunks.next().unwrap_or_default();
    let mut expected = 0;
    for (number, chunk) in chunks.enumerate() {
        let (run, chunk, sender) = (Arc::clone(run), chunk.to_vec(), sender.clone());
        let job = move || {
            // Nobody waits if another part failed.
            let _ = sender.send((number, run.read_pages(&chunk)));
        };
        if let Err(unsent) = pool.send(Box::new(job)) {
            (unsent.0)();
        }
        expected += 1;
    }
    drop(sender);
    let mut read = run.read_pages(mine)?;
    let mut others: Vec<(usize, Vec<Page>)> = Vec::with_capacity(expected);
    for (number, result) in results {
        others.push((number, result?));
    }
    if others.len() < expected {
        return Err(run.file().damaged("reading it was ended"));
    }
    others.sort_unstable_by_key(|(number, _)| *number);
    read.extend(others.into_iter().flat_map(|(_, pages)| pages));
    Ok(read)
}
