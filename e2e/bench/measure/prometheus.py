"""Reads the text that Prometheus scrapes."""

import re
from collections.abc import Callable, Iterator, Mapping

_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? +(\S+)(?: +-?\d+)?$")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)",?')

Labels = Mapping[str, str]


def samples(text: str) -> Iterator[tuple[str, Labels, float]]:
    """Name, labels and value of each line that is no comment."""
    for line in text.splitlines():
        if found := _SAMPLE.match(line):
            name, labels, value = found.groups()
            yield name, dict(_LABEL.findall(labels or "")), float(value)


def total(text: str, name: str, wanted: Callable[[Labels], bool] = lambda _: True) -> float | None:
    """Sum of a metric's samples with the labels wanted; None where there is none."""
    values = [value for found, labels, value in samples(text) if found == name and wanted(labels)]
    return sum(values) if values else None
