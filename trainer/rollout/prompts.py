"""From a prompt's text to token ids, and the tokens that end an answer."""

from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase


def encode(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], chat: bool) -> list[list[int]]:
    """Token ids of each prompt; with `chat`, as a user's turn in the tokenizer's chat template."""
    if not chat:
        return tokenizer(list(prompts)).input_ids
    turns = [[{"role": "user", "content": prompt}] for prompt in prompts]
    texts = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    return tokenizer(texts, add_special_tokens=False).input_ids  # the template has written them


def stop_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokenizer's end of sequence, and what the model's generation settings add: a chat's end of turn."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    also = configured if isinstance(configured, list) else [configured]
    return sorted({tokenizer.eos_token_id, *also} - {None})
