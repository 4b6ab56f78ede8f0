"""What benchmarks of state come to: quantities of runs, compared, printed and kept."""

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import time
from collections.abc import Sequence

from . import contenders
from .figures import Comparison, Figure, comparison_table, table
from .places import WORK


@dataclasses.dataclass(frozen=True)
class Quantity:
    """What a number is, and which way it is better; None: it only tells the circumstances."""

    name: str
    more_is_better: bool | None
    digits: int = 0


@dataclasses.dataclass(frozen=True)
class Run:
    """One measurement of a contender: values by the name of their quantity. What was not measured is left out."""

    engine: str
    case: str
    values: dict[str, float]

    def line(self) -> str:
        told = "  ".join(f"{name} {value:,.4g}" if value < 10 else f"{name} {value:,.0f}" for name, value in self.values.items())
        return f"{self.engine:22} {self.case:18} {told}"


def figure(runs: Sequence[Run], engine: str, case: str, quantity: Quantity) -> Figure | None:
    values = [run.values[quantity.name] for run in runs if (run.engine, run.case) == (engine, case) and quantity.name in run.values]
    return Figure(tuple(values)) if values else None


def comparisons(runs: Sequence[Run], quantities: Sequence[Quantity]) -> list[Comparison]:
    """Each quantity that can be better, of each case and pair of contenders that have it."""
    found = []
    for theirs, ours in contenders.pairs(list(dict.fromkeys(run.engine for run in runs))):
        for case in dict.fromkeys(run.case for run in runs):
            for quantity in quantities:
                figures = [figure(runs, engine, case, quantity) for engine in (theirs, ours)]
                if quantity.more_is_better is not None and all(figures):
                    what = ", ".join(part for part in (quantity.name, case, f"{theirs} : {ours}") if part)
                    found.append(Comparison(what, *figures, quantity.more_is_better, quantity.digits))
    return found


def all_figures(runs: Sequence[Run], quantities: Sequence[Quantity]) -> str:
    """A row a contender and case, a column a quantity."""
    rows = []
    for engine, case in dict.fromkeys((run.engine, run.case) for run in runs):
        figures = [figure(runs, engine, case, quantity) for quantity in quantities]
        texts = [found.text(quantity.digits) if found else "-" for found, quantity in zip(figures, quantities)]
        rows.append((f"{engine} {case}".strip(), *texts))
    return table(("engine", *(quantity.name for quantity in quantities)), rows)


def conclude(verb: str, title: str, runs: Sequence[Run], quantities: Sequence[Quantity], options: argparse.Namespace) -> None:
    """Prints the tables, losing cases first, and keeps every run."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, parallelism {options.parallelism}"
    print(f"\n{title}; {machine}, {options.runs} runs each, median (lowest-highest).\n")
    if compared := comparisons(runs, quantities):
        print(comparison_table(compared) + "\n")
    print(all_figures(runs, quantities))
    print(f"\nEvery run: {keep(verb, runs, options)}")


def keep(verb: str, runs: Sequence[Run], options: argparse.Namespace) -> pathlib.Path:
    WORK.mkdir(parents=True, exist_ok=True)
    raw = WORK / f"{verb}-{time.strftime('%Y%m%d-%H%M%S')}.json"
    settings = {name: value for name, value in vars(options).items() if isinstance(value, (int, float, str, list))}
    raw.write_text(json.dumps({"options": settings, "runs": [dataclasses.asdict(run) for run in runs]}, indent=1))
    return raw
