"""A TaskManager dies: how long until results flow again.

    3 TaskManagers with a slot each, 2 of them used; a checkpoint
    SIGKILL for a TaskManager that holds state, other keys from then on -> recovered when each of these has come out (`kills`)

Sinks are at-least-once on both sides: a record that is in the topic is committed.
"""

import argparse
import contextlib
import pathlib
import time

from . import checkpoints, counting, kills, rest
from .outcomes import Quantity

_TOPIC = "bench-keys-recovery"
_TASK_MANAGERS = 3
_QUANTITIES = [
    Quantity("recovery, s", False, 2),
    Quantity("last restart begun, s", None, 2),
    Quantity("running again, s", None, 2),
    Quantity("MB of state", None),
]


def add_options(parser: argparse.ArgumentParser, binaries: pathlib.Path) -> None:
    default = ["flink-rocksdb", "flink-rocksdb-local", "thalweg-hashmap", "thalweg-hashmap-local"]
    kills.add_options(parser, default, binaries, runs=3, memory="3g")
    kills.add_heartbeat_options(parser)


def run(options: argparse.Namespace) -> None:
    """The verb, inside the cluster's network."""
    title = kills.told(options, f"A TaskManager of {_TASK_MANAGERS} killed", kills.told_heartbeats(options))
    kills.run("recovery", title, _QUANTITIES, measure, options)


def measure(name: str, options: argparse.Namespace) -> dict[str, float]:
    settings = counting.SELDOM | kills.RESTARTS | kills.heartbeats(options)
    engine, job = kills.prepare(name, _TOPIC, options, settings, task_managers=_TASK_MANAGERS)
    with contextlib.ExitStack() as ending:
        ending.callback(engine.stop)
        engine.start(job)
        counting.wait_counted(engine, options.keys)
        taken = checkpoints.take(engine)
        flow = ending.enter_context(kills.flowing(engine, _TOPIC))
        killed, killed_at = time.monotonic(), time.time()
        engine.kill(engine.working_task_managers(counting.OPERATOR)[0])
        flow.change()
        recovered = max(flow.moments()) - killed
        told = rest.request("GET", engine.job_url())["timestamps"]
    values = {"recovery, s": recovered, "MB of state": taken.full / 1e6}
    for what, state in (("last restart begun, s", "RESTARTING"), ("running again, s", "RUNNING")):
        if (moment := told.get(state, 0) / 1000) > killed_at:
            values[what] = moment - killed_at
    return values
