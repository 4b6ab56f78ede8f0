"""What the benchmarks that kill have in common: a job with state, keys that flow through it, and when each of them came out.

    keys, each once -> topic -> [ flink | thalweg ] -> topic     state
    a few keys, 50 times a second -> the same                    a consumer of the output sees each of them
    a kill, other keys from then on -> results flow again when each of these has come out

Keys that come after the kill are spread over all subtasks; so what is timed ends with the first new records of every subtask, as a
reader of the output topic sees them.
"""

import argparse
import contextlib
import pathlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from . import contenders, counting, keys, topics
from .engine import Engine, Job
from .incremental_checkpoint import add_state_options
from .outcomes import Quantity, Run, conclude
from .processes import wait_until

PATIENCE = 600
_MARKERS = 64
_MARKER_SECONDS = 0.02
_LOOK_SECONDS = 0.01
# Of both engines.
RESTARTS = {
    "restart-strategy.type": "fixed-delay",
    "restart-strategy.fixed-delay.attempts": 1000,
    "restart-strategy.fixed-delay.delay": "100 ms",
}


def add_options(parser: argparse.ArgumentParser, default: list[str], binaries: pathlib.Path, runs: int, memory: str) -> None:
    contenders.add_options(parser, default, binaries, runs)
    add_state_options(parser)
    parser.set_defaults(memory=memory)


def add_interval_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--interval", default="1 s", help="between checkpoints, of both (default %(default)s)")


def add_heartbeat_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--heartbeat-interval", default="1 s", help="of both (default %(default)s)")
    parser.add_argument("--heartbeat-timeout", default="5 s", help="of both (default %(default)s)")


def checkpoints_at(interval: str) -> dict[str, object]:
    return {"execution.checkpointing.interval": interval, "execution.checkpointing.dir": "file://@WORK@/checkpoints"}


def heartbeats(options: argparse.Namespace) -> dict[str, object]:
    return {"heartbeat.interval": options.heartbeat_interval, "heartbeat.timeout": options.heartbeat_timeout}


def told(options: argparse.Namespace, what: str, *others: str) -> str:
    """A table's title."""
    state = f"{what}, with {options.keys:,} keys of {options.value_bytes} bytes each in state"
    return "; ".join([state, *others, f"taskmanager.memory.process.size {options.memory}"])


def told_heartbeats(options: argparse.Namespace) -> str:
    return f"heartbeats every {options.heartbeat_interval}, lost after {options.heartbeat_timeout}"


def run(
    verb: str,
    title: str,
    quantities: Sequence[Quantity],
    measure: Callable[[str, argparse.Namespace], Mapping[str, float]],
    options: argparse.Namespace,
) -> None:
    """All runs of all contenders, and their table."""
    counting.check(options, value_bytes=options.value_bytes)
    runs = []
    for number in range(options.runs):
        for name in options.engines:
            runs.append(Run(name, "", measure(name, options)))
            print(f"run {number + 1}: {runs[-1].line()}", flush=True)
    conclude(verb, title, runs, quantities, options)


def prepare(name: str, topic: str, options: argparse.Namespace, settings: Mapping[str, object], **of_job: object) -> tuple[Engine, Job]:
    """An engine that is not started yet, and the job that counts the keys of a topic filled anew."""
    topics.recreate(topic)
    topics.append(topic, [keys.distinct(options.keys)])
    topics.recreate(_output(topic))
    job = counting.job(options, topic, _output(topic), value_bytes=options.value_bytes, settings=settings, **of_job)
    return contenders.make(name, options), job


class Flow:
    """Keys that come out of a running job: those of the beginning, and behind the kill others."""

    def __init__(self, engine: Engine, source: "Markers", arrivals: "Arrivals") -> None:
        self._engine = engine
        self._source = source
        self._arrivals = arrivals
        self._after = markers("after")

    def change(self) -> None:
        """Other keys from now on."""
        self._source.keys = self._after

    def moments(self) -> list[float]:
        """When each of the others came out first; waits until all have."""
        flows = lambda: self._arrivals.all_of(self._after)  # noqa: E731
        wait_until("new results behind the kill", PATIENCE, flows, self._engine.processes, _LOOK_SECONDS)
        return [self._arrivals.first[key] for key in self._after]


@contextlib.contextmanager
def flowing(engine: Engine, topic: str, committed: bool = False) -> Iterator[Flow]:
    """While keys come out; `committed`: as a reader of committed records sees them."""
    before = markers("before")
    with Arrivals(_output(topic), committed) as arrivals, Markers(topic, before) as source:
        wait_until("results to flow", PATIENCE, lambda: arrivals.all_of(before), engine.processes)
        yield Flow(engine, source, arrivals)


def markers(seed: str) -> list[str]:
    """Keys that no file has; distinct, and spread over the key groups."""
    source = keys.random_keys(seed)
    return [next(source) for _ in range(_MARKERS)]


class Markers:
    """Writes a block of the current keys to a topic, 50 times a second, while its context lasts."""

    def __init__(self, topic: str, first: list[str]) -> None:
        self.keys = first
        self._producer = topics.producer(topic)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Markers":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        topics.end(self._producer)

    def _run(self) -> None:
        assert self._producer.stdin
        with contextlib.suppress(BrokenPipeError):
            while not self._ended.wait(_MARKER_SECONDS):
                self._producer.stdin.write(("".join(self.keys) + "\n").encode())
                self._producer.stdin.flush()


class Arrivals:
    """When each key first came out of a topic, since its context began."""

    def __init__(self, topic: str, committed: bool) -> None:
        self.first: dict[str, float] = {}
        self._consumer = topics.consumer(topic, committed)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Arrivals":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        topics.end(self._consumer)
        self._thread.join()

    def all_of(self, wanted: list[str]) -> bool:
        return all(key in self.first for key in wanted)

    def _run(self) -> None:
        assert self._consumer.stdout
        for line in self._consumer.stdout:
            key = line.decode().partition(" ")[0]
            self.first.setdefault(key, time.monotonic())


def _output(topic: str) -> str:
    return f"{topic}-counts"
