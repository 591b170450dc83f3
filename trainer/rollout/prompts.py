"""From a prompt's text to token ids."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Form:
    """How prompts are put to the model, and what ends its answers."""

    chat: bool = False
    """Put each prompt as a user's turn in the tokenizer's chat template."""
    system: str | None = None
    """The turn before it; none: the template's own, if it has one."""
    stop: tuple[str, ...] = ()
    """Texts that end an answer, beside the model's own end."""


def encode(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], form: Form) -> list[list[int]]:
    """Token ids of each prompt, in its form."""
    if not form.chat:
        return tokenizer(list(prompts)).input_ids
    before = [] if form.system is None else [{"role": "system", "content": form.system}]
    turns = [[*before, {"role": "user", "content": prompt}] for prompt in prompts]
    texts = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    return tokenizer(texts, add_special_tokens=False).input_ids  # the template has written them
