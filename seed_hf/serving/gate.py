"""What every request passes first: key, size, time, places. It also notices a client that has gone."""

import asyncio
import hmac
import json
import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

from .errors import FAILED, RequestError
from .limits import Limits
from .metrics import Metrics


logger = logging.getLogger(__name__)
OPEN = ("/health",)  # needs no key
READING = 30.0  # seconds at most until the whole request is here
DRAINED = 5.0  # seconds in which a request that is refused is read to its end, so that the client reads the answer


class _ClientGoneError(Exception):
    """Nobody waits for the answer."""


class Gate:
    """Middleware around the whole app.

    Args:
        app: An ASGI app.
        limits: Of a request.
        keys: One of which a request must bring as `Authorization: Bearer KEY`; none: no key is asked for.
        hosts: Names by which the server may be called, without a port; none: any.
        metrics: Counts requests.
    """

    def __init__(self, app: Any, limits: Limits, keys: Collection[str], hosts: Collection[str], metrics: Metrics):
        self.app, self.limits, self.metrics = app, limits, metrics
        self.keys, self.hosts = [key.encode() for key in keys], set(hosts)
        self.taken = 0
        metrics.counter("seed_hf_requests_total", "Requests by route and status.")
        metrics.gauge("seed_hf_requests_in_work", "Requests that have a place.", lambda: self.taken)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        answer, incoming = _Answer(scope, send, self._count), _Incoming(receive)
        try:
            await self._pass(scope, incoming, answer)
        except RequestError as error:
            if not answer.begun:
                await incoming.drain()
            await answer.fail(error)
        except _ClientGoneError:
            answer.status = 499  # as nginx says it
        except asyncio.CancelledError:  # the server ends, and has waited
            await answer.fail(RequestError("The server was stopped.", 503))
        except Exception:
            logger.exception("A request failed.")
            await answer.fail(RequestError(FAILED, 500))
        finally:
            answer.count()

    async def emptied(self) -> None:
        """Wait until the requests that the server cancelled at its end have been told so."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAINED):
                while self.taken:
                    await asyncio.sleep(0.01)

    async def _pass(self, scope: dict[str, Any], receive: Any, answer: "_Answer") -> None:
        headers = {name: value for name, value in reversed(scope["headers"])}  # the first counts, as for the routes
        self._check_host(headers.get(b"host", b""))
        if scope["path"] not in OPEN:
            self._check_key(headers.get(b"authorization", b""))
        if scope["method"] != "POST":
            await self.app(scope, receive, answer.send)
            return
        self._check_length(headers.get(b"content-length", b"0"))
        if self.taken >= self.limits.places:
            raise RequestError(f"All {self.limits.places} places are taken. Try again later.", 429)
        self.taken += 1
        answer.place = self._free
        try:
            async with asyncio.timeout(self.limits.seconds) as limit:
                body = await self._body(receive)
                if not headers.get(b"content-type", b"").lower().startswith(b"multipart/"):
                    self._check_values(body)
                await self._run(scope, body, receive, answer)
        except TimeoutError:
            if not limit.expired():
                raise
            message = f"No answer within {self.limits.seconds:g} s. Ask for less, or try again later."
            raise RequestError(message, 504) from None
        finally:
            answer.leave()

    async def _run(self, scope: dict[str, Any], body: bytes, receive: Any, answer: "_Answer") -> None:
        """The app with the whole body, until it is done or the client has gone."""
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> dict[str, Any]:
            if not messages:
                await asyncio.Event().wait()  # the gate itself waits for the end of the client
            return messages.pop()

        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        work = asyncio.ensure_future(self.app(scope, replay, answer.send))
        watch = asyncio.ensure_future(gone())
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and not answer.ended:  # after the end, the server calls every client gone
                raise _ClientGoneError
            await work
        finally:
            for task in (work, watch):
                task.cancel()
            await asyncio.gather(work, watch, return_exceptions=True)

    async def _body(self, receive: Any) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout(READING):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _ClientGoneError
                    body += message.get("body", b"")
                    if len(body) > self.limits.body:
                        raise self._too_large()
                    if not message.get("more_body"):
                        return bytes(body)
        except TimeoutError:
            raise RequestError(f"The request did not arrive within {READING:g} s.", 408) from None

    def _count(self, scope: dict[str, Any], status: int) -> None:
        route = getattr(scope.get("route"), "path", "other")
        self.metrics.add("seed_hf_requests_total", route=route, status=str(status))

    def _free(self) -> None:
        self.taken -= 1

    def _check_host(self, host: bytes) -> None:
        name = host.decode("latin-1").rsplit(":", 1)[0] if not host.endswith(b"]") else host.decode("latin-1")
        if self.hosts and name.lower() not in self.hosts:
            raise RequestError(
                "This server answers to names of this machine alone, because it asks for no key: "
                f"{', '.join(sorted(self.hosts))}.",
                403,
            )

    def _check_key(self, given: bytes) -> None:
        if not self.keys:
            return
        scheme, _, key = given.partition(b" ")
        fits = [hmac.compare_digest(key.strip(), known) for known in self.keys]
        if scheme.lower() != b"bearer" or not any(fits):
            raise RequestError("No valid API key. Send the header Authorization: Bearer KEY.", 401)

    def _check_length(self, given: bytes) -> None:
        if given.isdigit() and (len(given) > 15 or int(given) > self.limits.body):
            raise self._too_large()

    def _check_values(self, body: bytes) -> None:
        """JSON of tiny values takes thirty times its size in memory."""
        if sum(map(body.count, (b",", b"[", b"{"))) > self.limits.values:
            raise RequestError(f"The request has more than {self.limits.values} values. Send fewer.")

    def _too_large(self) -> RequestError:
        return RequestError(f"A request may have {self.limits.body / 1e6:g} MB. Send smaller or fewer images.", 413)


class _Incoming:
    """The messages of a request, and whether its body is here."""

    def __init__(self, receive: Any):
        self._receive, self.whole = receive, False

    async def __call__(self) -> dict[str, Any]:
        message = await self._receive()
        self.whole = self.whole or message["type"] == "http.disconnect" or not message.get("more_body")
        return message

    async def drain(self) -> None:
        """Read the rest of a request that is refused, and keep nothing of it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAINED):
                while not self.whole:
                    await self()


