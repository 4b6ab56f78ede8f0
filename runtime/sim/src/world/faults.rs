//! What happens to processes, network and store while everything may fail.

use super::World;
use crate::shared::{Event, Input, Process, Timer};
use crate::steps::Step;

impl World {
    pub(super) fn fault(&mut self) {
        self.faults += 1;
        let processes = self.processes();
        let victim = processes[self.shared.random.place(processes.len())];
        let leader = (0..self.job_managers.len())
            .max_by_key(|index| self.job_managers[*index].epoch())
            .map(Process::JobManager);
        let target = match leader {
            Some(leader) if self.shared.random.per_mille(400) => leader,
            _ => victim,
        };
        match self.shared.random.below(9) {
            0 | 1 => {
                self.shared.step(Step::Killed, target);
                self.kill(target);
            }
            2 | 3 => self.pause(target),
            4 => self.partition(target, &processes),
            5 => {
                let open = self.shared.open_connections();
                if let Some(connection) = open.get(self.shared.random.place(open.len())) {
                    self.shared.step(Step::Cut, connection);
                    self.shared.cut(*connection);
                }
            }
            6 => {
                let index = self.shared.random.place(self.task_managers.len());
                let host = self.shared.host(Process::TaskManager(index));
                if host.alive && !host.paused {
                    self.task_managers[index].kill_worker(&mut self.shared);
                }
            }
            7 => self.jump(target),
            _ => {
                let outage = [0, 300, 1_000][self.shared.random.place(3)];
                self.shared
                    .say_so(format_args!("store faults from now on: {outage} per mille"));
                self.shared.store_fault_per_mille = outage;
            }
        }
        let next = self.shared.random.between(1, self.fault_every_ms * 2);
        self.shared.at(self.shared.now_ms + next, Event::Fault);
    }

    /// Its machine slept, say: its clock is ahead of where it was.
    fn jump(&mut self, process: Process) {
        let by_ms = match self.shared.random.below(3) {
            0 => self.shared.random.between(10_000, 3_600_000),
            _ => self.shared.random.between(100, 10_000),
        };
        self.shared
            .step(Step::ClockJumped, format_args!("{process} by {by_ms} ms"));
        self.shared.host(process).offset_ms += by_ms;
        if matches!(process, Process::JobManager(_)) {
            self.shared.after(0, process, Input::Timer(Timer::Control));
        }
    }

    fn pause(&mut self, process: Process) {
        let for_ms = match self.shared.random.below(3) {
            0 => self.shared.random.between(10, 1_000),
            _ => self.shared.random.between(1_000, 15_000),
        };
        self.shared.pause(process, for_ms);
    }

    fn partition(&mut self, process: Process, processes: &[Process]) {
        let for_ms = self.shared.random.between(200, 12_000);
        let both_ways = self.shared.random.per_mille(600);
        let from_all = self.shared.random.per_mille(600);
        self.shared.step(
            Step::Partitioned,
            format_args!("{process} for {for_ms} ms, both ways: {both_ways}, from all: {from_all}"),
        );
        let inwards = self.shared.random.per_mille(500);
        for other in processes.iter().filter(|other| **other != process) {
            if !from_all && self.shared.random.per_mille(500) {
                continue;
            }
            if both_ways || inwards {
                self.shared.block(*other, process, for_ms);
            }
            if both_ways || !inwards {
                self.shared.block(process, *other, for_ms);
            }
        }
    }

    pub(super) fn mend(&mut self) {
        self.shared.say_so(format_args!("all is mended"));
        self.shared.faulty = false;
        self.shared.heal_all();
        for process in self.processes() {
            self.wake(process);
            self.revive(process);
        }
    }
}
