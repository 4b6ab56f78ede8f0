"""Processes: started with a log each, ended by pid, and what they cost, read from /proc.

Invariants: a process is in a session of its own; `stop` returns only when it and all its descendants are gone. CPU time
counts children that have ended and been waited for, so it never falls while an engine restarts a worker.
"""

import contextlib
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")
_STOP_SECONDS = 20


class ProcessError(Exception):
    """A process ended when it should run."""


class Process:
    """One started program."""

    def __init__(self, name: str, command: Sequence[str], log: pathlib.Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    def check(self) -> None:
        """Fails with the end of the log if it has ended."""
        if self._child.poll() is None:
            return
        last = self.log.read_text(errors="replace").splitlines()[-20:]
        raise ProcessError(f"{self.name} ended with {self._child.returncode}:\n" + "\n".join(last))

    def kill(self) -> None:
        """SIGKILL at once for it and its descendants."""
        kill([self])

    def wait(self) -> None:
        self._child.wait()

    def stop(self) -> None:
        family = [(pid, _started(pid)) for pid in tree([self.pid])]
        if self._child.poll() is None:
            self._child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(_STOP_SECONDS)
        for pid, started in family:
            # The start time tells a pid that has been given to another process meanwhile.
            if started is not None and _started(pid) == started:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._child.wait()


def kill(killed: Sequence[Process]) -> None:
    """SIGKILL at once for all of them and their descendants."""
    for pid in tree(process.pid for process in killed):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for process in killed:
        process.wait()


def tree(roots: Iterable[int]) -> list[int]:
    """These processes and all their descendants that are alive."""
    children: dict[int, list[int]] = {}
    for pid in _all_pids():
        if (fields := _stat(pid)) is not None:
            children.setdefault(int(fields[1]), []).append(pid)
    found, waiting = [], list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found and _stat(pid) is not None:
            found.append(pid)
            waiting += children.get(pid, [])
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time, of ended children too."""
    ticks = 0
    for pid in pids:
        if (fields := _stat(pid)) is not None:
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / TICKS


def machine_cpu_seconds() -> float:
    """Time that all processors together were not idle."""
    first = pathlib.Path("/proc/stat").read_text().splitlines()[0]
    user, nice, system, _idle, _wait, interrupts, soft = [int(field) for field in first.split()[1:8]]
    return (user + nice + system + interrupts + soft) / TICKS


def resident_bytes(pid: int, field: str = "VmRSS") -> int:
    """Resident memory now (VmRSS) or at its peak (VmHWM); 0 of a process that is gone."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)


def wait_until(
    what: str, seconds: float, ready: Callable[[], Any], processes: Sequence[Process] = (), pause: float = 0.2
) -> Any:
    """Asks `ready` until it answers something true, and gives that."""
    deadline = time.monotonic() + seconds
    while True:
        if answer := ready():
            return answer
        for process in processes:
            process.check()
        if time.monotonic() > deadline:
            logs = ", ".join(str(process.log) for process in processes)
            raise ProcessError(f"{what}: not within {seconds:.0f} s" + (f"; see {logs}" if logs else ""))
        time.sleep(pause)


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the third on (state, ppid, ...); None of one that is gone or a zombie."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields


def _started(pid: int) -> str | None:
    fields = _stat(pid)
    return fields[19] if fields else None
