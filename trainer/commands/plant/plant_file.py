"""A plant file: one plant, or several under `family:`, as `entrostat identify` writes them."""

from pathlib import Path

from entrostat.inputs.configuration import Config, parse, read_yaml
from entrostat.inputs.errors import InputError
from entrostat.sim.plants import MomentumPlant
from entrostat.sim.tune.priors import PlantFamily, family_around, family_of
from entrostat.targets import Target


class _PlantFile(Config):
    family: list[MomentumPlant]


def read_plants(path: Path, seed: int) -> PlantFamily:
    """The family in a plant file; around a single plant one is drawn from `seed`.
    Raises InputError: the file cannot be read, something in it does not fit, or the family is empty.
    """
    content = read_yaml(path)
    if "family" not in content:
        return family_around(parse(MomentumPlant, content, source=str(path)), seed)
    plants = parse(_PlantFile, content, source=str(path)).family
    if not plants:
        raise InputError(f"`family` of {path} is empty; write at least one plant.")
    return family_of(plants)


def check_simulated(target: Target, source: Path) -> None:
    """Whether a plant can be asked to follow `target`.
    Raises InputError: it is that of a density, and the entropy of a plant is above zero.
    """
    if target.unit == "differential":
        raise InputError(
            f"{source} has a target of `unit: differential`, and a plant's entropy is above zero, as a density's need "
            "not be; write a target in `nats` or `initial`."
        )
