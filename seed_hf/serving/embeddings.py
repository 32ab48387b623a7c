"""Embeddings of texts and images."""

import base64
import struct
from typing import Any

from .errors import RequestError
from .schemas import CodesPart, Embeddings, ImagePart
from .service import Service, together


async def embed(service: Service, asked: Embeddings) -> dict[str, Any]:
    """Embeddings of texts and images in the shared space of stage I, of length one.

    Args:
        service: The model and its queue.
        asked: By the client.

    Raises:
        RequestError: The model has no text tower, or an input cannot be read.
    """
    service.check_model(asked.model)
    served, inputs = service.served, asked.input if isinstance(asked.input, list) else [asked.input]
    texts = [each for each in inputs if isinstance(each, str)]
    service.check_text(*texts)
    service.check_inputs(len(inputs))
    service.check_images(sum(isinstance(each, ImagePart) and each.codes is None for each in inputs))
    if not (served.has_text_features if texts else served.has_image_features):
        raise RequestError("This model has no text tower that reads such inputs: it has no embeddings of them.")
    width = served.tokenizer.config.projection_dim
    if asked.dimensions not in (None, width):
        raise RequestError(f"The embeddings of this model have {width} dimensions.", param="dimensions")
    limit = served.tokenizer.config.qformer_config.max_position_embeddings
    lengths = await service.help(lambda: [len(served.processor.text_tower(t, 1 << 30).input_ids[0]) for t in texts])
    for text, length in zip(texts, lengths):
        if length > limit or not text.strip():
            raise RequestError(f"A text has 1 to {limit} tokens; one has {length if text.strip() else 0}.")

    async def one(each: Any) -> list[float]:
        if isinstance(each, str):
            return await service.batches.run("text features", each)
        if isinstance(each, CodesPart):
            return await service.batches.run("image features", service.check_codes(each.codes), "codes")
        return await service.batches.run("image features", await service.pixels(each), "pixels")

    found = await together([one(each) for each in inputs])
    packed = [base64.b64encode(struct.pack(f"<{len(row)}f", *row)).decode() for row in found]
    rows: list[Any] = packed if asked.encoding_format == "base64" else found
    data = [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)]
    count = sum(lengths)
    usage = {"prompt_tokens": count, "total_tokens": count}
    return {"object": "list", "data": data, "model": served.name, "usage": usage}


__all__ = ["embed"]
