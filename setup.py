"""Which packages there are: all folders with Python files under those that pyproject.toml maps to `entrostat`."""

import tomllib
from pathlib import Path

from setuptools import find_packages, setup

HOMES = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-dir"]
setup(packages=[".".join(filter(None, (name, inner))) for name in HOMES for inner in ("", *find_packages(HOMES[name]))])
