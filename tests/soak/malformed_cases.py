"""Malformed inputs for `tests/soak/malformed.py`: valid files with one thing wrong, and files that are none."""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CONSTANT = {"type": "constant", "value": 0.6}
TARGETS = [
    {"type": "constant", "value": 0.6, "unit": "nats"},
    {"type": "linear", "start": 0.9, "end": 0.5, "steps": 100},
    {"type": "cosine", "start": 0.9, "end": 0.5, "steps": 100},
    {"type": "exponential", "start": 0.9, "end": 0.5, "steps": 100},
    {"type": "increase_then_decrease", "start": 0.8, "peak": 1.0, "end": 0.4, "steps": 150, "ratio": 0.5},
    {"type": "decrease_increase_decrease", "start": 0.8, "trough": 0.5, "peak": 1.0, "end": 0.4, "steps": 150},
    {"type": "oscillatory_decay", "centre": 0.6, "amplitude": 0.1, "period": 50, "decay": 90, "phase": 0.5},
    {
        "type": "hold_then_anneal",
        "hold": 0.85,
        "end": 0.25,
        "unit": "initial",
        "turn": 0.2,
        "steps": 0.9,
        "time": "run",
    },
]
LEFT_OUT = {"unit", "ratio", "decay", "phase", "steps", "hold", "end", "turn", "time"}
"""Keys that a curve may do without; `end` where it has a `hold`."""
FORWARD = {"gain": 0.022, "lag": 0.43}
LAW = {"type": "pid", "kp": 14, "ki": 2, "kd": 0.1, "derivative_filter": 2, "setpoint_weight": 0.9, "error": "nats"}
LAW |= {"dead_band": 0.01, "limit": 0.9, "rate_limit": 0.5, "anti_windup": "conditional", "tracking_time": 5}
GUARD = {"low": [-1, 1], "high": [-1, 2], "rate": 0.1, "band": 0.2, "kl_limit": 0.5, "patience": 10, "action": "static"}
GUARD |= {"transition": 4, "fallback": {"low": 0.2, "high": 0.28}}
ACTUATORS = [
    {"type": "static", "low": 0.2, "high": 0.28},
    {"type": "split_range", "standard": 0.2, "probability": "current"},
    {"type": "region", "standard": 0.2, "span": 2, "limit": 5},
    {"type": "sensitivity", "standard": 0.2, "limit": 5},
    {"type": "balanced_bonus", "reach": 3, "largest": 5, "thresholds": {"low": 0.2, "high": 0.28}},
]
LAWS = [{"type": "adaptive", "effort": 0.2, "dead_band": 0.01, "limit": 0.9, "rate_limit": 0.5}]
LAWS += [
    {"type": "manual", "command": 0.3},
    {"type": "excitation", "amplitude": 0.5, "hold": 6, "levels": 5, "seed": 1},
]
RUN = {
    "seed": 1,
    "steps": 50,
    "rollout": {"prompts": 64, "responses_per_prompt": 8, "max_new_tokens": 6, "temperature": 1.0},
    "update": {"minibatches": 8, "epochs": 1, "learning_rate": 3e-4, "weight_decay": 0.0, "gradient_clipping": 1.0},
    "control": {"target": CONSTANT, "law": {"type": "pid", "kp": 3}, "actuator": {"type": "sensitivity"}},
    "evaluation": {"every": 50, "prompts": 100, "samples": 16},
    "checkpoint": {"every": 25, "keep": 2},
    "engine": {"zero_stage": 0, "dtype": "float32", "threads": 1},
}
PLANT = {"space": "log", "initial": 0.9, "gain": 0.03, "lag": 0.4, "delay": 1, "saturation": 1.0, "drift": -0.01}
PLANT |= {"ramp": -1e-4, "leak": 0.01, "level": 0.8, "process_noise": 0.01, "measurement_noise": 0.02}

NUMBERS = ["high", "", math.nan, math.inf, -math.inf, -1e300, 1e300, [1], [], {"a": 1}, True, "1e999", None]
WORDS = ["zzz", "", 5, [], ["pid"], {"a": 1}, False, None]
NULLABLE = {"decay", "rate_limit", "rate", "kl_limit", "threads"}
SPECIAL: dict[str, Callable[[Path], Any]] = {
    "folder": Path.mkdir,
    "pipe": os.mkfifo,
    "zero": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path),
}
NO_FILES = {kind: kind for kind in SPECIAL}
Contents = Mapping[str, bytes | str]
"""Content of a file, or a kind of `SPECIAL` in its place."""


