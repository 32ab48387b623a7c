"""From text and images to the inputs of the SEED model, and from its output to text and codes."""

from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from transformers.feature_extraction_utils import BatchFeature
from transformers.image_utils import ImageInput, make_flat_list_of_images
from transformers.processing_utils import MultiModalData, ProcessorMixin
from transformers.tokenization_utils_base import BatchEncoding, PreTrainedTokenizerBase

from .chat_inputs_seed import LastTurn, check_chat, check_end_text, codes_of_chat, ended, options_of_chat, with_masks
from .generated_ids_seed import plain_ids, rows_of, without_prompt
from .generation_seed import CodeSegment, Defect, TextSegment, parse_segments
from .image_places_seed import check_numbers, split_at_images, with_images
from .image_processing_seed import SeedImageProcessor
from .plain_text_seed import PlainTextEncoder, plain_text_encoder, texts_of
from .processor_options_seed import TEXT_DEFAULTS, CallOptions, merged_options
from .prompts_seed import Mark, SequenceEncoder, find_format, written_chat_template
from .published_processor_seed import PublishedProcessor
from .token_rows_seed import TokenRow, image_mask, text_columns
from .visual_tokens_seed import (
    BOI_TOKEN,
    EOI_TOKEN,
    IMAGE_TOKEN,
    code_token,
    extend_text_tokenizer,
    read_vocabulary,
    served_tokenizer,
)


_FIXED = ("caption_prompt", "image_prompt", "question_prompt", "prompt_format", "num_query_tokens")


