"""Imports of every run: the fork server of `pool` loads it once, so that a run starts in a second."""
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
from ..reporting import figure, write
