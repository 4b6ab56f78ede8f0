//! One run: parts are started, broken as planned, and looked after until all has come out.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::audit::{Auditor, Reader};
use super::broker::Broker;
use super::folder::{self, FolderReader};
use super::job::{Job, Setup};
use super::journal::Journal;
use super::plan::{Blow, Draw, Fault, Step, plan};
use super::server::Fault as Failing;
use super::store::{BUCKET, Store};
use super::topic::{self, TopicReader};
use super::transfers::Input;
use super::{Output, PAUSE, Parts, eventually, patience};
use crate::package::package;

const INPUT: &str = "transfers";
/// A topic, or a folder.
const OUTPUT: &str = "entries";

pub(super) async fn run(parts: &Parts, folder: &Path, journal: &mut Journal) -> anyhow::Result<()> {
    let mut draw = Draw::new(parts.seed);
    let logs = folder.join("logs");
    std::fs::create_dir_all(&logs)?;
    let transaction_version = 1 + draw.below(2);
    let data = folder.join("kafka");
    let broker = Broker::start(&parts.kafka_jars, &data, &logs, transaction_version).await?;
    let store = Store::start(&parts.s3_server, folder.join("s3"), &logs).await?;
    for topic in [INPUT, OUTPUT] {
        broker.create_topic(topic).await?;
    }
    let servers = broker.servers();
    // Without a standby the one that is started again recovers its application.
    let job_managers = if draw.chance(75) { 2 } else { 1 };
    let mut settings = job_settings(&mut draw);
    if job_managers > 1 {
        settings.push(("high-availability.type", "storage".to_owned()));
        settings.push((
            "high-availability.storageDir",
            format!("s3://{BUCKET}/high-availability"),
        ));
    }
    journal.note(format!(
        "seed {}: {job_managers} JobManagers, transaction.version {transaction_version}",
        parts.seed
    ));
    settings
        .iter()
        .for_each(|(key, value)| journal.note(format!("{key}: {value}")));
    settings.extend(store.settings());
    // Not below `folder`: sockets have short paths.
    let temporary = tempfile::tempdir()?;
    let job = Job::start(Setup {
        package: package("transfer", folder),
        arguments: arguments(&servers, parts.output, folder),
        settings,
        logs,
        folder: temporary.path().to_owned(),
        job_managers,
        leaders: store.folder_of("high-availability/default/leader"),
    })?;
    let input = Input::start(&servers, INPUT, parts.seed)?;
    let (files, objects) = (folder.join(OUTPUT), store.folder_of(OUTPUT));
    let reader: Box<dyn Reader> = match parts.output {
        Output::Topic => Box::new(TopicReader::new(&servers, OUTPUT)?),
        Output::Disk => Box::new(FolderReader::new(files.clone())),
        Output::Objects => Box::new(FolderReader::new(objects.clone())),
    };
    let mut scene = Scene {
        auditor: Auditor::start(reader, parts.seed),
        journal,
        job,
        broker,
        store,
        input,
    };
    scene.recovered().await.context("at the start")?;
    for step in plan(parts.seed, parts.faults) {
        scene.play(&step).await?;
    }
    scene.recovered().await?;
    let (transfers, _broker, _store) = scene.finish().await?;
    let (output, seed, faults) = (parts.output, parts.seed, parts.faults);
    let check = move || match output {
        Output::Topic => topic::check_all(&servers, OUTPUT, seed, transfers),
        Output::Disk => folder::check_all(&files, seed, transfers, faults),
        Output::Objects => folder::check_all(&objects, seed, transfers, faults),
    };
    tokio::task::spawn_blocking(check).await??;
    journal.note(format!("{transfers} transfers are there, each once"));
    Ok(())
}

fn arguments(servers: &str, output: Output, folder: &Path) -> Vec<String> {
    let uri = match output {
        Output::Disk => format!("file://{}", folder.join(OUTPUT).display()),
        Output::Topic | Output::Objects => format!("s3://{BUCKET}/{OUTPUT}"),
    };
    let mut arguments = vec!["--bootstrap-servers", servers, "--input-topic", INPUT];
    match output {
        Output::Topic => {
            arguments.extend(["--output-topic", OUTPUT, "--transactional-id-prefix", "faults"]);
        }
        Output::Disk | Output::Objects => arguments.extend(["--output-folder", &uri]),
    }
    arguments.into_iter().map(str::to_owned).collect()
}

/// What the seed decides of the configuration, and what lets faults be seen soon.
fn job_settings(draw: &mut Draw) -> Vec<(&'static str, String)> {
    let backend = ["hashmap", "rocksdb"][draw.below(2) as usize];
    let settings = [
        ("state.backend.type", backend),
        (
            "execution.checkpointing.unaligned.enabled",
            ["false", "true"][draw.below(2) as usize],
        ),
        (
            "execution.state-recovery.from-local",
            ["false", "true"][draw.below(2) as usize],
        ),
        ("execution.checkpointing.interval", "200 ms"),
        ("execution.checkpointing.timeout", "10 s"),
        ("execution.checkpointing.tolerable-failed-checkpoints", "1000000"),
        ("restart-strategy.type", "fixed-delay"),
        ("restart-strategy.fixed-delay.attempts", "1000000"),
        ("restart-strategy.fixed-delay.delay", "100 ms"),
        ("heartbeat.interval", "500 ms"),
        ("heartbeat.timeout", "2 s"),
    ];
    let mut settings: Vec<_> = settings
        .into_iter()
        .map(|(key, value)| (key, value.to_owned()))
        .collect();
    settings.push((
        "execution.checkpointing.dir",
        format!("s3://{BUCKET}/checkpoints"),
    ));
    settings
}