@dataclass(frozen=True)
class Case:
    """A command line, and the files of the folder that it runs in."""

    family: str
    name: str
    words: list[str]
    files: Contents

    def write(self, folder: Path) -> None:
        """Put the files where the command will look for them."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                SPECIAL[content](path)
            else:
                path.write_bytes(content)


def cases() -> Iterator[Case]:
    """All of them; the same ones every time."""
    yield from _targets()
    yield from _controls()
    yield from _runs()
    yield from _plants()
    yield from _no_files()
    yield from _tables()
    yield from _logs()
    yield from _command_lines()


def _contents(
    family: str, reader: str, words: list[str], path: str, contents: Contents, rest: Contents
) -> Iterator[Case]:
    """A case for each content of the file at `path`, beside the rest of the files."""
    for name, content in contents.items():
        yield Case(family, f"{reader}: {name}", words, {**rest, path: content})


def as_yaml(content: Any) -> bytes:
    """`content` as a YAML file."""
    return yaml.safe_dump(content, sort_keys=False).encode()


def spoilt(content: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Copies of `content` with one thing wrong, each with its name."""
    for path in _places(content):
        value = _at(content, path)
        junk = NUMBERS if isinstance(value, int | float) else WORDS
        if isinstance(value, dict | list):
            yield f"{'.'.join(map(str, path))}: unknown key", _with(content, path, _extended(value))
            junk = ["zzz", 5, True, math.nan]
        for wrong in junk:
            if wrong is None and (path[-1] in NULLABLE or path == ("law", "limit")):
                continue
            yield f"{'.'.join(map(str, path))}: {wrong!r}", _with(content, path, wrong)


def _extended(value: Any) -> Any:
    return value | {"colour": "green"} if isinstance(value, dict) else [*value, 1, 2]


def _places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from _places(value, (*path, key))


