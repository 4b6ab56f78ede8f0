"""Ours: `thalweg jobmanager --application` and `thalweg taskmanager` as plain processes."""

import os
import pathlib
import subprocess
from collections.abc import Mapping

from . import processes, rest
from .engine import Engine, EngineError, Job
from .places import ROOT
from .processes import wait_until

_START_SECONDS = 60
# Of the JobManagers.
_HOSTS = ["127.0.0.1", "127.0.0.2"]


class Thalweg(Engine):
    """Of the binaries in a folder of cargo's."""

    rest_port = 8281
    metrics_port = 9450
    _rpc_port = 6323

    def __init__(
        self, work: pathlib.Path, binaries: pathlib.Path, name: str = "thalweg", settings: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(name, work, settings or {})
        self._binaries = binaries

    def _launch(self, job: Job) -> None:
        for program in ("thalweg", job.package):
            if not (self._binaries / program).is_file():
                raise EngineError(f"{self._binaries / program} is missing: run `make release`")
        package = self.work / "package"
        subprocess.run([ROOT / "e2e/image/package", job.package, self._binaries, package], check=True)
        # The same operation is the same job, which goes on where it was when its JobManager is started again.
        entry = ["--application", "--operation-id", "bench", "--package", str(package)]
        entry += ["--parallelism", str(job.parallelism), "--", *job.arguments]
        self._entry = entry
        self._start_job_manager(0, job)
        sizes = {"taskmanager.numberOfTaskSlots": job.slots, "taskmanager.memory.process.size": job.memory}
        for number in range(job.task_managers):
            temporary = self._temporary(f"taskmanager-{number}")
            arguments = ["--host", "127.0.0.1"]
            command = self._command("taskmanager", job, temporary, self.metrics_port + number, sizes, arguments)
            self._spawn_task_manager(number, command, _environment(temporary))

    def _start_job_manager(self, number: int, job: Job) -> None:
        """Each has an address of its own, since all have one port."""
        name = f"jobmanager-{number}" if number else "jobmanager"
        temporary = self._temporary(name)
        own = {"rest.port": self.rest_port + number}
        if job.high_availability:
            own |= {"jobmanager.rpc.address": _HOSTS[number], "jobmanager.bind-host": _HOSTS[number], "rest.address": _HOSTS[number]}
        command = self._command("jobmanager", job, temporary, self.metrics_port - 1 - number, own, self._entry)
        self._spawn(name, command, _environment(temporary))

    def start_standby(self, job: Job) -> None:
        self._start_job_manager(1, job)
        wait_until("the standby", _START_SECONDS, lambda: rest.reachable(f"{self._rest_url(1)}/overview"), self.processes)

    @property
    def rest_url(self) -> str:
        return self._rest_url(self._leader)

    def _rest_url(self, number: int) -> str:
        return f"http://{_HOSTS[number]}:{self.rest_port + number}"

    def settings(self, job: Job) -> dict[str, str]:
        if not job.high_availability:
            return super().settings(job)
        stored = {"high-availability.type": "storage", "high-availability.storageDir": f"file://{self.work}/high-availability"}
        return {**super().settings(job), **stored, "jobmanager.rpc.address": ",".join(_HOSTS)}

    def _resume(self, job: Job) -> None:
        """The JobManager finds the checkpoint itself."""

    def state_bytes(self) -> int:
        """Resident memory of the TaskManager and its workers."""
        return sum(processes.resident_bytes(pid) for pid in processes.tree(process.pid for process in self.task_managers.values()))

    def _temporary(self, name: str) -> pathlib.Path:
        folder = self.work / "tmp" / name
        folder.mkdir()
        return folder

    def _command(
        self,
        role: str,
        job: Job,
        temporary: pathlib.Path,
        metrics_port: int,
        more: Mapping[str, object],
        arguments: list[str],
    ) -> list[str]:
        settings = {
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.rpc.port": self._rpc_port,
            "jobmanager.bind-host": "127.0.0.1",
            "metrics.reporter.prom.port": metrics_port,
            "io.tmp.dirs": temporary,
            **self.settings(job),
            **more,
        }
        defines = [part for key, value in settings.items() for part in ("-D", f"{key}={value}")]
        return [str(self._binaries / "thalweg"), role, *defines, *arguments]


def _environment(temporary: pathlib.Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(temporary)}
