"""Made-up runs for the reports: a collapse, and one that stays at 0.8 nats."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import yaml

REGIONS = ("e1", "e2", "e3", "e4")


def lines(steps: int, controlled: bool) -> list[dict[str, float | None]]:
    """A line a step, as a run logs them."""
    return [_line(step, steps, controlled) for step in range(steps)]


def write_run(folder: Path, steps: int = 60, controlled: bool = True, config: dict | None = None) -> Path:
    """A run's folder with metrics, snapshots and configuration; `config` is laid over that."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines(steps, controlled)))
    snapshots = (_snapshot(step, controlled) for step in range(0, steps, 20))
    (folder / "snapshots.jsonl").write_text("".join(json.dumps(line) + "\n" for line in snapshots))
    told = {
        "seed": 3,
        "steps": steps,
        "task": "sums",
        "model": "sums",
        "update": {"learning_rate": 3e-4, "minibatches": 8},
    }
    told |= {"rollout": {"prompts": 8, "responses_per_prompt": 4}}
    (folder / "config.yaml").write_text(yaml.safe_dump(told | (config or {})))
    (folder / "status.json").write_text('{"status": "FINISHED"}')
    return folder


def write_sweep(folder: Path, rates: Sequence[float], seeds: int) -> Path:
    """Runs of `seeds` seeds for each learning rate, static and held; each seed's run is a step longer than the last."""
    for rate in rates:
        for controlled in (False, True):
            for seed in range(seeds):
                name = f"{'held' if controlled else 'static'}-{rate:g}/seed{seed}"
                kind = {"law": {"type": "adaptive" if controlled else "manual"}}
                told = {"seed": seed, "steps": 8, "control": kind, "update": {"learning_rate": rate}}
                run = write_run(folder / name, steps=4 + seed, controlled=controlled, config=told)
                rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
                rewarded = [json.dumps(row | {"reward/mean": row["step"] + seed**2}) for row in rows]
                (run / "metrics.jsonl").write_text("\n".join(rewarded))
    return folder


def _line(step: int, steps: int, controlled: bool) -> dict[str, float | None]:
    wave = math.sin(step / 3)
    entropy = 0.8 + 0.01 * wave if controlled else 0.8 * math.exp(-step / 20) + 0.05
    line: dict[str, float | None] = {"step": step, "actor/entropy": entropy, "actor/grad_norm": 1 + 0.5 * wave}
    line |= {"reward/mean": 0.5 + 0.4 * step / steps, "actor/ppo_kl": 1e-3, "response/length_mean": 6 + wave}
    line |= {f"time/{key}": 0.1 for key in ("step", "rollout", "update", "measure", "control")}
    line |= {"time/unix": 1.7e9 + 2 * step}
    line |= {f"clip_ratio/{key}": 0.01 for key in ("low_mean", "high_mean", "region_mean")}
    line |= {f"gradient/{key}": 0.1 for key in ("zero_fraction", "no_advantage_fraction")}
    line |= {f"region/{e}/{key}": 0.2 for e in REGIONS for key in ("fraction", "contribution")}
    line |= {f"threshold/{key}_mean": 0.2 for key in (*REGIONS, "low", "high")}
    if step % 20 == 0:
        line |= {"eval/pass_at_1": 0.5, "eval/pass_at_8": 0.9, "eval/distinct": 3.0, "eval/greedy": 0.7}
    if controlled:
        line |= {f"controller/{key}": 0.1 * wave for key in ("p", "i", "d", "feedforward", "command")}
        line |= {"controller/setpoint": 0.8, "controller/standard_error": 0.01, "controller/authority": 0.4}
        line |= {"controller/bonus": 0.02 * wave}
        line |= {"controller/command_low": -2.0 - 0.5 * wave, "controller/command_high": 1.0}
        line |= {"controller/saturated": int(step % 10 < 3), "controller/held": int(step == 5)}
    return line


def _snapshot(step: int, controlled: bool) -> dict:
    size = 40
    a, cut = [(-1.0) ** i for i in range(size)], [int(controlled and i % 5 == 0) for i in range(size)]
    surprisal, entropy = [0.1 * i for i in range(size)], [2.0 + 0.01 * step] * size
    region = [(1 if sign > 0 else 3) + (s > h) for sign, s, h in zip(a, surprisal, entropy, strict=True)]
    tokens = {
        "surprisal": surprisal,
        "entropy": entropy,
        "advantage": a,
        "threshold": [0.2 - 0.01 * s for s in surprisal],
    }
    tokens |= {"ratio": [1.0] * size, "region": region, "cut": cut}
    answer = {"prompt": f"{step} =", "reward": 1.0, "advantage": 0.5, "tokens": ["7", "+", "<b>"]}
    answer |= {"region": [1, 2, 0], "cut": [int(controlled), 0, 0]}
    commands = [-2.0, -0.5, 1.0]
    curve = {"command": commands, "change": [0.02 * v for v in commands], "chosen": (0.5, 0.01)}
    return {"step": step, "tokens": tokens, "answers": [answer] * 2, "authority": curve}
