"""Everything dies: how long until the first new committed records.

    keys, each once -> topic -> [ flink | thalweg ] -> topic     state; checkpoints at an interval, the sink exactly once
    a few keys, 50 times a second -> the same                    a reader of committed records sees each of them
    SIGKILL for JobManager, TaskManagers and workers at once, all started again at once; other keys from then on
    -> recovered when each of these was read, committed

Kafka and the checkpoint folder live on. Our JobManager finds the newest checkpoint itself; for Flink, which keeps no such record
without ZooKeeper or Kubernetes, the bench submits the job again from the newest checkpoint as soon as there are slots.
"""

import argparse
import contextlib
import pathlib
import time

from . import checkpoints, contenders, counting, keys, topics
from .incremental_checkpoint import add_state_options
from .outcomes import Quantity, Run, conclude
from .processes import wait_until
from .recovery import Arrivals, Markers, markers

_INPUT, _OUTPUT = "bench-keys-cold-recovery", "bench-keys-cold-recovery-counts"
_PATIENCE = 600
_QUANTITIES = [
    Quantity("first committed, s", False, 2),
    Quantity("all committed, s", False, 2),
    Quantity("MB of state", None),
]


def add_options(parser: argparse.ArgumentParser, binaries: pathlib.Path) -> None:
    contenders.add_options(parser, ["flink-rocksdb", "thalweg-hashmap", "thalweg-rocksdb"], binaries, runs=3)
    add_state_options(parser)
    parser.set_defaults(memory="5g")
    parser.add_argument("--interval", default="1 s", help="between checkpoints, of both (default %(default)s)")


def run(options: argparse.Namespace) -> None:
    """The verb, inside the cluster's network."""
    counting.check(options, value_bytes=options.value_bytes)
    runs = []
    for number in range(options.runs):
        for name in options.engines:
            runs.append(Run(name, "", measure(name, options)))
            print(f"run {number + 1}: {runs[-1].line()}", flush=True)
    title = (
        f"All processes killed and started again, with {options.keys:,} keys of {options.value_bytes} bytes each in state; "
        f"a checkpoint every {options.interval}; taskmanager.memory.process.size {options.memory}"
    )
    conclude("cold-recovery", title, runs, _QUANTITIES, options)


def measure(name: str, options: argparse.Namespace) -> dict[str, float]:
    topics.recreate(_INPUT)
    topics.append(_INPUT, [keys.distinct(options.keys)])
    topics.recreate(_OUTPUT)
    engine = contenders.make(name, options)
    job = counting.job(
        options,
        _INPUT,
        _OUTPUT,
        value_bytes=options.value_bytes,
        settings=settings(options),
        transactional_id_prefix="bench-cold",
    )
    with contextlib.ExitStack() as ending:
        ending.callback(engine.stop)
        engine.start(job)
        counting.wait_counted(engine, options.keys)
        taken = checkpoints.take(engine)
        before, after = markers("before"), markers("after")
        arrivals = ending.enter_context(Arrivals(_OUTPUT, committed=True))
        source = ending.enter_context(Markers(_INPUT, before))
        wait_until("results to flow", _PATIENCE, lambda: arrivals.all_of(before), engine.processes)
        killed = time.monotonic()
        engine.kill_everything()
        source.keys = after
        engine.start_again(job)
        wait_until("new results after the kill", _PATIENCE, lambda: arrivals.all_of(after), engine.processes, 0.01)
    moments = [arrivals.first[key] - killed for key in after]
    return {"first committed, s": min(moments), "all committed, s": max(moments), "MB of state": taken.full / 1e6}


def settings(options: argparse.Namespace) -> dict[str, object]:
    return {
        "execution.checkpointing.interval": options.interval,
        "execution.checkpointing.dir": "file://@WORK@/checkpoints",
        # Filling the state is slower than an interval between checkpoints; none of them may fail the job.
        "execution.checkpointing.tolerable-failed-checkpoints": 1000,
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": 1000,
        "restart-strategy.fixed-delay.delay": "100 ms",
    }
