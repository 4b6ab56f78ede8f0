"""The leading JobManager dies: how long until checkpoints go on.

    keys, each once -> topic -> [ flink | thalweg ] -> topic     state; two JobManagers, a checkpoint every second
    SIGKILL for the one that leads -> recovered when a checkpoint that was triggered afterwards is complete

Ours are told from each other by their log in a folder alone; Flink's by a ZooKeeper on the same machine, whose session times out
after 3 s. What became of the tasks is told beside: how many of them were started anew, and when a reader of committed records saw the
first key that came behind the kill.
"""

import argparse
import contextlib
import pathlib
import time
from collections.abc import Mapping
from typing import Any

from . import contenders, counting, keys, rest, topics
from .engine import Engine
from .incremental_checkpoint import add_state_options
from .outcomes import Quantity, Run, conclude
from .processes import wait_until
from .recovery import Arrivals, Markers, markers

_INPUT, _OUTPUT = "bench-keys-failover", "bench-keys-failover-counts"
_PATIENCE = 300
_SETTLED = 3
_RECOVERED = "checkpoint complete again, s"
_QUANTITIES = [
    Quantity(_RECOVERED, False, 2),
    Quantity("subtasks started anew", False),
    Quantity("new records committed, s", False, 2),
]


def add_options(parser: argparse.ArgumentParser, binaries: pathlib.Path) -> None:
    contenders.add_options(parser, ["flink-hashmap", "thalweg-hashmap"], binaries, runs=5)
    add_state_options(parser)
    parser.set_defaults(keys=100_000, memory="2g")
    parser.add_argument("--interval", default="1 s", help="between checkpoints, of both (default %(default)s)")
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
        f"The leading JobManager of two killed, with {options.keys:,} keys of {options.value_bytes} bytes each in state; "
        f"a checkpoint every {options.interval}; heartbeats every {options.heartbeat_interval}, lost after "
        f"{options.heartbeat_timeout}; taskmanager.memory.process.size {options.memory}"
    )
    conclude("failover", title, runs, _QUANTITIES, options)


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
        transactional_id_prefix="bench-failover",
        high_availability=True,
    )
    with contextlib.ExitStack() as ending:
        ending.callback(engine.stop)
        engine.start(job)
        engine.start_standby(job)
        counting.wait_counted(engine, options.keys)
        before, after = markers("before"), markers("after")
        arrivals = ending.enter_context(Arrivals(_OUTPUT, committed=True))
        source = ending.enter_context(Markers(_INPUT, before))
        wait_until("results to flow", _PATIENCE, lambda: arrivals.all_of(before), engine.processes)
        settled = completed(engine) + _SETTLED
        wait_until("checkpoints", _PATIENCE, lambda: completed(engine) >= settled, engine.processes)
        began = starts(engine)
        killed, killed_at = time.monotonic(), time.time()
        engine.kill_leader()
        source.keys = after
        ended = wait_until(
            "a checkpoint behind the kill", _PATIENCE, lambda: first_behind(statistics(engine), killed_at), engine.processes, 0.02
        )
        wait_until("new results behind the kill", _PATIENCE, lambda: arrivals.all_of(after), engine.processes, 0.02)
        anew = [subtask for subtask, start in starts(engine).items() if start != began.get(subtask)]
    return {
        _RECOVERED: ended - killed_at,
        "subtasks started anew": len(anew),
        "new records committed, s": min(arrivals.first[key] for key in after) - killed,
    }


def settings(options: argparse.Namespace) -> dict[str, object]:
    return {
        "execution.checkpointing.interval": options.interval,
        "execution.checkpointing.dir": "file://@WORK@/checkpoints",
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": 1000,
        "restart-strategy.fixed-delay.delay": "100 ms",
        "heartbeat.interval": options.heartbeat_interval,
        "heartbeat.timeout": options.heartbeat_timeout,
    }


def statistics(engine: Engine) -> dict[str, Any] | None:
    """Of checkpoints; none while no JobManager leads."""
    found = rest.jobs(engine.rest_url)
    return rest.reachable(f"{engine.rest_url}/jobs/{found[0]['jid']}/checkpoints") if found else None


def completed(engine: Engine) -> int:
    return ((statistics(engine) or {}).get("counts") or {}).get("completed", 0)


def first_behind(told: Mapping[str, Any] | None, moment: float) -> float | None:
    """When the first checkpoint that was triggered behind `moment` was complete; seconds since the epoch, as that."""
    history = (told or {}).get("history") or []
    behind = [one for one in history if one["status"] == "COMPLETED" and one["trigger_timestamp"] / 1000 >= moment]
    return min((one["latest_ack_timestamp"] / 1000 for one in behind), default=None)


def starts(engine: Engine) -> dict[tuple[str, int], tuple[int, int]]:
    """Of each subtask of each vertex: its attempt and when that began."""
    url = engine.job_url()
    return {
        (vertex["id"], subtask["subtask"]): (subtask["attempt"], subtask["start-time"])
        for vertex in rest.request("GET", url)["vertices"]
        for subtask in rest.request("GET", f"{url}/vertices/{vertex['id']}")["subtasks"]
    }
