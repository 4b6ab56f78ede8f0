"""The job `keyed-count`, as the benchmarks of state run it: started, filled with keys, checked against an independent count."""

import argparse
import time
from collections.abc import Callable, Mapping

from . import cluster, contenders, keys, processes, steady, topics
from .engine import Engine, EngineError, Job, topic_arguments

# The operator that holds the state; its counter of records in tells how many keys were counted.
OPERATOR = "counts"
_CHECK_KEYS = 20_000
_CHECK_UPDATES = 80_000
_CHECK_SECONDS = 300
_SAMPLE_SECONDS = 0.5
# How long nothing may be counted before it is taken for stuck.
_STUCK_SECONDS = 120
# Checkpoints are taken when the bench asks.
SELDOM = {"execution.checkpointing.interval": "24 h", "execution.checkpointing.dir": "file://@WORK@/checkpoints"}


def job(
    options: argparse.Namespace,
    topic: str,
    output: str | None = None,
    bounded: bool = False,
    key: str = "bigint",
    program: str = "process",
    value_bytes: int = 0,
    settings: Mapping[str, object] | None = None,
    task_managers: int = 1,
    transactional_id_prefix: str | None = None,
    high_availability: bool = False,
) -> Job:
    arguments = topic_arguments(topics.address(), topic, output, bounded)
    arguments += ["--key", key, "--program", program, "--value-bytes", str(value_bytes)]
    if transactional_id_prefix:
        arguments += ["--transactional-id-prefix", transactional_id_prefix]
    return Job("keyed-count", arguments, options.parallelism, options.memory, task_managers, settings or {}, high_availability)


def check(options: argparse.Namespace, **of_job: object) -> None:
    """All contenders count a small topic to its end as an independent count does."""
    if options.no_check:
        return
    files = [keys.distinct(_CHECK_KEYS), keys.updates(_CHECK_KEYS, _CHECK_UPDATES)]
    expected = keys.counts_of(files)
    topic = topics.filled_from("bench-keys-check", files, keys.lines_of(_CHECK_KEYS) + keys.lines_of(_CHECK_UPDATES))
    for name in options.engines:
        output = "bench-keys-check-counts"
        topics.recreate(output)
        engine = contenders.make(name, options)
        try:
            engine.start(job(options, topic, output, bounded=True, **of_job))
            engine.wait_finished(_CHECK_SECONDS)
        finally:
            engine.stop()
        compare_counts(name, topics.largest_counts(topics.read(output)), expected)
    told = ", ".join(str(value) for value in of_job.values() if isinstance(value, (str, int)))
    print(f"check ({told}): {', '.join(options.engines)} count {len(expected):,} keys right", flush=True)


def compare_counts(name: str, counted: Mapping[str, int], expected: Mapping[str, int]) -> None:
    differing = {key for key in counted.keys() | expected.keys() if counted.get(key) != expected.get(key)}
    if differing:
        key = min(differing)
        raise EngineError(
            f"{name} counts {len(differing)} of {len(expected)} keys wrong, the first is {key!r}: {counted.get(key)} "
            f"and not {expected.get(key)}"
        )


def wait_counted(engine: Engine, number: int) -> None:
    """Returns when the operator has taken in so many keys since the job's start."""
    wait_progress(engine, lambda counted: counted >= number)


def wait_progress(engine: Engine, enough: Callable[[float], bool], look: Callable[[], None] = lambda: None) -> None:
    """Until enough is counted; fails when nothing moves. `look` is called twice a second."""
    last, moved = -1.0, time.monotonic()
    while True:
        engine.check()
        counted = engine.operator_records(OPERATOR) or 0.0
        look()
        if enough(counted):
            return
        if counted > last:
            last, moved = counted, time.monotonic()
        elif time.monotonic() > moved + _STUCK_SECONDS:
            stuck = f"has counted {last:,.0f} keys and no more for {_STUCK_SECONDS} s"
            raise EngineError(f"{engine.name} {stuck}; see {engine.work}/log")
        time.sleep(_SAMPLE_SECONDS)


def watch(engine: Engine, distinct: int, available: float, options: argparse.Namespace) -> list[steady.Sample]:
    """Samples until the window behind the fill and the warm-up is over, or the topic is nearly read out."""
    broker = cluster.component_pid("kafka")
    samples: list[steady.Sample] = []

    def over(counted: float) -> bool:
        filled = begin_of_updates(samples, distinct)
        late = filled is not None and time.monotonic() >= filled + options.warmup + options.seconds
        return late or counted >= available

    wait_progress(engine, over, lambda: samples.append(sample(engine, broker)))
    return samples


def begin_of_updates(samples: list[steady.Sample], distinct: int) -> float | None:
    """When as many records as there are keys had been counted."""
    return next((sample.time for sample in samples if sample.records >= distinct), None)


def sample(engine: Engine, broker: int) -> steady.Sample:
    return steady.Sample(
        time=time.monotonic(),
        records=engine.operator_records(OPERATOR) or 0.0,
        sent=0.0,
        engine_cpu=processes.cpu_seconds(engine.pids()),
        broker_cpu=processes.cpu_seconds([broker]),
        machine_cpu=processes.machine_cpu_seconds(),
    )


def rates(samples: list[steady.Sample], distinct: int, available: float, warmup: float) -> dict[str, float]:
    """Of the fill, and of the updates behind it."""
    begin = begin_of_updates(samples, distinct)
    if begin is None:
        raise EngineError("the topic ended before each key was counted once")
    updates = steady.window(samples, begin + warmup, available)
    return {
        RATE: updates.per_second,
        CORE_RATE: updates.per_core_second,
        **fill_rates(samples, distinct),
        "window, s": updates.seconds,
        "engine's cores": updates.engine_cpu / updates.seconds,
        "broker's cores": updates.broker_cpu / updates.seconds,
        "others' cores": updates.other_cpu / updates.seconds,
    }


def fill_rates(samples: list[steady.Sample], distinct: int) -> dict[str, float]:
    """From the start, a JVM's warm-up included; nothing of a fill that was over between two samples."""
    try:
        fill = steady.window(samples, samples[0].time, distinct)
    except steady.WindowError:
        return {}
    return {FILL_RATE: fill.per_second, FILL_CORE_RATE: fill.per_core_second}


RATE, CORE_RATE = "records/s", "records per core-second"
FILL_RATE, FILL_CORE_RATE = "new keys/s", "new keys per core-second"