/// Everything that runs.
struct Scene<'a> {
    journal: &'a mut Journal,
    job: Job,
    broker: Broker,
    store: Store,
    input: Input,
    auditor: Auditor,
}

/// What is to be put right again.
enum Remedy {
    Continue(Vec<i32>),
    StartBroker,
    RepairStore,
    StartWhatEnded,
}

impl Scene<'_> {
    async fn play(&mut self, step: &Step) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut remedies = Vec::new();
        for blow in &step.blows {
            remedies.extend(self.strike(blow)?.map(|remedy| (blow.lasts, remedy)));
        }
        remedies.sort_by_key(|(lasts, _)| *lasts);
        for (lasts, remedy) in remedies {
            tokio::time::sleep(lasts.saturating_sub(begun.elapsed())).await;
            self.heal(remedy)?;
        }
        self.broker.serves().await?;
        if step.until_recovered {
            self.recovered().await?;
        }
        tokio::time::sleep(step.then).await;
        self.job.keep_up(self.journal)
    }

    fn strike(&mut self, blow: &Blow) -> anyhow::Result<Option<Remedy>> {
        let (fault, lasts) = (blow.fault, blow.lasts);
        match fault {
            Fault::KillWorker => {
                let workers = self.job.workers();
                let worker = workers.get(blow.victim % workers.len().max(1)).copied();
                self.journal.fault(format!("{fault:?} {worker:?} of {workers:?}"));
                send(Signal::SIGKILL, worker.as_slice());
                Ok(None)
            }
            Fault::KillTaskManager | Fault::KillJobManager => {
                let process = match fault {
                    Fault::KillTaskManager => self.job.task_manager(blow.victim),
                    _ => self.job.leader(),
                };
                self.journal
                    .fault(format!("{fault:?} {}, away for {lasts:?}", process.name()));
                send(Signal::SIGKILL, &[process.pid()]);
                Ok(Some(Remedy::StartWhatEnded))
            }
            Fault::PauseTaskManager | Fault::PauseJobManager => {
                let process = match fault {
                    Fault::PauseTaskManager => self.job.task_manager(blow.victim),
                    _ => self.job.leader(),
                };
                let pids = [process.children(), vec![process.pid()]].concat();
                self.journal
                    .fault(format!("{fault:?} {} {pids:?} for {lasts:?}", process.name()));
                send(Signal::SIGSTOP, &pids);
                Ok(Some(Remedy::Continue(pids)))
            }
            Fault::KillBroker | Fault::StopBroker if !self.broker.runs() => {
                self.journal.fault(format!("{fault:?}: it is away already"));
                Ok(None)
            }
            Fault::KillBroker | Fault::StopBroker => {
                self.journal.fault(format!("{fault:?}, away for {lasts:?}"));
                match fault {
                    Fault::KillBroker => self.broker.kill()?,
                    _ => self.broker.stop()?,
                }
                Ok(Some(Remedy::StartBroker))
            }
            Fault::StoreRefuses | Fault::StoreHangs | Fault::StoreLosesAnswers => {
                self.journal.fault(format!("{fault:?} for {lasts:?}"));
                self.store.outage(Some(match fault {
                    Fault::StoreRefuses => Failing::Unavailable,
                    Fault::StoreHangs => Failing::Hang,
                    _ => Failing::LostAfter,
                }));
                Ok(Some(Remedy::RepairStore))
            }
        }
    }

    fn heal(&mut self, remedy: Remedy) -> anyhow::Result<()> {
        match remedy {
            Remedy::Continue(pids) => {
                self.journal.note(format!("{pids:?} go on"));
                send(Signal::SIGCONT, &pids);
            }
            Remedy::StartBroker => {
                self.broker.launch()?;
                self.journal.note("the broker comes back");
            }
            Remedy::RepairStore => {
                self.store.outage(None);
                self.journal.note("S3 is back");
            }
            Remedy::StartWhatEnded => self.job.keep_up(self.journal)?,
        }
        Ok(())
    }

    /// Returns when all that was written before has come out, and more.
    async fn recovered(&mut self) -> anyhow::Result<()> {
        let (written, begun) = (self.input.written(), Instant::now());
        loop {
            let whole = self.auditor.whole()?;
            if whole > written {
                break;
            }
            self.job.keep_up(self.journal)?;
            let state = self.job.state().await?;
            if begun.elapsed() > patience() {
                let state = state.unwrap_or_else(|| "not told".to_owned());
                bail!(
                    "{whole} of {written} transfers came out within {:?}; the job's state is {state}; the reader's newest error: {}",
                    patience(),
                    self.auditor.complaint()
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
        let seconds = begun.elapsed().as_secs_f64();
        self.journal
            .note(format!("{written} transfers have come out, {seconds:.1} s"));
        Ok(())
    }

    /// Ends the input and the job; how many transfers there are.
    async fn finish(self) -> anyhow::Result<(i64, Broker, Store)> {
        let Scene {
            journal,
            mut job,
            broker,
            store,
            input,
            auditor,
        } = self;
        let transfers = tokio::task::spawn_blocking(|| input.finish()).await??;
        eventually("all transfers to come out", async || {
            Ok(auditor.whole()? >= transfers)
        })
        .await?;
        job.stop(&format!("s3://{BUCKET}/savepoints")).await?;
        eventually("the job to end", async || {
            Ok(job.state().await?.as_deref() == Some("FINISHED"))
        })
        .await?;
        job.keep_up(journal)?;
        Ok((transfers, broker, store))
    }
}

/// What has ended already, or was given up meanwhile, needs none.
fn send(signal: Signal, pids: &[i32]) {
    for pid in pids {
        let _ = kill(Pid::from_raw(*pid), signal);
    }
}
