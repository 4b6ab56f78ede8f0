"""Who is compared where state is measured: an engine, its state backend, with local recovery or without.

    flink-hashmap    flink-rocksdb    flink-hashmap-local ..      real Flink, tuned as its documentation tells
    thalweg-hashmap  thalweg-rocksdb  thalweg-hashmap-local ..    ours
"""

import argparse
import itertools
import pathlib

from .engine import Engine
from .flink import Flink
from .places import WORK
from .thalweg import Thalweg

_ALL = itertools.product(("flink", "thalweg"), ("hashmap", "rocksdb"), ("", "-local"))
NAMES = [f"{engine}-{backend}{local}" for engine, backend, local in _ALL]

# Everything of it is known to both engines.
_LOCAL = {"execution.state-recovery.from-local": "true", "execution.checkpointing.local-backup.enabled": "true"}
# The heap backend needs none, but Flink's own mini-batch operators fail with none at all.
_FLINK_HASHMAP = {"taskmanager.memory.managed.size": "512m"}
# As much memory for RocksDB as the JVM can be brought to leave, a filter against reads in vain, indexes that may be paged,
# as many background jobs as the preset for SSDs gives, and uploads side by side.
_FLINK_ROCKSDB = {
    "taskmanager.memory.managed.fraction": 0.6,
    "taskmanager.memory.network.max": "64m",
    "taskmanager.memory.jvm-metaspace.size": "128m",
    "taskmanager.memory.framework.off-heap.size": "64m",
    "state.backend.rocksdb.predefined-options": "FLASH_SSD_OPTIMIZED",
    "state.backend.rocksdb.use-bloom-filter": "true",
    "state.backend.rocksdb.memory.partitioned-index-filters": "true",
    "state.backend.rocksdb.checkpoint.transfer.thread.num": 4,
    "execution.checkpointing.incremental": "true",
}
# State has what the exchange and a reserve leave.
_THALWEG = {"taskmanager.memory.managed.fraction": 0.8, "taskmanager.memory.network.max": "64m"}


def make(name: str, options: argparse.Namespace) -> Engine:
    """One start of it."""
    engine, backend, *local = name.split("-")
    settings = {"state.backend.type": backend, **(_LOCAL if local else {})}
    work = WORK / "run"
    if engine == "thalweg":
        return Thalweg(work, options.binaries, name, {**settings, **_THALWEG})
    settings |= _FLINK_HASHMAP if backend == "hashmap" else _FLINK_ROCKSDB
    return Flink(work, options.flink_home, options.flink_jar, name, settings)


def pairs(names: list[str]) -> list[tuple[str, str]]:
    """Each of Flink's with each of ours."""
    of = lambda engine: [name for name in names if name.startswith(engine)]  # noqa: E731
    return [(theirs, ours) for theirs in of("flink") for ours in of("thalweg")]


def add_options(parser: argparse.ArgumentParser, default: list[str], binaries: pathlib.Path, runs: int) -> None:
    """Those that all benchmarks of state have."""
    names = f"of {', '.join(NAMES)} (default {' '.join(default)})"
    parser.add_argument("--engines", nargs="+", choices=NAMES, default=default, metavar="NAME", help=names)
    parser.add_argument("--runs", type=int, default=runs, help="runs of each (default %(default)s)")
    parser.add_argument("--parallelism", type=int, default=2, help="default %(default)s")
    parser.add_argument("--binaries", type=pathlib.Path, default=binaries, help="default %(default)s")
    parser.add_argument("--no-check", action="store_true", help="do not compare the counts first")
