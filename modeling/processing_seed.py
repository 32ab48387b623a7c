"""Text and pictures to the inputs of the SEED model, and its output back to text and codes."""

import copy
import json
from collections.abc import Callable

import torch
from tokenizers import Tokenizer, processors
from transformers.feature_extraction_utils import BatchFeature
from transformers.image_utils import make_flat_list_of_images
from transformers.processing_utils import ProcessorMixin
from transformers.tokenization_utils_base import AddedToken, BatchEncoding, PreTrainedTokenizerBase

from .configuration_seed import SeedTextConfig, visual_vocabulary
from .generation_seed import CodeSegment, Defect, TextSegment, parse_segments
from .image_processing_seed import SeedImageProcessor
from .publishing_seed import PrivateByDefault


IMAGE_TOKEN = "<image>"

# A picture is followed by a question about it, or, if nothing is said, asks for a caption; see SeedProcessor.
_CHAT_TEMPLATE = """\
{%- set state = namespace(image=false, asked=true, start=true) -%}
{%- for message in messages -%}
{%- set parts = message["content"] -%}
{%- if parts is string -%}
{%- set parts = [{"type": "text", "text": parts}] -%}
{%- endif -%}
{%- for part in parts -%}
{%- if part["type"] == "image" -%}
<image>
{%- set state.image = true -%}
{%- set state.asked = false -%}
{%- elif part["type"] == "text" -%}
{%- if state.image and message["role"] != "assistant" -%}
{{- " QUESTION_BEFORE" ~ part["text"] ~ "QUESTION_AFTER" -}}
{%- else -%}
{{- part["text"] if state.start else " " ~ part["text"] -}}
{%- endif -%}
{%- set state.asked = true -%}
{%- endif -%}
{%- set state.start = false -%}
{%- endfor -%}
{%- endfor -%}
{%- if add_generation_prompt and not state.asked -%}
{{- " CAPTION" -}}
{%- endif -%}
"""


