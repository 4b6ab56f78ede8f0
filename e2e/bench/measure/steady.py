"""A window of steady state: what an engine read in it, and what that cost. Pure but for the samples it is given.

Engines tell their counters at their own rhythm, some once a second. So a sample is kept only when the counter has moved, and
the window goes from one such sample to another: records, CPU time and wall time are of the same span.
"""

import dataclasses
from collections.abc import Sequence


class WindowError(Exception):
    """The samples make no window."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """Totals at one time, in seconds and records since any zero."""

    time: float
    records: float
    sent: float
    engine_cpu: float
    broker_cpu: float
    machine_cpu: float


@dataclasses.dataclass(frozen=True)
class Window:
    """Differences between two samples."""

    seconds: float
    records: float
    sent: float
    engine_cpu: float
    broker_cpu: float
    other_cpu: float

    @property
    def per_second(self) -> float:
        return self.records / self.seconds

    @property
    def per_core_second(self) -> float:
        return self.records / self.engine_cpu


def moved(samples: Sequence[Sample]) -> list[Sample]:
    """Those at which the record counter was seen to move."""
    return [now for before, now in zip(samples, samples[1:]) if now.records > before.records]


def window(samples: Sequence[Sample], begin: float, available: float) -> Window:
    """From the first move at `begin` or later to the last before the topic, `available` records, was nearly read out."""
    inside = [sample for sample in moved(samples) if sample.time >= begin and sample.records < available]
    if len(inside) < 2:
        raise WindowError(
            "no steady state to measure: the engine read nothing, or the topic was read out during the warm-up "
            "(more --lines are wanted)"
        )
    first, last = inside[0], inside[-1]
    engine, broker = last.engine_cpu - first.engine_cpu, last.broker_cpu - first.broker_cpu
    return Window(
        seconds=last.time - first.time,
        records=last.records - first.records,
        sent=last.sent - first.sent,
        engine_cpu=engine,
        broker_cpu=broker,
        other_cpu=max(0.0, last.machine_cpu - first.machine_cpu - engine - broker),
    )
