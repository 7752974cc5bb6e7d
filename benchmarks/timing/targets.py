"""Targets of the program, beside the measurements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Result = Mapping[str, Any]
"""The parts of the benchmark by name, as far as they are measured."""

_USUAL, _LARGEST, _SMALLEST = "4096×4096", "11520×8184", "1024×1024"


@dataclass(frozen=True)
class Target:
    """A target.

    Parameters
    ----------
    what : str
                The measured quantity.
    limit : float
        The target.
    unit : str
        ``s``, ``MB``, ``×``, ``%`` or another.
    measured : callable
        Takes the number from the result; KeyError if it was not measured.
    least : bool
        Whether the limit is a minimum or a maximum.
    """

    what: str
    limit: float
    unit: str
    measured: Callable[[Result], float]
    least: bool = False

    def row(self, result: Result) -> str:
        """Return a row of the table."""
        sign = "≥" if self.least else "≤"
        start = f"| {self.what} | {sign} {_number(self.limit, self.unit)} |"
        try:
            value = self.measured(result)
        except KeyError:
            return f"{start} not measured | – |"
        good = value >= self.limit if self.least else value <= self.limit
        return f"{start} {_number(value, self.unit)} | {'hit' if good else '**missed**'} |"


def table(result: Result) -> str:
    """Return all targets as Markdown."""
    return rows_of(TARGETS, result)


def rows_of(targets: Sequence[Target], result: Result) -> str:
    """Return some targets as Markdown."""
    head = "| what | target | measured | |\n|---|---|---|---|\n"
    return head + "\n".join(target.row(result) for target in targets)


def run_of(result: Result, size: str, workers: int, number: int) -> dict[str, Any]:
    """Return the row of a run; KeyError if there is none."""
    for row in result["numbers"]["rows"]:
        if (row["size"], row["workers"], row["number"]) == (size, workers, number):
            return dict(row)
    raise KeyError(number)


def _number(value: float, unit: str) -> str:
    if unit == "MB":
        return f"{value:,.0f} MB"
    if unit == "%":
        return f"{100 * value:.0f} %"
    text = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{text}{'' if unit in ('×', '') else ' '}{unit}"


def _growth(name: str, size: str, workers: int, few: int, many: int) -> Callable[[Result], float]:
    return lambda r: run_of(r, size, workers, many)[name] / run_of(r, size, workers, few)[name]


def _ratio(program: str, name: str) -> Callable[[Result], float]:
    return lambda r: float(r["rivals"]["ratios"][program][name])


TARGETS = (
    Target(f"{_USUAL}, all steps, warm, two threads", 0.6, "s", lambda r: _steps(r)["2"]["all"]),
    Target(
        f"{_USUAL}, all steps, warm, one thread, over what the processor can do",
        2,
        "×",
        lambda r: _steps(r)["1"]["all"] / r["limit"]["seconds"],
    ),
    Target(
        f"{_USUAL}, each additional one in a run of 100, two workers",
        0.6,
        "s",
        lambda r: run_of(r, _USUAL, 2, 100)["each more"],
    ),
    Target(f"{_USUAL}, peak memory of the command", 1000, "MB", lambda r: _command(r, _USUAL)["megabytes"]),
    Target(f"{_LARGEST}, peak memory of the command", 1000, "MB", lambda r: _command(r, _LARGEST)["megabytes"]),
    Target(
        "RELION's LoG, two processes: time per additional micrograph, over ours",
        1,
        "×",
        _ratio("relion", "each more"),
        True,
    ),
    Target("RELION's LoG: one micrograph cold, over ours", 1, "×", _ratio("relion", "one"), True),
    Target(
        "Topaz, scale 3: time per additional micrograph, over ours",
        50,
        "×",
        _ratio("topaz, scale 3", "each more"),
        True,
    ),
    Target(
        "Topaz, scale 4: time per additional micrograph, over ours",
        50,
        "×",
        _ratio("topaz, scale 4", "each more"),
        True,
    ),
    Target("Topaz, scale 3: one micrograph cold, over ours", 50, "×", _ratio("topaz, scale 3", "one"), True),
    Target(
        "the paper's network window by window, over the same at once",
        300,
        "×",
        lambda r: r["patches"]["ratios"]["paper"],
        True,
    ),
    Target(
        "the paper's network window by window, over the default network at once",
        300,
        "×",
        lambda r: r["patches"]["ratios"]["paper to default"],
        True,
    ),
    Target(
        "the default network position by position, over the same at once",
        300,
        "×",
        lambda r: r["patches"]["ratios"]["default"],
        True,
    ),
    Target(
        f"100 micrographs of {_USUAL}, two workers: cores busy",
        0.9,
        "%",
        lambda r: run_of(r, _USUAL, 2, 100)["busy"],
        True,
    ),
    *(
        target
        for workers, name in ((1, "one worker"), (2, "two workers"))
        for target in (
            Target(
                f"{_SMALLEST}, {name}: time per additional micrograph at 1,000, over that at 100",
                1.05,
                "×",
                _growth("each more", _SMALLEST, workers, 100, 1000),
            ),
            Target(
                f"{_SMALLEST}, {name}: peak memory at 1,000, over that at 10",
                1.1,
                "×",
                _growth("megabytes", _SMALLEST, workers, 10, 1000),
            ),
        )
    ),
    Target("cold `deeppicker pick` of one micrograph", 1.5, "s", lambda r: r["start"]["pick"]["wall"]),
    Target("`deeppicker --help`", 0.3, "s", lambda r: r["start"]["help"]["wall"]),
)


def _steps(result: Result) -> dict[str, Any]:
    return dict(result["stages"]["sizes"][_USUAL]["threads"])


def _command(result: Result, size: str) -> dict[str, Any]:
    return dict(result["stages"]["sizes"][size]["command"])
