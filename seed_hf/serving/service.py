"""What requests have in common: images in, jobs done, images out."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .batches import Batches
from .errors import RequestError
from .incoming import as_png, bytes_of_data_url, image_of_bytes, parsed_size
from .limits import Limits
from .metrics import Metrics
from .remote import fetch
from .schemas import CodesPart, ImagePart
from .served import Drawing, ServedModel


HELPERS = 2  # threads that decode images; each may take half a gigabyte


class Service:
    """The model, its queue and the helper threads.

    Args:
        served: The model.
        limits: Of a request.
        remote: Whether addresses of images are fetched.
        metrics: Of the server.
    """

    def __init__(self, served: ServedModel, limits: Limits, remote: bool, metrics: Metrics):
        self.served, self.limits, self.remote = served, limits, remote
        self.batches = Batches(served.runners(), limits.batch, limits.window, metrics)
        self.helpers = ThreadPoolExecutor(HELPERS, "helper")

    async def stop(self) -> None:
        """End the threads."""
        await self.batches.stop()
        self.helpers.shutdown(wait=True)

    async def help(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The result of a function that takes long, from a helper thread.

        Args:
            function: Of no state.
            arguments: Its arguments.
        """
        return await asyncio.get_running_loop().run_in_executor(self.helpers, function, *arguments)

    def check_model(self, name: str | None) -> None:
        """Raises `RequestError` if a request names another model."""
        if name not in (None, self.served.name):
            message = f"The model {name[:80]!r} is not served here, {self.served.name!r} is."
            raise RequestError(message, 404, param="model", code="model_not_found")

    def check_text(self, *texts: str) -> None:
        """Raises `RequestError` if texts are too long together."""
        if (count := sum(map(len, texts))) > self.limits.characters:
            raise RequestError(f"{count} characters of text; at most {self.limits.characters} are read.")

    def check_codes(self, codes: list[int]) -> list[int]:
        """The codes of one image.

        Args:
            codes: That a client sent.

        Raises:
            RequestError: Too few, too many, or too large ones.
        """
        places, size = self.served.places, self.served.codebook_size
        if len(codes) != places or max(codes) >= size:
            raise RequestError(f"An image has {places} codes from 0 to {size - 1}.", param="codes")
        return codes

    def check_inputs(self, count: int) -> None:
        """Raises `RequestError` if a request has too many texts, images and codes."""
        if count > self.limits.inputs:
            raise RequestError(f"{count} inputs in a request; at most {self.limits.inputs} are taken.", param="input")

    def check_drawings(self, count: int, param: str = "n") -> None:
        """Raises `RequestError` if a request asks for too many images, by its field `param`."""
        if count > (most := self.limits.images):
            raise RequestError(f"{count} images to draw; at most {most} are drawn by a request.", param=param)

    def check_images(self, count: int) -> None:
        """Raises `RequestError` if a request has too many images."""
        if count > self.limits.images:
            raise RequestError(f"{count} images in a request; at most {self.limits.images} are taken.")

    def drawing(self, steps: int, guidance: float | None, size: str | None) -> Drawing:
        """How to draw.

        Args:
            steps, guidance, size: As a client asked.

        Raises:
            RequestError: More steps or another size than this server draws, or it draws nothing.
        """
        if self.served.pipe is None:
            raise RequestError("This server has a model without a pipeline: it draws nothing.", code="draws_nothing")
        if steps > self.limits.steps:
            raise RequestError(f"{steps} steps; at most {self.limits.steps} are taken.", param="steps")
        return Drawing(steps, guidance, parsed_size(size, self.served.pipe))

    async def pixels(self, part: ImagePart | bytes) -> Any:
        """What the model sees of an image.

        Args:
            part: Of a message, or an uploaded file.

        Raises:
            RequestError: It cannot be read.
        """
        if isinstance(part, bytes):
            data = part
        elif part.image_url.url[:5].lower() == "data:":
            data = await self.help(bytes_of_data_url, part.image_url.url)
        elif self.remote:
            data = await asyncio.to_thread(fetch, part.image_url.url, self.limits.body)
        else:
            raise RequestError("Addresses of images are not fetched here. Send data:image/png;base64,... instead.")
        return await self.help(lambda: self.served.pixels(image_of_bytes(data, self.limits)))

    async def codes(self, part: ImagePart | CodesPart | bytes) -> list[int]:
        """The codes of an image, read or encoded.

        Args:
            part: Of a message, or an uploaded file.

        Raises:
            RequestError: It cannot be read.
        """
        if not isinstance(part, bytes) and part.codes is not None:
            return self.check_codes(part.codes)
        return await self.batches.run("encode", await self.pixels(part))

    async def draw(self, codes: list[int], seed: int, how: Drawing) -> str:
        """The base64 of a PNG, drawn from codes.

        Args:
            codes: Of the image.
            seed: Of the noise.
            how: Steps, guidance, size.
        """
        return await self.help(as_png, await self.batches.run("draw", (codes, seed), key=how))

    def notes(self, *texts: str) -> dict[str, list[str]]:
        """What to tell a person whose texts have words that a small model has never read.

        Args:
            texts: Of the request.
        """
        found = self.served.known.note(" ".join(texts)) if self.served.known else None
        return {"notes": [found]} if found else {}


async def together(coroutines: Sequence[Any]) -> list[Any]:
    """The results of all, in their order; if one fails or all are cancelled, none goes on.

    Args:
        coroutines: One for each row.
    """
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


__all__ = ["Service", "together"]
