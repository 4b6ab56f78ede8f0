"""Checkpoints by Flink's REST API: triggered, waited for, and what they cost."""

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

from . import rest
from .engine import Engine, EngineError
from .processes import wait_until

_SECONDS = 600


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Times in milliseconds, whole ones as REST tells them; sizes in bytes."""

    duration: int
    # The synchronous part of the subtask that it took longest: no record is worked off meanwhile.
    pause: int
    written: int
    full: int


def take(engine: Engine) -> Checkpoint:
    """Triggers one and returns when it is complete."""
    job = engine.job_url()
    request = rest.request("POST", f"{job}/checkpoints", json.dumps({"checkpointType": "CONFIGURED"}).encode())
    operation = f"{job}/checkpoints/{request['request-id']}"
    done = wait_until("the checkpoint", _SECONDS, lambda: _ended(rest.request("GET", operation)), engine.processes, 0.05)
    if "checkpointId" not in done:
        raise EngineError(f"{engine.name}'s checkpoint failed: {json.dumps(done)[:1500]}")
    details = f"{job}/checkpoints/details/{done['checkpointId']}"
    told = wait_until("its statistics", 30, lambda: _completed(rest.reachable(details)), engine.processes)
    vertices = [rest.request("GET", f"{details}/subtasks/{vertex}") for vertex in told["tasks"]]
    return Checkpoint(told["end_to_end_duration"], longest_pause(vertices), told["checkpointed_size"], told["state_size"])


def longest_pause(vertices: Iterable[dict[str, Any]]) -> int:
    """Of all subtasks of all vertices; those that had finished took none."""
    pauses = [
        subtask["checkpoint"]["sync"]
        for vertex in vertices
        for subtask in vertex["subtasks"]
        if subtask["status"] == "completed"
    ]
    return max(pauses, default=0)


def _ended(answer: dict[str, Any]) -> dict[str, Any] | None:
    return answer.get("operation") if answer["status"]["id"] == "COMPLETED" else None


def _completed(details: dict[str, Any] | None) -> dict[str, Any] | None:
    return details if details and details["status"] == "COMPLETED" else None
