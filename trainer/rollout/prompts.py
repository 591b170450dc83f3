"""From a prompt's text to token ids, and the tokens that end an answer."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Form:
    """How prompts are put to the model, and what ends its answers."""

    chat: bool = False
    """Put each prompt as a user's turn in the tokenizer's chat template."""
    system: str | None = None
    """The turn before it; none: the template's own, if it has one."""
    stop: tuple[str, ...] = ()
    """Text that ends an answer, beside the model's own end: a token with one of these in it."""


def encode(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], form: Form) -> list[list[int]]:
    """Token ids of each prompt, in its form."""
    if not form.chat:
        return tokenizer(list(prompts)).input_ids
    before = [] if form.system is None else [{"role": "system", "content": form.system}]
    turns = [[*before, {"role": "user", "content": prompt}] for prompt in prompts]
    texts = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    return tokenizer(texts, add_special_tokens=False).input_ids  # the template has written them


def stop_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str] = ()) -> list[int]:
    """Ids that end an answer.

    They are the tokenizer's end of sequence, what the model's generation settings add (a chat's end of turn), and the
    tokens with a text of `stop` in them.
    """
    configured = getattr(model.generation_config, "eos_token_id", None)
    also = configured if isinstance(configured, list) else [configured]
    return sorted({tokenizer.eos_token_id, *also, *_holding(tokenizer, stop)} - {None})


def _holding(tokenizer: PreTrainedTokenizerBase, stop: Sequence[str]) -> set[int]:
    if not stop:
        return set()
    texts = tokenizer.batch_decode([[index] for index in range(len(tokenizer))])
    return {index for index, text in enumerate(texts) if any(word in text for word in stop)}
