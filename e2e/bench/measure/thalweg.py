"""Ours: `thalweg jobmanager --application` and `thalweg taskmanager` as plain processes."""

import os
import pathlib
import subprocess

from .engine import Engine, EngineError, Job
from .places import ROOT

_PACKAGE = "word-count"


class Thalweg(Engine):
    """Of the binaries in a folder of cargo's."""

    name = "thalweg"
    rest_port = 8281
    metrics_port = 9450
    _rpc_port = 6323

    def __init__(self, work: pathlib.Path, binaries: pathlib.Path) -> None:
        super().__init__(work)
        self._binaries = binaries
        for name in ("thalweg", _PACKAGE):
            if not (binaries / name).is_file():
                raise EngineError(f"{binaries / name} is missing: run `make release`")

    def _launch(self, job: Job) -> None:
        package = self.work / "package"
        subprocess.run([ROOT / "e2e/image/package", _PACKAGE, self._binaries, package], check=True)
        entry = ["--application", "--package", str(package), "--parallelism", str(job.parallelism), "--", *job.arguments()]
        self._role("jobmanager", self.metrics_port - 1, [("rest.port", self.rest_port)], entry)
        slots = [("taskmanager.numberOfTaskSlots", job.parallelism), ("taskmanager.memory.process.size", job.memory)]
        self._role("taskmanager", self.metrics_port, slots, ["--host", "127.0.0.1"])

    def _role(self, role: str, metrics_port: int, settings: list[tuple[str, object]], arguments: list[str]) -> None:
        temporary = self.work / "tmp" / role
        temporary.mkdir()
        common: list[tuple[str, object]] = [
            ("jobmanager.rpc.address", "127.0.0.1"),
            ("jobmanager.rpc.port", self._rpc_port),
            ("jobmanager.bind-host", "127.0.0.1"),
            ("metrics.reporter.prom.port", metrics_port),
            ("restart-strategy.type", "none"),
            ("io.tmp.dirs", temporary),
        ]
        defines = [part for key, value in common + settings for part in ("-D", f"{key}={value}")]
        command = [str(self._binaries / "thalweg"), role, *defines, *arguments]
        self._spawn(role, command, {"PATH": os.environ["PATH"], "HOME": str(temporary)})
