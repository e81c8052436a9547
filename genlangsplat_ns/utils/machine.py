"""On which machine a process runs, in a few words."""

from __future__ import annotations

import os
import platform
import sys

import psutil


def describe_machine() -> str:
    """Returns system, processor, cores, memory, and the CUDA device if torch uses one; no names of hosts or users."""
    memory = psutil.virtual_memory().total / 1e9
    found = f"{platform.system()} {platform.machine()}, {os.cpu_count()} processor cores, {memory:.0f} GB of memory"
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return found
    return f"{found}, {torch.cuda.get_device_name()}"
