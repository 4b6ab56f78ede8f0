"""Topics of the real Kafka: filled with real text, counted, read.

Invariants: an input topic holds exactly the lines that its name says, written once and read by every run; so both engines
read identical bytes. A topic that is there already with that many lines is used again.
"""

import contextlib
import itertools
import os
import pathlib
import signal
import subprocess
from collections.abc import Iterable, Iterator, Sequence

from . import cluster
from .places import CACHE, CLUSTER

PARTITIONS = 4
_TEXT = CACHE / "e2e-text.txt"
_BLOCK_LINES = 10_000
_BLOCK_BYTES = 1 << 20
_PRODUCER = ["--batch-size", "65536", "--timeout", "20", "--request-required-acks", "1"]
_COMMITTED_MS = 30_000
_OFFSETS = "org.apache.kafka.tools.GetOffsetShell"


class TopicError(Exception):
    """A topic does not hold what it should."""


def text_lines() -> list[str]:
    """Real text: the manual pages of Perl, from Debian's package perl-doc, without blank lines."""
    if not _TEXT.exists():
        files = subprocess.run(["dpkg", "-L", "perl-doc"], check=True, capture_output=True, text=True).stdout.split()
        pages = sorted(file for file in files if file.endswith(".pod"))
        _TEXT.parent.mkdir(parents=True, exist_ok=True)
        with _TEXT.open("wb") as out:
            for page in pages:
                with open(page, "rb") as source:
                    out.write(source.read())
    lines = (line.rstrip() for line in _TEXT.read_text(errors="replace").split("\n"))
    return [line for line in lines if line]


def words_of(line: str) -> list[str]:
    """Lower case, split at what is not alphanumeric."""
    return "".join(c.lower() if c.isalnum() else " " for c in line).split()


def address() -> str:
    return cluster.output("kafka", "address").strip()


def create(name: str) -> None:
    cluster.verb("kafka", "topics", "--create", "--topic", name, "--partitions", str(PARTITIONS), quiet=True)


def delete(name: str) -> None:
    cluster.verb("kafka", "topics", "--delete", "--if-exists", "--topic", name, quiet=True)


def records(name: str) -> int:
    """How many records were written to a topic; 0 if there is none."""
    answer = cluster.output_or_nothing("kafka", "tool", _OFFSETS, "--bootstrap-server", address(), "--topic", name)
    return sum(int(line.rpartition(":")[2] or 0) for line in answer.split())


def filled(prefix: str, lines: list[str], count: int) -> str:
    """A topic with the text, repeated to `count` lines."""
    name = f"{prefix}-{count}"
    if records(name) == count:
        return name
    delete(name)
    create(name)
    _produce(name, _text_blocks(lines, count))
    if (found := records(name)) != count:
        raise TopicError(f"topic {name} holds {found} records, {count} were written")
    return name


def filled_from(name: str, files: Sequence[pathlib.Path], lines: int) -> str:
    """A topic with the lines of files, as many as are told."""
    if records(name) == lines:
        return name
    recreate(name)
    append(name, files)
    if (found := records(name)) != lines:
        raise TopicError(f"topic {name} holds {found} records, {lines} were written")
    return name


def recreate(name: str) -> None:
    """An empty topic."""
    delete(name)
    create(name)


def append(name: str, files: Iterable[pathlib.Path]) -> None:
    """Adds the lines of files."""
    _produce(name, (block for file in files for block in _file_blocks(file)))


def producer(name: str) -> subprocess.Popen[bytes]:
    """One that runs until its standard input is closed; a line is a record."""
    command = [CLUSTER, "kafka", "produce", "--topic", name, *_PRODUCER]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)


def consumer(name: str, committed: bool = False) -> subprocess.Popen[bytes]:
    """One that gives what comes from now on, a record a line, until it is ended; `committed`: of transactions only what is."""
    isolation = ["--isolation-level", "read_committed"] if committed else []
    command = [CLUSTER, "kafka", "consume", "--topic", name, *isolation]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )


def end(tool: subprocess.Popen[bytes]) -> None:
    """A producer or consumer, with the scripts around it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(tool.pid, signal.SIGTERM)
    tool.wait()


def read(name: str) -> Iterator[str]:
    """All records that are in a topic now."""
    count = records(name)
    answer = cluster.output("kafka", "consume", "--topic", name, "--from-beginning", "--max-messages", str(count))
    return iter(answer.splitlines())


def read_committed(name: str, count: int) -> Iterator[str]:
    """The first so many committed records; fails if there are fewer."""
    wanted = ["--isolation-level", "read_committed", "--max-messages", str(count), "--timeout-ms", str(_COMMITTED_MS)]
    lines = cluster.output("kafka", "consume", "--topic", name, "--from-beginning", *wanted).splitlines()
    if len(lines) < count:
        raise TopicError(f"topic {name} has {len(lines)} committed records and not {count}")
    return iter(lines)


def largest_counts(lines: Iterable[str]) -> dict[str, int]:
    """The largest count of each word in `word count` records."""
    counts: dict[str, int] = {}
    for line in lines:
        word, _, count = line.rpartition(" ")
        counts[word] = max(int(count), counts.get(word, 0))
    return counts


def _text_blocks(lines: list[str], count: int) -> Iterator[bytes]:
    endless = itertools.islice(itertools.cycle(lines), count)
    while block := list(itertools.islice(endless, _BLOCK_LINES)):
        yield ("\n".join(block) + "\n").encode()


def _file_blocks(file: pathlib.Path) -> Iterator[bytes]:
    with file.open("rb") as source:
        while block := source.read(_BLOCK_BYTES):
            yield block


def _produce(name: str, blocks: Iterable[bytes]) -> None:
    with producer(name) as process:
        assert process.stdin
        for block in blocks:
            process.stdin.write(block)
        process.stdin.close()
        if process.wait() != 0:
            raise TopicError(f"writing topic {name} failed")
