"""Medians and spreads, and tables of them, losing cases first. Pure."""

import dataclasses
import statistics
from collections.abc import Iterable, Sequence


class FigureError(Exception):
    """A figure that can't be made of these values."""


@dataclasses.dataclass(frozen=True)
class Figure:
    """A quantity measured several times."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise FigureError("a figure needs at least one measurement")

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    def text(self, digits: int = 0) -> str:
        """`median (low-high)`."""
        number = f"{{:,.{digits}f}}".format
        return f"{number(self.median)} ({number(self.low)}-{number(self.high)})"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One quantity of two engines. `more_is_better` decides which way the ratio goes: above 1 is ours."""

    what: str
    flink: Figure
    thalweg: Figure
    more_is_better: bool = True
    digits: int = 0

    @property
    def ratio(self) -> float:
        over, under = self.thalweg.median, self.flink.median
        if not self.more_is_better:
            over, under = under, over
        if under == 0:
            return 1.0 if over == 0 else float("inf")
        return over / under


def comparison_table(comparisons: Iterable[Comparison]) -> str:
    """Losing cases first."""
    rows = [
        (row.what, row.flink.text(row.digits), row.thalweg.text(row.digits), f"{row.ratio:.2f}x")
        for row in sorted(comparisons, key=lambda row: row.ratio)
    ]
    return table(("what", "Flink", "Thalweg", "Thalweg is better by"), rows)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown; the first column to the left, the others to the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
