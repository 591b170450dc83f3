"""What an installation holds: one package, whole, that a user's own files do not hide."""

import subprocess
import sys
import zipfile
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import pytest

from tests.runs import ENVIRONMENT, ROOT

FOLDERS = {"controller": "entrostat", "sim": "entrostat/sim", "trainer": "entrostat/trainer"}
BUILD = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"
USE = """
import entrostat.sim.closed_loop, entrostat.trainer.cli
from entrostat import EntropyController, policy_loss
from entrostat.laws import PID
print(entrostat.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a copy of the sources, unpacked."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        copy(ROOT / name, source)
    for name in FOLDERS:
        copytree(ROOT / name, source / name, ignore=ignore_patterns("__pycache__"))
    built = subprocess.run([sys.executable, "-c", BUILD, str(out)], cwd=source, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-2000:]
    zipfile.ZipFile(next(out.glob("*.whl"))).extractall(out / "unpacked")
    return out / "unpacked"


def test_a_wheel_holds_every_file_of_the_three_folders_in_one_package_and_no_other(wheel):
    ours = {
        str(Path(place, path.relative_to(ROOT / folder)))
        for folder, place in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    held = {str(path.relative_to(wheel)) for path in wheel.rglob("*") if path.is_file()}
    assert {name for name in held if ".dist-info/" not in name} == ours


def test_a_wheel_says_its_licence_and_brings_it(wheel):
    told = next(wheel.glob("*.dist-info"))
    assert "License-Expression: Apache-2.0" in (told / "METADATA").read_text().splitlines()
    assert (told / "licenses" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("installed", ["as it is here", "from a wheel"])
def test_files_of_the_users_own_with_our_folders_names_hide_nothing(installed, wheel, tmp_path):
    for name in (*FOLDERS, "benchmarks", "tests"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('this is the user\\'s own file')\n")
    (tmp_path / "train.py").write_text(USE)
    environment = ENVIRONMENT | ({"PYTHONPATH": str(wheel)} if installed == "from a wheel" else {})
    command = [sys.executable, "train.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    home = wheel / "entrostat" if installed == "from a wheel" else ROOT / "controller"
    assert Path(done.stdout.strip()).parent == home
