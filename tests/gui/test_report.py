"""The report is one file that holds all it shows."""

import base64
import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from deeppicker.cli.main import main
from deeppicker.gui.edits import EDITS, EditLog
from deeppicker.gui.plots import Axis, axis_of, histogram, line, scatter
from served import make_run


class _Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"


def seen(path: Path) -> _Seen:
    parser = _Seen()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser


def test_a_report_holds_pictures_plots_and_numbers_and_needs_nothing_else(tmp_path: Path):
    make_run(tmp_path)
    put = {"op": "put", "name": "a", "kind": "added", "x": 40, "y": 50}
    EditLog(tmp_path / "picks" / EDITS).append("mic0", [put], "tab")
    reference = str(tmp_path / "particles.star")
    assert main(["report", str(tmp_path / "picks"), "--reference", reference]) == 0
    page = seen(tmp_path / "picks" / "report.html")
    pictures = [link for link in page.links if link.startswith("data:image/jpeg;base64,")]
    (table,) = [link for link in page.links if link not in pictures]
    assert len(pictures) == 3
    rows = list(csv.reader(io.StringIO(base64.b64decode(table.removeprefix("data:text/csv;base64,")).decode())))
    assert [row[:4] for row in rows][::3] == [
        ["micrograph", "picks", "below threshold", "precision"],
        ["mic2", "6", "6", "0.718"],
    ]
    assert "script" not in page.tags
    assert page.tags.count("circle") >= 3 * 6 + 1  # picks, and those of the plots
    for text in ("mic2: 6 picks, expected precision 72 %", "1 of them by hand", "recall, measured", "0.500", "72 Å"):
        assert text in page.text
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org)", (tmp_path / "picks" / "report.html").read_text())


def test_names_from_files_are_text_and_never_markup(tmp_path: Path):
    make_run(tmp_path, 1)
    folder = tmp_path / "<img src=x onerror=alert(1)>"
    (tmp_path / "picks").rename(folder)
    assert main(["report", str(folder), "--output", str(tmp_path / "report.html"), "--pictures", "0"]) == 0
    page = seen(tmp_path / "report.html")
    assert "img" not in page.tags
    assert folder.name in page.text


def test_micrographs_that_are_gone_leave_their_numbers(tmp_path: Path):
    make_run(tmp_path, 2)
    (tmp_path / "micrographs" / "mic0.mrc").unlink()
    assert main(["report", str(tmp_path / "picks")]) == 0
    page = seen(tmp_path / "picks" / "report.html")
    assert "mic0.mrc" in page.text
    assert sum("image" in link for link in page.links) == 1


def test_a_folder_without_a_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["report", str(tmp_path)]) == 2
    assert "holds no run.json" in capsys.readouterr().err


def test_ticks_are_round_and_lie_within_the_axis():
    assert Axis("", 0.0, 1.0).ticks() == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert Axis("", 12.0, 3150.0).ticks() == [1000, 2000, 3000]
    assert axis_of("", []).ticks() != []
    assert axis_of("", [5.0, 5.0]).high == 6


def test_plots_show_every_value_within_their_frame():
    x, y = Axis("x", 0.0, 10.0), Axis("<y>", 0.0, 1.0)
    plot = scatter("points & more", [(0.0, 0.0), (10.0, 1.0)], x, y).svg
    assert re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', plot) == [("52.0", "180.0"), ("470.0", "12.0")]
    assert "points &amp; more" in plot
    assert "&lt;y&gt;" in plot
    assert histogram("bars", [0, 5, 1000], x).svg.count("<rect") == 3
    assert 'points="52.0,180.0 470.0,12.0"' in line("line", [(0.0, 0.0), (10.0, 1.0)], x, y).svg
    assert scatter("many", [(1.0, 1.0)] * 20_000, x, y).svg.count("<circle") <= 3000


def test_a_plot_comes_with_its_numbers_and_many_points_with_their_running_mean():
    x, y = Axis("x", 0.0, 100.0), Axis("y, in all", 0.0, 100.0)
    points = [(float(i), float(i) + (-1) ** i) for i in range(100)]
    plot = scatter("trend", points[::-1], x, y)
    assert list(csv.reader(io.StringIO(plot.csv)))[:2] == [["x", "y, in all"], ["99", "98"]]
    mean = [tuple(map(float, pair.split(","))) for pair in re.findall(r'points="([^"]*)"', plot.svg)[0].split()]
    assert len(mean) == 91
    assert mean[0] == pytest.approx((52 + 4.5 * 4.18, 180 - 4.5 * 1.68), abs=0.1)
    assert "polyline" not in scatter("few", points[:15], x, y).svg
    assert list(csv.reader(io.StringIO(histogram("bars", [3, 4], Axis("Score", 0.0, 1.0)).csv))) == [
        ["Score from", "Number"], ["0", "3"], ["0.5", "4"]
    ]  # fmt: skip
