"""The page is typed: TypeScript checks its JSDoc comments."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

TSC = shutil.which("tsc")
OPTIONS = ["--allowJs", "--checkJs", "--noEmit", "--strict", "--target", "es2021", "--module", "esnext"]
OPTIONS += ["--lib", "es2022,dom,dom.iterable"]


@pytest.mark.slow
@pytest.mark.skipif(TSC is None, reason="needs TypeScript; install Debian's package node-typescript")
def test_typescript_finds_no_fault_in_the_page_and_would_find_one(tmp_path: Path):
    wrong = tmp_path / "wrong.js"
    wrong.write_text("/** @param {number} x */\nexport const half = (x) => x / 2;\nhalf('two');\n")
    modules = sorted((Path(str(files("deeppicker.gui"))) / "static").glob("*.js"))
    command = [str(TSC), *OPTIONS, *map(str, modules), str(wrong)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert [line for line in done.stdout.splitlines() if not re.search(r"wrong\.js\(3,6\): error", line)] == []
    assert done.returncode != 0
