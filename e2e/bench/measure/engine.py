"""What is measured: an engine that runs a job over Kafka topics.

Invariants: an engine is a few processes on loopback with empty folders of its own; it is started for one run and stopped
after it, so no run inherits a warm JVM, a cache or state. Both engines get the same job, parallelism and memory.
"""

import dataclasses
import pathlib
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

from . import processes, prometheus, rest
from .processes import Process, wait_until

_START_SECONDS = 120
_OPERATOR = "flink_taskmanager_job_task_operator_"


class EngineError(Exception):
    """The job did not do what it should."""


@dataclasses.dataclass(frozen=True)
class Job:
    """The same for both engines: `word-count` is the package of that name here and the class WordCount there."""

    package: str
    arguments: list[str]
    parallelism: int
    memory: str
    task_managers: int = 1
    # Of both; @WORK@ in a value is the engine's own folder.
    settings: Mapping[str, object] = dataclasses.field(default_factory=dict)
    # Whether a second JobManager is to take over if need be: `start_standby` starts it.
    high_availability: bool = False

    @property
    def slots(self) -> int:
        """Of each TaskManager. Several have one each: those that the parallelism does not need are spare."""
        return self.parallelism if self.task_managers == 1 else 1


def topic_arguments(brokers: str, input_topic: str, output_topic: str | None, bounded: bool = False) -> list[str]:
    """Of a job's main. Without an output topic what it gives goes to a blackhole."""
    output = ["--sink", "blackhole"] if output_topic is None else ["--output-topic", output_topic]
    arguments = ["--bootstrap-servers", brokers, "--input-topic", input_topic, *output]
    return arguments + (["--bounded"] if bounded else [])


