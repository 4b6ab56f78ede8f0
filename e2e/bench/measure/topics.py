"""Topics of the real Kafka: filled with real text, counted, read.

Invariants: an input topic holds exactly the lines that its name says, written once and read by every run; so both engines
read identical bytes. A topic that is there already with that many lines is used again.
"""

import itertools
import subprocess
from collections.abc import Iterator

from . import cluster
from .places import CACHE, CLUSTER

PARTITIONS = 4
_TEXT = CACHE / "e2e-text.txt"
_BLOCK_LINES = 10_000
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
    _produce(name, lines, count)
    if (found := records(name)) != count:
        raise TopicError(f"topic {name} holds {found} records, {count} were written")
    return name


def read(name: str) -> Iterator[str]:
    """All records that are in a topic now."""
    count = records(name)
    answer = cluster.output("kafka", "consume", "--topic", name, "--from-beginning", "--max-messages", str(count))
    return iter(answer.splitlines())


def _produce(name: str, lines: list[str], count: int) -> None:
    options = ["--batch-size", "65536", "--timeout", "20", "--request-required-acks", "1"]
    command = [CLUSTER, "kafka", "produce", "--topic", name, *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as producer:
        assert producer.stdin
        endless = itertools.islice(itertools.cycle(lines), count)
        while block := list(itertools.islice(endless, _BLOCK_LINES)):
            producer.stdin.write(("\n".join(block) + "\n").encode())
        producer.stdin.close()
        if producer.wait() != 0:
            raise TopicError(f"writing topic {name} failed")
