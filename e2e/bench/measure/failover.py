"""The leading JobManager dies: how long until checkpoints go on.

    two JobManagers, a checkpoint every second, keys that flow (`kills`)
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

from . import counting, kills, rest
from .engine import Engine
from .outcomes import Quantity
from .processes import wait_until

_TOPIC = "bench-keys-failover"
_SETTLED = 3
_RECOVERED = "checkpoint complete again, s"
_QUANTITIES = [
    Quantity(_RECOVERED, False, 2),
    Quantity("subtasks started anew", False),
    Quantity("new records committed, s", False, 2),
]


def add_options(parser: argparse.ArgumentParser, binaries: pathlib.Path) -> None:
    kills.add_options(parser, ["flink-hashmap", "thalweg-hashmap"], binaries, runs=5, memory="2g")
    parser.set_defaults(keys=100_000)
    kills.add_interval_option(parser)
    kills.add_heartbeat_options(parser)


def run(options: argparse.Namespace) -> None:
    """The verb, inside the cluster's network."""
    title = kills.told(
        options,
        "The leading JobManager of two killed",
        f"a checkpoint every {options.interval}",
        kills.told_heartbeats(options),
    )
    kills.run("failover", title, _QUANTITIES, measure, options)


def measure(name: str, options: argparse.Namespace) -> dict[str, float]:
    settings = kills.checkpoints_at(options.interval) | kills.RESTARTS | kills.heartbeats(options)
    prefix = "bench-failover"
    engine, job = kills.prepare(name, _TOPIC, options, settings, transactional_id_prefix=prefix, high_availability=True)
    with contextlib.ExitStack() as ending:
        ending.callback(engine.stop)
        engine.start(job)
        engine.start_standby(job)
        counting.wait_counted(engine, options.keys)
        flow = ending.enter_context(kills.flowing(engine, _TOPIC, committed=True))
        settled = completed(engine) + _SETTLED
        wait_until("checkpoints", kills.PATIENCE, lambda: completed(engine) >= settled, engine.processes)
        began = starts(engine)
        killed, killed_at = time.monotonic(), time.time()
        engine.kill_leader()
        flow.change()
        behind = lambda: first_behind(statistics(engine), killed_at)  # noqa: E731
        ended = wait_until("a checkpoint behind the kill", kills.PATIENCE, behind, engine.processes, 0.02)
        flowed = min(flow.moments()) - killed
        anew = [subtask for subtask, start in starts(engine).items() if start != began.get(subtask)]
    return {_RECOVERED: ended - killed_at, "subtasks started anew": len(anew), "new records committed, s": flowed}


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