class Engine(ABC):
    """One start of an engine with one job."""

    rest_port: int
    # Of the first TaskManager; the others' follow.
    metrics_port: int

    def __init__(self, name: str, work: pathlib.Path, settings: Mapping[str, object]) -> None:
        self.name = name
        self.work = work / name
        self.processes: list[Process] = []
        # By number; one that was killed is none any more.
        self.task_managers: dict[int, Process] = {}
        # Put before a TaskManager's command line.
        self.wrapper: list[str] = []
        # All that was started, to be started again: name, command line, environment, number of a TaskManager.
        self._spawned: list[tuple[str, Sequence[str], dict[str, str], int | None]] = []
        self._own_settings = settings
        # Number of the JobManager that leads.
        self._leader = 0

    @property
    def rest_url(self) -> str:
        """Of the JobManager that leads: the first one, until it is killed."""
        return f"http://127.0.0.1:{self.rest_port + self._leader}"

    @abstractmethod
    def _launch(self, job: Job) -> None:
        """Starts the processes and submits the job."""

    @abstractmethod
    def _resume(self, job: Job) -> None:
        """Makes the job go on from its newest checkpoint, when all processes were started again."""

    @abstractmethod
    def start_standby(self, job: Job) -> None:
        """Starts a second JobManager, and returns when it stands by."""

    @abstractmethod
    def state_bytes(self) -> int:
        """What the TaskManager holds in memory now, as the engine's figure of bytes a key takes it."""

    def settings(self, job: Job) -> dict[str, str]:
        """Configuration beside addresses and sizes: the bench's, the job's, the engine's; the last wins."""
        merged = {"restart-strategy.type": "none", **job.settings, **self._own_settings}
        return {key: str(value).replace("@WORK@", str(self.work)) for key, value in merged.items()}

    def start(self, job: Job) -> None:
        """Returns when the job is RUNNING, or already FINISHED."""
        shutil.rmtree(self.work, ignore_errors=True)
        for folder in ("tmp", "log", "conf", "blobs", "web", "checkpoints"):
            (self.work / folder).mkdir(parents=True)
        self._launch(job)
        wait_until(f"{self.name}'s job to run", _START_SECONDS, self.is_running, self.processes)

    def stop(self) -> None:
        # TaskManagers first: they would only complain of a lost JobManager.
        for process in reversed(self.processes):
            process.stop()
        self.processes.clear()
        self.task_managers.clear()
        self._spawned.clear()
        for folder in ("tmp", "checkpoints"):
            shutil.rmtree(self.work / folder, ignore_errors=True)

    def kill(self, number: int) -> None:
        """SIGKILL for a TaskManager and its workers, as when its container dies."""
        process = self.task_managers.pop(number)
        self.processes.remove(process)
        process.kill()

    def kill_leader(self) -> None:
        """SIGKILL for the JobManager that leads; from then on the other one is asked."""
        leader = self.processes.pop(self._first_job_manager())
        self._leader += 1
        leader.kill()

    def _first_job_manager(self) -> int:
        return next(index for index, process in enumerate(self.processes) if "jobmanager" in process.name)

    def kill_everything(self) -> None:
        """SIGKILL for all processes at once, as when the machine's power fails."""
        processes.kill(self.processes)
        self.processes.clear()
        self.task_managers.clear()

    def start_again(self, job: Job) -> None:
        """Starts what was killed, all at once and with the folders that it left; returns when the job is asked to go on."""
        spawned, self._spawned = self._spawned, []
        for name, command, environment, number in spawned:
            self._spawn(f"{name}-again", command, environment, number)
        self._resume(job)

    def check(self) -> None:
        """Fails if a process or the job has ended that should run."""
        for process in self.processes:
            process.check()
        if not self.is_running():
            raise EngineError(f"{self.name}'s job is {self.state()}; see {self.work}/log")

    def state(self) -> str | None:
        found = rest.jobs(self.rest_url)
        return found[0]["state"] if found else None

    def is_running(self) -> bool:
        state = self.state()
        if state in ("FAILED", "CANCELED", "FAILING", "RESTARTING"):
            raise EngineError(f"{self.name}'s job is {state}: {self._root_exception()}; see {self.work}/log")
        return state in ("RUNNING", "FINISHED")

    def wait_finished(self, seconds: float) -> None:
        wait_until(
            f"{self.name}'s job to finish", seconds, lambda: self.is_running() and self.state() == "FINISHED", self.processes
        )

    def source_records(self) -> float | None:
        """Lines that the source has given out, by the engine's own counter."""
        return self._operator_total("numRecordsOut", lambda labels: labels["operator_name"].startswith("Source:"))

    def operator_records(self, operator: str) -> float | None:
        """Records that an operator has taken in, by the engine's own counter."""
        return self._operator_total("numRecordsIn", lambda labels: labels["operator_name"] == operator)

    def working_task_managers(self, operator: str) -> list[int]:
        """Those in which subtasks of the operator run."""
        wanted = lambda labels: labels["operator_name"] == operator  # noqa: E731
        return [number for number in self.task_managers if self._total_at(number, f"{_OPERATOR}numRecordsIn", wanted) is not None]

    def accounted_bytes(self) -> float | None:
        """What an engine that counts its allocations says that its workers hold; None of one that does not."""
        return self._total("flink_taskmanager_job_worker_memory_allocated", lambda _: True)

    def sink_records(self) -> float | None:
        """Records handed to the Kafka producer, by the engine's own counter."""
        return self._operator_total("numRecordsSend", lambda _: True)

    def pids(self) -> list[int]:
        return processes.tree(process.pid for process in self.processes)

    def job_url(self) -> str:
        return f"{self.rest_url}/jobs/{rest.jobs(self.rest_url)[0]['jid']}"

    def _spawn(
        self, name: str, command: Sequence[str], environment: dict[str, str], task_manager: int | None = None
    ) -> Process:
        process = Process(f"{self.name} {name}", command, self.work / "log" / f"{name}.log", environment)
        self.processes.append(process)
        self._spawned.append((name, command, environment, task_manager))
        if task_manager is not None:
            self.task_managers[task_manager] = process
        return process

    def _spawn_task_manager(self, number: int, command: Sequence[str], environment: dict[str, str]) -> None:
        name = f"taskmanager-{number}" if number else "taskmanager"
        self._spawn(name, [*self.wrapper, *command], environment, number)

    def _operator_total(self, metric: str, wanted: Callable[[prometheus.Labels], bool]) -> float | None:
        return self._total(f"{_OPERATOR}{metric}", wanted)

    def _total(self, metric: str, wanted: Callable[[prometheus.Labels], bool]) -> float | None:
        found = [self._total_at(number, metric, wanted) for number in self.task_managers]
        values = [value for value in found if value is not None]
        return sum(values) if values else None

    def _total_at(self, number: int, metric: str, wanted: Callable[[prometheus.Labels], bool]) -> float | None:
        try:
            page = rest.get_text(f"http://127.0.0.1:{self.metrics_port + number}/metrics")
        except OSError:
            return None
        return prometheus.total(page, metric, wanted)

    def _root_exception(self) -> str:
        found = rest.jobs(self.rest_url)
        details = rest.reachable(f"{self.rest_url}/jobs/{found[0]['jid']}/exceptions") if found else None
        entries = (details or {}).get("exceptionHistory", {}).get("entries", [])
        return entries[0].get("stacktrace", "")[:1500] if entries else "no reason given"
