"""From checkpoint files to a saved tokenizer: convert, compare, and write all of it or nothing."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open

from seed_hf.files import check_new_folder, disk_errors, read_json, whole_folder
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer

from .original import convert_checkpoint
from .parity import TOLERANCE, Parity, compare_tokenizer, read_recorded
from .report import ConversionError, ConversionReport


class Conversion:
    """One conversion. It has a `report` from the start, a `parity` after `verify`, and files after `write`.

    Args:
        kind: Which original it is: "seed1", "seed2", "stage1", or "blip2" for a BLIP-2, as a stage I checkpoint with
            LAVIS' names or as a folder of transformers.
        files: The checkpoint files; where two hold a key, the later one counts. For "blip2" also one folder.
        out: Folder to write: new or empty.
        options: As in [`convert_original_tokenizer`].

    Raises:
        ValueError: The files cannot be converted, or `out` is not empty. Nothing is written then.
    """

    def __init__(self, kind: str, files: Sequence[Path], out: Path, **options):
        self.out = Path(out)
        check_new_folder(self.out)
        folders = [file for file in files if Path(file).is_dir()]
        if kind == "blip2" and folders:
            if len(files) > 1:
                raise ConversionError(f"{folders[0]}: a folder holds a whole BLIP-2. Give it alone, or give files.")
            if options:
                given = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(options))
                raise ConversionError(
                    f"{folders[0]}: a folder of transformers says its sizes, and is taken whole: without {given}."
                )
            self.model, self.report = _from_folder(Path(folders[0]))
        else:
            kind = "stage1" if kind == "blip2" else kind
            self.model, self.report = convert_checkpoint(files, kind=kind, **options)
        self.parity: Parity | None = None

    def verify(self, recorded: Path, tolerance: float = TOLERANCE) -> Parity:
        """Compare with results of the authors' code.

        Args:
            recorded: A `*_io.safetensors` file; see [`compare_tokenizer`].
            tolerance: Largest relative difference.
        """
        self.parity = compare_tokenizer(self.model, read_recorded(recorded), tolerance)
        return self.parity

    def write(self) -> None:
        """Save the tokenizer and its image processor.

        Raises:
            ValueError: `verify` found a difference beyond its tolerance; nothing is written.
        """
        if self.parity is not None and not self.parity.holds:
            raise ValueError(
                f"{self.out}: not written. The converted tokenizer does not compute the recorded results (see the "
                "table). Check the head counts and the image size, or give another tolerance."
            )
        with disk_errors(self.out), whole_folder(self.out) as folder:
            self.model.save_pretrained(folder)
            SeedImageProcessor.for_tokenizer(self.model.config).save_pretrained(folder)


def _stored_keys(folder: Path) -> list[str]:
    """Names of the weights in the files that transformers reads."""
    for one in ("model.safetensors", "pytorch_model.bin"):
        if (index := folder / f"{one}.index.json").is_file():
            return list(read_json(index)["weight_map"])
        if (file := folder / one).is_file() and file.suffix == ".bin":
            return list(torch.load(file, map_location="meta", weights_only=True))
        if file.is_file():
            with safe_open(file, "pt") as opened:
                return list(opened.keys())
    return []


def _from_folder(folder: Path) -> tuple[SeedTokenizer, ConversionReport]:
    model = SeedTokenizer.from_blip2(folder).eval()
    ours, stored = set(model.state_dict()), _stored_keys(folder)
    named = {key: f"text_{key}" if key.startswith("embeddings.") else key for key in stored}
    used = {key: name for key, name in named.items() if name in ours}
    report = ConversionReport(
        kind="stage1",
        head=model.config.generation_head,
        used=used,
        unused=[key for key in stored if key not in used],
        new=sorted(ours - set(used.values())),
        files=[str(folder)],
        text_tower=model.config.text_tower,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )
    return model, report
