"""What the tests of the browser application share."""

from pathlib import Path

import pytest

from served import make_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with micrographs and a run of them in ``picks``."""
    make_run(tmp_path)
    return tmp_path
