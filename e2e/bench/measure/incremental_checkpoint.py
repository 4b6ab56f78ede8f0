"""Checkpoints that cost the change: state is built and checkpointed once, then a little of it changes, again and again.

    keys, each once -> topic -> [ flink-rocksdb | thalweg ]     state; the first checkpoint has all of it
    1 % of the keys -> topic -> the same job                    the next one has the change: that is measured      (rounds)

Nothing is read while a checkpoint is taken. The pause is the synchronous part of the slowest subtask: for so long it works off
no record.
"""

import argparse
import pathlib

from . import checkpoints, contenders, counting, keys, topics
from .outcomes import Quantity, Run, conclude

_TOPIC = "bench-keys-changing"
_QUANTITIES = [
    Quantity("duration, ms", False),
    Quantity("longest pause, ms", False),
    Quantity("MB written", False, 1),
    Quantity("MB of state", None),
]


def add_options(parser: argparse.ArgumentParser, binaries: pathlib.Path) -> None:
    contenders.add_options(parser, ["flink-rocksdb", "thalweg-hashmap"], binaries, runs=3)
    add_state_options(parser)
    changed = "of the keys, before each checkpoint (default %(default)s)"
    parser.add_argument("--changed-percent", type=float, default=1.0, help=changed)
    parser.add_argument("--rounds", type=int, default=5, help="checkpoints measured in a run (default %(default)s)")


def add_state_options(parser: argparse.ArgumentParser) -> None:
    """Of about 1 GB of state."""
    parser.add_argument("--keys", type=int, default=4_000_000, help="distinct ones (default %(default)s)")
    parser.add_argument("--value-bytes", type=int, default=248, help="of random bytes beside the count (default %(default)s)")
    parser.add_argument("--memory", default="5g", help="taskmanager.memory.process.size of both (default %(default)s)")


def run(options: argparse.Namespace) -> None:
    """The verb, inside the cluster's network."""
    counting.check(options, value_bytes=options.value_bytes)
    runs = []
    for number in range(options.runs):
        for name in options.engines:
            for round_, values in enumerate(measure(name, options)):
                runs.append(Run(name, "", values))
                print(f"run {number + 1}.{round_ + 1}: {runs[-1].line()}", flush=True)
    title = (
        f"Incremental checkpoints of {options.keys:,} keys with {options.value_bytes} bytes each, {options.changed_percent:g} % of "
        f"them changed, {options.rounds} a run; taskmanager.memory.process.size {options.memory}"
    )
    conclude("incremental-checkpoint", title, runs, _QUANTITIES, options)


def measure(name: str, options: argparse.Namespace) -> list[dict[str, float]]:
    """Quantities of each round."""
    changed = max(1, round(options.keys * options.changed_percent / 100))
    topics.recreate(_TOPIC)
    topics.append(_TOPIC, [keys.distinct(options.keys)])
    engine = contenders.make(name, options)
    rounds = []
    try:
        engine.start(counting.job(options, _TOPIC, value_bytes=options.value_bytes, settings=counting.SELDOM))
        counting.wait_counted(engine, options.keys)
        checkpoints.take(engine)
        for number in range(options.rounds):
            topics.append(_TOPIC, [keys.sample(options.keys, changed, number)])
            counting.wait_counted(engine, options.keys + changed * (number + 1))
            taken = checkpoints.take(engine)
            rounds.append({
                "duration, ms": taken.duration,
                "longest pause, ms": taken.pause,
                "MB written": taken.written / 1e6,
                "MB of state": taken.full / 1e6,
            })
    finally:
        engine.stop()
    return rounds
