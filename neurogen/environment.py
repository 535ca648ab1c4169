"""What a step runs on: versions of the code and of libraries, host, CPU, GPUs.

out: JSON, as environment.json of a step's folder has it
"""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

LIBRARIES = ("torch", "torchvision", "transformers", "peft", "numpy")  # whose versions a result may depend on


def environment(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What a step runs on: versions, commit, host, CPU, GPUs; its own device, None for a CPU, and the backbone's dtype.

    None as well for what a CPU does not need: driver, CUDA, cuDNN, NCCL.
    """
    import torch

    on_gpu = device.type == "cuda"
    return {
        "python": platform.python_version(),
        "host": platform.node(),
        "cpu": _cpu(),
        "cpu_cores": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "device": torch.cuda.get_device_name(device) if on_gpu else None,
        "dtype": str(dtype).removeprefix("torch."),
        "driver": _driver() if on_gpu else None,
        "cuda": torch.version.cuda if on_gpu else None,
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,
        "nccl": _nccl() if on_gpu else None,
        "commit": commit_here(),
        "versions": {name: _version(name) for name in ("neurogen", *LIBRARIES, "deepspeed")},
    }


def _nccl() -> str | None:
    """The version of NCCL; None where torch was built without it."""
    import torch

    if not torch.distributed.is_nccl_available():
        return None
    return ".".join(map(str, torch.cuda.nccl.version()))


def _driver() -> str | None:
    """The version of the GPU's driver; None where nvidia-smi is missing."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        printed = subprocess.run(query, capture_output=True, encoding="utf-8", errors="replace", check=False)
    except FileNotFoundError:
        return None
    return printed.stdout.split()[0] if printed.returncode == 0 else None


def _cpu() -> str:
    """The name of the CPU, as far as the system knows it."""
    source = Path("/proc/cpuinfo")
    lines = source.read_text(encoding="utf-8").splitlines() if source.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def commit_here() -> str | None:
    """The commit of this code: that of its repository, or the one noted beside the copy that a sweep's jobs run.

    None where the code was installed, or git is missing.
    """
    folder = Path(__file__).parents[1]
    if (folder / "COMMIT").exists():
        return (folder / "COMMIT").read_text(encoding="utf-8").strip() or None
    if not (folder / ".git").exists():  # installed; a repository further up would be another project's
        return None
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=folder,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except FileNotFoundError:  # no git on this machine
        return None
    return described.stdout.strip() or None
