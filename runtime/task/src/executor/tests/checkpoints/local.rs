//! Local copies of state files: a restore on the machine where they were written needs no checkpoint folder.

use std::path::{Path, PathBuf};

use super::*;
use crate::program::JobProgram;
use crate::{LocalStateSettings, NodeFactory};

/// A job of one task that counts, and the disk of its machine.
struct Machine {
    source: NodeFactory,
    gate: SourceGate,
    sink: CollectSink,
    disk: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let source = ScriptedSource::new((0..4).map(|n| rows([n, 10 + n])).collect(), Then::Wait);
        Self {
            gate: source.gate.clone(),
            source: source.node(),
            sink: CollectSink::default(),
            disk: tempfile::tempdir().unwrap(),
        }
    }

    fn nodes(&self) -> Vec<(u32, NodeFactory)> {
        vec![(1, self.source.clone()), (2, counting()), (3, self.sink.node())]
    }

    fn program(&self) -> JobProgram {
        program(self.nodes(), &[])
    }

    /// A worker process of the job here.
    fn process(&self) -> Process {
        let settings = ExecutorSettings {
            local_state: Some(LocalStateSettings {
                folders: vec![self.disk.path().join("0"), self.disk.path().join("1")],
                limit_bytes: 1 << 20,
            }),
            ..ExecutorSettings::default()
        };
        Process::start_with(&io(), self.program(), settings)
    }

    fn job(&self) -> Job {
        let mut job = Job::single(self.nodes(), &[1, 2, 3]);
        job.want_local_copies();
        job.process = self.process();
        job
    }

    fn copies(&self) -> Vec<PathBuf> {
        let folders = ["0", "1"].map(|folder| self.disk.path().join(folder));
        let entries = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok());
        entries.flatten().map(|entry| entry.unwrap().path()).collect()
    }
}

/// Half of the rows, a checkpoint, and what each task is to be restored with.
fn checkpointed(machine: &Machine) -> (Job, Vec<thalweg_proto::state::v1::TaskRestore>) {
    machine.gate.limit(2);
    let mut job = machine.job();
    job.deploy(None);
    eventually("two batches", || machine.sink.values().len() == 4);
    job.checkpoint(1);
    job.notify(1, true);
    job.cancel();
    let restore = job.restore(1);
    (job, restore)
}

/// The other half: all counts are right in the end.
fn goes_on(job: &mut Job, machine: &Machine, restore: &[thalweg_proto::state::v1::TaskRestore]) {
    job.deploy(Some(restore));
    machine.gate.open();
    eventually("all batches", || machine.sink.values().len() == 8);
    job.checkpoint(2);
    assert_eq!(job.positions(2), HashMap::from([(0, 4)]));
}

fn damage(path: &Path) {
    let mut content = std::fs::read(path).unwrap();
    content[20] ^= 1;
    std::fs::write(path, content).unwrap();
}

#[test]
fn a_worker_that_is_started_again_restores_from_the_copies_of_the_one_before() {
    let machine = Machine::new();
    let (mut job, restore) = checkpointed(&machine);
    job.lose_checkpoints();
    job.process = machine.process();
    goes_on(&mut job, &machine, &restore);
    assert_eq!(
        job.operator_states(2, 2)[0].runs.len(),
        2,
        "its checkpoints go on from the restored one"
    );
    job.cancel();
}

#[test]
fn tasks_that_are_started_again_in_the_same_worker_do_too() {
    let machine = Machine::new();
    let (mut job, restore) = checkpointed(&machine);
    job.lose_checkpoints();
    goes_on(&mut job, &machine, &restore);
    job.cancel();
}

#[test]
fn damaged_copies_are_as_good_as_none() {
    let machine = Machine::new();
    let (mut job, restore) = checkpointed(&machine);
    assert!(!machine.copies().is_empty());
    machine.copies().iter().for_each(|copy| damage(copy));
    job.process = machine.process();
    goes_on(&mut job, &machine, &restore);
    assert_eq!(job.counts(2, 2).len(), 8);
    job.cancel();
}

#[test]
fn another_machine_reads_the_checkpoint_folder() {
    let machine = Machine::new();
    let (mut job, restore) = checkpointed(&machine);
    let other = Machine {
        disk: tempfile::tempdir().unwrap(),
        ..machine
    };
    job.process = other.process();
    goes_on(&mut job, &other, &restore);
    assert_eq!(job.counts(2, 2).len(), 8);
    job.cancel();
}

#[test]
fn copies_of_a_checkpoint_go_when_the_next_one_is_complete_unless_it_needs_them() {
    let machine = Machine::new();
    let (mut job, restore) = checkpointed(&machine);
    goes_on(&mut job, &machine, &restore);
    let names = || {
        let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        machine.copies().into_iter().map(name).collect::<Vec<_>>()
    };
    let of = |folder: &str| names().iter().filter(|name| name.starts_with(folder)).count();
    assert!(of("chk-1") > 0, "the second checkpoint may yet fail");
    job.notify(2, true);
    eventually("the copies to go", || of("chk-1") == 0);
    assert!(of("chk-2") > 0);
    assert_eq!(of("shared"), 2, "the runs of both checkpoints");
    job.cancel();
}
