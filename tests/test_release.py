"""What a release says of itself, in each of its files."""

import re
import tomllib
from pathlib import Path

import deeppicker

ROOT = Path(__file__).parent.parent
SOURCE = Path(deeppicker.__file__).parent


def test_the_version_is_the_same_everywhere_and_has_a_date():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    released = re.search(
        r"^## \[(\d.*)\] - (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE
    )
    assert released
    assert released[1] == version
    assert f"\nversion: {version}\n" in citation
    assert f'\ndate-released: "{released[2]}"\n' in citation


def test_what_the_guide_for_contributors_names_exists():
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    modules = re.findall(r"`([a-z_/]+(?:/|\.py|\.pyi))`", guide)
    assert "formats/coordinates/picks.py" in modules
    missing = [name for name in modules if not ((SOURCE / name).exists() or (ROOT / name).exists())]
    assert missing == []


def test_the_page_of_the_python_interface_has_every_public_name():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    shown = [line.rpartition(".")[2] for line in page.splitlines() if line.startswith("::: ")]
    assert sorted(shown) == sorted(deeppicker.__all__)
