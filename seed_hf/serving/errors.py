"""Errors of a request, in OpenAI's form: `{"error": {"message", "type", "param", "code"}}`."""

from collections.abc import Mapping, Sequence
from typing import Any


FAILED = "The server failed. Its log says why."
# (type, code) of a status, where the error itself names no code. The official client raises its classes by the status.
_OF_STATUS = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "forbidden"),
    404: ("invalid_request_error", "not_found"),
    405: ("invalid_request_error", "method_not_allowed"),
    408: ("invalid_request_error", "request_timeout"),
    413: ("invalid_request_error", "request_too_large"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    503: ("server_error", "service_unavailable"),
    504: ("server_error", "timeout"),
}
_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "1"}, 503: {"Retry-After": "1"}}


class RequestError(Exception):
    """A request that is not answered.

    Args:
        message: What was given, what is allowed, what to do.
        status: Of the response.
        param: The field of the request that is wrong.
        code: Of the error; that of the status by default.
    """

    def __init__(self, message: str, status: int = 400, *, param: str | None = None, code: str | None = None):
        super().__init__(message)
        self.message, self.status, self.param, self.code = (
            _printable(message),
            status,
            param and _printable(param),
            code,
        )

    def body(self) -> dict[str, Any]:
        """The response."""
        usual = ("invalid_request_error", None) if self.status < 500 else ("server_error", "internal_error")
        kind, code = _OF_STATUS.get(self.status, usual)
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code or code}
        return {"error": error}

    def headers(self) -> dict[str, str]:
        """Of the response."""
        return _HEADERS.get(self.status, {})


def _printable(text: str) -> str:
    """What a client sent may have half a character, which no response can hold."""
    return text.encode("utf-8", "backslashreplace").decode()


def invalid_fields(errors: Sequence[Mapping[str, Any]]) -> RequestError:
    """What pydantic found wrong. What was given is left out: it may be long, or no text at all.

    Args:
        errors: Of pydantic, as `ValidationError.errors` lists them.
    """
    first = max(
        errors, key=lambda error: len(error["loc"])
    )  # of the kinds that a value may have, the one that was meant
    if first["type"] == "json_invalid":
        return RequestError("The request is not valid JSON.")
    # Beside fields and numbers, pydantic names the kind that it tried.
    names = [str(part) for part in first["loc"] if part not in ("body", "str") and "[" not in str(part)]
    place, message = ".".join(names), first["msg"].removeprefix("Value error, ").rstrip(".")
    if place:
        return RequestError(f"{place}: {message}.", param=place)
    if first["type"] == "value_error":
        return RequestError(f"{message}.")
    return RequestError(f"{message}. Send a JSON object with the header Content-Type: application/json.")
