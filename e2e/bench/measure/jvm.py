"""What a JVM holds: asked by jcmd."""

import re
import subprocess

# Of the generations and of G1's heap; not of their spaces, which are parts, nor of what is no heap.
_USED = re.compile(r"total \d+K, used (\d+)K")


def heap_after_collection(pid: int) -> int:
    """Bytes of live objects: what is used after two full collections (the second takes what finalizers let go)."""
    for _ in range(2):
        _jcmd(pid, "GC.run")
    return used_of(_jcmd(pid, "GC.heap_info"))


def used_of(heap_info: str) -> int:
    """Bytes used of the heap, as `jcmd PID GC.heap_info` tells."""
    heap = heap_info.partition("Metaspace")[0]
    return 1024 * sum(int(used) for used in _USED.findall(heap))


def _jcmd(pid: int, command: str) -> str:
    return subprocess.run(["jcmd", str(pid), command], check=True, capture_output=True, text=True).stdout
