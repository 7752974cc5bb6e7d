"""From picks to a density map, with stand-ins for RELION and Topaz that write what is read of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import scenes
from deeppicker.core import Ctf, Picks

if TYPE_CHECKING:
    from paper.study import Study

TARGET = "trpv1"
_TOPAZ = """import sys
if sys.argv[1] == "extract":
    with open({runs!r}, "a") as runs:
        print("extract", file=runs)
    with open(sys.argv[sys.argv.index("-o") + 1], "w") as file:
        file.write("image_name\\tx_coord\\ty_coord\\tscore\\nfirst\\t100\\t120\\t0.5\\nsecond\\t30\\t50\\t-1.5\\n")
"""


@pytest.fixture
def study(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Return a study whose only molecule has two micrographs, of five and six particles."""
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    from paper.data import Molecule, Part
    from paper.settings import TOY
    from paper.study import Study

    some = (scenes.scene(n, f"micrographs/{name}.mrc", number=n) for n, name in ((5, "first"), (6, "second")))
    part = Part(scenes.dataset(*some), {name: Ctf(defocus_u=1.5, defocus_v=1.5) for name in ("first", "second")})
    study = Study(replace(TOY, map_steps=4, map_targets=(TARGET,)), tmp_path / "work")
    study._molecules[TARGET] = Molecule(TARGET, scenes.DIAMETER, part, part)
    return study


def test_topaz_picks_the_same_micrographs_once_for_both_experiments(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deeppicker.networks.model import load_model
    from paper import others, to_the_map

    walked: list[tuple[int, ...]] = []

    class Road:
        def __init__(self, *_arguments: object) -> None: ...

        def walk(self, picks: Sequence[Picks]) -> None:
            walked.append(tuple(map(len, picks)))

        def compare(self, _reference: Road) -> None: ...

    script, runs = tmp_path / "topaz.py", tmp_path / "runs"
    script.write_text(_TOPAZ.format(runs=str(runs)))
    program: list[str | Path] = [sys.executable, script]
    monkeypatch.setattr(to_the_map, "Road", Road)
    monkeypatch.setattr(to_the_map, "topaz_of", lambda _: program)
    monkeypatch.setattr(to_the_map, "as_picked", lambda *_: load_model())
    compared = others.rival_picks(study, TARGET, "topaz", others.by_topaz(program), 2)
    assert list(to_the_map._target(study, TARGET)) == [to_the_map.REFERENCE, to_the_map.OURS, to_the_map.TOPAZ]
    assert walked[0] == (5, 6)
    assert walked[2] == tuple(map(len, compared)) == (1, 1)
    assert runs.read_text() == "extract\n"
