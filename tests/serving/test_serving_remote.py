"""Images behind addresses: off by default, and where they are allowed, only public addresses are asked."""

import errno
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from seed_hf.serving.errors import RequestError
from seed_hf.serving.remote import fetch, public_addresses


NOT_PUBLIC = (
    "127.0.0.1 127.1 2130706433 0x7f000001 0.0.0.0 10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 "
    "224.0.0.1 255.255.255.255 240.0.0.1 ::1 :: fe80::1 fc00::1 ff02::1 ::ffff:127.0.0.1 ::ffff:a9fe:a9fe "
    "64:ff9b::7f00:1 2002:7f00:1:: localhost"
).split()


@pytest.mark.parametrize("host", NOT_PUBLIC)
def test_addresses_of_this_and_private_networks_are_refused(host):
    with pytest.raises(RequestError, match="not public"):
        public_addresses(host, 80)
    with pytest.raises(RequestError, match="not public|does not answer"):
        fetch(f"http://[{host}]/a.png" if ":" in host else f"http://{host}/a.png", 1000)


def test_an_address_without_a_way_to_it_is_followed_by_the_next(monkeypatch):
    """Most names have addresses of IPv6 and IPv4, and many machines have a way to IPv4 alone."""
    both = ["93.184.215.14", "2606:2800::1"]
    for order in (both, both[::-1]):
        entries = [(socket.AF_UNSPEC, socket.SOCK_STREAM, 6, "", (address, 80)) for address in order]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, entries=entries, **__: entries)
        assert public_addresses("example.com", 80) == order
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    asked = []

    def only_the_old(address, timeout):
        asked.append(address[0])
        if ":" in address[0]:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")
        sock = socket.socket()
        sock.connect(server.server_address)
        return sock

    monkeypatch.setattr(socket, "create_connection", only_the_old)
    try:
        assert fetch("http://example.com/a.png", 1000) == b"x" * 10
    finally:
        server.shutdown()
        server.server_close()
    assert asked == both[::-1]


def test_public_addresses_are_known():
    for host in ("8.8.8.8", "2001:4860:4860::8888", "64:ff9b::808:808"):
        assert public_addresses(host, 80) == [host]


@pytest.mark.parametrize(
    "url",
    [
        "ftp://8.8.8.8/a.png",
        "gopher://8.8.8.8/",
        "http:///a.png",
        "http://user:word@8.8.8.8/",
        "http://8.8.8.8:22/",
        "https://8.8.8.8:80/",
        "http://8.8.8.8:port/",
        "http://8.8.8.8/a b",
        "http://8.8.8.8/\r\nHost: other",
        "http://[8.8.8.8/",
        "//8.8.8.8/a.png",
        "/etc/passwd",
    ],
)
def test_other_urls_are_refused_before_anything_is_asked(url, monkeypatch):
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("it was asked"))
    with pytest.raises(RequestError, match="URL of an image"):
        fetch(url, 1000)


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        paths = {"/moved": 302, "/missing": 404}
        self.send_response(paths.get(self.path, 200))
        self.send_header("Location", "http://127.0.0.1/secret")
        self.end_headers()
        self.wfile.write(b"x" * (5000 if self.path == "/large" else 10))

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("part", ["headers", "body", "handshake"])
def test_a_server_that_drips_is_cut_off(part, monkeypatch):
    """Each byte renews the timeout of a socket, and no single read takes long."""
    stop, served = threading.Event(), []

    def drip(listening):
        with listening.accept()[0] as sock, suppress(OSError):
            begin = b"HTTP/1.1 200 OK\r\n" + (b"\r\n" if part == "body" else b"")
            # The header of a TLS record that announces 16 kB, which never come whole.
            sock.sendall(b"\x16\x03\x03\x40\x00" if part == "handshake" else begin)
            while not stop.wait(0.05):
                sock.sendall(b"x")
            served.append("to the end")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=drip, args=[listening], daemon=True)
        thread.start()
        connect = socket.create_connection
        monkeypatch.setattr(
            socket, "create_connection", lambda address, timeout: connect(listening.getsockname(), timeout)
        )
        try:
            with pytest.raises(RequestError, match="does not answer"):
                fetch(f"http{'s' if part == 'handshake' else ''}://8.8.8.8/a.png", 10_000, seconds=0.5)
            thread.join(60)  # it has noticed that nobody listens any more
            assert not served
        finally:
            stop.set()


def test_what_answers_is_read_within_limits_and_redirects_are_not_followed(monkeypatch):
    """A public address is asked by its number: here a server of the test stands at it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    connect, asked = socket.create_connection, []

    def to_the_test(address, timeout):
        asked.append(address)
        return connect(server.server_address, timeout)

    monkeypatch.setattr(socket, "create_connection", to_the_test)
    try:
        assert fetch("http://8.8.8.8/a.png?b", 1000) == b"x" * 10
        for path, words in (("moved", "Redirects"), ("missing", "status 404"), ("large", "more than")):
            with pytest.raises(RequestError, match=words):
                fetch(f"http://8.8.8.8/{path}", 1000)
        with pytest.raises(RequestError, match="does not answer"):
            fetch("https://8.8.8.8/a.png", 1000)  # no TLS there
    finally:
        server.shutdown()
        server.server_close()
    assert set(asked) == {("8.8.8.8", 80), ("8.8.8.8", 443)}
