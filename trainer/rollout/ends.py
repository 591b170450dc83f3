"""End tokens and texts that end an answer; a text may lie across several tokens."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Ends:
    """The tokens and texts that end an answer.

    Args:
        texts: an answer ends with the token that completes one of these.

    Attributes:
        tokens: ids that end an answer by themselves: the tokenizer's end of sequence, what the model's generation
            settings add (a chat's end of turn), and every token with one of the texts in it.
        texts: as given.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str] = ()) -> None:
        configured = getattr(model.generation_config, "eos_token_id", None)
        own = configured if isinstance(configured, list) else [configured]
        words = tokenizer.batch_decode([[index] for index in range(len(tokenizer))]) if texts else []
        holding = {index for index, word in enumerate(words) if any(text in word for text in texts)}
        closing = {index for index, word in enumerate(words) if any(_may_complete(word, text) for text in texts)}
        self.texts = tuple(texts)
        self.tokens: list[int] = sorted({tokenizer.eos_token_id, *own, *holding} - {None})
        self._tokenizer = tokenizer
        self._ends, self._closing = (_ids(ids, model.device) for ids in (self.tokens, closing - {*self.tokens}))
        # A token has a byte at least, and the first of a decoded row may lose the blank before it.
        self._tail = max((len(text.encode()) for text in texts), default=0) + 1

    def reached(self, actions: Sequence[Tensor], running: Tensor) -> Tensor:
        """Whether each answer's last token ends it.

        Args:
            actions: the answers so far, each token a tensor [B].
            running: [B], the answers that had not ended before that token.

        Returns:
            [B] bool.
        """
        reached = torch.isin(actions[-1], self._ends)
        if not len(self._closing):
            return reached
        (rows,) = torch.nonzero(running & torch.isin(actions[-1], self._closing), as_tuple=True)
        if not len(rows):
            return reached
        tails = torch.stack(list(actions[-self._tail :]), dim=1)[rows].tolist()
        held = [any(text in tail for text in self.texts) for tail in self._tokenizer.batch_decode(tails)]
        reached[rows] = torch.tensor(held, dtype=torch.bool, device=reached.device)
        return reached


def _may_complete(word: str, text: str) -> bool:
    """Whether a token can be the last of several that hold the text; one of single bytes (U+FFFD) may be."""
    return any(word.startswith(text[cut:]) for cut in range(1, len(text))) or ("\ufffd" in word and not text.isascii())


def _ids(ids: Iterable[int], device: torch.device) -> Tensor:
    return torch.tensor(sorted(ids), dtype=torch.long, device=device)
