"""Rollouts: sampled responses with their masks, and the logits of the responses under any policy.

Shapes: B sequences, P prompt positions (padded on the left), T response positions, V vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from transformers import BatchEncoding, DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from controller.errors import InputError


@dataclass(frozen=True)
class Rollout:
    """B responses, `responses_per_prompt` consecutive ones to each prompt.

    sequences [B, P + T] token ids, attention_mask [B, P + T] (1 on real tokens), prompt_length P,
    mask [B, T] true on response tokens up to and including eos, groups [B] index of the prompt,
    answers: the B responses as text.
    """

    sequences: Tensor
    attention_mask: Tensor
    prompt_length: int
    mask: Tensor
    groups: Tensor
    answers: list[str]

    @property
    def actions(self) -> Tensor:
        """The response tokens [B, T]."""
        return self.sequences[:, self.prompt_length :]

    def rows(self, index: Tensor) -> "Rollout":
        """The rollout of some of the sequences: `index` holds row numbers, or is a mask over rows."""
        picked = torch.arange(len(self.answers), device=self.groups.device)[index]
        chosen = {f.name: getattr(self, f.name) for f in fields(self)}
        chosen |= {name: value[picked] for name, value in chosen.items() if isinstance(value, Tensor)}
        return Rollout(**chosen | {"answers": [self.answers[i] for i in picked.tolist()]})


def position_ids(attention_mask: Tensor) -> Tensor:
    """Positions [B, L] that count real tokens only, so that left padding shifts nothing."""
    return (attention_mask.cumsum(dim=1) - 1).clamp(min=0)


def response_logits(model: PreTrainedModel, rollout: Rollout) -> Tensor:
    """The logits [B, T, V] that predict each response token, in the model's own precision."""
    length = rollout.actions.shape[1]
    output = model(
        input_ids=rollout.sequences,
        attention_mask=rollout.attention_mask,
        position_ids=position_ids(rollout.attention_mask),
        logits_to_keep=length + 1,
        use_cache=False,
    )
    return output.logits[:, :-1]


@torch.no_grad()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    *,
    responses_per_prompt: int,
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> Rollout:
    """Samples from the full vocabulary at `temperature` (0: greedy), reproducibly from `seed`.

    Each prompt is read once, its key-value cache repeated for its responses. T is the length of the
    longest response, at most `max_new_tokens`. The global random state is neither read nor changed.
    """
    encoded = tokenizer(prompts, padding=True, padding_side="left", return_tensors="pt").to(model.device)
    generator = torch.Generator(model.device).manual_seed(seed)
    with _eval_mode(model):
        actions, mask = _sample(
            model,
            encoded,
            tokenizer.eos_token_id,
            responses_per_prompt,
            max_new_tokens,
            temperature,
            generator,
        )
    actions = actions.masked_fill(~mask, tokenizer.pad_token_id)
    prompt_ids = encoded.input_ids.repeat_interleave(responses_per_prompt, dim=0)
    prompt_mask = encoded.attention_mask.repeat_interleave(responses_per_prompt, dim=0)
    return Rollout(
        sequences=torch.cat([prompt_ids, actions], dim=1),
        attention_mask=torch.cat([prompt_mask, mask.long()], dim=1),
        prompt_length=prompt_ids.shape[1],
        mask=mask,
        groups=torch.arange(len(prompts), device=model.device).repeat_interleave(responses_per_prompt),
        answers=tokenizer.batch_decode(actions, skip_special_tokens=True),
    )


@contextmanager
def _eval_mode(model: PreTrainedModel) -> Iterator[None]:
    """Without dropout while the block runs."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _sample(
    model: PreTrainedModel,
    prompts: BatchEncoding,
    eos: int,
    copies: int,
    limit: int,
    temperature: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Response tokens and their mask, both [B, T]; tokens after eos are arbitrary."""
    cache = DynamicCache(config=model.config)
    attention, positions = prompts.attention_mask, position_ids(prompts.attention_mask)
    logits = _next_logits(model, cache, prompts.input_ids, attention, positions)
    cache.batch_repeat_interleave(copies)
    logits, attention, positions = (x.repeat_interleave(copies, dim=0) for x in (logits, attention, positions[:, -1:]))
    actions, mask, running = [], [], torch.ones_like(attention[:, 0], dtype=torch.bool)
    while True:
        token = draw(logits, temperature, generator)
        actions.append(token)
        mask.append(running)
        running = running & (token != eos)
        if len(actions) == limit or not running.any():
            return torch.stack(actions, dim=1), torch.stack(mask, dim=1)
        attention = torch.cat([attention, torch.ones_like(attention[:, :1])], dim=1)
        positions = positions + 1
        logits = _next_logits(model, cache, token[:, None], attention, positions)


def _next_logits(
    model: PreTrainedModel, cache: DynamicCache, tokens: Tensor, attention: Tensor, positions: Tensor
) -> Tensor:
    """The logits [B, V] after `tokens` [B, L], which are appended to the cache."""
    output = model(
        input_ids=tokens,
        attention_mask=attention,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return output.logits[:, -1]


def draw(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """One token [B] a row of logits [B, V]: from softmax(logits / temperature), or the likeliest at 0."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(logits.float() / temperature, dim=-1)
    if not probabilities.isfinite().all():
        raise InputError(
            "the policy's probabilities are not finite, so its weights are spoilt and nothing can be sampled; "
            "go on from an earlier checkpoint, with a smaller learning rate."
        )
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]
