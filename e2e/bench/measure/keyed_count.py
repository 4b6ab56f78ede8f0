"""Counting over many distinct keys: how fast, and how much memory a key takes.

    keys, each once | updates at random -> topic -> [ flink | thalweg ] -> blackhole      rates: of the fill, then of the updates
    keys, each once                     -> topic -> [ flink | thalweg ] -> blackhole      memory, when all are counted,
    nothing                             -> topic -> [ flink | thalweg ] -> blackhole      less that of the empty job
"""

import argparse
import pathlib
import time

from . import contenders, counting, keys, topics
from .engine import Job
from .outcomes import Quantity, Run, conclude

# The last of a topic is left unread: near its end some partitions have ended already.
_READ_OUT = 0.97
_SETTLE_SECONDS = 5
_QUANTITIES = [
    Quantity(counting.RATE, True),
    Quantity(counting.CORE_RATE, True),
    Quantity(counting.FILL_RATE, True),
    Quantity(counting.FILL_CORE_RATE, True),
    Quantity("bytes per key", False, 1),
    Quantity("accounted bytes per key", None, 1),
    Quantity("window, s", None),
    Quantity("engine's cores", None, 2),
    Quantity("broker's cores", None, 2),
    Quantity("others' cores", None, 2),
]


def add_options(parser: argparse.ArgumentParser, binaries: pathlib.Path) -> None:
    contenders.add_options(parser, ["flink-hashmap", "thalweg-hashmap"], binaries, runs=3)
    parser.add_argument("--keys", type=int, default=10_000_000, help="distinct ones (default %(default)s)")
    parser.add_argument("--updates", type=int, default=150_000_000, help="records behind them (default %(default)s)")
    parser.add_argument("--seconds", type=int, default=60, help="of updates measured, at most (default %(default)s)")
    parser.add_argument("--warmup", type=int, default=10, help="seconds before that, behind the fill (default %(default)s)")
    parser.add_argument("--memory", default="6g", help="taskmanager.memory.process.size of both (default %(default)s)")
    parser.add_argument("--memory-runs", type=int, default=1, help="of the runs measure bytes a key too (default %(default)s)")
    parser.add_argument("--key-types", nargs="+", choices=["bigint", "string"], default=["bigint", "string"])
    parser.add_argument("--programs", nargs="+", choices=["rolling", "process"], default=["rolling", "process"])


def run(options: argparse.Namespace) -> None:
    """The verb, inside the cluster's network."""
    cases = [(key, program) for key in options.key_types for program in options.programs]
    for key, program in cases:
        counting.check(options, key=key, program=program)
    distinct = keys.distinct(options.keys)
    files = [distinct, keys.updates(options.keys, options.updates)]
    lines = keys.lines_of(options.keys) + keys.lines_of(options.updates)
    topic = topics.filled_from(f"bench-keys-{options.keys}-{options.updates}", files, lines)
    once = topics.filled_from(f"bench-keys-{options.keys}", [distinct], keys.lines_of(options.keys))
    empty = "bench-keys-none"
    topics.recreate(empty)
    runs = []
    for number in range(options.runs):
        for key, program in cases:
            for name in options.engines:
                values = measure_rates(name, counting.job(options, topic, key=key, program=program), options)
                if number < options.memory_runs:
                    filled = counting.job(options, once, key=key, program=program)
                    values |= measure_memory(name, filled, counting.job(options, empty, key=key, program=program), options)
                runs.append(Run(name, f"{key} {program}", values))
                print(f"run {number + 1}: {runs[-1].line()}", flush=True)
    title = (
        f"Count of {options.keys:,} keys, each once and then {options.updates:,} at random, in blocks of {keys.BLOCK:,}; "
        f"{options.warmup} s of warm-up, up to {options.seconds} s measured; taskmanager.memory.process.size {options.memory}"
    )
    conclude("keyed-count", title, runs, _QUANTITIES, options)


def measure_rates(name: str, job: Job, options: argparse.Namespace) -> dict[str, float]:
    available = (options.keys + options.updates) * _READ_OUT
    engine = contenders.make(name, options)
    try:
        engine.start(job)
        samples = counting.watch(engine, options.keys, available, options)
    finally:
        engine.stop()
    return counting.rates(samples, options.keys, available, options.warmup)


def measure_memory(name: str, filled: Job, empty: Job, options: argparse.Namespace) -> dict[str, float]:
    """Both at rest: when everything is counted, or nothing is to be."""
    held, accounted = memory_at_rest(name, filled, options.keys, options)
    held_empty, accounted_empty = memory_at_rest(name, empty, 0, options)
    values = {"bytes per key": (held - held_empty) / options.keys}
    if accounted is not None and accounted_empty is not None:
        values["accounted bytes per key"] = (accounted - accounted_empty) / options.keys
    return values


def memory_at_rest(name: str, job: Job, count: int, options: argparse.Namespace) -> tuple[int, float | None]:
    engine = contenders.make(name, options)
    try:
        engine.start(job)
        counting.wait_counted(engine, count)
        time.sleep(_SETTLE_SECONDS)
        engine.check()
        return engine.state_bytes(), engine.accounted_bytes()
    finally:
        engine.stop()
