"""The bodies of requests, as OpenAI's API has them. Fields beyond it are named in docs/serving.md."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from seed_hf.inference import STEPS


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("half a character (a lone surrogate) is no text") from None
    return text


def _no(asked: bool) -> bool:
    if asked:
        raise ValueError("images are not streamed")
    return asked


Text = Annotated[str, AfterValidator(_whole)]
# More codes than an image has are refused when the model is known.
CodeList = Annotated[list[Annotated[int, Field(ge=0, strict=True)]], Field(max_length=1024)]
_INPUTS = 16_384  # far more than any server takes, which has limits of its own
Seed = Annotated[int, Field(ge=0, le=2**63 - 65)]


class Body(BaseModel):
    """A request. Fields that mean nothing here are refused, unless they are empty; `null` is a field left out."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        return (
            {name: value for name, value in given.items() if value is not None} if isinstance(given, dict) else given
        )

    @model_validator(mode="after")
    def _no_other_fields(self) -> "Body":
        for name, value in (self.model_extra or {}).items():
            if value not in ([], {}, ""):
                raise ValueError(f"{name[:80]!r} is not a field that this server knows")
        return self


class TextPart(Body):
    type: Literal["text"]
    text: Text


class ImageUrl(Body):
    url: Text
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(Body):
    """An image, or one that this server drew, sent back with its codes."""

    type: Literal["image_url"]
    image_url: ImageUrl
    codes: CodeList | None = None
    position: int | None = None
    seed: int | None = None


class CodesPart(Body):
    """An image by its codes."""

    type: Literal["image_codes"]
    codes: CodeList


Part = Annotated[TextPart | ImagePart | CodesPart, Field(discriminator="type")]
ImageInput = Annotated[ImagePart | CodesPart, Field(discriminator="type")]


class Message(Body):
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[Part], Field(max_length=1024)] | None = None
    images: Annotated[list[ImagePart], Field(max_length=1024)] = []
    name: Text | None = None

    def parts(self) -> list[Any]:
        """Texts and images in order; images of a reply stand at their positions in its text."""
        if isinstance(self.content, list):
            return [*self.content, *self.images]
        parts: list[Any] = []
        text, start = self.content or "", 0
        for image in self.images:
            end = len(text) if image.position is None else min(max(image.position, start), len(text))
            parts += [TextPart(type="text", text=text[start:end]), image]
            start = end
        parts.append(TextPart(type="text", text=text[start:]))
        return [part for part in parts if part.type != "text" or part.text]


class StreamOptions(Body):
    include_usage: bool = False
    include_obfuscation: Literal[False] | None = None


class TextFormat(Body):
    type: Literal["text"]


class Chat(Body):
    model: Text | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=256)]
    modalities: Annotated[list[Literal["text", "image"]], Field(min_length=1, max_length=2)] = ["text"]
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    stop: (
        Annotated[Text, Field(min_length=1, max_length=64)]
        | Annotated[list[Annotated[Text, Field(min_length=1, max_length=64)]], Field(max_length=4)]
        | None
    ) = None
    seed: Seed | None = None
    n: Literal[1] = 1
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] = 0.0
    presence_penalty: Annotated[float, Field(ge=0, le=0)] = 0.0
    logprobs: Literal[False] | None = None
    top_logprobs: Literal[0] | None = None
    store: Literal[False] | None = None
    response_format: TextFormat | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None  # of no tools
    service_tier: Literal["auto", "default"] | None = None
    user: Text | None = None
    safety_identifier: Text | None = None  # these two take the place of user
    prompt_cache_key: Text | None = None
    steps: Annotated[int, Field(ge=1)] = STEPS
    guidance: Annotated[float, Field(ge=0, le=100)] | None = None

    @property
    def mode(self) -> str:
        """The `generation_mode`."""
        return "interleaved" if len(set(self.modalities)) == 2 else self.modalities[0]


class Generation(Body):
    model: Text | None = None
    prompt: Text
    n: Annotated[int, Field(ge=1)] = 1
    size: Text | None = None
    response_format: Literal["b64_json"] | None = None
    output_format: Literal["png"] | None = None
    quality: Literal["auto"] | None = None
    background: Literal["auto"] | None = None
    moderation: Literal["auto"] | None = None
    stream: Annotated[bool, AfterValidator(_no)] = False  # of a form these come as texts
    partial_images: Annotated[int, Field(ge=0, le=0)] = 0
    user: Text | None = None
    seed: Seed = 0
    steps: Annotated[int, Field(ge=1)] = STEPS
    guidance: Annotated[float, Field(ge=0, le=100)] | None = None


class Edit(Generation):
    """The fields of a form; the images are its files."""


class Embeddings(Body):
    model: Text | None = None
    input: Text | ImageInput | Annotated[list[Text | ImageInput], Field(min_length=1, max_length=_INPUTS)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: Text | None = None


class Codes(Body):
    """Images to codes, or codes to images."""

    model: Text | None = None
    input: ImagePart | Annotated[list[ImagePart], Field(min_length=1, max_length=_INPUTS)] | None = None
    codes: Annotated[list[CodeList], Field(min_length=1, max_length=_INPUTS)] | None = None
    size: Text | None = None
    user: Text | None = None
    seed: Seed = 0
    steps: Annotated[int, Field(ge=1)] = STEPS
    guidance: Annotated[float, Field(ge=0, le=100)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "Codes":
        if (self.input is None) == (self.codes is None):
            raise ValueError("give either input, images to encode, or codes, which are drawn")
        return self
