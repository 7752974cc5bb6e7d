"""What the design promises and import-linter does not see. The layers themselves are in pyproject.toml."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deeppicker.cli.main import VERBS

SOURCE = Path(__file__).parent.parent / "src" / "deeppicker"
WITHOUT_TORCH = [
    "from deeppicker.cli.main import main; main(['--help'])",
    "from deeppicker.cli.main import main; main(['pick', '--help'])",
    "from deeppicker.cli.main import main; main(['settings', 'train'])",
    "from deeppicker.cli.main import main; assert main(['pick', 'nowhere/*.mrc', '--output', 'picks']) == 2",
    *(f"import deeppicker.cli.{verb}" for verb in VERBS),
    "from deeppicker import Picks, read_micrograph, read_picks, write_picks, evaluate_picks, load_dataset",
]


@pytest.mark.parametrize("statement", WITHOUT_TORCH)
def test_what_needs_no_network_does_not_load_torch(statement):
    program = f"{statement}; import sys; print('torch loaded:', 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "torch loaded: False" in done.stdout


@pytest.mark.parametrize(("given", "expected"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")])
def test_threads_of_all_commands_sleep_while_they_wait_unless_told_otherwise(given: dict[str, str], expected: str):
    """It must be known before PyTorch is loaded, here or by a worker, which inherits it."""
    program = "import os, sys; from deeppicker.cli.main import main; main(['--help']); "
    program += "print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY'])"
    clean = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={**clean, **given})
    assert done.stdout.splitlines()[-1] == f"False {expected}"


def test_every_public_name_can_be_imported():
    import deeppicker

    assert {"pick_micrograph", "train_model", "Picks"} <= set(deeppicker.__all__)
    for name in deeppicker.__all__:
        assert getattr(deeppicker, name).__name__ == name


def test_every_verb_of_the_command_line_has_a_module_and_no_module_is_forgotten():
    modules = {path.stem for path in (SOURCE / "cli").glob("*.py") if "\ndef run(" in path.read_text(encoding="utf-8")}
    assert modules == set(VERBS)


def test_the_names_of_relion_appear_only_in_the_modules_of_its_files():
    using = {
        str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py") if '"rln' in path.read_text(encoding="utf-8")
    }
    assert using
    assert all(path.startswith("formats/relion/") for path in using)
