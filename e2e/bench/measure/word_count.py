"""Word count over Kafka, beside real Flink.

    text -> topic -> [ flink | flink-sql | thalweg ] -> topic or blackhole      one run: start, warm up, window, stop
                              |
              counters (Prometheus) + /proc, twice a second -> window -> figures -> table

Runs alternate, so that what the machine does meanwhile hits both. Before anything is measured, all engines count a small
topic to its end and must agree on every word.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable

from . import cluster, processes, steady, topics
from .engine import Engine, EngineError, Job, topic_arguments
from .figures import Comparison, Figure, comparison_table, table
from .flink import Flink, FlinkSql
from .places import WORK
from .thalweg import Thalweg

_ENGINES = ["flink", "flink-sql", "thalweg"]
_SAMPLE_SECONDS = 0.5
# The last of a topic is left unread: near its end some partitions have ended already.
_READ_OUT = 0.97
_CHECK_LINES = 100_000
_CHECK_SECONDS = 600

MakeEngine = Callable[[], Engine]


@dataclasses.dataclass(frozen=True)
class Run:
    """One measured run. Rates are of lines."""

    engine: str
    sink: str
    window: steady.Window
    peak_bytes: int


def run(options: argparse.Namespace) -> None:
    """The verb, inside the cluster's network."""
    engines = make_engines(options)
    lines = topics.text_lines()
    words_per_line = statistics.fmean(len(topics.words_of(line)) for line in lines)
    if not options.no_check:
        check_counts(engines, lines, options)
    topic = topics.filled("bench-lines", lines, options.lines)
    runs = []
    for number in range(options.runs):
        for sink in options.sinks:
            for make in engines.values():
                done = measure(make(), topic, sink, options)
                runs.append(done)
                print(f"run {number + 1}: {one_line(done, words_per_line)}", flush=True)
    conclude(runs, words_per_line, lines, options)


def smallest_memory(options: argparse.Namespace) -> None:
    """The verb `flink-memory`: the smallest TaskManager with which Flink is within 10 % of its best."""
    topic = topics.filled("bench-lines", topics.text_lines(), options.lines)
    speeds = {}
    for size in options.sizes:
        options.memory = size
        runs = []
        for _ in range(options.runs):
            try:
                done = measure(Flink(WORK / "run", options.flink_home, options.flink_jar), topic, "kafka", options)
            except (EngineError, processes.ProcessError) as failure:
                print(f"{size}: {str(failure).splitlines()[0]}", flush=True)
                break
            runs.append(done.window.per_second)
        if runs:
            speeds[size] = statistics.median(runs)
            print(f"{size}: {speeds[size]:,.0f} lines/s", flush=True)
    if not speeds:
        raise EngineError("Flink ran with none of these sizes")
    enough = 0.9 * max(speeds.values())
    print("smallest within 10 % of the best:", next(size for size in options.sizes if speeds.get(size, 0) >= enough))


def make_engines(options: argparse.Namespace) -> dict[str, MakeEngine]:
    work = WORK / "run"
    makers: dict[str, MakeEngine] = {
        "flink": lambda: Flink(work, options.flink_home, options.flink_jar),
        "flink-sql": lambda: FlinkSql(work, options.flink_home, options.flink_jar),
        "thalweg": lambda: Thalweg(work, options.binaries),
    }
    return {name: makers[name] for name in options.engines}


def job(topic: str, output: str | None, options: argparse.Namespace, bounded: bool = False) -> Job:
    arguments = topic_arguments(topics.address(), topic, output, bounded)
    return Job("word-count", arguments, options.parallelism, options.memory)


