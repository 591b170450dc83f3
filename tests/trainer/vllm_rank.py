"""A rank that samples with vLLM: two steps, then two pushes that go wrong. Run by tests/trainer/test_vllm.py.

python -m tests.trainer.vllm_rank FOLDER NAME KEY=VALUE... [, NAME KEY=VALUE... ]
"""

import json
import sys
from itertools import groupby
from pathlib import Path

import torch

from entrostat.inputs.errors import InputError
from entrostat.trainer.config import load_config
from entrostat.trainer.loop import sample, train_step, version
from entrostat.trainer.rollout.ends import Ends
from entrostat.trainer.run import open_session
from tests.runs import SMALL


def refused(session, step: int) -> str:
    """What the next step says when its push went wrong; nothing where it took the batch."""
    try:
        train_step(session, step)
    except InputError as error:
        return str(error)
    return ""


def rename(backend, version: str) -> None:
    """A push that brings a new name and no weights."""
    if hasattr(backend, "_llm"):
        backend._llm.update_weight_version(version)
    else:
        backend._post("update_weight_version", {"new_version": version})


def tell(out: Path, overrides: list[str]) -> None:
    """Write what happened in one placement, by rank."""
    vllm = "rollout.engine={type: vllm, enforce_eager: true, max_model_len: 32, kv_cache: 0.0625}"
    session = open_session(load_config(SMALL[0], [*SMALL[1:], "update.learning_rate=1e-3", vllm, *overrides]))
    session.sampler.push(version(0))
    start = sample(session, 0).rollout
    steps = [train_step(session, step) for step in range(2)]
    session.sampler.push(version(2))
    drawn, again = (sample(session, 2).rollout for _ in range(2))
    backend, told = (
        session.sampler._backend,
        {
            "answers": start.answers,
            "steps": steps,
            "same": torch.equal(drawn.sequences, again.sequences),
        },
    )
    push = backend.push
    train_step(session, 2)
    backend.push = lambda version: None
    told["lost"] = refused(session, 3)
    backend.push = push
    session.sampler.push("sound")
    train_step(session, 4)
    policy = session.engine.model
    session.sampler._ends = Ends(policy, session.tokenizer, [f"{digit}+" for digit in range(10)])
    told["stopped"] = sample(session, 4).rollout.answers
    backend.push = lambda version: rename(backend, version)
    told["renamed"] = refused(session, 5)
    out.with_suffix(f".{session.engine.rank}.json").write_text(json.dumps(told))
    session.sampler.close()


def main(folder: str, words: list[str]) -> None:
    """Each placement in turn: the imports are made once."""
    for ends, placement in groupby(words, lambda word: word == ","):
        if not ends:
            name, *overrides = placement
            tell(Path(folder, name), overrides)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
