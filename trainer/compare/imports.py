"""Imports of every run: the fork server of `pool` loads it once, so that a run starts in a second.

DeepSpeed keeps the accelerator that it finds as it is imported. Where there is a GPU each run imports it, since its
`engine.device` may be the CPU.
"""
# ruff: noqa: F401

import os

# Asking CUDA itself would leave a context behind that no fork may use.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed

import mlflow
import transformers.models.qwen2.modeling_qwen2

from .. import run
from ..reporting import write
from ..reporting.drawing import figure
