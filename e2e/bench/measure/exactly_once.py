"""Exactly once from Kafka to Kafka: what it costs beside at least once, and how late records come out.

    transfers                        -> topic -> [ flink | thalweg: job `transfer` ] -> topic    rates, with each guarantee
    some thousand transfers a second -> topic -> the same -> topic -> a reader of committed      delays: from written to read

Each interval between checkpoints is a case of its own, and both guarantees take the same checkpoints: what is lost is lost to
transactions alone. A delay is that of one entry, from the time that its transfer was given to the producer to the time that a reader of
committed records has it; both Kafka tools take part in it, the same for both engines.
"""

import argparse
import contextlib
import pathlib
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from . import contenders, steady, topics
from .engine import EngineError, Job
from .figures import table
from .outcomes import Quantity, Run, conclude
from .processes import wait_until
from .word_count import watch

AT_LEAST_ONCE, EXACTLY_ONCE = "at least once", "exactly once"
_INPUT, _OUTPUT = "bench-transfers-flowing", "bench-entries"
_ACCOUNTS = 10_000
_DIFFERENT = 1_000_000
# The last of a topic is left unread: near its end some partitions have ended already.
_READ_OUT = 0.97
_CHECK_LINES = 50_000
_CHECK_SECONDS = 300
_TICK_SECONDS = 0.02
_PATIENCE = 120
_RATE, _CORE_RATE = "transfers/s", "transfers per core-second"
_QUANTITIES = [
    Quantity(_RATE, True),
    Quantity(_CORE_RATE, True),
    Quantity("delay, median, ms", False),
    Quantity("delay, 99 %, ms", False),
    Quantity("delay, longest, ms", False),
    Quantity("window, s", None),
    Quantity("engine's cores", None, 2),
    Quantity("broker's cores", None, 2),
    Quantity("others' cores", None, 2),
]


def add_options(parser: argparse.ArgumentParser, binaries: pathlib.Path) -> None:
    contenders.add_options(parser, ["flink-hashmap", "thalweg-hashmap"], binaries, runs=3)
    parser.add_argument("--intervals", nargs="+", default=["1 s", "100 ms"], help="between checkpoints (default %(default)s)")
    parser.add_argument("--lines", type=int, default=40_000_000, help="transfers in the topic (default %(default)s)")
    parser.add_argument("--seconds", type=int, default=40, help="measured, at most (default %(default)s)")
    parser.add_argument("--warmup", type=int, default=15, help="seconds before that (default %(default)s)")
    parser.add_argument("--memory", default="2g", help="taskmanager.memory.process.size of both (default %(default)s)")
    parser.add_argument("--flow", type=int, default=2_000, help="transfers a second for delays (default %(default)s)")
    only = "leave the other measurement out"
    parser.add_argument("--only", choices=["rates", "delays"], help=only)


def run(options: argparse.Namespace) -> None:
    """The verb, inside the cluster's network."""
    lines = transfers()
    if not options.no_check:
        check(lines[:_CHECK_LINES], options)
    topic = topics.filled("bench-transfers", lines, options.lines) if options.only != "delays" else ""
    runs = []
    for number in range(options.runs):
        for interval in options.intervals:
            for guarantee in (AT_LEAST_ONCE, EXACTLY_ONCE):
                for name in options.engines:
                    values = measure(name, topic, guarantee, interval, options)
                    runs.append(Run(name, case(guarantee, interval), values))
                    print(f"run {number + 1}: {runs[-1].line()}", flush=True)
    title = (
        f"Transfers from Kafka to Kafka: rates over {options.lines:,} transfers, {options.warmup} s of warm-up and up to "
        f"{options.seconds} s measured; delays at {options.flow:,} transfers a second; "
        f"taskmanager.memory.process.size {options.memory}"
    )
    conclude("exactly-once", title, runs, _QUANTITIES, options)
    print("\n" + losses(runs, options.intervals))


def check(lines: Sequence[str], options: argparse.Namespace) -> None:
    """Exactly once, all engines make the same balances of a small topic as an independent sum."""
    topic = topics.filled("bench-transfers-check", list(lines), len(lines))
    expected = balances(halves(lines))
    for name in options.engines:
        topics.recreate(_OUTPUT)
        engine = contenders.make(name, options)
        try:
            engine.start(job(topic, EXACTLY_ONCE, "1 s", options, bounded=True))
            engine.wait_finished(_CHECK_SECONDS)
        finally:
            engine.stop()
        entries = (line.split() for line in topics.read_committed(_OUTPUT, 2 * len(lines)))
        made = balances((int(account), int(delta)) for _, account, delta, _ in entries)
        if made != expected:
            account = min(account for account in made | expected if made[account] != expected[account])
            raise EngineError(f"{name}: account {account} has {made[account]} and not {expected[account]}")
    print(f"check: {', '.join(options.engines)} make {len(expected):,} balances right", flush=True)


def halves(lines: Iterable[str]) -> Iterator[tuple[int, int]]:
    """(account, what it gets) of each half of a transfer."""
    for line in lines:
        _, paying, paid, amount = map(int, line.split())
        yield paying, -amount
        yield paid, amount


def balances(entries: Iterable[tuple[int, int]]) -> Counter[int]:
    """What each account has more than at first."""
    gained: Counter[int] = Counter()
    for account, delta in entries:
        gained[account] += delta
    return gained


def measure(name: str, topic: str, guarantee: str, interval: str, options: argparse.Namespace) -> dict[str, float]:
    values = {}
    if options.only != "delays":
        values |= measure_rates(name, job(topic, guarantee, interval, options), options)
    if options.only != "rates":
        values |= measure_delays(name, job(_INPUT, guarantee, interval, options), options)
    return values


