"""The routes of a server."""

import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException

from .chat import complete_chat
from .embeddings import embed
from .errors import FAILED, RequestError, invalid_fields
from .gate import Gate
from .images import convert_codes, edit_images, generate_images
from .limits import Limits
from .metrics import CONTENT_TYPE, Metrics
from .schemas import Chat, Codes, Embeddings, Generation
from .served import ServedModel
from .service import Service


def build_app(
    served: ServedModel,
    limits: Limits,
    *,
    keys: Collection[str] = (),
    hosts: Collection[str] = (),
    remote_images: bool = False,
) -> Gate:
    """The server as an ASGI app.

    Args:
        served: The model.
        limits: Of a request, and of all together.
        keys: That clients may bring; none: anybody may ask.
        hosts: Names by which the server may be called; none: any.
        remote_images: Whether images behind public addresses are fetched.
    """
    metrics = Metrics()
    service = Service(served, limits, remote_images, metrics)
    created = int(time.time())

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        service.batches.start()
        yield
        await gate.emptied()
        await service.stop()

    # No pages of its own: they fetch scripts from another host.
    app = FastAPI(lifespan=life, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(RequestError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _other)
    app.add_exception_handler(Exception, _failed)

    @app.api_route("/health", methods=["GET", "HEAD"])  # load balancers ask without wanting the body
    async def health() -> dict[str, str]:
        return {"status": "ok", "model": served.name}

    @app.get("/metrics")
    async def counts() -> PlainTextResponse:
        return PlainTextResponse(metrics.text(), media_type=CONTENT_TYPE)

    def card() -> dict[str, Any]:
        return {"id": served.name, "object": "model", "created": created, "owned_by": "seed_hf"}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [card()]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        service.check_model(name)
        return card()

    @app.post("/v1/chat/completions")
    async def chat(asked: Chat) -> Any:
        return await complete_chat(service, asked)

    @app.post("/v1/images/generations")
    async def generations(asked: Generation) -> Any:
        return await generate_images(service, asked)

    @app.post("/v1/images/edits")
    async def edits(request: Request) -> Any:
        return await edit_images(service, request)

    @app.post("/v1/embeddings")
    async def embeddings(asked: Embeddings) -> Any:
        return await embed(service, asked)

    @app.post("/v1/codes")
    async def codes(asked: Codes) -> Any:
        return await convert_codes(service, asked)

    gate = Gate(app, limits, keys, hosts, metrics)
    return gate


async def _refused(request: Request, error: Any) -> JSONResponse:
    return JSONResponse(error.body(), error.status, error.headers())


async def _failed(request: Request, error: Any) -> JSONResponse:
    return await _refused(request, RequestError(FAILED, 500))  # the gate logs it


async def _invalid(request: Request, error: Any) -> JSONResponse:
    return await _refused(request, invalid_fields(error.errors()))


async def _other(request: Request, error: Any) -> JSONResponse:
    message = "There is no such route." if error.status_code == 404 else str(error.detail)
    answer = await _refused(request, RequestError(message, error.status_code))
    answer.headers.update(error.headers or {})  # such as the methods that a route allows
    return answer


__all__ = ["build_app"]
