"""What a recipe may say: the sections of its YAML file as dataclasses."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar


STAGES = ("contrastive", "quantization", "lm", "instruct")
LANGUAGE_STAGES = ("lm", "instruct")  # they train a language model
Model = TypeVar("Model")
Data = TypeVar("Data")


@dataclass
class TokenizerModel:
    """`model:` of stages I and II. Exactly one of the first four fields says where the weights come from.

    A folder may also be a Hub id, or a Hub id and a folder of that repository: `owner/name/text_encoder`.

    Args:
        tokenizer: Folder of a saved `SeedTokenizer`, whose training goes on.
        config: Fields of `SeedTokenizerConfig`, for random weights.
        blip2: Folder of a `Blip2ForImageTextRetrieval`, where the paper's stage I begins.
        stage_one: Folder of a `SeedTokenizer` trained in stage I, where stage II begins. The codebook and everything
            after it are new.
        settings: More fields of `SeedTokenizerConfig`, with `blip2` or `stage_one`.
        image_processor: Folder of a `SeedImageProcessor`. Default: the one saved with `tokenizer` or `stage_one`, else
            one for the model's image size.
        text_tokenizer: Folder of the text tokenizer: that of the Q-Former in stage I, of `text_encoder` in stage II.
        text_encoder: Folder of the diffusion model's text encoder, whose features stage II matches.
        image_encoder: Folder of unCLIP's image encoder (a `CLIPVisionModelWithProjection`), whose embedding stage II
            matches with `generation_target: image`.
    """

    tokenizer: str | None = None
    config: dict | None = None
    blip2: str | None = None
    stage_one: str | None = None
    settings: dict | None = None
    image_processor: str | None = None
    text_tokenizer: str | None = None
    text_encoder: str | None = None
    image_encoder: str | None = None

    @property
    def start(self) -> tuple[str, str] | None:
        """Key and folder of the saved `SeedTokenizer` where the run begins; `None` where it begins at none."""
        found = ((name, getattr(self, name)) for name in ("tokenizer", "stage_one"))
        return next(((name, folder) for name, folder in found if folder), None)


@dataclass
class ImageTextData:
    """`data:` of stages I and II.

    Args:
        train: A Parquet file, or a folder: its Parquet files with a word of the split in their names or sub-folders
            (`train-0.parquet`, `val/0.parquet`), or all where no name has one of any split. With `streaming`,
            everything that `image_text_dataset` opens: also WebDataset tars, folders of images, Hub data sets.
        validation: The same, for evaluation. What is no Parquet, such as a folder of images, is read as with
            `streaming`, whether `train` is or not.
        features: Stage II: what `seed-hf cache-features` wrote, instead of `train`. Or a safetensors file with
            `causal_embeddings` (rows, 32, hidden) and maybe `target_embeddings`, one row an image. No frozen network
            runs then. `validation` may be cached features too.
        image_column, caption_column: Names of the columns. A caption column holds one text or a list; one text of a
            list is drawn.
        max_text_tokens: Longer captions are cut. Default: 32 in stage I, the text encoder's length in stage II.
        augment: Random crops and flips, as published. Cached features have them already (`--views`).
        streaming: Read a few rows at a time, instead of holding all encoded images in memory. `trainer.max_steps`
            sets the length of the run.
        shuffle_buffer: With `streaming`: rows held to draw from; 0 keeps the order of the source.
        on_error: "raise" at a row that cannot be read, or "skip" it and count, of `train` and `validation`. What is
            held in memory is decoded once before the first step to "skip".
        min_side, max_aspect: Leave out small and long images of both; see `RowFilters`.
    """

    train: str | list | None = None
    validation: str | list | None = None
    features: str | None = None
    image_column: str | None = None
    caption_column: str | None = None
    max_text_tokens: int | None = None
    augment: bool = False
    streaming: bool = False
    shuffle_buffer: int | None = None
    on_error: str | None = None
    min_side: int | None = None
    max_aspect: float | None = None


@dataclass
class LanguageModel:
    """`model:` of the language-model and the instruction stage. A folder may also be a Hub id, as in stages I and II.

    Args:
        language_model: Folder of a language model, with visual tokens (`SeedForCausalLM`) or plain
            (`OPTForCausalLM`). Give either this or `config`.
        config: Fields of `OPTConfig`: a plain model with random weights, to pre-train on text.
        text_tokenizer: Folder of the text tokenizer. Default: that of `language_model`.
        visual_tokenizer: Folder of the `SeedTokenizer` whose codes a plain language model will learn.
        image_tokenizer: Folder of the `SeedTokenizer` that encodes the images of the data, each time a run begins. Not
            needed for data with codes, or with `visual_tokenizer`, which is used then.
        visual_embedding: "learned" or "projected": how the visual tokens of a plain language model are embedded.
        prompt_format: "seed", "vicuna", "llama2" or "plain": how sequences and conversations are written. It is saved
            with the model. Default: that of the language model, "seed" if visual tokens are new.
        attn_implementation: As in `from_pretrained`. Default: transformers' choice; with `data.pack_length` and half
            precision on a GPU, a flash kernel if one is installed.
    """

    language_model: str | None = None
    config: dict | None = None
    text_tokenizer: str | None = None
    visual_tokenizer: str | None = None
    image_tokenizer: str | None = None
    visual_embedding: str = "learned"
    prompt_format: str | None = None
    attn_implementation: str | None = None


@dataclass
class SequenceData:
    """`data:` of the language-model and the instruction stage.

    Args:
        train, validation: A source, or a list of them. The language-model stage reads Parquet as in stages I and II,
            with the columns `codes` and `caption` or `captions`, and maybe `questions` (pairs of question and answer);
            or `text` alone. Both stages read what `sequence_rows` does: conversations (`messages`), documents
            (`document`), images with captions, and texts, from JSON Lines, Parquet, WebDataset tars, folders of images
            and the Hub. An entry of a list may be a mapping with `source`, `weight` (how often rows are drawn from it,
            compared with the others), and `direction`, `loss_on`, `max_length` or `swap_images` for its rows.
        caption_column: The column that is read as `caption` (one text) or `captions` (a list).
        ignore_columns: Columns that may be there and are not read. Others that have no meaning are refused, except by
            the language-model stage in Parquet with codes or texts.
        on_error: "raise" at a row that is wrong (default), or "skip" it and count. Of conversations, documents and
            images.
        requests: Instruction stage: a JSON file with wordings of requests instead of those of the package.
        directions, caption_prompt, image_prompt, question_prompt, max_length: See `LanguageModelCollator`. In the
            instruction stage, a conversation says itself what is asked: it has no such prompts.
        loss_on, max_images, swap_images, special_tokens, cut: See `LanguageModelCollator`.
        pack_length: Put several samples into each sequence of this many tokens: the same loss in less time. At least
            `max_length`, which is the number of positions of the language model by default. Left out, samples are
            padded.
    """

    train: str | list
    validation: str | list | None = None
    caption_column: str = "caption"
    ignore_columns: list | None = None
    on_error: str | None = None
    requests: str | None = None
    directions: dict | None = None
    caption_prompt: str | None = None
    image_prompt: str | None = None
    question_prompt: str | None = None
    loss_on: str | None = None
    max_images: int | None = None
    swap_images: float | None = None
    special_tokens: bool | None = None
    cut: str | None = None
    max_length: int | None = None
    pack_length: int | None = None


@dataclass
class Recipe(Generic[Model, Data]):
    """One training stage, as its YAML file describes it.

    Args:
        stage: "contrastive" (stage I), "quantization" (stage II), "lm" or "instruct".
        model, data: The sections of that stage.
        trainer: The training arguments: a `ContrastiveConfig`, `QuantizationConfig`, `LanguageModelConfig` or
            `InstructionConfig`.
    """

    stage: str
    model: Model
    data: Data
    trainer: Any


TokenizerRecipe = Recipe[TokenizerModel, ImageTextData]
LanguageModelRecipe = Recipe[LanguageModel, SequenceData]
