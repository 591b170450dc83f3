"""bfloat16 on processors that have it, and on those that make it of other instructions."""

import pytest
import torch

from entrostat.trainer.engine.processor import emulates_bfloat16
from tests.trainer.test_resume import session_of


def has(monkeypatch, **capabilities):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)


@pytest.mark.parametrize(
    ("capabilities", "emulated"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, True),
        ({"avx512_bf16": True}, False),
        ({"amx_bf16": True}, False),
        ({}, False),
    ],
)
def test_what_the_processor_has_decides(monkeypatch, capabilities, emulated):
    has(monkeypatch, **capabilities)
    assert emulates_bfloat16() == emulated


def test_a_run_in_bfloat16_says_where_it_is_slow(monkeypatch, caplog):
    has(monkeypatch, avx2=True)
    session_of(["engine.dtype=bfloat16"])
    assert "emulates bfloat16" in caplog.text
    caplog.clear()
    has(monkeypatch, avx512_bf16=True)
    session_of(["engine.dtype=bfloat16"])
    assert "emulates" not in caplog.text
