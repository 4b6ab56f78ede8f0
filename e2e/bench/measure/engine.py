"""What is measured: an engine that counts words between two Kafka topics.

Invariants: an engine is a few processes on loopback with empty folders of its own; it is started for one run and stopped
after it, so no run inherits a warm JVM, a cache or state. Both engines get the same job, parallelism and memory.
"""

import dataclasses
import pathlib
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from . import processes, prometheus, rest
from .processes import Process, wait_until

_START_SECONDS = 120


class EngineError(Exception):
    """The job did not do what it should."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A word count. Without an output topic the counts go to a blackhole."""

    brokers: str
    input_topic: str
    output_topic: str | None
    parallelism: int
    memory: str
    bounded: bool = False

    def arguments(self) -> list[str]:
        """Of the job's main; the same for both engines."""
        arguments = ["--bootstrap-servers", self.brokers, "--input-topic", self.input_topic]
        if self.output_topic is None:
            arguments += ["--sink", "blackhole"]
        else:
            arguments += ["--output-topic", self.output_topic]
        return arguments + (["--bounded"] if self.bounded else [])


class Engine(ABC):
    """One start of an engine with one job."""

    name: str
    rest_port: int
    metrics_port: int

    def __init__(self, work: pathlib.Path) -> None:
        self.work = work / self.name
        self.processes: list[Process] = []

    @property
    def rest_url(self) -> str:
        return f"http://127.0.0.1:{self.rest_port}"

    @abstractmethod
    def _launch(self, job: Job) -> None:
        """Starts the processes and submits the job."""

    def start(self, job: Job) -> None:
        """Returns when the job is RUNNING, or already FINISHED."""
        shutil.rmtree(self.work, ignore_errors=True)
        for folder in ("tmp", "log", "conf", "blobs", "web"):
            (self.work / folder).mkdir(parents=True)
        self._launch(job)
        wait_until(f"{self.name}'s job to run", _START_SECONDS, self.is_running, self.processes)

    def stop(self) -> None:
        # TaskManagers first: they would only complain of a lost JobManager.
        for process in reversed(self.processes):
            process.stop()
        self.processes.clear()
        shutil.rmtree(self.work / "tmp", ignore_errors=True)

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

    def sink_records(self) -> float | None:
        """Records handed to the Kafka producer, by the engine's own counter."""
        return self._operator_total("numRecordsSend", lambda _: True)

    def pids(self) -> list[int]:
        return processes.tree(process.pid for process in self.processes)

    def _spawn(self, name: str, command: Sequence[str], environment: dict[str, str]) -> Process:
        process = Process(f"{self.name} {name}", command, self.work / "log" / f"{name}.log", environment)
        self.processes.append(process)
        return process

    def _operator_total(self, metric: str, wanted: Callable[[prometheus.Labels], bool]) -> float | None:
        try:
            page = rest.get_text(f"http://127.0.0.1:{self.metrics_port}/metrics")
        except OSError:
            return None
        return prometheus.total(page, f"flink_taskmanager_job_task_operator_{metric}", wanted)

    def _root_exception(self) -> str:
        found = rest.jobs(self.rest_url)
        details = rest.reachable(f"{self.rest_url}/jobs/{found[0]['jid']}/exceptions") if found else None
        entries = (details or {}).get("exceptionHistory", {}).get("entries", [])
        return entries[0].get("stacktrace", "")[:1500] if entries else "no reason given"