def check_counts(engines: dict[str, MakeEngine], lines: list[str], options: argparse.Namespace) -> None:
    """All engines give the same counts for the same lines, and as many words as an independent count."""
    topic = topics.filled("bench-check", lines, _CHECK_LINES)
    counts = {}
    for name, make in engines.items():
        output = f"bench-check-{name}"
        topics.delete(output)
        topics.create(output)
        engine = make()
        try:
            engine.start(job(topic, output, options, bounded=True))
            engine.wait_finished(_CHECK_SECONDS)
        finally:
            engine.stop()
        counts[name] = topics.largest_counts(topics.read(output))
        topics.delete(output)
    first, *others = counts
    for other in others:
        differing = {w for w in counts[first] | counts[other] if counts[first].get(w) != counts[other].get(w)}
        if differing:
            word = min(differing)
            told = {name: count.get(word) for name, count in counts.items()}
            raise EngineError(f"{first} and {other} differ in {len(differing)} words, the first is {word!r}: {told}")
    expected = sum(len(topics.words_of(line)) for line in (lines * (_CHECK_LINES // len(lines) + 1))[:_CHECK_LINES])
    found = sum(counts[first].values())
    if abs(found - expected) > expected // 10_000:
        raise EngineError(f"{first} counted {found} words, an independent count gives {expected}")
    print(f"check: {', '.join(counts)} count {found:,} words, {len(counts[first]):,} different ones, alike", flush=True)


def measure(engine: Engine, topic: str, sink: str, options: argparse.Namespace) -> Run:
    """Starts an engine, lets it warm up, watches it for the window and stops it."""
    output = "bench-counts" if sink == "kafka" else None
    if output:
        topics.delete(output)
        topics.create(output)
    wanted = job(topic, output, options)
    try:
        engine.start(wanted)
        samples = watch(engine, options)
        peak = sum(processes.resident_bytes(pid, "VmHWM") for pid in engine.pids())
    finally:
        engine.stop()
    begin = samples[0].time + options.warmup
    return Run(engine.name, sink, steady.window(samples, begin, options.lines * _READ_OUT), peak)


def watch(engine: Engine, options: argparse.Namespace) -> list[steady.Sample]:
    """Samples from the first record read until the window is over or the topic read out."""
    broker = cluster.component_pid("kafka")
    processes.wait_until(f"{engine.name} to read", 120, engine.source_records, engine.processes)
    samples = [sample(engine, broker)]
    while samples[-1].time < samples[0].time + options.warmup + options.seconds:
        time.sleep(_SAMPLE_SECONDS)
        engine.check()
        samples.append(sample(engine, broker))
        if samples[-1].records >= options.lines * _READ_OUT:
            break
    return samples


def sample(engine: Engine, broker: int) -> steady.Sample:
    return steady.Sample(
        time=time.monotonic(),
        records=engine.source_records() or 0.0,
        sent=engine.sink_records() or 0.0,
        engine_cpu=processes.cpu_seconds(engine.pids()),
        broker_cpu=processes.cpu_seconds([broker]),
        machine_cpu=processes.machine_cpu_seconds(),
    )


def one_line(done: Run, words_per_line: float) -> str:
    window = done.window
    return (
        f"{done.engine:9} -> {done.sink:9} {window.per_second:>12,.0f} lines/s {window.per_second * words_per_line:>12,.0f} "
        f"words/s {window.per_core_second:>12,.0f} lines/core-s  {window.seconds:.0f} s  {done.peak_bytes >> 20} MiB  "
        f"cores: engine {window.engine_cpu / window.seconds:.2f} broker {window.broker_cpu / window.seconds:.2f} "
        f"others {window.other_cpu / window.seconds:.2f}"
    )


def comparisons(runs: list[Run], words_per_line: float) -> list[Comparison]:
    """Ours beside each of Flink's, at each sink at which both were measured."""
    found = []
    for sink in dict.fromkeys(done.sink for done in runs):
        ours = [done for done in runs if (done.sink, done.engine) == (sink, "thalweg")]
        for name in dict.fromkeys(done.engine for done in runs if done.engine != "thalweg"):
            theirs = [done for done in runs if (done.sink, done.engine) == (sink, name)]
            if ours and theirs:
                found += compare(f"to {sink}, {name}", theirs, ours, words_per_line)
    return found


def compare(case: str, theirs: list[Run], ours: list[Run], words_per_line: float) -> list[Comparison]:
    """Each quantity once."""

    def quantity(what: str, value: Callable[[Run], float], more_is_better: bool = True) -> Comparison:
        figures = [Figure(tuple(value(done) for done in runs)) for runs in (theirs, ours)]
        return Comparison(f"{what} {case}", *figures, more_is_better)

    return [
        quantity("lines/s", lambda done: done.window.per_second),
        quantity("words/s", lambda done: done.window.per_second * words_per_line),
        quantity("lines per core-second", lambda done: done.window.per_core_second),
        quantity("words per core-second", lambda done: done.window.per_core_second * words_per_line),
        quantity("peak resident memory, MiB,", lambda done: done.peak_bytes / 2**20, False),
    ]


def circumstances(runs: list[Run], words_per_line: float) -> str:
    """What was read, sent and used beside, a row an engine and sink."""
    rows = []
    for key in dict.fromkeys((done.engine, done.sink) for done in runs):
        windows = [done.window for done in runs if (done.engine, done.sink) == key]
        median = lambda value, windows=windows: statistics.median(value(window) for window in windows)  # noqa: E731
        sent = median(lambda window: window.sent / (window.records * words_per_line))
        rows.append((
            " to ".join(key),
            f"{min(window.seconds for window in windows):.0f}",
            f"{median(lambda window: window.engine_cpu / window.seconds):.2f}",
            f"{median(lambda window: window.broker_cpu / window.seconds):.2f}",
            f"{median(lambda window: window.other_cpu / window.seconds):.2f}",
            f"{sent:.3f}" if key[1] == "kafka" else "-",
        ))
    header = ("engine", "shortest window, s", "engine's cores", "broker's cores", "others' cores", "records sent per word")
    return table(header, rows)


def conclude(runs: list[Run], words_per_line: float, lines: list[str], options: argparse.Namespace) -> None:
    bytes_per_line = statistics.fmean(len(line.encode()) for line in lines)
    print(
        f"\nWord count, {platform.machine()}, {os.cpu_count()} cores, parallelism {options.parallelism}, {options.runs} runs each, "
        f"median (lowest-highest); {options.warmup} s of warm-up, up to {options.seconds} s measured; topic of "
        f"{options.lines:,} lines of {bytes_per_line:.0f} bytes and {words_per_line:.2f} words in {topics.PARTITIONS} partitions; "
        f"taskmanager.memory.process.size {options.memory}.\n"
    )
    if compared := comparisons(runs, words_per_line):
        print(comparison_table(compared) + "\n")
    print(circumstances(runs, words_per_line))
    WORK.mkdir(parents=True, exist_ok=True)
    raw = WORK / f"word-count-{time.strftime('%Y%m%d-%H%M%S')}.json"
    settings = {name: value for name, value in vars(options).items() if isinstance(value, (int, float, str, list))}
    raw.write_text(json.dumps({"options": settings, "runs": [dataclasses.asdict(done) for done in runs]}, indent=1))
    print(f"\nEvery run: {raw}")


def add_window_options(parser: argparse.ArgumentParser, runs: int) -> None:
    parser.add_argument("--lines", type=int, default=60_000_000, help="lines in the topic (default %(default)s)")
    parser.add_argument("--runs", type=int, default=runs, help="runs of each (default %(default)s)")
    parser.add_argument("--seconds", type=int, default=60, help="seconds measured (default %(default)s)")
    parser.add_argument("--warmup", type=int, default=20, help="seconds before that (default %(default)s)")
    parser.add_argument("--parallelism", type=int, default=2, help="default %(default)s")


def add_options(parser: argparse.ArgumentParser, binaries: pathlib.Path) -> None:
    add_window_options(parser, runs=5)
    parser.add_argument("--memory", default="2g", help="taskmanager.memory.process.size of both (default %(default)s)")
    parser.add_argument("--sinks", nargs="+", choices=["kafka", "blackhole"], default=["kafka", "blackhole"])
    parser.add_argument("--engines", nargs="+", choices=_ENGINES, default=_ENGINES)
    parser.add_argument("--binaries", type=pathlib.Path, default=binaries, help="default %(default)s")
    parser.add_argument("--no-check", action="store_true", help="do not compare the counts first")


def add_memory_options(parser: argparse.ArgumentParser) -> None:
    add_window_options(parser, runs=3)
    sizes = ["896m", "1g", "1280m", "1536m", "2g", "3g"]
    parser.add_argument("--sizes", nargs="+", default=sizes, metavar="SIZE", help="from the smallest (default %(default)s)")
