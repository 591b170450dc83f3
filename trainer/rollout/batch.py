"""A rollout: sampled responses with their masks, and their logits under any policy.

Shapes: B sequences, P prompt positions (padded on the left), T response positions, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Rollout:
    """B responses, `responses_per_prompt` consecutive ones to each prompt.

    sequences [B, P + T] token ids, attention_mask [B, P + T] (1 on real tokens), prompt_length P,
    mask [B, T] true on response tokens up to and including eos, groups [B] index of the prompt,
    answers: the B responses as text, logprob [B, T] float32: ln p of each token as its sampler had it, 0 off the mask.
    """

    sequences: Tensor
    attention_mask: Tensor
    prompt_length: int
    mask: Tensor
    groups: Tensor
    answers: list[str]
    logprob: Tensor

    @property
    def actions(self) -> Tensor:
        """The response tokens [B, T]."""
        return self.sequences[:, self.prompt_length :]

    @property
    def lengths(self) -> Tensor:
        """Tokens of each response [B] as it was sampled, off the mask too."""
        return self.attention_mask[:, self.prompt_length :].sum(1)

    def rows(self, index: Tensor | slice) -> "Rollout":
        """The rollout of some of the sequences: a slice, row numbers, or a mask over rows."""
        chosen = {f.name: getattr(self, f.name) for f in fields(self)}
        chosen |= {name: value[index] for name, value in chosen.items() if isinstance(value, Tensor)}
        if isinstance(index, slice):
            return Rollout(**chosen | {"answers": self.answers[index]})
        picked = torch.arange(len(self.answers), device=index.device)[index]
        return Rollout(**chosen | {"answers": [self.answers[i] for i in picked.tolist()]})

    @classmethod
    def pack(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[Sequence[int]],
        responses: Sequence[Sequence[int]],
        logprobs: Sequence[Sequence[float]],
        device: torch.device | str,
    ) -> "Rollout":
        """From token ids of ragged length: N prompts, and B responses (with eos) with ln p of each token.

        T is the length of the longest response.
        """
        copies = len(responses) // len(prompts)
        left, left_mask = padded_prompts(tokenizer, prompts)
        actions = _ragged(responses, torch.long, tokenizer.pad_token_id)
        mask = _ragged([[True] * len(ids) for ids in responses], torch.bool, False)
        return cls(
            sequences=torch.cat([left.repeat_interleave(copies, 0), actions], dim=1).to(device),
            attention_mask=torch.cat([left_mask.repeat_interleave(copies, 0), mask.long()], dim=1).to(device),
            prompt_length=left.shape[1],
            mask=mask.to(device),
            groups=torch.arange(len(prompts), device=device).repeat_interleave(copies),
            answers=tokenizer.batch_decode(actions, skip_special_tokens=True),
            logprob=_ragged(logprobs, torch.float32, 0.0).to(device),
        )


def padded_prompts(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask [N, P], padded on the left."""
    ids = _ragged(prompts, torch.long, tokenizer.pad_token_id, "left")
    return ids, _ragged([[1] * len(row) for row in prompts], torch.long, 0, "left")


def _ragged(rows: Sequence[Sequence[float]], dtype: torch.dtype, padding: float, side: str = "right") -> Tensor:
    tensors = [torch.tensor(row, dtype=dtype) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=padding, padding_side=side)


def position_ids(attention_mask: Tensor) -> Tensor:
    """Positions [B, L] that count real tokens only, so that left padding shifts nothing."""
    return (attention_mask.cumsum(dim=1) - 1).clamp(min=0)


@contextmanager
def eval_mode(model: PreTrainedModel) -> Iterator[None]:
    """Without dropout while the block runs."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def is_partitioned(model: PreTrainedModel) -> bool:
    """Under ZeRO-3 every forward pass gathers weights from all ranks, so all must make the same number of them."""
    return any(hasattr(parameter, "ds_id") for parameter in model.parameters())


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
