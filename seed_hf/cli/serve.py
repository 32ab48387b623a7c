"""`seed-hf serve`: seeing, drawing and talking over HTTP."""

import importlib.util
import ipaddress
import os
import socket
from typing import Annotated

import typer

from seed_hf.extras import how_to_install
from seed_hf.garbage import uncollected

from .shared import Device, Model, plain_errors, quiet_libraries


KEYS = "SEED_HF_API_KEYS"
_NEEDED = {"fastapi": "fastapi", "uvicorn": "uvicorn", "multipart": "python-multipart"}


def serve(
    model: Model = None,
    device: Device = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8000,
    name: Annotated[
        str | None, typer.Option(help="What clients call the model. Default: the last part of --model.")
    ] = None,
    max_batch: Annotated[int, typer.Option(help="Rows that the model works on at once.", min=1, max=1024)] = 16,
    window: Annotated[
        float, typer.Option(help="Milliseconds that an idle model waits for more of a kind.", min=0, max=1000)
    ] = 5.0,
    places: Annotated[int, typer.Option(help="Requests in work or waiting; more are refused.", min=1)] = 64,
    timeout: Annotated[float, typer.Option(help="Seconds that a request may take, waiting included.", min=1)] = 120.0,
    max_megabytes: Annotated[float, typer.Option(help="Size of a request.", min=0.1, max=1000)] = 20.0,
    remote_images: Annotated[
        bool, typer.Option("--remote-images", help="Fetch images behind public http(s) addresses. Default: refuse.")
    ] = False,
):
    """Serve a model over HTTP in the shapes of OpenAI's API.

    SEED_HF_API_KEYS holds the keys that clients may bring, separated by commas; without it no key is asked for.
    """
    with plain_errors():
        if missing := [package for module, package in _NEEDED.items() if importlib.util.find_spec(module) is None]:
            raise ValueError(f"serve needs {', '.join(missing)}: {how_to_install('serve')}.")
        keys = [key.strip() for key in os.environ.get(KEYS, "").split(",") if key.strip()]
        if KEYS in os.environ and not keys:
            raise ValueError(f"{KEYS} is set, and holds no key: anybody could ask. Give it one, or unset it.")
        if not all(key.isascii() and key.isprintable() and " " not in key for key in keys):
            raise ValueError(f"{KEYS}: a key has printable ASCII characters without spaces.")
        listening = _listen(host, port)
        with uncollected():
            import uvicorn

            from seed_hf.serving.app import build_app
            from seed_hf.serving.limits import MEGABYTE, Limits
            from seed_hf.serving.served import ServedModel

            quiet_libraries()
            served = ServedModel.load(model, name=name, device=device)
    limits = Limits(
        body=int(max_megabytes * MEGABYTE), places=places, seconds=timeout, batch=max_batch, window=window / 1000
    )
    local = _is_local(host)
    hosts = ("localhost", "127.0.0.1", "[::1]", host) if local and not keys else ()
    app = build_app(served, limits, keys=keys, hosts=hosts, remote_images=remote_images)
    address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    typer.echo(f"seed-hf: {served.name} answers at {address}/v1", err=True)
    if not keys and not local:
        typer.echo(f"seed-hf: anybody who reaches {host} may ask. {KEYS}=KEY,KEY asks for a key.", err=True)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=10, lifespan="on"
    )
    uvicorn.Server(config).run(sockets=[listening])


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    """The socket, before a model is loaded: a port in use is one line."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ValueError(
            f"{host}:{port}: cannot listen there ({error.strerror or error}). Give another --host or --port."
        ) from error
