//! Processes with a log each, and signals for them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Ends when it is dropped.
pub(super) struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Its output goes to the end of `<logs>/<name>.log`.
    pub(super) fn start(name: &str, command: &mut Command, logs: &Path) -> anyhow::Result<Self> {
        let path = log_of(name, logs);
        let log = File::options().create(true).append(true).open(&path)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{name} can't be started"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// How it has ended, if it has.
    pub(super) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// SIGKILL; returns when it is gone.
    pub(super) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM; returns when it is gone.
    pub(super) fn terminate(mut self) -> anyhow::Result<()> {
        kill(Pid::from_raw(self.pid()), Signal::SIGTERM)?;
        self.child.wait()?;
        Ok(())
    }

    pub(super) fn children(&self) -> Vec<i32> {
        children_of(self.pid())
    }

    pub(super) fn pid(&self) -> i32 {
        self.child.id() as i32
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Killing what has ended already is an error that says nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log_of(name: &str, logs: &Path) -> PathBuf {
    logs.join(format!("{name}.log"))
}

/// By the second field behind the name in /proc/PID/stat.
fn children_of(parent: i32) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
            let (state, of) = (fields.next()?, fields.next()?);
            (state != "Z" && of.parse() == Ok(parent)).then_some(pid)
        })
        .collect()
}