def job(topic: str, guarantee: str, interval: str, options: argparse.Namespace, bounded: bool = False) -> Job:
    promise = ["--transactional-id-prefix", "bench"] if guarantee == EXACTLY_ONCE else ["--at-least-once"]
    arguments = ["--bootstrap-servers", topics.address(), "--input-topic", topic, "--output-topic", _OUTPUT, *promise]
    arguments += ["--bounded"] if bounded else []
    settings = {"execution.checkpointing.interval": interval, "execution.checkpointing.dir": "file://@WORK@/checkpoints"}
    return Job("transfer", arguments, options.parallelism, options.memory, settings=settings)


def measure_rates(name: str, wanted: Job, options: argparse.Namespace) -> dict[str, float]:
    topics.recreate(_OUTPUT)
    engine = contenders.make(name, options)
    try:
        engine.start(wanted)
        samples = watch(engine, options)
    finally:
        engine.stop()
    window = steady.window(samples, samples[0].time + options.warmup, options.lines * _READ_OUT)
    return {
        _RATE: window.per_second,
        _CORE_RATE: window.per_core_second,
        "window, s": window.seconds,
        "engine's cores": window.engine_cpu / window.seconds,
        "broker's cores": window.broker_cpu / window.seconds,
        "others' cores": window.other_cpu / window.seconds,
    }


def measure_delays(name: str, wanted: Job, options: argparse.Namespace) -> dict[str, float]:
    for topic in (_INPUT, _OUTPUT):
        topics.recreate(topic)
    engine = contenders.make(name, options)
    with contextlib.ExitStack() as ending:
        ending.callback(engine.stop)
        engine.start(wanted)
        flow = Flow(_INPUT, options.flow)
        reader = ending.enter_context(Reader(_OUTPUT, flow))
        ending.enter_context(flow)
        wait_until("entries to come out", _PATIENCE, lambda: reader.delays, engine.processes)
        begin = time.monotonic() + options.warmup
        wait_until(
            "the measured time to be over",
            options.warmup + options.seconds + _PATIENCE,
            lambda: engine.check() or time.monotonic() >= begin + options.seconds,
            engine.processes,
        )
        delays = [delay for at, delay in list(reader.delays) if at >= begin]
    return delay_values(delays)


def delay_values(delays: Sequence[float]) -> dict[str, float]:
    """In milliseconds, of delays in seconds."""
    if len(delays) < 2:
        raise ValueError("no entry came out in the measured time")
    hundredths = statistics.quantiles(delays, n=100)
    shown = {"median": statistics.median(delays), "99 %": hundredths[98], "longest": max(delays)}
    return {f"delay, {what}, ms": 1000 * delay for what, delay in shown.items()}


def case(guarantee: str, interval: str) -> str:
    return f"{guarantee}, {interval}"


def losses(runs: Sequence[Run], intervals: Sequence[str]) -> str:
    """How much of the rate exactly once takes, of the medians."""
    rows = []
    for name in dict.fromkeys(run.engine for run in runs):
        for interval in intervals:
            rates = [_median_rate(runs, name, case(guarantee, interval)) for guarantee in (AT_LEAST_ONCE, EXACTLY_ONCE)]
            if None not in rates:
                least, exactly = rates
                rows.append((f"{name}, {interval}", f"{least:,.0f}", f"{exactly:,.0f}", f"{100 * (1 - exactly / least):.1f}"))
    return table(("engine, interval", f"{AT_LEAST_ONCE}, {_RATE}", f"{EXACTLY_ONCE}, {_RATE}", "lost, %"), rows)


def _median_rate(runs: Sequence[Run], engine: str, wanted: str) -> float | None:
    rates = [run.values[_RATE] for run in runs if (run.engine, run.case) == (engine, wanted) and _RATE in run.values]
    return statistics.median(rates) if rates else None


def transfers() -> list[str]:
    """The lines that are repeated in the topic; the same in every run."""
    source = random.Random("transfers")
    lines = []
    for number in range(_DIFFERENT):
        paying, paid = source.sample(range(_ACCOUNTS), 2)
        lines.append(f"{number} {paying} {paid} {source.randrange(1, 100)}")
    return lines


class Flow:
    """Writes transfers to a topic, so many a second, while its context lasts; knows when it wrote which."""

    def __init__(self, topic: str, per_second: int) -> None:
        self._at_once = max(1, round(per_second * _TICK_SECONDS))
        self._written: list[float] = []
        self._producer = topics.producer(topic)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Flow":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        topics.end(self._producer)

    def written(self, transfer: int) -> float:
        return self._written[transfer // self._at_once]

    def _run(self) -> None:
        assert self._producer.stdin
        source = random.Random("flow")
        due = time.monotonic()
        with contextlib.suppress(BrokenPipeError):
            # On time even if writing takes some of it.
            while not self._ended.wait(max(0.0, due - time.monotonic())):
                first = len(self._written) * self._at_once
                self._written.append(time.monotonic())
                lines = [f"{first + n} {source.randrange(_ACCOUNTS)} {source.randrange(_ACCOUNTS)} 1\n" for n in range(self._at_once)]
                self._producer.stdin.write("".join(lines).encode())
                self._producer.stdin.flush()
                due += _TICK_SECONDS


class Reader:
    """Reads the committed entries of a topic while its context lasts: (time read, delay) of each."""

    def __init__(self, topic: str, flow: Flow) -> None:
        self.delays: list[tuple[float, float]] = []
        self._flow = flow
        self._consumer = topics.consumer(topic, committed=True)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Reader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        topics.end(self._consumer)
        self._thread.join()

    def _run(self) -> None:
        assert self._consumer.stdout
        for line in self._consumer.stdout:
            now = time.monotonic()
            self.delays.append((now, now - self._flow.written(int(line.split(b" ", 1)[0]))))
