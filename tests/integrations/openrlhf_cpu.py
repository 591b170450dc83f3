"""OpenRLHF where flash-attn cannot be built: its import needs some names that only packed samples call."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType


def _missing(*_, **__):
    # a stand-in on purpose: unpacked samples never call it, and packed ones are not tested
    raise NotImplementedError("packed samples need flash-attn")


NAMES = {
    "flash_attn": (),
    "flash_attn.bert_padding": ("index_first_axis", "pad_input", "rearrange", "unpad_input"),
    "flash_attn.utils": (),
    "flash_attn.utils.distributed": ("all_gather",),
}
for package, functions in NAMES.items():
    module = sys.modules[package] = ModuleType(package)
    module.__spec__ = ModuleSpec(package, None, is_package=True)
    module.__path__ = []
    for name in functions:
        setattr(module, name, _missing)
