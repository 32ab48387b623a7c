"""Weights as they are stored, compared with their index and with the model of the configuration. None are loaded."""

from pathlib import Path

from seed_hf.files import read_json

from .kinds import load_class
from .publishable import indices_of, is_regular, other_form, read_index, weights_of


Shapes = dict[str, tuple[int, ...]]
_MOST_NAMED = 3  # tensors in one message
_FLOATS = ("F16", "BF16", "F32", "F64")


def weight_problems(folder: Path, kind: str, cls: str | None) -> list[str]:
    """What is wrong with the weights of an artifact or of a pipeline's part; empty if nothing.

    Args:
        folder: That holds them.
        kind: Of the artifact, from `kind_of`.
        cls: Dotted name of the class that loads them, whose tensors they must be; `None`: only files are compared.

    Raises:
        ValueError: A JSON file is damaged.
    """
    indices, single = indices_of(folder, kind), weights_of(folder, kind)
    sets: list[tuple[Path, dict[str, list[str]] | None]] = [(index, read_index(index)) for index in indices]
    sets += [(file, None) for file in single]
    if not sets:
        return ["no weights (*.safetensors)"]
    for index in indices:
        whole = index.with_name(other_form(index.name) or "")
        if whole in single:
            return [f"both {whole.name} and {index.name}, and only one of them is loaded. Remove the older one"]
    found = []
    for path, shards in sets:
        shapes, wrong = _shapes(folder, shards if shards is not None else {path.name: None})
        found += wrong or (_misfits(shapes, folder, cls) if cls else [])
    return found


def adapter_problems(folder: Path) -> list[str]:
    """What is wrong with the weights of a LoRA adapter; empty if nothing.

    Args:
        folder: Of the adapter.

    Raises:
        ValueError: `adapter_config.json` is damaged.
    """
    name = "adapter_model.safetensors"
    shapes, wrong = _shapes(folder, {name: None})
    config = read_json(folder / "adapter_config.json")
    pattern = config.get("rank_pattern")
    ranks = {config.get("r"), *(pattern.values() if isinstance(pattern, dict) else ())}
    # A is (rank, in), B is (out, rank, ...)
    found = {key: shape[0] for key, shape in shapes.items() if ".lora_A." in key and shape}
    found |= {key: shape[1] for key, shape in shapes.items() if ".lora_B." in key and len(shape) > 1}
    if not wrong and not any("lora_" in key for key in shapes):
        return [f"{name} has no LoRA weights"]
    other = [key for key, rank in found.items() if rank not in ranks]
    return wrong + ([f"{name}: {_names(other)} not of the rank in adapter_config.json"] if other else [])


def _shapes(folder: Path, shards: dict[str, list[str]] | dict[str, None]) -> tuple[Shapes, list[str]]:
    """Shapes of all tensors in these files, and what is wrong with the files."""
    from safetensors import SafetensorError, safe_open

    shapes: Shapes = {}
    wrong = []
    config = folder / "config.json"
    quantized = config.is_file() and "quantization_config" in read_json(config)
    for name, tensors in sorted(shards.items()):
        if not is_regular(folder / name):
            wrong.append(f"no {name}" + (", which the index names" if tensors is not None else ""))
            continue
        try:
            with safe_open(folder / name, "np") as opened:
                slices = {key: opened.get_slice(key) for key in opened.keys()}
                here = {key: tuple(stored.get_shape()) for key, stored in slices.items()}
                odd = [key for key, stored in slices.items() if _is_odd(key, stored.get_dtype())]
        except (SafetensorError, OSError) as error:
            wrong.append(f"{name} cannot be read as safetensors ({error})")
            continue
        if odd and not quantized:
            wrong.append(f"{name}: {_names(odd)} stored as no floating-point numbers of 16 bits or more")
        if tensors is not None and here.keys() != set(tensors):
            differing = here.keys() ^ set(tensors)
            wrong.append(f"{name} has other tensors than the index says: {_names(differing)}")
        shapes |= here
    return shapes, wrong


def _is_odd(name: str, dtype: str) -> bool:
    """Whether a weight is stored in a type that loading would cast: truncated, or with its sign or half of it lost."""
    return name.rpartition(".")[2] in ("weight", "bias") and dtype not in _FLOATS


def _misfits(shapes: Shapes, folder: Path, cls: str) -> list[str]:
    """Where the tensors are not those of the model that the folder's configuration describes."""
    try:
        wanted, optional = _wanted(folder, cls)
    except Exception as error:  # whatever a configuration can do to the class that reads it
        return [f"config.json describes no {cls.rpartition('.')[2]} ({' '.join(str(error).split())[:200]})"]
    missing = [name for name in wanted if name not in shapes and name not in optional]
    foreign = [name for name in shapes if name not in wanted]
    other = [name for name in wanted if name in shapes and shapes[name] != wanted[name]]
    groups = (("the weights lack", missing), ("the weights hold more than the model:", foreign))
    found = [f"{words} {_names(names)}" for words, names in groups if names]
    return found + ([f"{_names(other)} not of the size in config.json"] if other else [])


def _wanted(folder: Path, cls: str) -> tuple[Shapes, set[str]]:
    """Shapes of the tensors of the model, and the names that may be missing: those that are the same as others."""
    import torch

    known = load_class(cls)
    with torch.device("meta"):
        if cls.startswith("diffusers.") or not hasattr(known, "config_class"):
            model = known.from_config(read_json(folder / "config.json"))
        else:
            model = known(known.config_class.from_pretrained(folder))
    optional = set(getattr(model, "all_tied_weights_keys", None) or ())
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}, optional


def _names(names) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - _MOST_NAMED} more" if len(ordered) > _MOST_NAMED else ""
    return ", ".join(name[:80] for name in ordered[:_MOST_NAMED]) + more
