"""A memory limit that counts the page cache too: a cgroup of our own (version 1), removed at the end.

Invariant: processes are in it from their first instruction, since it is joined before the program is executed.
"""

import pathlib
import shutil

from .processes import wait_until

_MEMORY = pathlib.Path("/sys/fs/cgroup/memory")


class MemoryLimitError(Exception):
    """This machine can't limit memory as it is needed."""


class MemoryLimit:
    """Use with `with`: it is removed when the processes in it have ended."""

    def __init__(self, name: str, limit: int) -> None:
        if not (_MEMORY / "memory.limit_in_bytes").is_file():
            raise MemoryLimitError(f"{_MEMORY} is not the memory controller of cgroup version 1, which this needs")
        self._folder = _MEMORY / name
        self._limit = limit

    def __enter__(self) -> "MemoryLimit":
        self._folder.mkdir(exist_ok=True)
        (self._folder / "memory.limit_in_bytes").write_text(str(self._limit))
        (self._folder / "memory.max_usage_in_bytes").write_text("0")
        return self

    def __exit__(self, *_: object) -> None:
        wait_until(f"the processes in {self._folder} to end", 30, lambda: not self._read("cgroup.procs").split())
        self._folder.rmdir()

    def wrapper(self) -> list[str]:
        """Put before a command line, it joins the group and becomes the command."""
        return [shutil.which("sh") or "/bin/sh", "-c", 'echo $$ >"$0" && exec "$@"', str(self._folder / "cgroup.procs")]

    def statistics(self) -> dict[str, int]:
        """Bytes now of programs and of the page cache, and how often the kernel ended a process for want of memory."""
        found = dict(line.split() for line in self._read("memory.stat").splitlines())
        control = dict(line.split() for line in self._read("memory.oom_control").splitlines())
        return {"programs": int(found["rss"]), "page cache": int(found["cache"]), "killed": int(control.get("oom_kill", 0))}

    def _read(self, file: str) -> str:
        return (self._folder / file).read_text()
