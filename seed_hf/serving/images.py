"""Images of prompts, of images and of codes."""

import time
from typing import Any

from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import UploadFile

from .chat_prompt import prompt_ids, row_of
from .errors import RequestError, invalid_fields
from .schemas import Codes, Edit, Generation
from .served import Drawing, Prompt
from .service import Service, together


_NO_FILE = "An edit needs a file image, in a form (multipart/form-data)."


async def generate_images(service: Service, asked: Generation) -> dict[str, Any]:
    """Images of a prompt; several have codes of their own each, as those of `seed-hf draw`.

    Args:
        service: The model and its queue.
        asked: By the client.

    Raises:
        RequestError: It cannot be drawn.
    """
    how, served = _checked(service, asked), service.served
    ids = await service.help(prompt_ids, served.processor, [("user", [asked.prompt])], "image")
    row_of(served, ids, "image", param="prompt")

    async def draw(seed: int) -> dict[str, Any]:
        codes = await service.batches.run("prompt", Prompt(asked.prompt, seed, asked.n > 1))
        return {"b64_json": await service.draw(codes, seed, how), "codes": codes, "seed": seed}

    drawn = await together([draw(asked.seed + number) for number in range(asked.n)])
    return {"created": int(time.time()), "data": drawn, **service.notes(asked.prompt)}


async def edit_images(service: Service, request: Request) -> dict[str, Any]:
    """Images of a prompt that is about images.

    Args:
        service: The model and its queue.
        request: Its body is a form with files.

    Raises:
        RequestError: The form or a file cannot be read, or it cannot be drawn.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise RequestError(_NO_FILE, param="image")  # other forms have no files, and take long to read
    async with request.form(max_files=32, max_fields=64, max_part_size=service.limits.body) as form:
        fields = {name: value for name, value in form.multi_items() if isinstance(value, str)}
        uploads = [(name, value) for name, value in form.multi_items() if isinstance(value, UploadFile)]
        if other := {name for name, _ in uploads} - {"image", "image[]"}:
            raise RequestError(f"{', '.join(sorted(other))[:80]}: only the files image are read.", param="image")
        service.check_images(len(uploads))
        files = [await upload.read() for _, upload in uploads]
    if not files:
        raise RequestError(_NO_FILE, param="image")
    try:
        asked = Edit.model_validate(fields)
    except ValidationError as error:
        raise invalid_fields(error.errors()) from None
    how = _checked(service, asked)
    images = await together([service.codes(file) for file in files])
    ids = await service.help(prompt_ids, service.served.processor, [("user", [*images, asked.prompt])], "image")

    async def draw(seed: int) -> dict[str, Any]:
        temperature = 1.0 if asked.n > 1 else 0.0
        row = row_of(service.served, ids, "image", param="prompt", temperature=temperature, seed=seed)
        written: list[Any] = []
        await service.batches.run("write", row, row.key, written.append)
        codes = next(part for part in written if not isinstance(part, str))
        return {"b64_json": await service.draw(codes, seed, how), "codes": codes, "seed": seed}

    drawn = await together([draw(asked.seed + number) for number in range(asked.n)])
    return {"created": int(time.time()), "data": drawn, **service.notes(asked.prompt)}


def _checked(service: Service, asked: Generation) -> Drawing:
    service.check_model(asked.model)
    service.check_text(asked.prompt)
    service.check_drawings(asked.n)
    if not asked.prompt.strip():
        raise RequestError("The prompt is empty. Say what to draw.", param="prompt")
    return service.drawing(asked.steps, asked.guidance, asked.size)


async def convert_codes(service: Service, asked: Codes) -> dict[str, Any]:
    """The codes of images, or images of codes. These all begin with the same noise, and differ by their codes alone.

    Args:
        service: The model and its queue.
        asked: By the client.

    Raises:
        RequestError: An image cannot be read, or codes cannot be drawn.
    """
    service.check_model(asked.model)
    if asked.input is not None:
        images = asked.input if isinstance(asked.input, list) else [asked.input]
        service.check_images(len(images))
        found = await together([service.codes(image) for image in images])
        data = [{"object": "codes", "index": index, "codes": codes} for index, codes in enumerate(found)]
        return {"object": "list", "data": data, "model": service.served.name}
    rows = [service.check_codes(codes) for codes in asked.codes or []]
    service.check_drawings(len(rows), "codes")
    how = service.drawing(asked.steps, asked.guidance, asked.size)
    drawn = await together([service.draw(codes, asked.seed, how) for codes in rows])
    data = [{"b64_json": png, "codes": codes, "seed": asked.seed} for png, codes in zip(drawn, rows)]
    return {"created": int(time.time()), "data": data}


__all__ = ["convert_codes", "edit_images", "generate_images"]