class _Answer:
    """The response: whether it has begun, and how it ends."""

    def __init__(self, scope: dict[str, Any], send: Any, count: Callable[[dict[str, Any], int], None]):
        self._scope, self._send, self._count, self._counted = scope, send, count, False
        self.begun, self.ended, self.status = False, False, 500
        self.place: Callable[[], None] | None = None

    def count(self) -> None:
        """Count the request, once: before its end is sent, so that whoever has the answer finds it counted."""
        if not self._counted:
            self._count(self._scope, self.status)
            self._counted = True

    def leave(self) -> None:
        """Free the place of the request, once: before its end is sent, so that the next one finds it free."""
        if self.place is not None:
            self.place()
            self.place = None

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.begun, self.status = True, message["status"]
        elif message["type"] == "http.response.body" and not message.get("more_body"):
            self.ended = True
            self.leave()
            self.count()
        await self._send(message)

    async def fail(self, error: RequestError) -> None:
        """As a response; in a stream that has begun, as its last event."""
        content = json.dumps(error.body()).encode()
        if self.ended:
            return
        with suppress(OSError):
            if self.begun:
                await self.send({"type": "http.response.body", "body": b"data: " + content + b"\n\n"})
                return
            headers = {"Content-Type": "application/json", "Content-Length": str(len(content)), **error.headers()}
            encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
            await self.send({"type": "http.response.start", "status": error.status, "headers": encoded})
            await self.send({"type": "http.response.body", "body": content})


__all__ = ["Gate"]
