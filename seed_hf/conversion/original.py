"""Converts the authors' checkpoints into a [`SeedTokenizer`]. Every key is accounted for, or there is no model."""

from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch.nn import functional as F
from transformers.utils import logging as hf_logging

from seed_hf.modeling.configuration_seed import SeedTokenizerConfig
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.modeling.whole_weights_seed import new_weights

from .checkpoint_files import read_checkpoint, unwrapped
from .original_names import is_known
from .original_sizes import infer_config, recognise
from .report import ConversionError, ConversionReport, shown


def convert_checkpoint(paths: str | Path | Iterable[str | Path], **options) -> tuple[SeedTokenizer, ConversionReport]:
    """[`convert_original_tokenizer`] for files. Errors name the files.

    Args:
        paths: See [`read_checkpoint`]. For SEED-1: `causal_qformer.pth`, `seed_tokenizer.pth` and `eva_vit_g.pth`.
        options: As in [`convert_original_tokenizer`].

    Returns:
        The model and the report, as there.
    """
    checkpoint = read_checkpoint(paths)
    model, report = convert_original_tokenizer(
        checkpoint.state_dict, sources=checkpoint.sources, copy=False, **options
    )
    report.files, report.replaced = checkpoint.files, checkpoint.replaced
    return model, report


def convert_original_tokenizer(
    state_dict: Mapping[str, torch.Tensor],
    *,
    vision_heads: int = 16,
    qformer_heads: int = 12,
    kind: str | None = None,
    text_tower: bool | None = None,
    image_size: int | None = None,
    allow_missing: Iterable[str] = (),
    allow_unknown: Iterable[str] = (),
    sources: Mapping[str, str] | None = None,
    copy: bool = True,
) -> tuple[SeedTokenizer, ConversionReport]:
    r"""A [`SeedTokenizer`] in fp32 with the weights of a state dict that has the authors' names.

    The names tell SEED-1, SEED-2 (with its MLP or Reverse Q-Former) and the training checkpoints of stage I and II
    apart. The shapes tell all sizes except the head counts. Tensors on the meta device give a model on it.

    Args:
        state_dict: The authors' key -> tensor of any floating type, maybe in a container such as `model`.
        vision_heads, qformer_heads: Attention heads of the ViT, and of both Q-Formers and the decoder blocks.
        kind: Which original it must be: "seed1", "seed2" or "stage1". `None`: see [`recognise`].
        text_tower: Whether to convert the text path and the projections of stage I. `None`: if all of them are there.
            A stage I checkpoint must have them.
        image_size: Pixels a side. If the checkpoint has another size, the positions of the ViT are interpolated
            (bicubic, as LAVIS does on loading).
        allow_missing: Keys, or shell patterns such as `image_down.*`, that may be missing. Their parameters are newly
            initialised then.
        allow_unknown: Unknown keys, or patterns of them, to leave out.
        sources: Key -> file, for messages.
        copy: `False` lets the model share the memory of fp32 tensors in `state_dict`.

    Returns:
        The model in eval mode, and the report, which is printable.

    Raises:
        ConversionError: Keys are missing, unknown or of a wrong shape (all are listed), or a value is not a weight.
    """
    state = unwrapped(state_dict)
    where = f"{', '.join(dict.fromkeys(sources.values()))}: " if sources else ""
    layout = recognise(state, kind, text_tower)
    try:
        config = infer_config(state, layout, vision_heads, qformer_heads)
    except ConversionError as error:
        raise ConversionError(f"{where}{error}", misshapen=error.misshapen) from error
    with torch.device("meta"):
        empty = SeedTokenizer(config)
    stage_one_only = layout.original == "stage1"
    names, shapes, new = {}, {}, []
    for ours, parameter in empty.state_dict().items():
        if stage_one_only and ours.partition(".")[0] in _STAGE_TWO:
            new.append(ours)
            continue
        theirs = layout.names.of(ours)
        names[ours] = theirs
        for key in theirs:  # the biases of queries and values are thirds of ours
            shapes[key] = tuple(parameter.shape) if len(theirs) == 1 else (parameter.shape[0] // 3,)
            if key == "temp":
                shapes[key] = ()  # their scalar is our vector of one element
    report = ConversionReport(
        kind=layout.original,
        head=config.generation_head,
        new=new,
        text_tower=config.text_tower,
        embedding_decoder=config.embedding_decoder and not stage_one_only,
    )
    _account_for(state, shapes, report, where, sources, tuple(allow_missing), tuple(allow_unknown))
    for ours, theirs in names.items():
        report.used.update({key: ours for key in theirs if key in state})

    weights = {ours: weight for ours, keys in names.items() if (weight := _weight(state, keys, copy)) is not None}
    if image_size is not None and image_size != config.vision_config.image_size:
        _resize_positions(weights, config, image_size)
    model = _build(config, weights, empty.state_dict().keys() - weights.keys())
    report.parameters = sum(parameter.numel() for parameter in model.parameters())
    return model, report


# Stage I does not train these.
_STAGE_TWO = {*SeedTokenizer.PARTS["coding"], *SeedTokenizer.PARTS["drawing"]}


def _account_for(state, shapes, report: ConversionReport, where, sources, allow_missing, allow_unknown):
    """Sort the keys into the report, or raise one error that names everything that is wrong."""
    missing = [key for key in shapes if key not in state]
    spare = [key for key in state if key not in shapes]
    report.missing = [key for key in missing if _allowed(key, allow_missing)]
    report.unused = [key for key in spare if is_known(key)]
    strange = [key for key in spare if not is_known(key)]
    report.unknown = [key for key in strange if _allowed(key, allow_unknown)]
    missing = [key for key in missing if key not in report.missing]
    unknown = [key for key in strange if key not in report.unknown]
    misshapen = [key for key, shape in shapes.items() if key in state and tuple(state[key].shape) != shape]
    odd = [key for key in shapes if key in state and not _is_dense_float(state[key])]
    broken = [key for key in shapes if key in state and key not in odd and not _is_finite(state[key])]
    if not (missing or unknown or misshapen or odd or broken):
        return
    message = [f"{where}not converted as {report.kind}."]
    if missing:
        message.append(f"Missing ({len(missing)}): {', '.join(shown(missing))}.")
    if unknown:
        message.append(f"Unknown ({len(unknown)}): {', '.join(shown(unknown, sources))}.")
    if misshapen:
        lines = {f"{key} is {tuple(state[key].shape)}, must be {shapes[key]}": key for key in misshapen}
        files = {line: sources[key] for line, key in lines.items() if key in sources} if sources else None
        message.append(f"Of the wrong shape ({len(misshapen)}): {'; '.join(shown(list(lines), files))}.")
    if odd:
        message.append(f"Not dense floating point ({len(odd)}): {', '.join(shown(odd, sources))}.")
    if broken:
        message.append(f"NaN or infinite ({len(broken)}): {', '.join(shown(broken, sources))}.")
    likely = recognise(state).original
    if missing and likely != report.kind:
        message.append(f"It looks like {likely} instead: convert it as {likely}.")
    if missing:
        message.append("Give the files with the missing keys too, or allow the keys by name (allow_missing).")
    elif unknown:
        message.append("To leave the unknown keys out, allow them by name (allow_unknown).")
    raise ConversionError(" ".join(message), missing=missing, unknown=unknown, misshapen=[*misshapen, *odd, *broken])


def _is_dense_float(weight: torch.Tensor) -> bool:
    return weight.is_floating_point() and weight.layout == torch.strided


def _is_finite(weight: torch.Tensor) -> bool:
    if weight.is_meta or not weight.numel():
        return True
    weight = weight.float() if weight.itemsize == 1 else weight  # torch cannot compare numbers of 8 bits
    return bool(torch.stack(weight.aminmax()).isfinite().all())


def _allowed(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def _weight(state, keys: tuple[str, ...], copy: bool) -> torch.Tensor | None:
    if not all(key in state for key in keys):
        return None
    tensors = [state[key].float() for key in keys]
    if tensors[0].ndim == 0:
        return tensors[0].reshape(1)
    if len(tensors) == 1:
        return tensors[0].clone() if copy and tensors[0] is state[keys[0]] else tensors[0].contiguous()
    query, value = tensors
    return torch.cat([query, torch.zeros_like(query), value])


def _resize_positions(weights: dict[str, torch.Tensor], config: SeedTokenizerConfig, image_size: int):
    patch = config.vision_config.patch_size
    if image_size < patch or image_size % patch:
        raise ValueError(f"image_size must be a multiple of the patch size {patch}, got {image_size}.")
    name = "vision_model.embeddings.position_embedding"
    config.vision_config.image_size = image_size
    if name not in weights:
        return
    first, grid = weights[name].split([1, weights[name].shape[1] - 1], dim=1)
    side = int(grid.shape[1] ** 0.5)
    grid = grid.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(image_size // patch,) * 2, mode="bicubic", align_corners=False)
    weights[name] = torch.cat([first, grid.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def _build(config: SeedTokenizerConfig, weights: dict[str, torch.Tensor], new: set[str]) -> SeedTokenizer:
    if all(weight.is_meta for weight in weights.values()):
        with torch.device("meta"):
            model = SeedTokenizer(config)
        model.load_state_dict(weights, strict=False, assign=True)
        return model.eval()
    # from_pretrained uses the tensors without a copy, and initialises the other parameters.
    with _silence(), new_weights(new):
        return SeedTokenizer.from_pretrained(None, config=config, state_dict=weights, dtype=torch.float32).eval()


@contextmanager
def _silence():
    """Keep transformers from listing new parameters and from showing a bar. The report has the facts."""
    verbosity, bar = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if bar:
            hf_logging.enable_progress_bar()
