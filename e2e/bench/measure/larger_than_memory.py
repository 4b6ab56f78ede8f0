"""State ten times as large as memory: the TaskManager is in a cgroup whose limit counts the page cache too.

    keys, each once | updates at random -> topic -> [ flink-rocksdb | thalweg-rocksdb ] in the cgroup -> blackhole

Every update reads a value at random and writes it anew. JobManager and broker are outside the limit, for both.
"""

import argparse
import pathlib

from . import contenders, counting, keys, topics
from .memory_limit import MemoryLimit
from .outcomes import Quantity, Run, conclude

_READ_OUT = 0.97
# Of a key beside its value's random bytes: the key and the count.
_KEY_BYTES = 16
_UNITS = {"m": 1 << 20, "g": 1 << 30}
_QUANTITIES = [
    Quantity(counting.RATE, True),
    Quantity(counting.CORE_RATE, True),
    Quantity(counting.FILL_RATE, True),
    Quantity(counting.FILL_CORE_RATE, True),
    Quantity("programs, MiB", None),
    Quantity("page cache, MiB", None),
    Quantity("window, s", None),
    Quantity("engine's cores", None, 2),
    Quantity("others' cores", None, 2),
]


def add_options(parser: argparse.ArgumentParser, binaries: pathlib.Path) -> None:
    contenders.add_options(parser, ["flink-rocksdb", "thalweg-rocksdb"], binaries, runs=3)
    memory = "the cgroup's limit and taskmanager.memory.process.size (default %(default)s)"
    parser.add_argument("--memory", default="1g", help=memory)
    parser.add_argument("--times", type=float, default=10, help="so much more is the state (default %(default)s)")
    parser.add_argument("--value-bytes", type=int, default=1000, help="of random bytes beside the count (default %(default)s)")
    parser.add_argument("--updates", type=int, default=30_000_000, help="records behind the fill (default %(default)s)")
    parser.add_argument("--seconds", type=int, default=120, help="of updates measured, at most (default %(default)s)")
    parser.add_argument("--warmup", type=int, default=60, help="seconds before that, behind the fill (default %(default)s)")


def run(options: argparse.Namespace) -> None:
    """The verb, inside the cluster's network."""
    counting.check(options, value_bytes=options.value_bytes)
    limit = bytes_of(options.memory)
    count = distinct_keys(limit, options.times, options.value_bytes)
    files = [keys.distinct(count), keys.updates(count, options.updates)]
    lines = keys.lines_of(count) + keys.lines_of(options.updates)
    topic = topics.filled_from(f"bench-keys-{count}-{options.updates}", files, lines)
    runs = []
    for number in range(options.runs):
        for name in options.engines:
            runs.append(Run(name, "", measure(name, topic, count, limit, options)))
            print(f"run {number + 1}: {runs[-1].line()}", flush=True)
    title = (
        f"{count:,} keys with {options.value_bytes} bytes each, {options.times:g} times the limit of {options.memory}, page cache "
        f"included; {options.warmup} s of warm-up behind the fill, up to {options.seconds} s measured"
    )
    conclude("larger-than-memory", title, runs, _QUANTITIES, options)


def measure(name: str, topic: str, count: int, limit: int, options: argparse.Namespace) -> dict[str, float]:
    available = (count + options.updates) * _READ_OUT
    engine = contenders.make(name, options)
    with MemoryLimit(f"thalweg-bench-{name}", limit) as group:
        engine.wrapper = group.wrapper()
        try:
            engine.start(counting.job(options, topic, value_bytes=options.value_bytes))
            samples = counting.watch(engine, count, available, options)
            held = group.statistics()
        finally:
            engine.stop()
    values = counting.rates(samples, count, available, options.warmup)
    return {**values, "programs, MiB": held["programs"] / 2**20, "page cache, MiB": held["page cache"] / 2**20}


def bytes_of(size: str) -> int:
    """Of `512m` and `2g`."""
    if size[-1:] not in _UNITS or not size[:-1].isdigit():
        raise ValueError(f"--memory {size!r}: a whole number with m or g is expected")
    return int(size[:-1]) * _UNITS[size[-1]]


def distinct_keys(limit: int, times: float, value_bytes: int) -> int:
    """So many that keys and values alone are that much larger than the limit."""
    return round(limit * times / (value_bytes + _KEY_BYTES))
