"""`entrostat target --edit`: a page on loopback where a target is drawn by dragging its points, and saved."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from entrostat.inputs.configuration import parse, read_yaml
from entrostat.inputs.errors import InputError
from entrostat.inputs.files import write_atomically
from entrostat.inputs.table_file import SUFFIXES, csv_text
from entrostat.sim.feasibility import envelope, reach
from entrostat.sim.identify.fit import identify
from entrostat.sim.identify.logged import LoggedRun
from entrostat.sim.plants import MomentumPlant
from entrostat.targets import Table

from ...address import tracking_uri
from ..plant.logged_runs import load_logged
from ..plant.plant_file import check_simulated, read_plants
from ..plant.target import read_target
from .designer_page import render
from .loopback import Request, Response, Server

Points = list[tuple[float, float]]
LARGEST_PLOT = 2000
"""Steps that the page draws; a longer curve is thinned out for the eye alone."""


@dataclass(frozen=True)
class Design:
    """Start of the page. Entropies in nats."""

    points: Points
    steps: int
    out: Path
    """A `.yaml` or `.csv` file."""
    plants: Sequence[MomentumPlant] = ()
    """The plant whose reach is shown; none: no band."""
    logged: Sequence[tuple[str, np.ndarray, np.ndarray]] = ()
    """Name, steps and entropy of runs to show beside the curve."""
    interpolation: str = "linear"
    """How the points are joined at first."""
    config: Path | None = None
    """The run that the curve came from, to be trained with the new one; none: it came from no run."""


def design(
    file: Path | None, plant: Path | None, runs: Sequence[str], steps: int, initial: float | None, out: Path
) -> Design:
    """Start as the command line asks: the curve in `file` (none: a flat one), and the plant of a file or of `runs`.
    Raises InputError: a file or a run holds nothing that fits.
    """
    logged = [run for source in runs for run in load_logged(source, None, None, tracking_uri())]
    plants = read_plants(plant, seed=0).plants if plant else identify(logged).family() if logged else ()
    shown = [(run.name, run.steps, run.entropy) for run in logged]
    curve = read_target(file) if file else _flat(_level(logged, initial), steps)
    if file and plants:
        check_simulated(curve, file)
    interpolation = curve.interpolation if isinstance(curve, Table) else "linear"
    config = file if file and file.suffix not in SUFFIXES and "control" in read_yaml(file) else None
    return Design(points_of(curve, steps, initial), steps, out, plants, shown, interpolation, config)


def _level(logged: Sequence[LoggedRun], initial: float | None) -> float:
    known = (entropy for run in logged for entropy in run.entropy.tolist() if math.isfinite(entropy))
    return next(known, initial or 0.8)


def _flat(level: float, steps: int) -> Table:
    points = [(0.0, level), (float(steps - 1), level)]
    return parse(Table, {"type": "table", "points": points}, source="the flat curve to begin with")


def edit(design: Design, port: int = 0) -> None:
    """Serve the designer until interrupted."""
    with designer(design, port) as serving:
        print(f"draw the target at {serving.address()} (saves to {design.out}; end with Ctrl-C)", flush=True)
        serving.serve_forever()


def designer(design: Design, port: int = 0) -> Server:
    """The server behind `edit`: the page, `/check` for a curve's reach, `/save` for its file."""
    if design.out.suffix not in (".yaml", ".yml", ".csv"):
        raise InputError(f"--out is {design.out}; give a file that ends in .yaml or .csv.")

    def page(request: Request) -> Response:
        shown = (design.logged, bool(design.plants), design.interpolation)
        return Response(render(design.points, design.steps, str(design.out), *shown))

    def answer(request: Request) -> Response:
        return Response(json.dumps(check(_curve(request.body), design)), "application/json")

    def keep(request: Request) -> Response:
        saved = save(_curve(request.body), design)
        config = shlex.quote(str(design.config)) if design.config else "CONFIG"
        told = f"entrostat train {config} control.target={shlex.quote(str(design.out))} --out runs/drawn"
        print(f"saved to {saved}; next: {told}", flush=True)
        return Response(json.dumps({"saved": saved, "next": told}), "application/json")

    return Server({("GET", "/"): page, ("POST", "/check"): answer, ("POST", "/save"): keep}, port)


def check(curve: Table, design: Design) -> dict[str, Any]:
    """The curve at every step, the band that the plant reaches from its start, and where it cannot follow."""
    steps = np.arange(design.steps)
    values = curve.at(steps)
    shown = steps[:: max(len(steps) // LARGEST_PLOT, 1)]
    found: dict[str, Any] = {"step": shown.tolist(), "value": values[shown].tolist(), "missed": [], "says": ""}
    if not design.plants:
        return found
    low, high = envelope(float(values[0]), design.steps, design.plants)
    band = reach(values, design.plants)
    ends = {"low": low[shown].tolist(), "high": high[shown].tolist()}
    return found | ends | {"missed": band.missed, "says": f"{band}."}


def save(curve: Table, design: Design) -> str:
    """Write the curve; where, in words. A CSV cannot say that it is smooth: it has every step, and a YAML file beside
    it keeps the points."""
    write_atomically(design.out, as_text(curve, design.out.suffix, design.steps))
    if design.out.suffix != ".csv" or curve.interpolation == "linear":
        return str(design.out)
    kept = design.out.with_suffix(".yaml")
    write_atomically(kept, as_text(curve, kept.suffix, design.steps))
    return f"{design.out}, its points to {kept}"


def as_text(curve: Table, suffix: str, steps: int) -> str:
    """The curve as a YAML target, or as CSV of step and value; a smooth one has every step in its CSV."""
    if suffix != ".csv":
        content = {"type": "table", "points": [list(point) for point in curve.points]}
        return yaml.safe_dump(content | {"interpolation": curve.interpolation}, sort_keys=False)
    every = zip(range(steps), curve.at(np.arange(steps)).tolist(), strict=True)
    rows = curve.points if curve.interpolation == "linear" else [(step, round(value, 6)) for step, value in every]
    return csv_text([("step", "value"), *rows])


def points_of(curve: Any, steps: int, initial: float | None) -> Points:
    """Points to start the drawing from: a table's own, or those at which the curve bends."""
    if isinstance(curve, Table) and curve.unit == "nats" and curve.time == "steps":
        return curve.points
    at = np.arange(steps)
    values = curve.with_total(steps).at(at, initial)
    return [(float(k), round(float(values[k]), 4)) for k in _bends(at, values)]


def _bends(steps: np.ndarray, values: np.ndarray, tolerance: float = 0.01, most: int = 24) -> list[int]:
    """Indices of points whose polyline stays within `tolerance` of the largest value of the curve, added greedily."""
    kept = [0, len(steps) - 1]
    while len(kept) < most:
        off = np.abs(np.interp(steps, steps[kept], values[kept]) - values)
        if off.max() <= tolerance * max(values.max(), 1e-9):
            break
        kept = sorted([*kept, int(off.argmax())])
    return kept


def _curve(body: bytes) -> Table:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or set(content) - {"points", "interpolation"}:
        raise InputError("the page sent no curve; load it anew.")
    return parse(Table, content, source="the curve")
