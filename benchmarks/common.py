"""Shared by benchmarks and soak tests: command lines, training runs side by side, pages and tables of results."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import bootstrap, trim_mean

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from entrostat.trainer.reporting.rundata import Run
    from entrostat.trainer.reporting.summary import RunSummary

RESULTS = Path(__file__).parents[1] / "docs/results"
T = TypeVar("T")
Key = tuple[str, str, int]
"""Task, method, seed."""
Rows = dict[Key, dict[str, float]]
"""Figures of runs; kept in a CSV, so that a study of days goes on wherever it was stopped."""
Centre = Callable[[Sequence[np.ndarray]], Any]
"""Of groups, each [..., runs]: one value, along the last axis."""


def options(doc: str, **defaults: Any) -> argparse.Namespace:
    """The command line of a script: an option for each default, of its type.

    A list takes several words, a tuple one of its members or none, and False is a switch.

    Args:
        doc: the script's docstring, whose first line describes it.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    for name, default in defaults.items():
        if default is False:
            parser.add_argument(f"--{name}", action="store_true")
        elif isinstance(default, tuple):
            parser.add_argument(f"--{name}", choices=default)
        elif isinstance(default, list):
            parser.add_argument(f"--{name}", type=type(default[0]) if default else str, nargs="+", default=default)
        else:
            parser.add_argument(f"--{name}", type=type(default), default=default)
    return parser.parse_args()


def train_all(jobs: Mapping[str, Sequence[str]], out: Path, workers: int | None = None) -> dict[str, Run]:
    """Run `entrostat train ARGUMENTS --out out/NAME` for every job, and load what they logged.

    Args:
        jobs: a run's name -> the configuration's path and overrides.
        out: the folder of the runs; a run that is finished there is not run again.
    """
    from entrostat.inputs.errors import InputError
    from entrostat.trainer.compare import pool
    from entrostat.trainer.config import load_config
    from entrostat.trainer.reporting.rundata import load_run

    configs = {name: load_config(path, overrides) for name, (path, *overrides) in jobs.items()}
    if failed := pool.train_all(configs, out, workers):
        raise InputError(f"{len(failed)} runs failed, the first is {failed[0]}; read {out / failed[0]}.log.")
    return {name: load_run(out / name) for name in jobs}


def by_seed(found: Mapping[str, T], names: Iterable[str], seeds: Sequence[int]) -> dict[str, list[T]]:
    """What is found as `NAME-SEED`, a list over the seeds for each name."""
    return {name: [found[f"{name}-{seed}"] for seed in seeds] for name in names}


def kept(file: Path, rows: Iterable[Mapping[str, float]]) -> Run:
    """The run of which a file has the lines; `rows` makes them where there is none yet."""
    from entrostat.inputs.files import write_atomically
    from entrostat.trainer.reporting.rundata import Run

    if not file.exists():
        write_atomically(file, "".join(json.dumps(row) + "\n" for row in rows))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    keys = dict.fromkeys(key for line in lines for key in line)
    return Run(file.stem, columns={key: np.array([line.get(key, np.nan) for line in lines], float) for key in keys})


def quiet(prompts: int, samples: int) -> list[str]:
    """Overrides of a run that is evaluated at its ends alone, and leaves no checkpoints and nothing in MLflow."""
    evaluation = f"evaluation={{every: 1000, prompts: {prompts}, samples: {samples}}}"
    return ["tracking.mlflow=null", evaluation, "checkpoint.every=1000", "tracking.snapshots=0"]


def override(key: str, value: Any) -> str:
    """`key=value` for the command line, whatever mapping the value is."""
    from entrostat.inputs.yaml_text import yaml_line

    return f"{key}={yaml_line(value)}"


def tuned(plant: Path, target: Mapping[str, Any], steps: int, out: Path) -> dict[str, Any]:
    """The law that `entrostat tune` writes into `out` for a curve on an identified family."""
    from entrostat.inputs.configuration import read_yaml
    from entrostat.inputs.yaml_text import yaml_line
    from entrostat.sim.tune.objective import TuningSettings
    from entrostat.trainer.commands.plant.tune import run_tune

    curve = out.with_name(f"{out.name}.curve.yaml")
    curve.write_text(yaml_line(target))
    run_tune(curve, plant, out, steps, None, TuningSettings())
    return read_yaml(out / "control.yaml")["law"]


def joined(values: Iterable[Any]) -> str:
    """Words of a command line."""
    return " ".join(map(str, values))


def save_random(
    folder: Path, tokenizer: PreTrainedTokenizerBase, hidden: int, layers: int, positions: int, inner: float = 8 / 3
) -> Any:
    """Write a random Qwen2 policy for `tokenizer` and return it; heads of 64 features, an inner width of `inner`."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=int(hidden * inner),
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=hidden // 64,
        max_position_embeddings=positions,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = Qwen2ForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def plus_minus(values: Sequence[float], form: str = ".2f") -> str:
    """Mean +- standard deviation; one value has none."""
    spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{np.mean(values):{form}} +- {spread:{form.lstrip('+')}}"


def errors(found: RunSummary) -> tuple[str, str, str]:
    """RMSE, net RMSE and bias, in % of the target's mean."""
    return f"{found.rmse:.2f}", f"{found.net_rmse:.2f}", f"{found.bias:+.2f}"


def iqm(values: ArrayLike) -> float:
    """The interquartile mean: without the lowest and the highest quarter of the values."""
    return float(trim_mean(np.ravel(values), 0.25))


