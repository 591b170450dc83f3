"""What every run imports: the fork server of `pool` loads it once, so that a run starts in a second."""

import os

# Asking CUDA itself would leave a context behind that no fork may use.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")

import deepspeed  # noqa: E402, F401
import transformers.models.qwen2.modeling_qwen2  # noqa: E402, F401

from .. import run  # noqa: E402, F401
