"""OpenRLHF without flash-attn and vLLM: its import needs some names; those that pack samples are written out here."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import torch
from einops import rearrange


def unpad_input(rows, mask):
    """The real tokens of [batch, sequence, ...] one after another, and where they come from."""
    places, lengths = mask.flatten().nonzero().flatten(), mask.sum(1)
    ends = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    return rows.flatten(0, 1)[places], places, ends, lengths.max(), lengths


def pad_input(tokens, places, batch, length):
    """Back to [batch, sequence, ...], zeros elsewhere."""
    rows = tokens.new_zeros((batch * length, *tokens.shape[1:]))
    rows[places] = tokens
    return rows.unflatten(0, (batch, length))


def index_first_axis(rows, places):
    """As flash-attn's."""
    return rows[places]


def _missing(*_, **__):
    # a stand-in on purpose: nothing that is tested calls it
    raise NotImplementedError("ring attention needs flash-attn, and rollouts need vLLM")


PACKING = {f.__name__: f for f in (index_first_axis, pad_input, rearrange, unpad_input)}
NAMES = {
    "flash_attn": {},
    "flash_attn.bert_padding": PACKING,
    "flash_attn.utils": {},
    "flash_attn.utils.distributed": {"all_gather": _missing},
    "vllm": {},
    "vllm.inputs": {"TokensPrompt": _missing},
    "vllm.utils": {"random_uuid": _missing},
}
for package, functions in NAMES.items():
    module = sys.modules[package] = ModuleType(package)
    module.__spec__ = ModuleSpec(package, None, is_package=True)
    module.__path__ = []
    vars(module).update(functions)


def in_ray_worker():
    """What Ray calls where a worker starts: the user's hook, and the one name of CUDA that scoring asks for."""
    from entrostat.integrations.openrlhf import install

    torch.cuda.current_device = lambda: "cpu"
    install()
