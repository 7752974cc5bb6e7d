"""The recipes in ``packaging``: their steps run with a `pip` that only notes what it is asked for.

Images and channels of other people cannot be had here, so the container is built on an image of a shell alone.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGING = ROOT / "packaging"
INDEX = "https://example.org/cpu"
PROGRAMS = {
    "pip": """#!/bin/sh
echo "$*" >> /log
[ -f /source/pyproject.toml ] && [ -f /source/src/deeppicker/__init__.py ] && [ ! -e /source/.git ]
""",
    "deeppicker": """#!/bin/sh
echo "in $PWD at home in $HOME: $*"
""",
}
"""What the containers hold in place of the real ones."""
BUSYBOX = Path("/bin/busybox")


def expected(index: str) -> list[str]:
    """Return what `pip` must be asked for: first PyTorch, from its own index, then us."""
    torch = re.search(r"^torch==.*$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
    assert torch
    where = f"--index-url {index} " if index else ""
    return [
        f"install --no-cache-dir {where}{torch[0]}",
        "install --no-cache-dir --constraint /source/constraints.txt /source",
    ]


def run(*words: str | Path, **more: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, **more})
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("index", ["", INDEX], ids=["large", "small"])
def test_the_steps_for_apptainer_install_pytorch_and_then_us(index: str, tmp_path: Path):
    text = (PACKAGING / "apptainer.def").read_text()
    steps = text.split("%post\n")[1].split("\n%")[0].replace("{{ TORCH_INDEX }}", index)
    source = tmp_path / "source"
    source.mkdir()
    for line in text.split("%files\n")[1].split("\n\n")[0].splitlines():
        ours, theirs = line.split()
        assert theirs == f"/source/{ours}"
        if (ROOT / ours).is_file():
            shutil.copy(ROOT / ours, source)
    project = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert all((source / name).is_file() for name in [project["readme"], *project["license-files"]])
    pip = tmp_path / "pip"
    pip.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/log\n')
    pip.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    run("sh", "-euc", steps.replace("/source", str(source)), PATH=path)
    asked = (tmp_path / "log").read_text().replace(str(source), "/source").splitlines()
    assert asked == expected(index)
    assert not source.exists()


def test_both_containers_start_from_the_same_image():
    docker = re.search(r"^ARG BASE=(.+)$", (PACKAGING / "Dockerfile").read_text(), flags=re.MULTILINE)
    apptainer = re.search(r"^From: (.+)$", (PACKAGING / "apptainer.def").read_text(), flags=re.MULTILINE)
    assert docker
    assert apptainer
    assert docker[1] == apptainer[1]


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Return how buildah is called, whose images are those of a shell with our `pip`."""
    folder = tmp_path_factory.mktemp("containers")
    words = ("buildah", "--root", f"{folder}/root", "--runroot", f"{folder}/run", "--storage-driver", "vfs")
    system = folder / "system"
    for name in ("bin", "tmp", "etc"):
        (system / name).mkdir(parents=True)
    for name in ("sh", "grep", "rm", "cat"):
        shutil.copy(BUSYBOX, system / "bin" / name)
    for name, script in PROGRAMS.items():
        (system / "bin" / name).write_text(script)
        (system / "bin" / name).chmod(0o755)
    base = run(*words, "from", "scratch").strip()
    run(*words, "copy", base, system, "/")
    run(*words, "config", "--env", "PATH=/bin", base)
    run(*words, "commit", base, "localhost/shell")
    return words


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("buildah") is None or not BUSYBOX.is_file() or os.getuid() != 0,
    reason="needs root, and Debian's packages buildah and busybox-static",
)
@pytest.mark.parametrize("index", ["", INDEX], ids=["large", "small"])
def test_the_dockerfile_builds_and_starts_us(index: str, buildah: tuple[str, ...]):
    arguments = ["--build-arg", "BASE=localhost/shell", *(("--build-arg", f"TORCH_INDEX={index}") if index else ())]
    file = ("--file", PACKAGING / "Dockerfile", "--ignorefile", PACKAGING / "Dockerfile.dockerignore")
    run(*buildah, "build", "--isolation", "chroot", *file, *arguments, "--tag", "deeppicker", ROOT)
    ours = run(*buildah, "from", "localhost/deeppicker").strip()
    inside = (*buildah, "run", "--isolation", "chroot", ours, "--")
    log = Path(run(*buildah, "mount", ours).strip()) / "log"  # what `buildah run` prints is lost now and then
    assert log.read_text().splitlines() == expected(index)
    assert run(*inside, "deeppicker", "--version") == "in /work at home in /tmp: --version\n"
    entry = json.loads(run(*buildah, "inspect", "--type", "container", ours))["OCIv1"]["config"]["Entrypoint"]
    assert entry == ["deeppicker"]
    assert run(*inside, "sh", "-c", "[ -e /source ] || echo gone") == "gone\n"


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="needs hadolint (pip install '.[clients]')")
def test_hadolint_finds_nothing_in_the_dockerfile():
    assert run("hadolint", PACKAGING / "Dockerfile") == ""


def test_the_conda_recipe_needs_what_the_package_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    recipe = (PACKAGING / "conda" / "recipe.yaml").read_text(encoding="utf-8")
    names = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
    needed = {
        re.sub(r"^[\w-]+", lambda found: names.get(found[0], found[0]) + " ", text) for text in project["dependencies"]
    }
    run = recipe.split("  run:\n")[1].split("\n\n")[0]
    assert {line.removeprefix("    - ") for line in run.splitlines()} == {"python >=${{ python_min }}", *needed}
    assert f'version: "{project["version"]}"' in recipe
    assert f'python_min: "{project["requires-python"].removeprefix(">=")}"' in recipe
    assert all(f"- {name} = {target}" in recipe for name, target in project["scripts"].items())


def test_rattler_build_understands_the_conda_recipe():
    script = """
import json, sys
from rattler_build import Stage0Recipe, VariantConfig
(rendered,) = Stage0Recipe.from_file(sys.argv[1]).render(VariantConfig())
print(json.dumps(rendered.recipe.to_dict()))
"""
    start = f"import sys\nsys.path.append({os.environ.get('DEEPPICKER_CLIENTS', '')!r})\n"
    probe = [sys.executable, "-c", f"{start}import rattler_build"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("needs py-rattler-build (pip install '.[clients]')")
    rendered = json.loads(run(sys.executable, "-c", start + script, PACKAGING / "conda" / "recipe.yaml"))
    assert rendered["build"]["noarch"] == "python"
    assert rendered["requirements"]["run"][0] == "python >=3.11"
    assert rendered["source"] == [{"path": "../.."}]
