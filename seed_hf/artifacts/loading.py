"""Opens an artifact by the name a user gives: a folder, a Hub id, or a bundled checkpoint such as `"seed-tiny"`.

    model, processor = load_model("seed-tiny")
    pipe = load_pipeline("owner/name", device="cuda")

The device and the number type are those of `seed_hf.devices` unless the caller says otherwise. A Hub id may be
followed by a folder of the repository: `owner/name/folder`. Code from the Hub is never run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seed_hf.devices import number_type, usable_device
from seed_hf.files import read_json
from seed_hf.pipelines.processor_check import check_processor

from .bundled import bundled, bundled_names
from .hub_ids import split_hub_id
from .kinds import KINDS, class_name_in, identify, load_class, what_takes
from .publishable import PICKLES


if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from seed_hf.modeling.configuration_seed import SeedTokenizerConfig
    from seed_hf.modeling.image_processing_seed import SeedImageProcessor
    from seed_hf.modeling.modeling_seed import SeedForConditionalGeneration
    from seed_hf.modeling.modeling_seed_text import SeedForCausalLM
    from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
    from seed_hf.modeling.processing_seed import SeedProcessor
    from seed_hf.pipelines.pipeline_seed_image import SeedImagePipeline

Source = str | os.PathLike | None
DEFAULT = "seed-tiny"


@dataclass(frozen=True)
class Location:
    """Where an artifact lies on this machine.

    Attributes:
        folder: What `from_pretrained` of its class takes.
        processor: What `from_pretrained` of its processor takes.
    """

    folder: Path
    processor: Path


def load_model(
    source: Source = None, *, device: torch.device | str | None = None, dtype: torch.dtype | str | None = None
) -> tuple[SeedForConditionalGeneration, SeedProcessor]:
    """A [`SeedForConditionalGeneration`], ready to use, and its [`SeedProcessor`].

    Args:
        source: Folder, Hub id or bundled checkpoint of the model, or of a pipeline, whose model is taken. Default:
            seed-tiny.
        device: Default: a GPU if there is one.
        dtype: Number type to compute in; `"auto"` for the stored one. Default: that of `number_type`.

    Raises:
        FileNotFoundError: There is no such folder and no such repository.
        ValueError: It holds something else, its files are damaged, or the device is not usable.
    """
    return _open(source, "model", device, dtype)


def load_tokenizer(
    source: Source = None, *, device: torch.device | str | None = None, dtype: torch.dtype | str | None = None
) -> tuple[SeedTokenizer, SeedImageProcessor]:
    """A [`SeedTokenizer`], ready to use, and the image processor saved with it, or else the default one for its size.

    Args:
        source: Folder, Hub id or bundled checkpoint of the tokenizer, or of a model or pipeline that has one.
            Default: seed-tiny.
        device: Default: a GPU if there is one.
        dtype: Number type to compute in; `"auto"` for the stored one. Default: that of `number_type`.

    Raises:
        FileNotFoundError: There is no such folder and no such repository.
        ValueError: It holds something else, its files are damaged, or the device is not usable.
    """
    return _open(source, "tokenizer", device, dtype)


def load_text_tower(
    source: Source = None, *, device: torch.device | str | None = None, dtype: torch.dtype | str | None = None
) -> tuple[SeedTokenizer, SeedImageProcessor, PreTrainedTokenizerBase]:
    """A [`SeedTokenizer`], its image processor, and the text tokenizer of its text tower, which is saved with it.

    Args:
        source: Folder, Hub id or bundled checkpoint of the tokenizer, or of a model or pipeline that has one.
            Default: seed-tiny.
        device: Default: a GPU if there is one.
        dtype: Number type to compute in; `"auto"` for the stored one. Default: that of `number_type`.

    Raises:
        FileNotFoundError: There is no such folder and no such repository.
        ValueError: It holds something else, its files are damaged, or the device is not usable.
    """
    from transformers import AutoTokenizer

    place = locate(source, "tokenizer")
    if not holds_words(place.processor):
        raise ValueError(
            f"{os.fspath(source or DEFAULT)}: holds no text tokenizer (tokenizer.json), which the text tower needs. "
            "Save the one of stage I in the same folder."
        )
    tokenizer, image_processor = load_tokenizer(source, device=device, dtype=dtype)
    with naming_the_source(source):
        return tokenizer, image_processor, AutoTokenizer.from_pretrained(place.processor, trust_remote_code=False)


def holds_words(folder: str | os.PathLike) -> bool:
    """Whether a text tokenizer is saved in a folder. transformers makes an empty one where there is none.

    Args:
        folder: Of a model, or of the text tokenizer itself.
    """
    return any(any(Path(folder).glob(name)) for name in ("tokenizer.json", "vocab.*", "*.model"))


def load_language_model(
    source: Source, *, device: torch.device | str | None = None, dtype: torch.dtype | str | None = None
) -> tuple[SeedForCausalLM, PreTrainedTokenizerBase]:
    """A [`SeedForCausalLM`], ready to use, and its text tokenizer.

    Args:
        source: Folder or Hub id of the language model.
        device: Default: a GPU if there is one.
        dtype: Number type to compute in; `"auto"` for the stored one. Default: that of `number_type`.

    Raises:
        FileNotFoundError: There is no such folder and no such repository.
        ValueError: It holds something else, its files are damaged, or the device is not usable.
    """
    return _open(source, "language_model", device, dtype)


def load_pipeline(
    source: Source = None,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    **components: Any,
) -> SeedImagePipeline:
    """A [`SeedImagePipeline`], ready to use; its model and processor are `pipe.seed_model` and `pipe.processor`.

    Args:
        source: Folder, Hub id or bundled checkpoint of the pipeline. Default: seed-tiny.
        device: Default: a GPU if there is one.
        dtype: Number type to compute in. Default: that of `number_type`.
        components: Parts to use in place of the stored ones, such as `seed_model`.

    Raises:
        FileNotFoundError: There is no such folder and no such repository.
        ValueError: It holds something else, its files are damaged, or the device is not usable.
    """
    place, where, number = _prepare(source, "pipeline", device, dtype)
    cls = load_class(KINDS["pipeline"].cls)
    with naming_the_source(source):
        return cls.from_pretrained(place.folder, dtype=number, **components).to(where)


def load_pretrained(cls: Any, source: str | os.PathLike, **options: Any) -> Any:
    """`cls.from_pretrained` for a class of transformers or of this package, with the checks and errors of this module.

    Args:
        cls: `AutoModel`, `AutoTokenizer`, `SeedTokenizer` ...
        source: Folder, or Hub id, maybe followed by a folder of the repository.
        options: Of `from_pretrained`.

    Raises:
        FileNotFoundError: There is no such folder and no such repository.
        ValueError: It cannot be loaded: other or damaged files.
    """
    name, where = pretrained_arguments(source)
    from transformers import AutoModel, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

    from seed_hf.modeling.model_types_seed import check_model_type, read_config
    from seed_hf.modeling.whole_weights_seed import WholeWeights, load_whole

    options = {"trust_remote_code": False, **where, **options}
    with naming_the_source(source):
        if not issubclass(cls, (PreTrainedModel, AutoModel, AutoModelForCausalLM)) or issubclass(cls, WholeWeights):
            return cls.from_pretrained(name, **options)
        if (config_class := getattr(cls, "config_class", None)) is not None:
            check_model_type(read_config(PreTrainedConfig, name, **where), config_class, source)
        return load_whole(cls, name, **options)


def pretrained_arguments(source: str | os.PathLike) -> tuple[str, dict[str, str]]:
    """The name and options by which `from_pretrained` finds a folder or a Hub id that may be followed by a folder.

    A Hub id is asked for once, so that a typo does not become a row of failed requests.

    Args:
        source: Folder, or Hub id, maybe followed by a folder of the repository.

    Raises:
        FileNotFoundError: There is no such folder and no such repository.
    """
    if Path(source).is_dir():
        return os.fspath(source), {}
    repo_id, subfolder = _hub_id(source)
    _fetch(source, repo_id, [f"{subfolder}/config.json" if subfolder else "config.json"])
    return repo_id, {"subfolder": subfolder} if subfolder else {}


def snapshot_of(source: str | os.PathLike) -> tuple[Path, str | None]:
    """The local folder of a folder or a Hub id, and of a Hub id also its commit. Of the Hub, only JSON is fetched.

    Args:
        source: Folder, or Hub id, maybe followed by a folder of the repository.

    Raises:
        FileNotFoundError: There is no such folder and no such repository.
    """
    if Path(source).is_dir():
        return Path(source), None
    repo_id, subfolder = _hub_id(source)
    snapshot = _fetch(source, repo_id, [f"{subfolder}/*.json" if subfolder else "*.json"])
    return snapshot / subfolder, snapshot.name


def locate(source: Source, kind: str) -> Location:
    """Find an artifact of a kind, without loading it. What the Hub holds is fetched, weights last.

    A pipeline's folder also holds a model or a tokenizer; a checkpoint with the folders `tokenizer`, `model` and
    `pipeline` holds all three. A folder is looked for before a bundled checkpoint, and that before the Hub.

    Args:
        source: Folder, Hub id or bundled checkpoint. `None`: seed-tiny.
        kind: "tokenizer", "model", "language_model" or "pipeline".

    Raises:
        FileNotFoundError: There is no such folder and no such repository.
        ValueError: It holds something else.
    """
    if source is None or (not Path(source).is_dir() and os.fspath(source) in bundled_names()):
        folder = bundled(os.fspath(source or DEFAULT), kind)
        return Location(folder, _processor_of(folder, kind))
    if Path(source).is_dir():
        return _search(Path(source), kind, source)
    repo_id, subfolder = _hub_id(source)
    below = f"{subfolder}/" if subfolder else ""
    snapshot = _fetch(source, repo_id, [f"{below}*.json"])  # tells what it is before gigabytes are fetched
    found = _search(snapshot / subfolder, kind, source)
    folders = {path.relative_to(snapshot).as_posix() for path in (found.folder, found.processor)}
    _fetch(source, repo_id, ["*" if folder == "." else f"{folder}/*" for folder in sorted(folders)])
    return found


@contextmanager
def naming_the_source(source: Source) -> Iterator[None]:
    """Name the artifact in errors about its files, which the libraries below raise without it.

    Args:
        source: As the user named it.

    Raises:
        ValueError: For what the block raises about damaged or foreign files.
    """
    try:
        yield
    except Exception as error:  # a foreign folder can make the libraries raise anything
        place = os.fspath(DEFAULT if source is None else source)
        kind = "" if isinstance(error, (OSError, RuntimeError, TypeError, ValueError)) else f"{type(error).__name__}: "
        said = " ".join(str(error).split()).removeprefix(f"{place}: ")
        if "trust_remote_code=True" in said:
            said = "It needs the custom code that lies in it, which this package never runs."
        raise ValueError(f"{place}: cannot be loaded. {kind}{said}") from error


def load_image_processor(folder: str | os.PathLike, config: SeedTokenizerConfig) -> SeedImageProcessor:
    """The image processor saved in a tokenizer's folder, else the default one of its image size.

    Args:
        folder: Of the tokenizer, or of a processor.
        config: Of the tokenizer; gives the image size.
    """
    from seed_hf.modeling.image_processing_seed import SeedImageProcessor

    folder = Path(folder)
    combined = folder / "processor_config.json"
    if (folder / "preprocessor_config.json").is_file() or (
        combined.is_file() and "image_processor" in read_json(combined)
    ):
        return SeedImageProcessor.from_pretrained(folder)
    return SeedImageProcessor.for_tokenizer(config)


def _prepare(source: Source, kind: str, device, dtype) -> tuple[Location, torch.device, torch.dtype | str]:
    place = locate(source, kind)
    where = usable_device(device)
    return place, where, dtype if dtype == "auto" else number_type(where, dtype)


def _open(source: Source, kind: str, device, dtype) -> tuple[Any, Any]:
    place, where, number = _prepare(source, kind, device, dtype)
    cls, processor = load_class(class_name_in(place.folder, kind)), load_class(KINDS[kind].processor)
    with naming_the_source(source):
        model = cls.from_pretrained(place.folder, dtype=number).to(where).eval()
        if kind == "tokenizer":
            return model, load_image_processor(place.processor, model.config)
        beside = processor.from_pretrained(place.processor)
        if kind == "model":
            check_processor(beside, model.config.text_config)
        return model, beside


def _search(root: Path, kind: str, source: Source) -> Location:
    folder, processor = root, None
    if kind != "pipeline" and (root / "model_index.json").is_file():
        folder, processor = root / "seed_model", _processor_of(root, "pipeline")
    elif identify(root)[0] is None and identify(root / kind)[0] == kind:
        folder = root / kind
    found, words = identify(folder)
    if found != kind and (found, kind) != ("model", "tokenizer"):  # SeedTokenizer loads the one in a model
        raise ValueError(
            f"{source}: holds {words}, which is not a {KINDS[kind].class_name}. Give the folder or the Hub id of one."
            f"{what_takes(folder)}"
        )
    return Location(folder, processor or _processor_of(folder, kind))


def _processor_of(folder: Path, kind: str) -> Path:
    """A pipeline has a folder for each part; any other artifact has its processor beside its weights."""
    return folder / "processor" if kind == "pipeline" else folder


def _hub_id(source: str | os.PathLike) -> tuple[str, str]:
    """Repository and folder in it.

    Raises:
        FileNotFoundError: It cannot be a Hub id.
    """
    place = os.fspath(source)
    if Path(place).exists():
        raise FileNotFoundError(f"{place}: this is a file, not a folder.")
    found = split_hub_id(place)
    if found is None:
        raise FileNotFoundError(f"{place}: no such folder, and not a Hub id (owner/name).")
    return found


def _fetch(source: Source, repo_id: str, patterns: Sequence[str]) -> Path:
    """Files of a repository on this machine, from the cache where the Hub cannot be reached.

    Raises:
        FileNotFoundError: There is no such repository, or it is neither cached nor can it be fetched.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    pickles = [f"*{suffix}" for suffix in PICKLES]
    try:
        return Path(snapshot_download(repo_id, allow_patterns=list(patterns), ignore_patterns=pickles))
    except GatedRepoError as error:
        raise FileNotFoundError(
            f"{source}: a repository on the Hub whose owner grants access. Ask for it on its page, then log in with "
            "`hf auth login`."
        ) from error
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"{source}: no such folder, and no such repository on the Hub. If it is a private one, log in with "
            "`hf auth login`."
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError) as error:
        raise FileNotFoundError(
            f"{source}: no such folder. As a Hub id it is not in the cache, and the Hub cannot be reached."
        ) from error
