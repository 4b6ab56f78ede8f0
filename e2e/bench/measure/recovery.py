"""A TaskManager dies: how long until results flow again.

    keys, each once -> topic -> [ flink | thalweg ] -> topic     3 TaskManagers with a slot each, 2 of them used; a checkpoint
    a few keys, 50 times a second -> the same                    a consumer of the output sees each of them
    SIGKILL for a TaskManager that holds state, other keys from then on -> recovered when each of these has come out

Keys that come after the kill are spread over all subtasks, those of the dead one too; so what is timed ends with the first new
records of every subtask, as a reader of the output topic sees them. Sinks are at-least-once on both sides: a record that is
in the topic is committed.
"""

import argparse
import contextlib
import os
import pathlib
import signal
import subprocess
import threading
import time

from . import checkpoints, contenders, counting, keys, rest, topics
from .incremental_checkpoint import add_state_options
from .outcomes import Quantity, Run, conclude
from .processes import wait_until

_INPUT, _OUTPUT = "bench-keys-recovery", "bench-keys-recovery-counts"
_TASK_MANAGERS = 3
_MARKERS = 64
_MARKER_SECONDS = 0.02
_PATIENCE = 300
_QUANTITIES = [
    Quantity("recovery, s", False, 2),
    Quantity("last restart begun, s", None, 2),
    Quantity("running again, s", None, 2),
    Quantity("MB of state", None),
]


def add_options(parser: argparse.ArgumentParser, binaries: pathlib.Path) -> None:
    default = ["flink-rocksdb", "flink-rocksdb-local", "thalweg-hashmap", "thalweg-hashmap-local"]
    contenders.add_options(parser, default, binaries, runs=3)
    add_state_options(parser)
    parser.set_defaults(memory="3g")
    parser.add_argument("--heartbeat-interval", default="1 s", help="of both (default %(default)s)")
    parser.add_argument("--heartbeat-timeout", default="5 s", help="of both (default %(default)s)")


def run(options: argparse.Namespace) -> None:
    """The verb, inside the cluster's network."""
    counting.check(options, value_bytes=options.value_bytes)
    runs = []
    for number in range(options.runs):
        for name in options.engines:
            runs.append(Run(name, "", measure(name, options)))
            print(f"run {number + 1}: {runs[-1].line()}", flush=True)
    title = (
        f"A TaskManager of {_TASK_MANAGERS} killed, with {options.keys:,} keys of {options.value_bytes} bytes each in state; "
        f"heartbeats every {options.heartbeat_interval}, lost after {options.heartbeat_timeout}; "
        f"taskmanager.memory.process.size {options.memory}"
    )
    conclude("recovery", title, runs, _QUANTITIES, options)


def measure(name: str, options: argparse.Namespace) -> dict[str, float]:
    topics.recreate(_INPUT)
    topics.append(_INPUT, [keys.distinct(options.keys)])
    topics.recreate(_OUTPUT)
    engine = contenders.make(name, options)
    job = counting.job(
        options, _INPUT, _OUTPUT, value_bytes=options.value_bytes, settings=settings(options), task_managers=_TASK_MANAGERS
    )
    with contextlib.ExitStack() as ending:
        ending.callback(engine.stop)
        engine.start(job)
        counting.wait_counted(engine, options.keys)
        taken = checkpoints.take(engine)
        before, after = markers("before"), markers("after")
        arrivals = ending.enter_context(Arrivals(_OUTPUT))
        source = ending.enter_context(Markers(_INPUT, before))
        wait_until("results to flow", _PATIENCE, lambda: arrivals.all_of(before), engine.processes)
        killed, killed_at = time.monotonic(), time.time()
        engine.kill(engine.working_task_managers(counting.OPERATOR)[0])
        source.keys = after
        wait_until("new results after the kill", _PATIENCE, lambda: arrivals.all_of(after), engine.processes, 0.01)
        recovered = max(arrivals.first[key] for key in after) - killed
        told = rest.request("GET", engine.job_url())["timestamps"]
    values = {"recovery, s": recovered, "MB of state": taken.full / 1e6}
    for what, state in (("last restart begun, s", "RESTARTING"), ("running again, s", "RUNNING")):
        if (moment := told.get(state, 0) / 1000) > killed_at:
            values[what] = moment - killed_at
    return values


def settings(options: argparse.Namespace) -> dict[str, object]:
    return {
        **counting.SELDOM,
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": 1000,
        "restart-strategy.fixed-delay.delay": "100 ms",
        "heartbeat.interval": options.heartbeat_interval,
        "heartbeat.timeout": options.heartbeat_timeout,
    }


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
        end(self._producer)

    def _run(self) -> None:
        assert self._producer.stdin
        with contextlib.suppress(BrokenPipeError):
            while not self._ended.wait(_MARKER_SECONDS):
                self._producer.stdin.write(("".join(self.keys) + "\n").encode())
                self._producer.stdin.flush()


class Arrivals:
    """When each key first came out of a topic, since its context began."""

    def __init__(self, topic: str, committed: bool = False) -> None:
        self.first: dict[str, float] = {}
        self._consumer = topics.consumer(topic, committed)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Arrivals":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        end(self._consumer)
        self._thread.join()

    def all_of(self, wanted: list[str]) -> bool:
        return all(key in self.first for key in wanted)

    def _run(self) -> None:
        assert self._consumer.stdout
        for line in self._consumer.stdout:
            key = line.decode().partition(" ")[0]
            self.first.setdefault(key, time.monotonic())


def end(process: subprocess.Popen[bytes]) -> None:
    """A tool of Kafka's, with the scripts around it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    process.wait()