def over_all(groups: Sequence[np.ndarray]) -> Any:
    """The interquartile mean over all groups together, along the last axis."""
    return trim_mean(np.concatenate(groups, -1), 0.25, -1)


def mean_of_means(groups: Sequence[np.ndarray]) -> Any:
    """The mean of the groups' means, along the last axis: each counts alike, and no value is left out."""
    return np.mean([group.mean(-1) for group in groups], axis=0)


def interval(groups: Sequence[ArrayLike], centre: Centre = over_all) -> tuple[float, float]:
    """95 % of the centre, by a bootstrap within each group (Agarwal et al., arXiv 2108.13264); a group of one stays."""
    fixed = [np.asarray(group, dtype=float) for group in groups]
    drawn = [place for place, group in enumerate(fixed) if len(group) > 1]

    def statistic(*samples: np.ndarray, axis: int = -1) -> Any:
        whole = [np.broadcast_to(group, (*samples[0].shape[:-1], len(group))) for group in fixed]
        for place, sample in zip(drawn, samples, strict=True):
            whole[place] = sample
        return centre(whole)

    samples = [fixed[place] for place in drawn]
    return tuple(bootstrap(samples, statistic, n_resamples=2000, method="percentile", rng=0).confidence_interval)


def middle(groups: Sequence[Sequence[float]], digits: int = 3, centre: Centre = over_all) -> str:
    """The centre of the groups and its interval, which there is where a group has two."""
    text = f"{centre([np.asarray(group) for group in groups]):.{digits}f}"
    if max(map(len, groups)) < 2:
        return text
    low, high = interval(groups, centre)
    return f"{text} ({low:.{digits}f} to {high:.{digits}f})"


def pooled(squares: ArrayLike) -> str:
    """The root of the mean square over seeds, and its standard error; `<` its upper end where the mean is below zero.

    Args:
        squares: net RMSE^2 of each seed, RMSE^2 - mean se^2, which may be below zero.
    """
    squares = np.asarray(squares, dtype=float)
    mean, error = squares.mean(), squares.std(ddof=1) / np.sqrt(len(squares)) if len(squares) > 1 else 0.0
    if mean <= 0:
        return f"< {np.sqrt(max(mean + 2 * error, 0)):.2f}"
    low, high = np.sqrt(max(mean - error, 0)), np.sqrt(mean + error)
    return f"{np.sqrt(mean):.2f}" + (f" +- {(high - low) / 2:.2f}" if len(squares) > 1 else "")


POOLED = (
    "Net RMSE over seeds: the root of the mean square, +- its standard error. Where a seed's square is below zero, the "
    "CSV has 0 in its place, and the root is too high: it is at most what stands behind `<=`."
)


def pooled_roots(roots: ArrayLike) -> str:
    """The same of roots, of which those of a square below zero are 0: an upper end then, marked by `<=`."""
    roots = np.asarray(roots, dtype=float)
    return pooled(roots**2) if (roots > 0).all() else f"<= {np.sqrt(np.mean(roots**2)):.2f}"


def difference(apart: np.ndarray, digits: int) -> str:
    """Mean of paired differences, and its standard error where there are two."""
    error = f" +- {apart.std(ddof=1) / np.sqrt(len(apart)):.{digits}f}" if len(apart) > 1 else ""
    return f"{apart.mean():+.{digits}f}{error}"


def table(heads: str, rows: Iterable[Iterable[Any]]) -> str:
    """A table in Markdown; `heads` has ` | ` between two."""
    lines = [f"| {heads} |", "|---" * (heads.count(" | ") + 1) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def page(name: str, *blocks: str, folder: Path = RESULTS) -> str:
    """Write the blocks, a blank line between two, to `NAME.md` in the folder of results, print and return them."""
    text = "\n\n".join(blocks) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text)
    print(text)
    return text


def write_csv(path: Path, heads: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """A table as CSV."""
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([list(heads), *rows])


def read_csv(file: Path) -> list[dict[str, str]]:
    """The lines of a table as text; none where the file is missing."""
    if not file.exists():
        return []
    with file.open(newline="") as text:
        return list(csv.DictReader(text))


def add_rows(
    file: Path, jobs: Mapping[Key, Sequence[str]], out: Path, figures: Callable[[Run], dict[str, float]]
) -> Rows:
    """The rows of a file and of all jobs, which are run where the file has none; it is written after each seed.

    Args:
        jobs: a run's key -> the configuration's path and overrides.
        out: the folder of the runs.
        figures: of a finished run.
    """
    rows = read_rows(file)
    for wanted in dict.fromkeys(seed for _, _, seed in jobs):
        missing = [key for key in jobs if key[2] == wanted and key not in rows]
        names = {key: f"{key[0]}/{key[1]}-{wanted}".replace(" ", "_").replace("%", "") for key in missing}
        runs = train_all({name: jobs[key] for key, name in names.items()}, out)
        rows |= {key: figures(runs[name]) for key, name in names.items()}
        save_rows(rows, file)
    return rows


def read_rows(file: Path) -> Rows:
    """The rows of `save_rows`; none where the file is missing."""
    return {
        (row.pop("task"), row.pop("method"), int(row.pop("seed"))): {name: float(cell) for name, cell in row.items()}
        for row in read_csv(file)
    }


def save_rows(rows: Rows, file: Path) -> None:
    """A line a run; a missing figure is `nan`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    heads = ["task", "method", "seed", *next(iter(rows.values()), {})]
    write_csv(file, heads, ([*key, *(f"{value:.6g}" for value in row.values())] for key, row in sorted(rows.items())))
