"""Abilities of the processor."""

from __future__ import annotations

from typing import Any

import torch

BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
"""Instructions for it, by PyTorch's names on x86-64 and Arm."""


def emulates_bfloat16() -> bool:
    """Whether matrix products in bfloat16 are made of other instructions, several times slower than float32's.

    False where this PyTorch does not say.
    """
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known) and not any(known.get(name) for name in BFLOAT16)
