"""From picks to a density map, with stand-ins for RELION and Topaz that write what is read of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mrcfile
import numpy as np
import pytest

import scenes
from deeppicker.core import Ctf, Picks
from deeppicker.formats.star_table import read_tables

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
_RELION = """#!{python}
import shutil, sys
from pathlib import Path

here, words = Path(sys.argv[0]).parent, sys.argv[1:]
value = dict(zip(words, words[1:])).get
output = value("--o", value("--part_star"))
with (here / "calls").open("a") as calls:
    print(output.partition("/")[0], file=calls)
if (here / "broken").exists() and output.startswith((here / "broken").read_text()):
    sys.exit("in: refine\\nERROR: out of memory")
optics = "data_optics\\nloop_\\n_rlnOpticsGroup\\n1\\n"
head = "data_particles\\nloop_\\n_rlnImageName\\n_rlnClassNumber\\n"
kinds = (1, 1, 1, 1, 2, 2, 2, 3, 3, 4)  # many in a good class, enough in one, enough in a bad one, few in the best
particles = optics + head + "".join(f"{{i}}@all.mrcs {{kind}}\\n" for i, kind in enumerate(kinds))
if "--extract" in words:
    Path(output).write_text(particles)
elif "--tau2_fudge" in words:
    last = f"{{output}}_it{{int(value('--iter')):03d}}"
    Path(f"{{last}}_data.star").write_text(particles)
    head = "data_model_classes\\nloop_\\n_rlnClassDistribution\\n_rlnEstimatedResolution\\n"
    Path(f"{{last}}_model.star").write_text(head + "0.5 10\\n0.3 14\\n0.18 16\\n0.02 6\\n" + 4 * "0 inf\\n")
elif "--sgd" in words:
    shutil.copy(here / "map.mrc", f"{{output}}_it{{3 * int(value('--sgd_ini_iter')):03d}}_class001.mrc")
else:
    for name in ("class001", "half1_class001_unfil", "half2_class001_unfil"):
        shutil.copy(here / "map.mrc", f"{{output}}_{{name}}.mrc")
"""
_ALL = ["Extract", "Class2D", "InitialModel", "Refine3D"]


@dataclass(frozen=True)
class Relion:
    """Stand-ins for RELION's programs in a folder; each notes where it writes."""

    folder: Path

    def called(self) -> list[str]:
        """Return where programs have written since this was last asked."""
        calls = self.folder / "calls"
        found = calls.read_text().split() if calls.exists() else []
        calls.write_text("")
        return found


@pytest.fixture
def relion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Relion:
    """Return stand-ins that are found before the real programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("relion_preprocess", "relion_refine", "mpirun"):
        (folder / name).write_text(_RELION.format(python=sys.executable))
        (folder / name).chmod(0o755)
    with mrcfile.new(folder / "map.mrc", np.random.default_rng(0).standard_normal((32, 32, 32), np.float32)):
        pass
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return Relion(folder)


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
    assert list(to_the_map._target(study, TARGET)) == [to_the_map.REFERENCE, others.LEARNT, others.TOPAZ]
    assert walked[0] == (5, 6)
    assert walked[2] == tuple(map(len, compared)) == (1, 1)
    assert runs.read_text() == "extract\n"


def test_a_road_leads_to_a_map_of_the_particles_in_good_classes_and_is_walked_once(
    study: Study, relion: Relion, tmp_path: Path
) -> None:
    first = _walked(study, tmp_path / "road")
    assert relion.called() == _ALL
    assert (first["reached"], first["picks"], first["kept"]) == ("3D refinement", 11, 7)
    kept = next(table for table in read_tables(tmp_path / "road" / "kept.star") if table.name == "particles")
    assert list(kept.text("rlnClassNumber")) == ["1"] * 4 + ["2"] * 3
    assert first["gold"] == first["nyquist"]
    again = _walked(study, tmp_path / "road")
    assert relion.called() == []
    assert again == first


@pytest.mark.parametrize(("changed", "redone"), [({"map_side": 16}, _ALL), ({"map_iterations": (3, 2)}, _ALL[1:])])
def test_a_step_whose_command_differs_is_done_again_with_all_that_follow(
    changed: dict[str, Any], redone: list[str], study: Study, relion: Relion, tmp_path: Path
) -> None:
    _walked(study, tmp_path / "road")
    relion.called()
    other = replace(study, settings=replace(study.settings, **changed))
    assert _walked(other, tmp_path / "road")["reached"] == "3D refinement"
    assert relion.called() == redone


def test_a_road_ends_at_a_program_that_fails_and_goes_on_there(study: Study, relion: Relion, tmp_path: Path) -> None:
    broken = relion.folder / "broken"
    broken.write_text("InitialModel")
    ended = _walked(study, tmp_path / "road")
    assert ended["reached"] == "2D classification; then: relion_refine failed: ERROR: out of memory"
    assert (ended["kept"], ended["gold"]) == (7, None)
    assert relion.called() == _ALL[:3]
    broken.unlink()
    assert _walked(study, tmp_path / "road")["reached"] == "3D refinement"
    assert relion.called() == _ALL[2:]


def test_a_step_that_fails_after_one_that_was_done_again_leaves_nothing_of_before(
    study: Study, relion: Relion, tmp_path: Path
) -> None:
    _walked(study, tmp_path / "road")
    other = replace(study, settings=replace(study.settings, map_iterations=(3, 2)))
    broken = relion.folder / "broken"
    broken.write_text("InitialModel")
    assert _walked(other, tmp_path / "road")["reached"].startswith("2D classification; then: ")
    broken.unlink()
    relion.called()
    assert _walked(other, tmp_path / "road")["reached"] == "3D refinement"
    assert relion.called() == _ALL[2:]


def _walked(study: Study, folder: Path) -> dict[str, Any]:
    """Return the outcome of the road of the reference particles."""
    from paper.to_the_map import Road

    road = Road(study, study.molecule(TARGET), folder)
    road.walk([item.picks for item in study.test(TARGET).dataset.micrographs])
    return road.outcome
