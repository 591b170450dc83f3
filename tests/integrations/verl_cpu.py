"""A CPU platform for verl, which ships ones for GPUs and NPUs only; registered by verl's own registry."""

import os
import random
from contextlib import nullcontext
from types import SimpleNamespace

import torch
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry

NOTHING = SimpleNamespace(total_memory=0)
MODULE = SimpleNamespace(
    current_device=lambda: torch.device("cpu"),
    device_count=lambda: 1,
    empty_cache=lambda: None,
    get_device_name=lambda *_: "CPU",
    get_device_properties=lambda *_: NOTHING,
    get_rng_state=torch.get_rng_state,
    is_available=lambda: False,
    max_memory_allocated=lambda *_: 0,
    max_memory_reserved=lambda *_: 0,
    memory_allocated=lambda *_: 0,
    memory_reserved=lambda *_: 0,
    mem_get_info=lambda *_: (0, 0),
    reset_peak_memory_stats=lambda *_: None,
    set_rng_state=torch.set_rng_state,
    synchronize=lambda *_: None,
)


@PlatformRegistry.register(platform="cpu")
class CPU(PlatformBase):
    """One device, gloo, nothing to allocate or to profile."""

    device_name = "cpu"
    vendor_name = "cpu"
    device_module = MODULE

    def is_available(self):
        return True

    def current_device(self):
        return torch.device("cpu")

    def device_count(self):
        return 1

    def set_device(self, device_index):
        pass

    def synchronize(self, device_index=None):
        pass

    def manual_seed(self, seed):
        torch.manual_seed(seed)

    def manual_seed_all(self, seed):
        random.seed(seed)
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings):
        pass

    def empty_cache(self):
        pass

    def get_device_capability(self, device_index=0):
        return None, None

    def communication_backend_name(self):
        return "gloo"

    def visible_devices_envvar(self):
        return "CUDA_VISIBLE_DEVICES"

    def nvtx_range(self, msg):
        return nullcontext()

    def profiler_start(self):
        pass

    def profiler_stop(self):
        pass

    def ray_resource_name(self):
        return "CPU"

    def ray_noset_envvars(self):
        return []

    def is_ipc_supported(self):
        return False

    def cudart(self):
        return None


os.environ |= {
    "VERL_PLATFORM": "cpu",
    "VERL_ENGINE_DEVICE": "cuda",
    "VERL_ENGINE_VENDOR": "nvidia",
}  # the engine itself is the same
