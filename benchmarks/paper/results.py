"""What an experiment hands to the report."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """A statement of the paper and what became of it here.

    Parameters
    ----------
    claim : str
        What the paper says.
    found : str
        Our figure.
    agrees : bool or None
        None where it cannot be judged.
    why : str
        The numbers that it follows from.
    """

    claim: str
    found: str
    agrees: bool | None
    why: str


@dataclass(frozen=True)
class Table:
    """A table; its rows are in the order of what matters."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Picture:
    """A figure by the stem of its files; whether it shows images (PNG in the page, else SVG), and needs the width."""

    stem: str
    caption: str
    image: bool = False
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """One experiment in the report; ``seconds`` is what it took, without the networks that were trained before."""

    title: str
    setup: str
    verdicts: tuple[Verdict, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the section for the json module."""
        return asdict(self)

    @staticmethod
    def from_json(value: dict[str, Any]) -> Section:
        """Return the section that `to_json` gave."""
        return Section(
            title=value["title"],
            setup=value["setup"],
            verdicts=tuple(Verdict(**one) for one in value["verdicts"]),
            tables=tuple(
                Table(one["caption"], tuple(one["head"]), tuple(map(tuple, one["rows"]))) for one in value["tables"]
            ),
            pictures=tuple(Picture(**one) for one in value["pictures"]),
            notes=tuple(value["notes"]),
            seconds=value["seconds"],
        )


def number(value: float | None, digits: int = 3) -> str:
    """Return a number for a table; a dash where it is not defined."""
    return "–" if value is None else f"{value:.{digits}f}"


def signed(value: float, digits: int = 3) -> str:
    """Return a difference with its sign; that of nothing is plus."""
    return f"{round(value, digits) + 0.0:+.{digits}f}"
