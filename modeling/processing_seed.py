"""From text and images to the inputs of the SEED model, and from its output to text and codes."""

import copy
import re
from collections.abc import Iterator
from functools import cached_property

import torch
from tokenizers import processors
from transformers.feature_extraction_utils import BatchFeature
from transformers.image_utils import load_image, make_flat_list_of_images
from transformers.processing_utils import ProcessorMixin
from transformers.tokenization_utils_base import AddedToken, BatchEncoding, PreTrainedTokenizerBase

from .generation_seed import CodeSegment, Defect, TextSegment, parse_segments
from .image_processing_seed import SeedImageProcessor
from .plain_text_seed import PlainTextEncoder, plain_text_encoder
from .prompts_seed import Mark, SequenceEncoder, find_format, written_chat_template
from .publishing_seed import PrivateByDefault
from .visual_vocabulary_seed import VisualVocabulary


BOI_TOKEN, EOI_TOKEN, IMAGE_TOKEN = "<img>", "</img>", "<image>"


class SeedProcessor(PrivateByDefault, ProcessorMixin):
    r"""Prepares text and images for [`SeedForConditionalGeneration`], and reads what it generates.

    `"<image>"` in a text stands for an image: it becomes `<img>`, `num_query_tokens` placeholders and `</img>`, and
    the model fills the placeholders with the image's codes. All other text stays text: `"<img>"`, `"<img_00012>"` or
    `"</s>"` typed by a user are encoded as plain characters, never as the tokens of these names.

    A chat is written as the model was trained on it (`prompt_format`). For SEED-OPT, the text of a turn is a question
    about the images before it and in it, an image alone asks for a caption, and text alone stands as it is. An image
    of a chat may be given by its codes, as one that the model drew in an earlier turn: `{"type": "image", "codes":
    codes}`.

    Args:
        image_processor (`SeedImageProcessor`): Prepares the images.
        tokenizer (`PreTrainedTokenizerBase`): The text tokenizer with the visual tokens, in any order:
            [`extend_text_tokenizer`] makes one.
        chat_template (`str`, *optional*): A Jinja template instead of the one described above.
        num_query_tokens (`int`, *optional*, defaults to 32): Codes per image.
        prompt_format (`str`, *optional*, defaults to `"seed"`): As in [`VisualVocabularyConfig`].
        caption_prompt, image_prompt, question_prompt (`str`, *optional*): As in [`SeedConfig`].

    Raises:
        ValueError: A tokenizer without the visual tokens, or with codes whose ids are not consecutive; an unknown
            `prompt_format`.
    """

    _auto_class = "AutoProcessor"

    def __init__(
        self,
        image_processor=None,
        tokenizer=None,
        chat_template: str | None = None,
        num_query_tokens: int = 32,
        prompt_format: str = "seed",
        caption_prompt: str | None = None,
        image_prompt: str | None = None,
        question_prompt: str | None = None,
    ):
        defaults = find_format(prompt_format)
        caption_prompt = defaults.caption_prompt if caption_prompt is None else caption_prompt
        image_prompt = defaults.image_prompt if image_prompt is None else image_prompt
        question_prompt = defaults.question_prompt if question_prompt is None else question_prompt
        if chat_template is None:
            chat_template = written_chat_template(caption_prompt, question_prompt, prompt_format)
        super().__init__(image_processor, tokenizer, chat_template=chat_template)
        self.num_query_tokens = num_query_tokens
        self.prompt_format = prompt_format
        self.caption_prompt = caption_prompt
        self.image_prompt = image_prompt
        self.question_prompt = question_prompt
        self.vocabulary = read_vocabulary(tokenizer, num_query_tokens)
        prompts = {"caption_prompt": caption_prompt, "image_prompt": image_prompt, "question_prompt": question_prompt}
        self.sequences = SequenceEncoder(tokenizer, self.vocabulary, prompt_format=prompt_format, **prompts)

    @classmethod
    def _get_arguments_from_pretrained(cls, pretrained_model_name_or_path, processor_dict=None, **kwargs):
        if kwargs.get("trust_remote_code") is None:
            kwargs["trust_remote_code"] = False  # else AutoTokenizer asks whether to run the code in a folder
        # By name, because AutoImageProcessor needs torchvision and this class does not.
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
        codes: torch.Tensor | list | None = None,
        return_tensors: str | None = "pt",
        padding: bool | str = True,
        max_length: int | None = None,
        add_special_tokens: bool = True,
        begin_image: bool = False,
        videos=None,
        audio=None,
        **images_kwargs,
    ) -> BatchFeature:
        r"""Inputs of the model for texts with images.

        Args:
            text (`str` or `list[str]`, *optional*): One text per row, with `"<image>"` where an image belongs.
            images (*optional*): Images in the order of their `"<image>"`: one, a list, or a list per row.
            codes (`torch.LongTensor` of shape `(images, num_query_tokens)`, *optional*): The images' codes, if they
                are known, instead of `images`. They are returned unchanged. A list has an entry for every `"<image>"`:
                its codes, which become part of `input_ids`, or `None` for the next of `images`.
            return_tensors (`str`, *optional*, defaults to `"pt"`): `None` for lists.
            padding (`bool` or `str`, *optional*, defaults to `True`): Rows are padded on the left to the longest, with
                `"max_length"` to `max_length`, with `False` not at all.
            max_length (`int`, *optional*): For `padding="max_length"`.
            add_special_tokens (`bool`, *optional*, defaults to `True`): Whether bos is put first.
            begin_image (`bool`, *optional*, defaults to `False`): Whether `<img>` ends the text, so that the model
                goes on with an image.
            videos, audio: Must be `None`; transformers' chat and pipeline code passes them in every call.
            images_kwargs: Passed to the image processor.

        Returns:
            `input_ids` and `attention_mask` `(rows, length)`, and `pixel_values` `(images, 3, height, width)` or
            `codes`. Without text only the last, without images only the first two.

        Raises:
            ValueError: No input, another modality, or a number of `"<image>"` that is not that of the images, of all
                texts or, with a list per row, of a row.
            TypeError: Text that is not a string or a list of strings.
        """
        if text is None and images is None:
            raise ValueError("Give text, images, or both.")
        if videos is not None or audio is not None:
            raise ValueError("SEED reads text and images; it has no input for videos or audio.")
        known = codes if isinstance(codes, (list, tuple)) else None
        if codes is not None and (text is None or (images is not None and known is None)):
            raise ValueError(
                "Give codes with a text and without images: codes replace the images of the text. With both, codes is "
                "a list that has None for each of the images."
            )
        flat = [] if images is None else make_flat_list_of_images(self.image_processor.fetch_images(images))
        data = {}
        if text is not None:
            texts = [text] if isinstance(text, str) else text
            if not isinstance(texts, (list, tuple)) or not all(isinstance(t, str) for t in texts) or not texts:
                raise TypeError("text must be a string or a list of at least one string.")
            counts = [t.count(IMAGE_TOKEN) for t in texts]
            self._check_numbers(counts, images, flat, codes)
            spans = iter([None] * sum(counts) if known is None else known)
            first, last = [Mark.BOS] * add_special_tokens, [Mark.BEGIN] * begin_image
            rows = [self.sequences.ids([*first, *self._pieces(t, spans), *last]) for t in texts]
            data = self._pad(rows, padding, max_length)
        if flat or images is not None and text is None:
            data.update(self.image_processor(flat, return_tensors=return_tensors, **images_kwargs))
        if codes is not None and known is None:
            data["codes"] = codes
        return BatchFeature(data, tensor_type=return_tensors)

    def _check_numbers(self, counts: list[int], images, flat: list, codes) -> None:
        """Raises `ValueError` unless every `<image>` of the texts has an image or codes."""
        if isinstance(codes, (list, tuple)):
            number, missing = len(codes), sum(each is None for each in codes)
            if missing != len(flat):
                raise ValueError(f"codes has None for {missing} images, but {len(flat)} images were given.")
        else:
            number = len(flat) if codes is None else len(codes)
        if sum(counts) != number:
            raise ValueError(
                f"The text has {IMAGE_TOKEN} {sum(counts)} times, but {number} images were given. "
                f"Write {IMAGE_TOKEN} once where each image belongs."
            )
        nested = isinstance(images, (list, tuple)) and images and all(isinstance(row, (list, tuple)) for row in images)
        if nested and codes is None and [len(row) for row in images] != counts:
            raise ValueError(
                f"The texts have {counts} times {IMAGE_TOKEN}, but the rows of images {[len(row) for row in images]}. "
                "Give one row of images for each text, and in it one image for each place."
            )

    def apply_chat_template(self, conversation, chat_template: str | None = None, **kwargs):
        r"""As [`ProcessorMixin.apply_chat_template`]; an image may also be given by its `codes`.

        Args:
            conversation (`list[dict]` or a list of these): Messages with `role` and `content`: a string, or parts of
                the type "text" or "image". An image has one of `image`, `url`, `path` and `base64`, or `codes`:
                `num_query_tokens` integers, which are taken as they are.
            chat_template (`str`, *optional*): A Jinja template instead of the processor's own.
            kwargs: As in [`ProcessorMixin.apply_chat_template`]: `add_generation_prompt`, `tokenize`, `return_dict`
                and others; also `begin_image` of a call.
        """
        chats = conversation if conversation and isinstance(conversation[0], (list, tuple)) else [conversation]
        images = [part for chat in chats for part in _images_of(chat)]
        if not (kwargs.get("tokenize") and any("codes" in image for image in images)):
            return super().apply_chat_template(conversation, chat_template, **kwargs)
        kwargs.pop("tokenize")
        whole = kwargs.pop("return_dict", False)
        names = ("return_tensors", "padding", "max_length", "begin_image")
        options = {name: kwargs.pop(name) for name in names if name in kwargs}
        texts = super().apply_chat_template(conversation, chat_template, tokenize=False, **kwargs)
        sources = ("image", "url", "path", "base64")
        given = [next((image[name] for name in sources if name in image), None) for image in images]
        inputs = self(
            texts,
            [load_image(image) for image, part in zip(given, images) if "codes" not in part] or None,
            codes=[part.get("codes") for part in images],
            **options,
        )
        return inputs if whole else inputs["input_ids"]

    def caption(self, images) -> BatchFeature:
        """Inputs that ask for a caption of each image; generate with mode `"text"`."""
        return self._about_images("caption", images, [""])

    def ask(self, images, questions: str | list[str]) -> BatchFeature:
        """Inputs that ask about each image, one question for all or one for each; generate with mode `"text"`."""
        questions = [questions] if isinstance(questions, str) else list(questions)
        return self._about_images("question", images, questions)

    def text_tower(self, texts: str | list[str], max_length: int) -> BatchEncoding:
        """Texts for `SeedTokenizer.get_text_features`: `input_ids` and `attention_mask`, `(texts, length)`.

        Longer texts are cut to `max_length` tokens. Padding is on the right, because the text tower reads the first
        token. Names of visual tokens stay text here too.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        rows = {"input_ids": [self._tower_encoder.framed(text, max_length) for text in texts]}
        return self.tokenizer.pad(rows, padding=True, padding_side="right", return_tensors="pt")

    @cached_property
    def _tower_encoder(self) -> PlainTextEncoder:
        return plain_text_encoder(self.tokenizer, framed=True)

    def draw(self, prompts: str | list[str]) -> BatchFeature:
        """Inputs that ask for an image of each prompt; generate with mode `"image"`."""
        prompts = [prompts] if isinstance(prompts, str) else prompts
        rows = [self.sequences.prompt("draw", text=prompt) for prompt in prompts]
        return BatchFeature(self._pad(rows), tensor_type="pt")

    def _about_images(self, name: str, images, questions: list[str]) -> BatchFeature:
        images = make_flat_list_of_images(self.image_processor.fetch_images(images))
        if len(questions) not in (1, len(images)):
            raise ValueError(f"{len(questions)} questions for {len(images)} images. Give one for all, or one each.")
        questions = questions * len(images) if len(questions) == 1 else questions
        data = self._pad([self.sequences.prompt(name, question=question) for question in questions])
        data.update(self.image_processor(images, return_tensors="pt"))
        return BatchFeature(data, tensor_type="pt")

    def _pieces(self, text: str, spans: Iterator) -> list[str | Mark | list[int]]:
        """A text with the next of the spans at every `<image>`: codes, or `None` for placeholders."""
        first, *others = text.split(IMAGE_TOKEN)
        pieces: list[str | Mark | list[int]] = [first]
        for piece in others:
            codes = next(spans)
            pieces += [Mark.IMAGE if codes is None else self._checked_codes(codes), piece]
        return pieces

    def _checked_codes(self, codes) -> list[int]:
        values = codes.tolist() if hasattr(codes, "tolist") else list(codes)
        size, count = self.vocabulary.codebook_size, self.num_query_tokens
        if len(values) != count or not all(type(code) is int and 0 <= code < size for code in values):
            raise ValueError(f"The codes of an image are {count} integers in 0..{size - 1}, got {values!r:.80}.")
        return values

    def _pad(self, rows: list[list[int]], padding: bool | str = True, max_length: int | None = None) -> dict:
        if padding not in (True, False, "longest", "max_length", "do_not_pad"):
            raise ValueError(f"padding must be True, False, 'longest' or 'max_length', got {padding!r}.")
        if not rows:
            raise ValueError("There is nothing to prepare: give at least one text or image.")
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
        r"""Reads generated ids. Any ids are accepted; invalid parts become a [`Defect`].

        Args:
            generated_outputs: Ids `(rows, length)` or `(length,)`, or what `generate` returns with
                `return_dict_in_generate=True`.
            skip_special_tokens (`bool`, *optional*, defaults to `True`): Whether bos, eos and padding are left out.
            generation_mode (`str`, *optional*, defaults to `"interleaved"`): What is returned for each row.
                `"interleaved"`: a list of [`TextSegment`], [`CodeSegment`] and [`Defect`] in order.
                `"text"` or `None` (from transformers' any-to-any pipeline): the text as one string.
                `"image"`: the codes of the valid image spans, `(images, num_query_tokens)`.
            kwargs: Passed to the tokenizer's `decode`.
        """
        if generation_mode not in ("interleaved", "text", "image", None):
            raise ValueError(f"generation_mode must be 'interleaved', 'text' or 'image', got {generation_mode!r}.")
        rows = _rows_of(generated_outputs)
        decode = {"skip_special_tokens": skip_special_tokens, **kwargs}
        if generation_mode in ("text", None):
            is_text = self.vocabulary.is_text
            return [self.tokenizer.decode([i for i in row if is_text(i)], **decode) for row in rows]
        parsed = [parse_segments(row, self.vocabulary).parts for row in rows]
        if generation_mode == "image":
            codes = [[part.codes for part in parts if isinstance(part, CodeSegment)] for parts in parsed]
            return [torch.tensor(c, dtype=torch.long).view(-1, self.num_query_tokens) for c in codes]
        return [self._readable(parts, decode) for parts in parsed]

    def plain_tokenizer(self) -> PreTrainedTokenizerBase:
        """The text tokenizer for the folder that `to_plain` writes: bos before a text, nothing after it.

        The text tokenizer of the processor may add more: the text tower of stage I reads an eos, for example.
        """
        tokenizer = copy.deepcopy(self.tokenizer)
        first, special = "", []
        if (bos := tokenizer.bos_token) is not None:
            first, special = f"{bos} ", [(bos, tokenizer.bos_token_id)]
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{first}$A", pair=f"{first}$A $B", special_tokens=special
        )
        tokenizer.chat_template = self.chat_template
        return tokenizer

    opt_tokenizer = plain_tokenizer  # its name in version 0.1

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
    names = [BOI_TOKEN, EOI_TOKEN, *(code_token(code) for code in range(codebook_size)), IMAGE_TOKEN]
    if taken := sorted(set(names) & set(tokenizer.get_vocab())):
        raise ValueError(
            f"This tokenizer already has visual tokens ({', '.join(taken[:3])}{' ..' if len(taken) > 3 else ''}). "
            "Start from the plain text tokenizer."
        )
    if max(tokenizer.get_vocab().values()) != size - 1:
        raise ValueError(
            f"The tokenizer's {size} entries must have the ids 0 .. {size - 1}, but the highest is "
            f"{max(tokenizer.get_vocab().values())}."
        )
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in names])
    tokenizer.padding_side = "left"
    return tokenizer


def code_token(code: int) -> str:
    """The name that a visual token has in the text tokenizer."""
    return f"<img_{code:05d}>"


def read_vocabulary(tokenizer: PreTrainedTokenizerBase, num_query_tokens: int = 32) -> VisualVocabulary:
    """The layout of the visual tokens in a text tokenizer, in whatever order they have there.

    A tokenizer without `<image>` gets a placeholder of the id after its last one: text cannot spell it, and no row of
    the language model is needed for it.

    Args:
        tokenizer: Has `<img>`, `</img>` and the codes `<img_00000>` and on, which have consecutive ids.
        num_query_tokens: Codes in an image span.

    Raises:
        ValueError: No visual tokens, or codes whose ids are not consecutive.
    """
    vocab = tokenizer.get_vocab()
    lacking = [name for name in (BOI_TOKEN, EOI_TOKEN, code_token(0)) if name not in vocab]
    if lacking:
        raise ValueError(
            f"The tokenizer has no visual tokens: {', '.join(lacking)} not found. Make it with "
            "extend_text_tokenizer(tokenizer, codebook_size)."
        )
    offset, codebook_size = vocab[code_token(0)], sum(_is_code_token(name) for name in vocab)
    for code in range(codebook_size):
        if vocab.get(code_token(code)) != offset + code:
            raise ValueError(
                f"The {codebook_size} codes must have the ids {offset} .. {offset + codebook_size - 1}, but "
                f"{code_token(code)} has {vocab.get(code_token(code))}. Make the tokenizer with extend_text_tokenizer."
            )
    end = max(vocab.values()) + 1
    return VisualVocabulary(
        boi_token_id=vocab[BOI_TOKEN],
        eoi_token_id=vocab[EOI_TOKEN],
        visual_token_offset=offset,
        codebook_size=codebook_size,
        num_query_tokens=num_query_tokens,
        image_token_id=vocab.get(IMAGE_TOKEN, end),
        vocab_size=end,
    )


def _images_of(chat) -> list[dict]:
    contents = [message.get("content") for message in chat]
    parts = [part for content in contents if not isinstance(content, str) for part in content or ()]
    return [part for part in parts if part.get("type") == "image"]


def _is_code_token(name: str) -> bool:
    return re.fullmatch(r"<img_\d{5,}>", name) is not None


def _rows_of(output) -> list[list[int]]:
    output = getattr(output, "sequences", output)
    rows = output.tolist() if hasattr(output, "tolist") else list(output)
    if all(isinstance(row, int) for row in rows):
        return [rows] if rows else []
    return [row.tolist() if hasattr(row, "tolist") else list(row) for row in rows]


__all__ = [
    "IMAGE_TOKEN",
    "SeedProcessor",
    "code_token",
    "extend_text_tokenizer",
    "plain_text_encoder",
    "read_vocabulary",
]
