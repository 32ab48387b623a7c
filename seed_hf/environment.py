"""What a report of a bug has to say of the machine: versions, devices, threads. No paths, no user names, no tokens."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

from seed_hf.devices import has_native_bf16
from seed_hf.threads import available_cores
from seed_hf.version import __version__


LIBRARIES = (
    "torch",
    "transformers",
    "diffusers",
    "tokenizers",
    "peft",
    "accelerate",
    "datasets",
    "safetensors",
    "huggingface_hub",
)


def environment() -> dict[str, str]:
    """Describe what seed_hf runs on. A library that is missing or broken is named as such; it is no error.

    Returns:
        In this order: `seed_hf`, `python` and `platform`; the version of each of `LIBRARIES`, or "not installed";
        `devices`, such as "cpu (x86_64, AVX2), cuda:0 (NVIDIA H100)"; `threads`, those of torch and the cores that
        this process may use; and `native bf16`, the devices that multiply bf16 matrices in hardware.
    """
    versions = {"seed_hf": __version__, "python": platform.python_version(), "platform": platform.platform()}
    return versions | {name: _version(name) for name in LIBRARIES} | _torch()


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"


def _torch() -> dict[str, str]:
    usable, all_of_them = available_cores(), os.cpu_count()
    cores = f"{usable} cores" if usable == all_of_them else f"{usable} of {all_of_them} cores"
    try:
        import torch

        names = {"cpu": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"}
        if (accelerator := torch.accelerator.current_accelerator()) is not None:
            library = getattr(torch, accelerator.type)  # torch.cuda, torch.mps, torch.xpu
            for index in range(torch.accelerator.device_count()):
                name = library.get_device_name(index) if hasattr(library, "get_device_name") else platform.machine()
                names[f"{accelerator.type}:{index}"] = name
        native = [device for device in names if has_native_bf16(device)]
        threads = f"torch {torch.get_num_threads()}, {cores}"
    except (ImportError, OSError, RuntimeError) as error:  # missing, built for another machine, or without its driver
        unknown = f"unknown: torch is not usable ({type(error).__name__})"  # the message may hold a path
        return {"devices": unknown, "threads": cores, "native bf16": unknown}
    devices = ", ".join(f"{device} ({name})" for device, name in names.items())
    found = {"devices": devices, "threads": threads, "native bf16": ", ".join(native) or "none"}
    return found | {"torch": str(torch.__version__)}  # unlike the package's, it names the build: +cpu, +cu130
