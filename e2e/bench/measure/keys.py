"""Keys to count: made once, kept as files, so that every engine and every run reads the same bytes.

    keys-N         N different keys, each once
    updates-N-M    M keys of those, at random and so some of them several times
    sample-N-M-S   M different keys of those, other ones for another S

A key is 16 hexadecimal digits; a line, which becomes a record of the topic, is a block of up to 1,000 keys, one behind the other.
That way a source costs next to nothing a key. Keys are random, of 64 bits: among 100 million two alike have a chance of 1 in
3,700, and then every engine counts them as one.
"""

import array
import pathlib
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from .places import WORK

DIGITS = 16
BLOCK = 1000
_INPUT = WORK / "input"


def distinct(count: int) -> pathlib.Path:
    return _file(f"keys-{count}", lambda: _distinct_blocks(count))


def updates(count: int, number: int) -> pathlib.Path:
    return _file(f"updates-{count}-{number}", lambda: _update_blocks(_table(count), count, number))


def sample(count: int, number: int, seed: int) -> pathlib.Path:
    return _file(f"sample-{count}-{number}-{seed}", lambda: _sample_blocks(_table(count), count, number, seed))


def lines_of(keys: int) -> int:
    """Lines, and so records, of so many keys."""
    return -(-keys // BLOCK)


def counts_of(files: Iterable[pathlib.Path]) -> Counter[str]:
    """An independent count."""
    counts: Counter[str] = Counter()
    for file in files:
        for line in file.read_text().splitlines():
            counts.update(line[at : at + DIGITS] for at in range(0, len(line), DIGITS))
    return counts


def random_keys(seed: str) -> Iterator[str]:
    """Without end."""
    source = random.Random(seed)
    while True:
        yield source.randbytes(DIGITS // 2).hex()


def _distinct_blocks(count: int) -> Iterator[str]:
    source = random.Random(f"keys {count}")
    for size in _sizes(count):
        yield source.randbytes(size * DIGITS // 2).hex()


def _update_blocks(table: str, count: int, number: int) -> Iterator[str]:
    source = random.Random(f"updates {count} {number}")
    for size in _sizes(number):
        # A 32-bit number n stands for the key n * count / 2^32.
        chosen = array.array("I", source.randbytes(4 * size))
        yield "".join([table[(at := (n * count >> 32) * DIGITS) : at + DIGITS] for n in chosen])


def _sample_blocks(table: str, count: int, number: int, seed: int) -> Iterator[str]:
    chosen = random.Random(f"sample {count} {seed}").sample(range(count), number)
    for first in range(0, number, BLOCK):
        yield "".join(table[n * DIGITS : (n + 1) * DIGITS] for n in chosen[first : first + BLOCK])


def _sizes(keys: int) -> Iterator[int]:
    for first in range(0, keys, BLOCK):
        yield min(BLOCK, keys - first)


def _table(count: int) -> str:
    """All keys in one string."""
    return distinct(count).read_text().replace("\n", "")


def _file(name: str, blocks: Callable[[], Iterator[str]]) -> pathlib.Path:
    """The file of that name, written whole or not at all."""
    path = _INPUT / f"{name}.txt"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("w") as out:
            out.writelines(f"{block}\n" for block in blocks())
        part.rename(path)
    return path
