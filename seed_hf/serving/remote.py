"""Images behind addresses, for servers whose operator allows them: only public ones, and no second address."""

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from .errors import RequestError


_PORTS = {"http": 80, "https": 443}
_PIECE = 64 * 1024


def fetch(url: str, max_bytes: int, seconds: float = 10.0) -> bytes:
    """What an address holds, if it is a public one.

    The name is looked up once, every address that it stands for must be public, and the connection goes to one of
    these: a name cannot point elsewhere between check and use. Redirects are not followed, proxies of the environment
    not used.

    Args:
        url: `http` or `https`, at its usual port, without user and password.
        max_bytes: That are read.
        seconds: For all of it.

    Raises:
        RequestError: Another address, or it does not answer as an image should.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise RequestError("The URL of an image cannot be read.") from None
    if (
        parts.scheme not in _PORTS
        or not host
        or parts.username is not None
        or port not in (None, _PORTS[parts.scheme])
    ):
        raise RequestError("The URL of an image is http:// or https:// with a host, and no user, password or port.")
    end = time.monotonic() + seconds
    target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    if any(character <= " " or character > "~" for character in target):
        raise RequestError("The URL of an image has characters that must be percent-encoded.")
    connection = http.client.HTTPConnection(f"[{host}]" if ":" in host else host, timeout=seconds)
    try:
        connection.sock = sock = _connect(host, parts.scheme, end)
        with _cut_off(sock, end):
            if isinstance(sock, ssl.SSLSocket):
                sock.do_handshake()
            connection.request("GET", target, headers={"Accept": "image/*", "Connection": "close"})
            data = _read(connection, max_bytes)
        _left(end)  # what was cut off looks like an end
        return data
    except (OSError, http.client.HTTPException, UnicodeError):
        raise RequestError("The URL of an image does not answer.") from None
    finally:
        connection.close()


def public_addresses(host: str, port: int) -> list[str]:
    """The addresses of a host, in the system's order: those first that this machine should reach.

    Args:
        host: A name or an address.
        port: For the look-up.

    Raises:
        RequestError: One of them is not public: of this machine, of a private network, of a cloud's metadata.
        OSError: There is no such host.
    """
    entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    found = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
    for text in found:
        address = ipaddress.ip_address(text.partition("%")[0])
        inner = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
        if address in ipaddress.ip_network("64:ff9b::/96"):  # IPv4 behind a gateway
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        for each in filter(None, (address if inner is None else None, inner)):
            if not each.is_global or each.is_multicast or each.is_reserved:
                raise RequestError("The URL of an image leads to an address that is not public.")
    return found


def _reached(addresses: Sequence[str], port: int, end: float) -> socket.socket:
    """A connection to the first address that answers: a machine may have no way to those of IPv6."""
    *others, last = addresses
    for number, address in enumerate(others):
        with suppress(OSError):
            return socket.create_connection((address, port), timeout=_left(end) / (len(addresses) - number))
    return socket.create_connection((last, port), timeout=_left(end))


def _connect(host: str, scheme: str, end: float) -> socket.socket:
    sock = _reached(public_addresses(host, _PORTS[scheme]), _PORTS[scheme], end)
    sock.settimeout(_left(end))
    if scheme == "http":
        return sock
    try:
        context = ssl.create_default_context()
        return context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    except BaseException:
        sock.close()
        raise


@contextmanager
def _cut_off(sock: socket.socket, end: float) -> Iterator[None]:
    """End a connection when its time is over: the timeout of a socket begins anew with every byte."""

    def cut() -> None:
        with suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # of the connection itself: TLS has no say

    timer = threading.Timer(_left(end), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _read(connection: http.client.HTTPConnection, max_bytes: int) -> bytes:
    response = connection.getresponse()
    if response.status != 200:
        raise RequestError(f"The URL of an image answers with status {response.status}. Redirects are not followed.")
    data = bytearray()
    while piece := response.read1(_PIECE):
        data += piece
        if len(data) > max_bytes:
            raise RequestError(f"The image behind a URL has more than {max_bytes / 1e6:g} MB.")
    return bytes(data)


def _left(end: float) -> float:
    if (left := end - time.monotonic()) <= 0:
        raise TimeoutError("too slow")
    return left


__all__ = ["fetch", "public_addresses"]
