"""The report: one HTML file in the style of `deeppicker report`, which needs no network, and the same as Markdown."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from deeppicker.gui.report import page
from paper.results import Picture, Section, Table, Verdict

_MARKS = {True: "agrees", False: "differs", None: "open"}
_LAYOUT = """<style>
td, th { white-space: normal }
.words { text-align: left } .wide { grid-column: 1 / -1 } img { display: block; width: 100%; background: #fff }
td.agrees { color: #1b8a78; font-weight: 600 } td.differs { color: #c2410c; font-weight: 600 } .verdicts td {
  text-align: left; vertical-align: top } .verdicts th { text-align: left }
section > p { margin-bottom: 14px; max-width: 75ch }
section > div { margin-bottom: 14px } .narrow { grid-template-columns: repeat(auto-fill, minmax(420px, 1fr)) }
h3 { font-size: 14px; margin: 0 0 6px } .table { max-height: none }
</style>"""


def as_html(title: str, subtitle: str, sections: Sequence[Section], figures: Path) -> str:
    """Return the page, with all figures in it."""
    parts = [("", _LAYOUT + _verdicts(summary(sections)))]
    return page(title, subtitle, parts + [(one.title, _content(one, figures)) for one in sections])


def as_markdown(title: str, subtitle: str, sections: Sequence[Section], figures: Mapping[str, str]) -> str:
    """Return the same as Markdown; ``figures`` says where the file of each is."""
    return "\n".join(_lines(title, subtitle, sections, figures)) + "\n"


def summary(sections: Sequence[Section]) -> list[tuple[str, Verdict]]:
    """Return all verdicts with the experiment of each: first what differs, then what agrees, then what is open."""
    every = [(one.title.partition(":")[0], verdict) for one in sections for verdict in one.verdicts]
    return sorted(every, key=lambda item: (False, True, None).index(item[1].agrees))


def _content(section: Section, figures: Path) -> str:
    parts = [f"<p>{html.escape(section.setup)}</p>", _verdicts([("", verdict) for verdict in section.verdicts])]
    images = "".join(_figure(picture, figures) for picture in section.pictures)
    parts += [f'<div class="plots narrow">{images}</div>'] if images else []
    parts += [_table(table) for table in section.tables]
    parts += [f"<p>{html.escape(note)}</p>" for note in (*section.notes, *_time(section))]
    return "".join(parts)


def _verdicts(verdicts: Sequence[tuple[str, Verdict]]) -> str:
    if not verdicts:
        return ""
    named = any(name for name, _ in verdicts)
    heads = [*(["experiment"] if named else []), "the paper", "here", "", "why"]
    rows = "".join(
        "<tr>"
        + (f"<td>{html.escape(name)}</td>" if named else "")
        + f"<td>{html.escape(one.claim)}</td><td>{html.escape(one.found)}</td>"
        f'<td class="{_MARKS[one.agrees]}">{_MARKS[one.agrees]}</td><td>{html.escape(one.why)}</td></tr>'
        for name, one in verdicts
    )
    head = "".join(f"<th>{name}</th>" for name in heads)
    content = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<div class="table verdicts" tabindex="0">{content}</div>'


def _table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.head)
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows)
    return (
        f'<div class="table" tabindex="0"><h3>{html.escape(table.caption)}</h3>'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cell(text: str) -> str:
    """Return a cell; words stand on the left, numbers on the right."""
    words = ' class="words"' if re.search(r"[A-Za-z]{2}", text) else ""
    return f"<td{words}>{html.escape(text)}</td>"


def _figure(picture: Picture, figures: Path) -> str:
    kind, media = ("png", "image/png") if picture.image else ("svg", "image/svg+xml")
    content = base64.b64encode((figures / f"{picture.stem}.{kind}").read_bytes()).decode()
    caption = html.escape(picture.caption)
    return (
        f"<figure{' class=wide' if picture.wide else ''}>"
        f'<img alt="{html.escape(picture.caption, quote=True)}" src="data:{media};base64,{content}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _lines(title: str, subtitle: str, sections: Sequence[Section], figures: Mapping[str, str]) -> Iterator[str]:
    yield from (f"# {title}", "", subtitle, "")
    yield from _rows(("experiment", "the paper", "here", "", "why"), [_row(n, v) for n, v in summary(sections)])
    for section in sections:
        yield from ("", f"## {section.title}", "", section.setup, "")
        yield from _rows(("the paper", "here", "", "why"), [_row("", verdict)[1:] for verdict in section.verdicts])
        for picture in section.pictures:
            yield from ("", f"![{picture.caption}]({figures[picture.stem]})", "", f"*{picture.caption}*")
        for table in section.tables:
            yield from ("", f"**{table.caption}**", "")
            yield from _rows(table.head, table.rows)
        for note in (*section.notes, *_time(section)):
            yield from ("", note)


def _time(section: Section) -> tuple[str, ...]:
    seconds = section.seconds
    return (f"This took {seconds:,.0f} s, besides the training of networks.",) if seconds else ()


def _row(name: str, verdict: Verdict) -> tuple[str, ...]:
    return name, verdict.claim, verdict.found, f"**{_MARKS[verdict.agrees]}**", verdict.why


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if rows:
        yield f"| {' | '.join(head)} |"
        yield "|" + "---|" * len(head)
        yield from (f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)