class SeedProcessor(PublishedProcessor, ProcessorMixin):
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
        AttributeError: A format or prompt that is set later.
        ValueError: A tokenizer without the visual tokens, or with codes whose ids are not consecutive; an unknown
            `prompt_format`.
    """

    _auto_class = "AutoProcessor"
    image_token = IMAGE_TOKEN

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
        given = {"caption_prompt": caption_prompt, "image_prompt": image_prompt, "question_prompt": question_prompt}
        defaults = find_format(prompt_format)
        prompts = {name: getattr(defaults, name) if text is None else text for name, text in given.items()}
        if chat_template is None:
            chat_template = written_chat_template(prompts["caption_prompt"], prompts["question_prompt"], prompt_format)
        super().__init__(image_processor, tokenizer, chat_template=chat_template)
        self.num_query_tokens, self.prompt_format = num_query_tokens, prompt_format
        self.caption_prompt, self.image_prompt, self.question_prompt = prompts.values()
        self.vocabulary = read_vocabulary(tokenizer, num_query_tokens)
        self.sequences = SequenceEncoder(tokenizer, self.vocabulary, prompt_format=prompt_format, **prompts)

    def __setattr__(self, name: str, value):
        if name in _FIXED and "sequences" in self.__dict__ and value != getattr(self, name):
            raise AttributeError(
                f"The {name} of a processor is part of its templates. Make another one: "
                f"SeedProcessor(processor.image_processor, processor.tokenizer, {name}={value!r})."
            )
        super().__setattr__(name, value)

    @classmethod
    def _get_arguments_from_pretrained(cls, pretrained_model_name_or_path, processor_dict=None, **kwargs):
        if kwargs.get("trust_remote_code") is None:
            kwargs["trust_remote_code"] = False  # else AutoTokenizer asks whether to run the code in a folder
        of_text = {"padding_side": "left", **kwargs}  # what a folder says of it is meant for another use
        # By name, because AutoImageProcessor needs torchvision and this class does not.
        return [
            SeedImageProcessor.from_pretrained(pretrained_model_name_or_path, **kwargs),
            cls._load_tokenizer_from_pretrained("tokenizer", pretrained_model_name_or_path, **of_text),
        ]

    @property
    def model_input_names(self) -> list[str]:
        return ["input_ids", "attention_mask", "pixel_values"]

    @property
    def image_token_id(self) -> int:
        """The id of a placeholder, which the model replaces by a code. Text cannot become it."""
        return self.vocabulary.image_token_id

    @property
    def image_options(self) -> dict:
        """The options of the image processor's call, with their types."""
        return self.image_processor.valid_kwargs.__annotations__

    def __call__(
        self,
        text: str | list[str] | None = None,
        images: ImageInput | None = None,
        *,
        codes: torch.Tensor | list | None = None,
        begin_image: bool | None = None,
        end_text: bool | None = None,
        **options,
    ) -> BatchFeature:
        r"""Inputs of the model for texts with images.

        Args:
            text (`str` or `list[str]`, *optional*): One text per row, with `"<image>"` where an image belongs.
            images (*optional*): Images in the order of their `"<image>"`: one, a list, or a list per row.
            codes (`torch.LongTensor` of shape `(images, num_query_tokens)`, *optional*): The images' codes, if they
                are known, instead of `images`. They are returned unchanged. A list has an entry for every `"<image>"`:
                its codes, which become part of `input_ids`, or `None` for the next of `images`.
            begin_image (`bool`, *optional*): Whether `<img>` ends the text, so that the model goes on with an image.
                Default: it does not.
            end_text (`bool`, *optional*): Whether eos ends the text, for a row to learn from; a text that is cut has
                none. Default: it does not.
            options: Those of transformers' processors, by name or in `text_kwargs`, `images_kwargs` and
                `common_kwargs`. What the text tokenizer was loaded with holds where the call says nothing.

                - `add_special_tokens` (default `True`): whether bos is put first.
                - `padding` (`True`, "longest"): to the longest row; "max_length"; `False` for none. `padding_side`
                  ("left"), `pad_to_multiple_of`.
                - `max_length`: the most tokens of a row, by default those of the text tokenizer where they are needed.
                - `truncation` (`False`): whether longer rows are cut, at the tokenizer's `truncation_side`; bos
                  stays. Without it, and where the cut would take something of an image, a longer row is an error.
                - `return_tensors` ("pt"): also "np", or `None` for lists.
                - `return_attention_mask` (`True`), `return_mm_token_type_ids`: 1 for placeholders and codes of images;
                  `return_special_tokens_mask`: 1 for bos, eos, the `<img>` of `begin_image` and padding;
                  `return_length`.
                - `return_offsets_mapping`: the characters of each token in the text whose `<image>` are written out,
                  and `return_text_replacement_offsets`: where these are, as in transformers.
                - The options of [`SeedImageProcessor`].

        Returns:
            `input_ids` and `attention_mask` `(rows, length)`, and `pixel_values` `(images, 3, height, width)` or
            `codes`. Without text only the last, without images only the first two.

        Raises:
            ValueError: No input, another modality, or a number of `"<image>"` that is not that of the images, of all
                texts or, with a list per row, of a row; a row that is too long; an option given twice, or that a model
                of text and images cannot have.
            TypeError: Text that is not a string or a list of strings; an unknown option.
        """
        if text is None and images is None:
            raise ValueError("Give text, images, or both.")
        check_end_text(end_text, begin_image, self.tokenizer)
        known = codes if isinstance(codes, (list, tuple)) else None
        if codes is not None and (text is None or (images is not None and known is None)):
            raise ValueError(
                "Give codes with a text and without images: codes replace the images of the text. With both, codes is "
                "a list that has None for each of the images."
            )
        chosen = merged_options(options, self.tokenizer, self.image_options)
        flat = [] if images is None else make_flat_list_of_images(self.image_processor.fetch_images(images))
        data: BatchFeature | None = None
        if text is not None:
            if not (texts := ended(texts_of(text, "text"), end_text)):
                raise TypeError("text must be a string or a list of at least one string.")
            split = [split_at_images(t, chosen.text["sanitize_control_tokens"]) for t in texts]
            counts = [len(pieces) - 1 for pieces in split]
            check_numbers(counts, images, flat, codes)
            spans = [None] * sum(counts) if known is None else list(known)
            last = [Mark.BEGIN] * bool(begin_image) + [Mark.EOS] * bool(end_text)
            data = self._text_inputs(split, iter(spans), last, chosen)
            if chosen.text["return_text_replacement_offsets"]:
                written = ["".join(self.sequences.names(span)) for span in spans]
                data["text_replacement_offsets"] = self.get_text_with_replacements(texts, written)[1]
        if flat or data is None:
            prepared = self.image_processor(flat, **chosen.images)
            if data is None:
                data = prepared
            else:
                data.update(prepared)
        if codes is not None and known is None:
            data["codes"] = codes
        return data

    def _text_inputs(
        self, texts: list[list[str]], spans: Iterator, last: list[Mark], options: CallOptions
    ) -> BatchFeature:
        """Inputs for texts, each as its pieces around images, with the next of the spans between two pieces."""
        wanted = options.text
        first = [Mark.BOS] * wanted["add_special_tokens"]
        added = 0 if self.sequences.bos is None else len(first)
        rows = []
        for text in texts:
            pieces = [*first, *with_images(text, spans, self.vocabulary), *last]
            offsets = self.sequences.offsets(pieces) if wanted["return_offsets_mapping"] else []
            ends = Mark.EOS in last
            rows.append(TokenRow(self.sequences.ids(pieces), added, len(last), offsets, ends))
        data = text_columns(rows, options, self.tokenizer, self.vocabulary)
        return BatchFeature(data, tensor_type=wanted["return_tensors"])

    def create_mm_token_type_ids(self, input_ids: list[list[int]]) -> list[list[int]]:
        """1 for every placeholder and every code of an image, 0 for all other tokens.

        Args:
            input_ids: Rows of ids.
        """
        return [image_mask(row, self.vocabulary) for row in rows_of(input_ids)]

    def replace_image_token(self, image_inputs: dict, image_idx: int, **kwargs) -> str:
        """What an `<image>` of a text stands for: `<img>`, `num_query_tokens` times `<image>`, `</img>`.

        Args:
            image_inputs: Of the image processor. All images have the same number of tokens.
            image_idx: Which image.
            kwargs: Not used.
        """
        return "".join(self.sequences.names())

    def _get_num_multimodal_tokens(self, image_sizes: list | None = None, **kwargs) -> MultiModalData:
        """How many placeholders images of these sizes get; servers ask before they prepare an image."""
        merged_options(kwargs, self.tokenizer, self.image_options)
        if image_sizes is None:
            return MultiModalData()
        count = len(image_sizes)
        return MultiModalData(num_image_tokens=[self.num_query_tokens] * count, num_image_patches=[1] * count)

    def apply_chat_template(self, conversation, chat_template: str | None = None, **kwargs):
        r"""As [`ProcessorMixin.apply_chat_template`]; an image may also be given by its `codes`.

        Args:
            conversation (`list[dict]` or a list of these): Messages with `role` and `content`: a string, or parts of
                the type "text" or "image". An image has one of `image`, `url`, `path` and `base64`, or `codes`:
                `num_query_tokens` integers, which are taken as they are.
            chat_template (`str`, *optional*): A Jinja template instead of the processor's own. `bos_token` is empty in
                it, since a call of the processor writes bos, and with `end_text` so is `eos_token`, of every turn.
            kwargs: As in [`ProcessorMixin.apply_chat_template`]: `add_generation_prompt`, `tokenize`, `return_dict`
                and others. Options of a call may stand here or in `processor_kwargs`. With
                `return_assistant_tokens_mask`, `assistant_masks` has 1 for every token that the assistant said, its
                images among them, and the eos of `end_text` after it.

        Raises:
            ValueError: As of a call; a role, a part or tools that the processor's own template does not know;
                `return_assistant_tokens_mask` with a template that does not mark what the assistant says.
        """
        call, kwargs = options_of_chat(kwargs, self.image_options)
        written = written_chat_template(self.caption_prompt, self.question_prompt, self.prompt_format)
        ends = bool(call.get("end_text")) and bool(kwargs.get("tokenize"))
        check_chat(conversation, self.chat_template, chat_template, written, kwargs, ends)
        if ends:
            own = chat_template is None and self.chat_template == written
            call["end_text"] = LastTurn(self.sequences.format.turns.later if own else "\n")
        if kwargs.get("tokenize") and (codes := codes_of_chat(conversation)):
            call["codes"] = codes
        out = super().apply_chat_template(conversation, chat_template, processor_kwargs=call, **kwargs)
        if not kwargs.get("return_assistant_tokens_mask"):
            return out
        return with_masks(out, conversation, self.tokenizer.eos_token_id if ends else None)

    def caption(self, images=None, *, codes: torch.Tensor | None = None) -> BatchFeature:
        """Inputs that ask for a caption of each of `images`; generate with mode `"text"`.

        Images of which more is asked need to be encoded only once: give their `codes`, `(images, num_query_tokens)`.
        """
        return self._about_images("caption", images, codes, [""])

    def ask(
        self, images=None, questions: str | Sequence[str] = (), *, codes: torch.Tensor | None = None
    ) -> BatchFeature:
        """Inputs that ask about each of `images`, one question for all or one for each; generate with mode `"text"`.

        `codes` are those of the images, instead of them. There is no default for `questions`.
        """
        questions = texts_of(questions, "question")
        return self._about_images("question", images, codes, questions)

    def text_tower(self, texts: str | list[str], max_length: int) -> BatchEncoding:
        """Texts for `SeedTokenizer.get_text_features`: `input_ids` and `attention_mask`, `(texts, length)`.

        Longer texts are cut to `max_length` tokens. Padding is on the right, because the text tower reads the first
        token. Names of visual tokens stay text here too.
        """
        texts = texts_of(texts, "text")
        rows = {"input_ids": [self._tower_encoder.framed(text, max_length) for text in texts]}
        return self.tokenizer.pad(rows, padding=True, padding_side="right", return_tensors="pt")

    def __getstate__(self) -> dict:
        """Without what only saves time, so that a processor that was used is still the same to `datasets`."""
        return {name: value for name, value in self.__dict__.items() if name != "_tower_encoder"}

    @cached_property
    def _tower_encoder(self) -> PlainTextEncoder:
        return plain_text_encoder(self.tokenizer, framed=True)

    def draw(self, prompts: str | list[str]) -> BatchFeature:
        """Inputs that ask for an image of each prompt; generate with mode `"image"`."""
        prompts = texts_of(prompts, "prompt")
        return self._prompts([self.sequences.prompt("draw", text=prompt) for prompt in prompts])

    def _about_images(self, name: str, images, codes, questions: list[str]) -> BatchFeature:
        if (images is None) == (codes is None):
            raise ValueError("Give either images or codes.")
        if codes is None:
            images = make_flat_list_of_images(self.image_processor.fetch_images(images))
        count = len(images if codes is None else codes)
        if len(questions) not in (1, count):
            raise ValueError(f"{len(questions)} questions for {count} images. Give one for all, or one each.")
        questions = questions * count if len(questions) == 1 else questions
        data = self._prompts([self.sequences.prompt(name, question=question) for question in questions])
        data.update(self.image_processor(images, return_tensors="pt") if codes is None else {"codes": codes})
        return data

    def _prompts(self, rows: list[list[int]]) -> BatchFeature:
        """Rows padded on the left, as generation needs them."""
        if not rows:
            raise ValueError("There is nothing to prepare: give at least one text or image.")
        options = CallOptions(TEXT_DEFAULTS)
        return BatchFeature(text_columns([TokenRow(row) for row in rows], options, self.tokenizer), tensor_type="pt")

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
        rows = rows_of(generated_outputs)
        decode = {"skip_special_tokens": skip_special_tokens, **kwargs}
        if generation_mode in ("text", None):
            return self.post_process_image_text_to_text(rows, **decode)
        parsed = [parse_segments(row, self.vocabulary).parts for row in rows]
        if generation_mode == "image":
            codes = [[part.codes for part in parts if isinstance(part, CodeSegment)] for parts in parsed]
            return [torch.tensor(c, dtype=torch.long).view(-1, self.num_query_tokens) for c in codes]
        return [self._readable(parts, decode) for parts in parsed]

    def post_process_image_text_to_text(
        self, generated_outputs, skip_special_tokens: bool = True, input_ids=None, **kwargs
    ) -> list[str]:
        """The text of generated ids, without image spans.

        Args:
            generated_outputs: As of [`SeedProcessor.post_process_multimodal_output`].
            skip_special_tokens (`bool`, *optional*, defaults to `True`): Whether bos, eos and padding are left out.
            input_ids (*optional*): The prompts; given, their text is left out, too.
            kwargs: Passed to the tokenizer's `decode`.

        Raises:
            ValueError: The outputs do not begin with the prompts.
        """
        rows = rows_of(generated_outputs)
        if input_ids is not None:
            rows = without_prompt(rows, input_ids, self.vocabulary)
        return self.batch_decode(rows, skip_special_tokens, skip_visual_tokens=True, **kwargs)

    def batch_decode(
        self, sequences, skip_special_tokens: bool = False, *, skip_visual_tokens: bool | None = None, **kwargs
    ) -> list[str]:
        """The texts of rows of ids.

        Args:
            sequences: As of [`SeedProcessor.post_process_multimodal_output`].
            skip_special_tokens (`bool`, *optional*, defaults to `False`): Whether bos, eos and padding are left out.
            skip_visual_tokens (`bool`, *optional*): Whether image spans are left out: `<img>`, `<img_00007>` and so
                on. By default as the special tokens. A client that draws what a server says needs `False`.
            kwargs: Passed to the tokenizer's `decode`.
        """
        rows = rows_of(sequences)
        if skip_special_tokens if skip_visual_tokens is None else skip_visual_tokens:
            rows = [list(filter(self.vocabulary.is_text, row)) for row in rows]
        options = {"skip_special_tokens": skip_special_tokens, **kwargs}
        return [self.tokenizer.decode(row, **options) for row in rows]

    def decode(
        self, token_ids, skip_special_tokens: bool = False, *, skip_visual_tokens: bool | None = None, **kwargs
    ) -> str | list[str]:
        """The text of one row of ids; of several rows, a list, as in transformers.

        Args:
            token_ids: One id, or ids `(length,)` or `(rows, length)`.
            skip_special_tokens, skip_visual_tokens, kwargs: As in [`SeedProcessor.batch_decode`].
        """
        ids = plain_ids(getattr(token_ids, "sequences", token_ids))
        ids = [ids] if isinstance(ids, int) else ids
        one = all(isinstance(i, int) for i in ids)
        options = {"skip_visual_tokens": skip_visual_tokens, **kwargs}
        texts = self.batch_decode([ids] if one else ids, skip_special_tokens, **options)
        return texts[0] if one else texts

    def plain_tokenizer(self) -> PreTrainedTokenizerBase:
        """The text tokenizer for the folder that `to_plain` writes: bos before a text, nothing after it.

        The text tokenizer of the processor may add more: the text tower of stage I reads an eos, for example.
        """
        return served_tokenizer(self.tokenizer, self.chat_template)

    opt_tokenizer = plain_tokenizer  # its name in version 0.1

    def _readable(self, parts: list, decode: dict) -> list[TextSegment | CodeSegment | Defect]:
        for part in parts:
            if isinstance(part, TextSegment):
                part.text = self.tokenizer.decode(part.ids, **decode)
        return [part for part in parts if not isinstance(part, TextSegment) or part.text]


__all__ = [
    "BOI_TOKEN",
    "EOI_TOKEN",
    "IMAGE_TOKEN",
    "SeedProcessor",
    "code_token",
    "extend_text_tokenizer",
    "plain_text_encoder",
    "read_vocabulary",
]
