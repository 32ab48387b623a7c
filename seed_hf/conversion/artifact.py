"""From checkpoint files to a saved tokenizer in one go: convert, compare, write whole or not at all."""

from collections.abc import Sequence
from pathlib import Path

from seed_hf.files import check_new_folder, whole_folder
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer

from .original import convert_checkpoint
from .parity import TOLERANCE, Parity, compare_tokenizer, read_recorded
from .report import ConversionError, ConversionReport


class Conversion:
    """One conversion: `report` as soon as it is made, `parity` after `verify`, files after `write`.

    Args:
        kind: "seed1", "seed2", "stage1" or "blip2": a stage I checkpoint under LAVIS' names, or the folder of a BLIP-2
            of transformers.
        files: The checkpoint files, later ones winning; for "blip2" also one folder.
        out: Where the artifact will be: a new or empty folder.
        options: As in [`convert_original_tokenizer`].

    Raises:
        ValueError: Nothing could be converted, or `out` is taken; nothing is written then.
    """

    def __init__(self, kind: str, files: Sequence[Path], out: Path, **options):
        self.out = Path(out)
        check_new_folder(self.out)
        folders = [file for file in files if Path(file).is_dir()]
        if kind == "blip2" and folders:
            if len(files) > 1:
                raise ConversionError(f"{folders[0]}: a folder is a whole BLIP-2. Give it alone, or give files.")
            self.model, self.report = _from_folder(Path(folders[0]))
        else:
            kind = "stage1" if kind == "blip2" else kind
            self.model, self.report = convert_checkpoint(files, kind=kind, **options)
        self.parity: Parity | None = None

    def verify(self, recorded: Path, tolerance: float = TOLERANCE) -> Parity:
        """Compare with what the authors' code computed; see [`compare_tokenizer`]."""
        self.parity = compare_tokenizer(self.model, read_recorded(recorded), tolerance)
        return self.parity

    def write(self) -> None:
        """Save the tokenizer and its image processor.

        Raises:
            ValueError: `verify` found a difference beyond its tolerance; nothing is written.
        """
        if self.parity is not None and not self.parity.holds:
            raise ValueError(
                f"{self.out}: not written, because the converted tokenizer does not compute what was recorded (see "
                "the table). Check the head counts and the image size; another tolerance can be given."
            )
        with whole_folder(self.out) as folder:
            self.model.save_pretrained(folder)
            SeedImageProcessor.for_tokenizer(self.model.config).save_pretrained(folder)


def _from_folder(folder: Path) -> tuple[SeedTokenizer, ConversionReport]:
    model = SeedTokenizer.from_blip2(folder).eval()
    report = ConversionReport(
        kind="stage1",
        head=model.config.generation_head,
        files=[str(folder)],
        text_tower=model.config.text_tower,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )
    return model, report