def _at(content: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        content = content[key]
    return content


def _with(content: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(content)
    _at(changed, path[:-1])[path[-1]] = value
    return changed


def _targets() -> Iterator[Case]:
    for target in TARGETS:
        for name, content in spoilt({"target": target}):
            yield Case("target curves", name, ["target", "t.yaml"], {"t.yaml": as_yaml(content)})
        for key in set(target) - (LEFT_OUT if "hold" in target else LEFT_OUT - {"end"}):
            files = {"t.yaml": as_yaml({k: v for k, v in target.items() if k != key})}
            yield Case("target curves", f"no {key}", ["target", "t.yaml", "--out", "o.png"], files)


def _controls() -> Iterator[Case]:
    words = ["simulate", "--control", "c.yaml", "--plant", "p.yaml"]
    plant = {"p.yaml": as_yaml(PLANT)}
    parts = [{"law": LAW | {"feedforward": FORWARD}}, {"guard": GUARD}, {"surrogate": {"form": "clip", "beta_low": 1}}]
    parts += [{"law": law} for law in LAWS] + [{"actuator": actuator} for actuator in ACTUATORS]
    for part in parts:
        for name, content in spoilt(part):
            files = plant | {"c.yaml": as_yaml({"target": CONSTANT} | content)}
            yield Case("control.yaml", name, words, files)


def _runs() -> Iterator[Case]:
    for name, content in spoilt(RUN):
        yield Case("a run's YAML", name, ["train", "run.yaml", "--out", "run"], {"run.yaml": as_yaml(content)})


def _plants() -> Iterator[Case]:
    words = ["simulate", "--control", "c.yaml", "--plant", "p.yaml"]
    control = {"c.yaml": as_yaml({"target": CONSTANT, "law": LAW})}
    for name, content in spoilt(PLANT):
        yield Case("plant files", name, words, control | {"p.yaml": as_yaml(content)})
        family = {"family": [PLANT, content]}
        yield Case("plant files", f"family, {name}", words, control | {"p.yaml": as_yaml(family)})
    others = {"empty family": {"family": []}, "no list": {"family": 3}, "gain < 0": PLANT | {"gain": -1}}
    for name, content in others.items():
        yield Case("plant files", name, words, control | {"p.yaml": as_yaml(content)})


def _bomb() -> bytes:
    levels = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    levels += [f"a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * 9) + "]" for n in range(1, 12)]
    return "\n".join(levels).encode()


NO_YAML = {
    "empty": b"",
    "a list": b"- 1\n- 2\n",
    "a number": b"5",
    "unclosed": b"target: [1",
    "unclosed text": b"target: 'One. Two? Three",
    "tab": b"target:\n\ttype: constant\n",
    "two documents": b"a: 1\n---\nb: 2\n",
    "bomb": _bomb(),
    "deep": b"[" * 50_000,
    "deep mapping": b"{a: " * 20_000,
    "python object": b"target: !!python/object/apply:os.system [id]\n",
    "not UTF-8": b"target: \xff\xfe\x00",
    "UTF-16": "target: {type: constant, value: 1}\n".encode("utf-16"),
    "zero bytes": b"\x00" * 4096,
    "too large": b"# a comment\n" * 100_000,
    "long number": b"target: " + b"9" * 100_000,
    "binary": bytes(range(256)) * 64,
    "zip": b"PK\x03\x04" + bytes(200),
    "pickle": b"\x80\x04\x95\x15\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93\x94.",
    "itself": b"target: &t {type: constant, value: *t}\n",
    "half a file": b'target: {type: "const',
    "twice a key": b"target: {type: constant, value: 0.6}\ntarget: [\n",
    "impossible date": b"target: 2024-13-45\n",
}
BINARY = {name: NO_YAML[name] for name in ("binary", "pickle", "not UTF-8", "UTF-16")}
READERS = {
    "target": ["target", "f.yaml"],
    "tune": ["tune", "--target", "f.yaml", "--out", "tuned"],
    "tune, plant": ["tune", "--target", "c.yaml", "--plant", "f.yaml", "--out", "tuned"],
    "simulate": ["simulate", "--control", "f.yaml", "--plant", "p.yaml"],
    "simulate, plant": ["simulate", "--control", "c.yaml", "--plant", "f.yaml"],
    "train": ["train", "f.yaml", "--out", "run"],
}


def _no_files() -> Iterator[Case]:
    rest = {"c.yaml": as_yaml({"target": CONSTANT, "law": LAW}), "p.yaml": as_yaml(PLANT)}
    for reader, words in READERS.items():
        yield from _contents("files that are no YAML", reader, words, "f.yaml", NO_YAML | NO_FILES, rest)
        yield Case("files that are no YAML", f"{reader}: missing", words, rest)


TABLES = {
    "empty": "",
    "header only": "step,value\n",
    "one point": "step,value\n0,0.9\n",
    "backwards": "step,value\n10,0.9\n0,0.5\n",
    "twice": "step,value\n0,0.9\n0,0.5\n",
    "three columns": "step,value\n0,0.9,1\n10,0.5,1\n",
    "one column": "step\n0\n10\n",
    "text": "step,value\n0,high\n10,low\n",
    "nan": "step,value\n0,nan\n10,0.5\n",
    "infinite": "step,value\n0,0.5\n10,inf\n",
    "infinite step": "step,value\n0,0.5\ninf,0.5\n",
    "below zero": "step,value\n0,-0.5\n10,0.5\n",
    "huge": "step,value\n0,1e300\n10,0.5\n",
    "unclosed quote": 'step,value\n"0,0.9\n10,0.5\n',
    "bars": "step|value\n0|0.9\n10|0.5\n",
    "decimal commas": "step,value\n0,0,9\n10,0,5\n",
    "long cell": "step,value\n0," + "9" * 200_000 + "\n10,0.5\n",
    "zero byte": "step,value\n0,\x000.9\n10,0.5\n",
    "hexadecimal": "step,value\n0x0,0x1\n0x2,0x1\n",
    "too large": "step,value\n" + "".join(f"{k},0.5\n" for k in range(200_000)),
}


def _tables() -> Iterator[Case]:
    target = {"target": {"type": "table", "file": "t.csv"}}
    tables = {name: text.encode() for name, text in TABLES.items()} | BINARY | NO_FILES
    for reader in ("target", "train"):
        words = ["target", "c.yaml"] if reader == "target" else ["train", "c.yaml", "--out", "run"]
        rest = {"c.yaml": as_yaml(target if reader == "target" else {"control": target})}
        yield from _contents("target tables", reader, words, "t.csv", tables, rest)


def _rows(count: int = 80, **changes: Any) -> list[dict[str, Any]]:
    row = {"actor/entropy": 0.6, "controller/standard_error": 0.02, "controller/setpoint": 0.6}
    return [row | {"step": k, "controller/command": 0.5 * (-1) ** (k // 6)} | changes for k in range(count)]


def _lines(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


CONFIG = as_yaml({"update": {"betas": [0.9, 0.999], "minibatches": 8, "epochs": 1}})
LOGS = {
    "empty": b"",
    "no JSON": b"step 0 entropy 0.6\n",
    "a list": b"[1, 2]\n",
    "no step": _lines([{"actor/entropy": 0.6}]),
    "step is text": _lines([{"step": "0"}]),
    "step is null": _lines([{"step": None}]),
    "step is NaN": b'{"step": NaN}\n',
    "step is infinite": b'{"step": 1e999}\n',
    "step is huge": b'{"step": ' + b"9" * 5000 + b"}\n",
    "deep": b"[" * 100_000 + b"\n",
    "binary": bytes(range(256)) + b"\n",
    "half a line": b'{"step": 0, "actor/ent',
    "broken in the middle": _lines(_rows(3)) + b"{\n" + _lines(_rows(3)),
    "zero bytes": bytes(1000) + b"\n",
}
UNIDENTIFIABLE = {
    "too short": _lines(_rows(10)),
    "no command": _lines([{k: v for k, v in row.items() if k != "controller/command"} for row in _rows()]),
    "no entropy": _lines([{k: v for k, v in row.items() if k != "actor/entropy"} for row in _rows()]),
    "entropy is text": _lines(_rows(**{"actor/entropy": "high"})),
    "entropy below zero": _lines(_rows(**{"actor/entropy": -0.6})),
    "entropy huge": _lines(_rows(**{"actor/entropy": 1e300})),
    "command huge": _lines(_rows(**{"controller/command": 1e300})),
    "command constant": _lines(_rows(**{"controller/command": 0.3})),
    "no noise": _lines(_rows(**{"controller/standard_error": None})),
    "noise below zero": _lines(_rows(**{"controller/standard_error": -1.0})),
    "a gap": _lines(_rows()[:50] + _rows()[52:]),
}
CONFIGS = {
    "no update": b"seed: 1\n",
    "update is a list": b"update: [1]\n",
    "update is a number": b"update: 5\n",
    "betas are text": as_yaml({"update": {"betas": ["a", "b"], "minibatches": 8, "epochs": 1}}),
    "betas above one": as_yaml({"update": {"betas": [1.5, 0.9], "minibatches": 8, "epochs": 1}}),
    "no minibatches": as_yaml({"update": {"betas": [0.9, 0.9], "minibatches": 0, "epochs": 1}}),
    "minibatches without end": as_yaml({"update": {"betas": [0.9, 0.9], "minibatches": 10**300, "epochs": 1}}),
}
IDENTIFY = ["identify", "run", "--out", "plant.yaml"]


def _logs() -> Iterator[Case]:
    both = {"report": ["report", "run"], "identify": IDENTIFY}
    family, log, config = "logged runs", "run/metrics.jsonl", "run/config.yaml"
    for reader, words in both.items():
        yield from _contents(family, reader, words, log, LOGS, {config: CONFIG})
        no_yaml = {f"config.yaml, {name}": content for name, content in NO_YAML.items()}
        yield from _contents(family, reader, words, config, no_yaml, {log: _lines(_rows())})
        yield from _contents(family, reader, words, log, NO_FILES, {})
        yield Case(family, f"{reader}: a file", words, {"run": b"x"})
    yield from _contents(family, "identify", IDENTIFY, log, UNIDENTIFIABLE, {config: CONFIG})
    yield from _contents(family, "identify", IDENTIFY, config, CONFIGS, {log: _lines(_rows())})
    yield from _csv_logs()


def _csv_logs() -> Iterator[Case]:
    words = ["identify", "log.csv", "--lag", "0.4", "--noise", "0.02", "--out", "plant.yaml"]
    lines = [f"{k},0.6,{0.5 * (-1) ** (k // 6)}" for k in range(80)]
    tables = {
        "empty": "",
        "header only": "step,entropy,command\n",
        "no header": "\n".join(lines),
        "no command": "step,entropy\n0,0.6\n1,0.6\n",
        "text": "step,entropy,command\n" + "a,b,c\n" * 80,
        "ragged": "step,entropy,command\n" + "0,1\n" * 80,
        "huge entropy": "step,entropy,command\n" + "\n".join(f"{k},1e300,{k % 2}" for k in range(80)),
        "huge command": "step,entropy,command\n" + "\n".join(f"{k},0.6,{1e300 * (k % 2)}" for k in range(80)),
        "infinite command": "step,entropy,command\n" + "\n".join(f"{k},0.6,inf" for k in range(80)),
        "a gap": "step,entropy,command\n" + "\n".join(lines[:40] + lines[42:]),
        "one cell": "x",
    }
    contents = {name: text.encode() for name, text in tables.items()} | BINARY
    contents |= {"zero bytes": NO_YAML["zero bytes"]} | NO_FILES
    yield from _contents("logged runs", "CSV", words, "log.csv", contents, {})


COMMAND_LINES = Path(__file__).with_name("command_lines.txt").read_text().splitlines()


def _command_lines() -> Iterator[Case]:
    files = {
        "c.yaml": as_yaml({"target": CONSTANT, "law": LAW}),
        "relative.yaml": as_yaml({"target": CONSTANT | {"unit": "initial"}}),
        "manual.yaml": as_yaml({"law": {"type": "manual"}}),
        "p.yaml": as_yaml(PLANT),
        "run.yaml": as_yaml(RUN),
        "run.csv": b"step,entropy,command\n0,0.6,0.1\n",
    }
    for line in COMMAND_LINES:
        yield Case("command lines", line or "nothing", line.split(), files)
