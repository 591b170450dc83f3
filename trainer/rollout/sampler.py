"""The sampler's contract, and the one that samples from the policy itself with transformers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from entrostat.inputs.errors import InputError
from entrostat.measure.ranks import all_reduced

from .batch import Rollout, eval_mode, is_partitioned, padded_prompts
from .ends import Ends
from .prefix import read
from .prompts import Form, encode

PLAIN = Form()


@dataclass(frozen=True)
class Sampling:
    """How to sample, and from which random numbers."""

    responses_per_prompt: int
    max_new_tokens: int
    temperature: float
    """0: greedy."""
    seed: int
    first: int = 0
    """This rank's first response, counted over the batch of all ranks."""
    total: int | None = None
    """Responses of that batch; none: this rank has all of them."""


class Sampler(Protocol):
    """A source of responses from the policy, on one rank.

    The random numbers of a response follow from (seed, its row in the batch of all ranks): a resumed run draws what it
    would have drawn, on any number of ranks.
    """

    exact: bool
    """Whether it samples from the trainer's own weights and forward pass, so that nothing needs to be corrected."""
    collective: bool
    """Whether the ranks sample together: one that fails in the middle cannot try again while the others wait for it."""

    def push(self, version: str) -> None:
        """Take over the policy's weights, which are called `version`; all ranks do it together, once a version.

        No rank may sample before all are through.

        Raises:
            InputError: an engine does not take them; raised after the last thing that the ranks do together.
        """

    def sample(self, prompts: Sequence[str], sampling: Sampling) -> Rollout:
        """Responses to this rank's prompts. Raises InputError: they cannot be sampled, or come from other weights than
        those of the last push; where ranks sample together, raised after the last thing that they do together.
        """

    def close(self) -> None:
        """Free what it holds."""


class TransformersSampler:
    """Samples from the policy where it is: there is nothing to push."""

    exact = True

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, form: Form = PLAIN) -> None:
        self._model, self._tokenizer, self._form = model, tokenizer, form
        self._ends = Ends(model, tokenizer, form.stop)
        self.collective = is_partitioned(model) and dist.is_initialized() and dist.get_world_size() > 1

    def push(self, version: str) -> None:
        """Nothing to do."""

    def sample(self, prompts: Sequence[str], sampling: Sampling) -> Rollout:
        return generate(self._model, self._tokenizer, prompts, form=self._form, ends=self._ends, **vars(sampling))

    def close(self) -> None:
        """Nothing to do."""


@torch.no_grad()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    form: Form = PLAIN,
    ends: Ends | None = None,
    **sampling: Any,
) -> Rollout:
    """Samples from the full vocabulary, with the keywords of `Sampling`.

    Each prompt is read once (`prefix.read`), its key-value cache repeated for its responses. T is the length of the
    longest response, at most `max_new_tokens`. The global random state is neither read nor changed.

    Args:
        ends: what ends an answer; none: what the model and the form say.
    """
    how = Sampling(**sampling)
    ends = Ends(model, tokenizer, form.stop) if ends is None else ends
    ids = encode(tokenizer, prompts, form)
    padded, attention = (x.to(model.device) for x in padded_prompts(tokenizer, ids))
    with eval_mode(model):
        actions, mask, logprob = _sample(model, padded, attention, ends, how)
    lengths = mask.sum(1).tolist()
    rows = list(zip(actions.tolist(), logprob.tolist(), lengths, strict=True))
    responses, logprobs = [a[:n] for a, _, n in rows], [p[:n] for _, p, n in rows]
    return Rollout.pack(tokenizer, ids, responses, logprobs, model.device)


def _sample(
    model: PreTrainedModel, prompts: Tensor, attention: Tensor, ends: Ends, how: Sampling
) -> tuple[Tensor, Tensor, Tensor]:
    """Response tokens, their mask and ln p, all [B, T]; what lies off the mask is arbitrary."""
    pick = _picker(how, model.device)
    going = _any_rank if is_partitioned(model) else torch.any
    rows = torch.arange(len(prompts) * how.responses_per_prompt, device=model.device)
    state = read(model, prompts, attention).rows(rows // how.responses_per_prompt)
    actions, mask, logprobs = list[Tensor](), list[Tensor](), list[Tensor]()
    running, logits = torch.ones_like(rows, dtype=torch.bool), state.logits
    while True:
        token, logprob = pick(logits)
        actions.append(token)
        mask.append(running)
        logprobs.append(logprob)
        running = running & ~ends.reached(actions, running)
        if len(actions) == how.max_new_tokens or not going(running):
            found = torch.stack(logprobs, dim=1)
            _refuse_spoilt(found)
            return torch.stack(actions, dim=1), torch.stack(mask, dim=1), found
        logits = state.go_on(model, token[:, None], torch.ones_like(token[:, None]))[:, -1]


def _picker(how: Sampling, device: torch.device) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Draws a token [B] with its ln p for each row of logits [B, V]."""
    generator = torch.Generator(device).manual_seed(how.seed)

    def pick(logits: Tensor) -> tuple[Tensor, Tensor]:
        token = draw(logits, how.temperature, generator, how.first, how.total)
        logp = torch.log_softmax(logits.float() / (how.temperature or 1.0), dim=-1)
        return token, logp.gather(-1, token[:, None])[:, 0]

    return pick


def draw(
    logits: Tensor, temperature: float, generator: torch.Generator, first: int = 0, total: int | None = None
) -> Tensor:
    """One token [B] a row of logits [B, V]: from softmax(logits / temperature), or the likeliest at 0.

    By an exponential race, as torch.multinomial does it: argmax of p / e with e ~ Exp(1). The noise is drawn for all
    `total` rows of the batch, and rows `first` to `first` + B use theirs, so that ranks together draw what one would.
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(logits.float() / temperature, dim=-1)
    rows = len(logits)
    noise = probabilities.new_empty(total or rows, logits.shape[-1]).exponential_(generator=generator)
    return (probabilities / noise[first : first + rows]).argmax(dim=-1)


def _refuse_spoilt(logprob: Tensor) -> None:
    """After the last forward pass: a rank that ended before it would leave the others in theirs."""
    if logprob.isnan().any():
        raise InputError(
            "the policy's probabilities are not finite, so its weights are spoilt and nothing can be sampled; "
            "go on from an earlier checkpoint, with a smaller learning rate."
        )


def _any_rank(running: Tensor) -> bool:
    return bool(all_reduced(running.any().float(), largest=True))
