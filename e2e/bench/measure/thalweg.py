"""Ours: `thalweg jobmanager --application` and `thalweg taskmanager` as plain processes."""

import os
import pathlib
import subprocess
from collections.abc import Mapping

from . import processes
from .engine import Engine, EngineError, Job
from .places import ROOT


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
        entry = ["--application", "--package", str(package), "--parallelism", str(job.parallelism), "--", *job.arguments]
        temporary = self._temporary("jobmanager")
        command = self._command("jobmanager", job, temporary, self.metrics_port - 1, {"rest.port": self.rest_port}, entry)
        self._spawn("jobmanager", command, _environment(temporary))
        sizes = {"taskmanager.numberOfTaskSlots": job.slots, "taskmanager.memory.process.size": job.memory}
        for number in range(job.task_managers):
            temporary = self._temporary(f"taskmanager-{number}")
            arguments = ["--host", "127.0.0.1"]
            command = self._command("taskmanager", job, temporary, self.metrics_port + number, sizes, arguments)
            self._spawn_task_manager(number, command, _environment(temporary))

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
