"""OpenRLHF without flash-attn and vLLM: its import needs some names that only packed samples and rollouts call."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType


def _missing(*_, **__):
    # a stand-in on purpose: an update on unpacked samples never calls it, and nothing else is tested
    raise NotImplementedError("packed samples need flash-attn, and rollouts need vLLM")


NAMES = {
    "flash_attn": (),
    "flash_attn.bert_padding": ("index_first_axis", "pad_input", "rearrange", "unpad_input"),
    "flash_attn.utils": (),
    "flash_attn.utils.distributed": ("all_gather",),
    "vllm": (),
    "vllm.inputs": ("TokensPrompt",),
    "vllm.utils": ("random_uuid",),
}
for package, functions in NAMES.items():
    module = sys.modules[package] = ModuleType(package)
    module.__spec__ = ModuleSpec(package, None, is_package=True)
    module.__path__ = []
    for name in functions:
        setattr(module, name, _missing)


def in_ray_worker():
    """What Ray calls where a worker starts: the user's hook, and the one name of CUDA that scoring asks for."""
    import torch

    from entrostat.integrations.openrlhf import install

    torch.cuda.current_device = lambda: "cpu"
    install()