class SeedProcessor(PrivateByDefault, ProcessorMixin):
    r"""Prepares text and pictures for [`SeedForConditionalGeneration`], and reads what it generates.

    `"<image>"` in a text stands for a picture: it becomes `<img>`, `num_query_tokens` placeholders and `</img>`, and
    the model fills the placeholders with the picture's codes. All other text stays text, whatever it says: `"<img>"`,
    `"<img_00012>"` or `"</s>"` typed by a user are encoded as plain characters, never as the tokens of these names.

    A chat is rendered as the formats that the model knows: a picture and text as a question with a short answer, a
    picture alone as the beginning of a caption, text alone as it is.

    Args:
        image_processor (`SeedImageProcessor`): Prepares the pictures.
        tokenizer (`PreTrainedTokenizerBase`): The text tokenizer with the visual tokens: see
            [`extend_text_tokenizer`].
        chat_template (`str`, *optional*): A Jinja template in place of the one described above.
        num_query_tokens (`int`, *optional*, defaults to 32): Codes per picture.
        caption_prompt, image_prompt, question_prompt (`str`, *optional*): As in [`SeedConfig`].

    Raises:
        ValueError: A tokenizer without the visual tokens, or with other ids than [`SeedTextConfig`] lays out.
    """

    _auto_class = "AutoProcessor"

    def __init__(
        self,
        image_processor=None,
        tokenizer=None,
        chat_template: str | None = None,
        num_query_tokens: int = 32,
        caption_prompt: str = "a photo of",
        image_prompt: str = "Generate an image",
        question_prompt: str = "Question: {} Short answer.",
    ):
        if "{}" not in question_prompt:
            raise ValueError(f"question_prompt needs {{}} where the question goes, got {question_prompt!r}.")
        if chat_template is None:
            before, after = (json.dumps(text)[1:-1] for text in question_prompt.split("{}", 1))
            chat_template = _CHAT_TEMPLATE.replace("QUESTION_BEFORE", before).replace("QUESTION_AFTER", after)
            chat_template = chat_template.replace("CAPTION", json.dumps(caption_prompt)[1:-1])
        super().__init__(image_processor, tokenizer, chat_template=chat_template)
        self.num_query_tokens = num_query_tokens
        self.caption_prompt = caption_prompt
        self.image_prompt = image_prompt
        self.question_prompt = question_prompt
        self.vocabulary = _read_vocabulary(tokenizer, num_query_tokens)
        self._encode = plain_text_encoder(tokenizer)

    @classmethod
    def _get_arguments_from_pretrained(cls, pretrained_model_name_or_path, processor_dict=None, **kwargs):
        # By name, not through AutoImageProcessor: that asks for torchvision, which nothing here needs.
        return [
            SeedImageProcessor.from_pretrained(pretrained_model_name_or_path, **kwargs),
            cls._load_tokenizer_from_pretrained("tokenizer", pretrained_model_name_or_path, **kwargs),
        ]

    @property
    def model_input_names(self) -> list[str]:
        return ["input_ids", "attention_mask", "pixel_values"]

    def __call__(
        self,
        text: str | list[str] | None = None,
        images=None,
        *,
        codes: torch.Tensor | None = None,
        return_tensors: str | None = "pt",
        padding: bool | str = True,
        max_length: int | None = None,
        add_special_tokens: bool = True,
        videos=None,
        audio=None,
        **images_kwargs,
    ) -> BatchFeature:
        r"""Inputs of the model for texts with pictures.

        Args:
            text (`str` or `list[str]`, *optional*): One text per row, with `"<image>"` where a picture belongs.
            images (*optional*): Pictures in the order of the placeholders, as one, as a list, or as a list per row.
            codes (`torch.LongTensor` of shape `(pictures, num_query_tokens)`, *optional*): The pictures' codes, where
                they are known, instead of `images`; they are handed on to the model as they are.
            return_tensors (`str`, *optional*, defaults to `"pt"`): `None` for lists.
            padding (`bool` or `str`, *optional*, defaults to `True`): Rows are padded on the left to the longest, with
                `"max_length"` to `max_length`, with `False` not at all.
            max_length (`int`, *optional*): For `padding="max_length"`.
            add_special_tokens (`bool`, *optional*, defaults to `True`): Whether bos is put first.
            videos, audio: Must be `None`; transformers' chat and pipeline code names them in every call.
            images_kwargs: Passed to the image processor.

        Returns:
            `input_ids` and `attention_mask` `(rows, length)`, and `pixel_values` `(pictures, 3, height, width)` or
            `codes`; without text only the last, without pictures only the first two.

        Raises:
            ValueError: Nothing or another modality given, or another number of `"<image>"` than pictures.
            TypeError: Text that is not a string or a list of strings.
        """
        if text is None and images is None:
            raise ValueError("Give text, images, or both.")
        if videos is not None or audio is not None:
            raise ValueError("SEED reads text and still pictures; it has no input for videos or audio.")
        if codes is not None and (images is not None or text is None):
            raise ValueError("Give codes together with a text and without images: they stand for its pictures.")
        pictures = [] if images is None else make_flat_list_of_images(self.image_processor.fetch_images(images))
        number = len(pictures) if codes is None else len(codes)
        data = {}
        if text is not None:
            texts = [text] if isinstance(text, str) else text
            if not isinstance(texts, (list, tuple)) or not all(isinstance(t, str) for t in texts) or not texts:
                raise TypeError("text must be a string or a list of at least one string.")
            found = sum(t.count(IMAGE_TOKEN) for t in texts)
            if found != number:
                raise ValueError(
                    f"The text has {IMAGE_TOKEN} {found} times, but {number} pictures were given. "
                    f"Write {IMAGE_TOKEN} once where each picture belongs."
                )
            rows = [self._row(t.split(IMAGE_TOKEN), add_special_tokens) for t in texts]
            data = self._pad(rows, padding, max_length)
        if pictures:
            data.update(self.image_processor(pictures, return_tensors=return_tensors, **images_kwargs))
        if codes is not None:
            data["codes"] = codes
        return BatchFeature(data, tensor_type=return_tensors)

    def caption(self, images) -> BatchFeature:
        """Inputs that ask for a caption of each picture; generate with mode `"text"`."""
        return self._about_images(images, [self.caption_prompt])

    def ask(self, images, questions: str | list[str]) -> BatchFeature:
        """Inputs that ask about each picture, one question for all or one for each; generate with mode `"text"`."""
        questions = [questions] if isinstance(questions, str) else list(questions)
        return self._about_images(images, [self.question_prompt.replace("{}", q, 1) for q in questions])

    def text_tower(self, texts: str | list[str], max_length: int) -> BatchEncoding:
        """Texts for `SeedTokenizer.get_text_features`: `input_ids` and `attention_mask`, `(texts, length)`.

        Longer texts are cut to `max_length` tokens. Padding is on the right, whatever the side for generation is: the
        text tower reads the first token.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        settings = {"padding": True, "padding_side": "right", "truncation": True, "max_length": max_length}
        return self.tokenizer(texts, **settings, return_tensors="pt")

    def draw(self, prompts: str | list[str]) -> BatchFeature:
        """Inputs that ask for a picture of each prompt; generate with mode `"image"`."""
        prompts = [prompts] if isinstance(prompts, str) else prompts
        rows = [self._row([f"{self.image_prompt} {prompt}"]) for prompt in prompts]
        return BatchFeature(self._pad(rows), tensor_type="pt")

    def _about_images(self, images, prompts: list[str]) -> BatchFeature:
        pictures = make_flat_list_of_images(self.image_processor.fetch_images(images))
        if len(prompts) not in (1, len(pictures)):
            raise ValueError(f"{len(prompts)} questions for {len(pictures)} pictures. Give one for all, or one each.")
        prompts = prompts * len(pictures) if len(prompts) == 1 else prompts
        data = self._pad([self._row(["", f" {prompt}"]) for prompt in prompts])
        data.update(self.image_processor(pictures, return_tensors="pt"))
        return BatchFeature(data, tensor_type="pt")

    def _row(self, pieces: list[str], add_special_tokens: bool = True) -> list[int]:
        """Ids of texts with an image between each two of them."""
        image = [self.vocabulary.boi_token_id, *[self.vocabulary.image_token_id] * self.num_query_tokens]
        image.append(self.vocabulary.eoi_token_id)
        bos = self.tokenizer.bos_token_id
        ids = [bos] if add_special_tokens and bos is not None else []
        for number, piece in enumerate(pieces):
            ids += (image if number else []) + self._encode(piece)
        return ids

    def _pad(self, rows: list[list[int]], padding: bool | str = True, max_length: int | None = None) -> dict:
        if padding not in (True, False, "longest", "max_length", "do_not_pad"):
            raise ValueError(f"padding must be True, False, 'longest' or 'max_length', got {padding!r}.")
        longest = max(map(len, rows))
        if padding == "max_length":
            if max_length is None or max_length < longest:
                raise ValueError(f"The longest text has {longest} tokens: padding needs at least that max_length.")
            longest = max_length
        fill = self.tokenizer.eos_token_id if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id
        gaps = [0 if padding in (False, "do_not_pad") else longest - len(row) for row in rows]
        return {
            "input_ids": [[fill] * gap + row for gap, row in zip(gaps, rows)],
            "attention_mask": [[0] * gap + [1] * len(row) for gap, row in zip(gaps, rows)],
        }

    def post_process_multimodal_output(
        self,
        generated_outputs,
        skip_special_tokens: bool = True,
        generation_mode: str | None = "interleaved",
        **kwargs,
    ) -> list:
        r"""Reads generated ids. Any ids are accepted: what is not valid becomes a [`Defect`].

        Args:
            generated_outputs: Ids `(rows, length)` or `(length,)`, or what `generate` returns with
                `return_dict_in_generate=True`.
            skip_special_tokens (`bool`, *optional*, defaults to `True`): Whether bos, eos and padding are left out.
            generation_mode (`str`, *optional*, defaults to `"interleaved"`): What is returned for each row.
                `"interleaved"`: a list of [`TextSegment`], [`CodeSegment`] and [`Defect`] in order.
                `"text"` or `None`, as transformers' any-to-any pipeline passes: the text as one string.
                `"image"`: the codes of the valid image spans, `(images, num_query_tokens)`.
            kwargs: Passed to the tokenizer's `decode`.
        """
        if generation_mode not in ("interleaved", "text", "image", None):
            raise ValueError(f"generation_mode must be 'interleaved', 'text' or 'image', got {generation_mode!r}.")
        rows = _rows_of(generated_outputs)
        decode = {"skip_special_tokens": skip_special_tokens, **kwargs}
        if generation_mode in ("text", None):
            limit = self.vocabulary.text_vocab_size
            return [self.tokenizer.decode([i for i in row if 0 <= i < limit], **decode) for row in rows]
        parsed = [parse_segments(row, self.vocabulary).parts for row in rows]
        if generation_mode == "image":
            codes = [[part.codes for part in parts if isinstance(part, CodeSegment)] for parts in parsed]
            return [torch.tensor(c, dtype=torch.long).view(-1, self.num_query_tokens) for c in codes]
        return [self._readable(parts, decode) for parts in parsed]

    def opt_tokenizer(self) -> PreTrainedTokenizerBase:
        """The text tokenizer for the folder of [`SeedForCausalLM.to_opt`]: bos in front, as OPT's own, nothing behind.

        The text tokenizer itself may frame texts for other readers too; the text tower of stage I, for one, wants eos.
        """
        tokenizer = copy.deepcopy(self.tokenizer)
        bos = tokenizer.bos_token
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, tokenizer.bos_token_id)]
        )
        tokenizer.chat_template = self.chat_template
        return tokenizer

    def _readable(self, parts: list, decode: dict) -> list[TextSegment | CodeSegment | Defect]:
        for part in parts:
            if isinstance(part, TextSegment):
                part.text = self.tokenizer.decode(part.ids, **decode)
        return [part for part in parts if not isinstance(part, TextSegment) or part.text]


def extend_text_tokenizer(tokenizer: PreTrainedTokenizerBase, codebook_size: int) -> PreTrainedTokenizerBase:
    r"""A copy of a text tokenizer that also knows the visual tokens, with the ids that [`SeedTextConfig`] gives them.

    They are not special tokens: servers decode without those, and would lose the images.

    Args:
        tokenizer: The text tokenizer, with entries 0 .. V-1.
        codebook_size: K. `<img>`, `</img>`, `<img_00000>` .. and `<image>` are added.

    Raises:
        ValueError: The tokenizer has gaps in its ids, or already has visual tokens.
    """
    size = len(tokenizer)
    if "<img>" in tokenizer.get_vocab():
        raise ValueError("This tokenizer already has visual tokens. Start from the plain text tokenizer.")
    if max(tokenizer.get_vocab().values()) != size - 1:
        raise ValueError(
            f"The tokenizer's {size} entries must have the ids 0 .. {size - 1}, but the highest is "
            f"{max(tokenizer.get_vocab().values())}."
        )
    tokenizer = copy.deepcopy(tokenizer)
    names = ["<img>", "</img>", *(code_token(code) for code in range(codebook_size)), IMAGE_TOKEN]
    tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in names])
    tokenizer.padding_side = "left"
    _read_vocabulary(tokenizer, 1)
    return tokenizer


def code_token(code: int) -> str:
    """The name that a visual token has in the text tokenizer."""
    return f"<img_{code:05d}>"


def plain_text_encoder(tokenizer: PreTrainedTokenizerBase) -> Callable[[str], list[int]]:
    """A function from text to ids that knows no added or special tokens: text stays text, whatever it spells."""
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    settings.update(added_tokens=[], post_processor=None, truncation=None, padding=None)
    return _PlainEncoder(Tokenizer.from_str(json.dumps(settings)))


class _PlainEncoder:
    """A plain function in a form that can be copied and pickled along with the processor."""

    def __init__(self, backend: Tokenizer):
        self.backend = backend

    def __call__(self, text: str) -> list[int]:
        return self.backend.encode(text, add_special_tokens=False).ids


def _read_vocabulary(tokenizer: PreTrainedTokenizerBase, num_query_tokens: int) -> SeedTextConfig:
    """The layout of the visual tokens in an extended tokenizer, checked against the one that the model has."""
    vocab = tokenizer.get_vocab()
    if "<img>" not in vocab or IMAGE_TOKEN not in vocab:
        raise ValueError("The tokenizer has no visual tokens. Use extend_text_tokenizer(tokenizer, codebook_size).")
    size, codebook_size = vocab["<img>"], vocab[IMAGE_TOKEN] - vocab["<img>"] - 2
    expected = visual_vocabulary(size, codebook_size)
    ids = {
        "boi_token_id": vocab["<img>"],
        "eoi_token_id": vocab.get("</img>"),
        "visual_token_offset": vocab.get(code_token(0)),
        "image_token_id": vocab[IMAGE_TOKEN],
    }
    for name, value in ids.items():
        if value != expected[name]:
            raise ValueError(
                f"The tokenizer has {name} {value}, a model with {size} text tokens and {codebook_size} codes has "
                f"{expected[name]}. Make the tokenizer with extend_text_tokenizer."
            )
    return SeedTextConfig(text_vocab_size=size, codebook_size=codebook_size, num_query_tokens=num_query_tokens)


def _rows_of(output) -> list[list[int]]:
    output = getattr(output, "sequences", output)
    rows = output.tolist() if hasattr(output, "tolist") else list(output)
    if all(isinstance(row, int) for row in rows):
        return [rows] if rows else []
    return [row.tolist() if hasattr(row, "tolist") else list(row) for row in rows]


__all__ = ["IMAGE_TOKEN", "SeedProcessor", "code_token", "extend_text_tokenizer", "plain_text_encoder"]
