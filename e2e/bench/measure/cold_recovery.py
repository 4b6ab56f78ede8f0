"""Everything dies: how long until the first new committed records.

    checkpoints at an interval, the sink exactly once; a reader of committed records sees each key that flows (`kills`)
    SIGKILL for JobManager, TaskManagers and workers at once, all started again at once; other keys from then on
    -> recovered when each of these was read, committed

Kafka and the checkpoint folder live on. Our JobManager finds the newest checkpoint itself; for Flink, which keeps no such record
without ZooKeeper or Kubernetes, the bench submits the job again from the newest checkpoint as soon as there are slots.
"""

import argparse
import contextlib
import pathlib
import time

from . import checkpoints, counting, kills
from .outcomes import Quantity

_TOPIC = "bench-keys-cold-recovery"
# Filling the state is slower than an interval between checkpoints; none of them may fail the job.
_TOLERANT = {"execution.checkpointing.tolerable-failed-checkpoints": 1000}
_QUANTITIES = [
    Quantity("first committed, s", False, 2),
    Quantity("all committed, s", False, 2),
    Quantity("MB of state", None),
]


def add_options(parser: argparse.ArgumentParser, binaries: pathlib.Path) -> None:
    default = ["flink-rocksdb", "thalweg-hashmap", "thalweg-rocksdb"]
    kills.add_options(parser, default, binaries, runs=3, memory="5g")
    kills.add_interval_option(parser)


def run(options: argparse.Namespace) -> None:
    """The verb, inside the cluster's network."""
    title = kills.told(options, "All processes killed and started again", f"a checkpoint every {options.interval}")
    kills.run("cold-recovery", title, _QUANTITIES, measure, options)


def measure(name: str, options: argparse.Namespace) -> dict[str, float]:
    settings = kills.checkpoints_at(options.interval) | kills.RESTARTS | _TOLERANT
    engine, job = kills.prepare(name, _TOPIC, options, settings, transactional_id_prefix="bench-cold")
    with contextlib.ExitStack() as ending:
        ending.callback(engine.stop)
        engine.start(job)
        counting.wait_counted(engine, options.keys)
        taken = checkpoints.take(engine)
        flow = ending.enter_context(kills.flowing(engine, _TOPIC, committed=True))
        killed = time.monotonic()
        engine.kill_everything()
        flow.change()
        engine.start_again(job)
        moments = [moment - killed for moment in flow.moments()]
    return {"first committed, s": min(moments), "all committed, s": max(moments), "MB of state": taken.full / 1e6}
