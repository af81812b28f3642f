"""The machine and the versions a result was made with, found without importing the heavy packages."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from evalsuite import __version__

PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "bitsandbytes",
    "datasets",
    "tokenizers",
    "scikit-learn",
    "scipy",
    "numpy",
    "pyarrow",
    "pydantic",
    "jinja2",
    "openai",
    "pluggy",
)
# Only names whose values are no secret: a token never reaches a file.
VARIABLES = ("HF_HOME", "HF_HUB_OFFLINE", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "WORLD_SIZE", "EVALSUITE_PLUGINS")


def cache_folder() -> Path:
    """Where derived data is kept: ``EVALSUITE_CACHE``, else ``evalsuite`` in the user's cache folder."""
    if named := os.environ.get("EVALSUITE_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evalsuite"


def package_versions() -> dict[str, str | None]:
    """Installed version of every package a result depends on; None where it is not installed."""
    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions


def describe_environment() -> dict[str, Any]:
    """Versions, machine and the relevant variables, as ``environment.json`` keeps them."""
    import psutil

    return {
        "evalsuite": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": _processor(),
        "cpu_count": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "packages": package_versions(),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "gpu": _gpu(),
    }


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as stream:
            return next((line.partition(":")[2].strip() for line in stream if line.startswith("model name")), "")
    except OSError:
        return platform.processor()


def _gpu() -> list[dict[str, Any]]:
    # Asked only where torch is loaded anyway: a run without a model must not pay for it.
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    count = range(torch.cuda.device_count())
    return [
        {"name": torch.cuda.get_device_name(i), "memory_bytes": torch.cuda.get_device_properties(i).total_memory}
        for i in count
    ]


# Set by torchrun and accelerate launch. A child process that inherited them would wait for partners that never come.
LAUNCHER_VARIABLES = (
    "RANK",
    "LOCAL_RANK",
    "GROUP_RANK",
    "ROLE_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "GROUP_WORLD_SIZE",
    "ROLE_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
)


def without_launcher() -> dict[str, str]:
    """This process's environment for a child that works alone."""
    launcher = (*LAUNCHER_VARIABLES, "TORCHELASTIC_", "ACCELERATE_")
    return {name: value for name, value in os.environ.items() if not name.startswith(launcher)}


def is_main_process() -> bool:
    """False in all but the first process of a launcher (torchrun, accelerate launch)."""
    return os.environ.get("RANK", "0") == "0"
