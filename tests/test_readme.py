"""The examples in README.md run as they stand, one after the other, on the sample."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from deeppicker.config import DEFAULT_MODEL

README = Path(__file__).parent.parent / "README.md"
NOT_RUN = "text"
# Examples of training run with as little as shows that their options are right.
SHELL = """\
set -euo pipefail
deeppicker() {
    case "$1" in
        train | adapt) command deeppicker "$@" --epochs 1 --num-particles 60 --versions 1 --batch-size 2 ;;
        *) command deeppicker "$@" ;;
    esac
}
"""


class Example(NamedTuple):
    line: int
    language: str
    code: str


def examples() -> list[Example]:
    text = README.read_text(encoding="utf-8")
    blocks = re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [Example(text.count("\n", 0, found.start()) + 2, found[1], found[2]) for found in blocks]


def command_of(example: Example) -> list[str]:
    return ["bash", "-c", SHELL + example.code] if example.language == "sh" else [sys.executable, "-c", example.code]


def test_every_block_is_run_or_says_that_it_is_not():
    languages = [example.language for example in examples()]
    assert set(languages) == {"sh", "python", NOT_RUN}
    assert README.read_text(encoding="utf-8").count("```") == 2 * len(languages)


def test_what_the_readme_links_to_exists():
    links = re.findall(r"\]\((?!https?://)([^)#]+)", README.read_text(encoding="utf-8"))
    missing = [link for link in links if not (README.parent / link).exists()]
    assert links
    assert missing == []


@pytest.mark.slow
def test_the_examples_run(tmp_path):
    from deeppicker.networks.model import shipped_models

    if DEFAULT_MODEL not in shipped_models():
        pytest.skip(f"the model {DEFAULT_MODEL} is not in the package yet")
    shutil.copytree(README.parent / "sample", tmp_path / "sample")
    programs = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": programs + os.pathsep + os.environ["PATH"], "MPLBACKEND": "Agg"}
    for example in examples():
        if example.language == NOT_RUN:
            continue
        done = subprocess.run(command_of(example), cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"README.md, line {example.line}:\n{example.code}\n{done.stdout}{done.stderr}"
    for made in ("picks/autopick.star", "overlay.png", "boxes/sample_001.box", "refined.safetensors"):
        assert (tmp_path / made).is_file()
