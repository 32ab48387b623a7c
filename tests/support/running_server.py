"""A server in a thread of the test, and clients for it."""

import http.client
import json
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass

import openai
import uvicorn

from seed_hf.serving.gate import Gate


@dataclass
class Running:
    """A server that answers."""

    gate: Gate
    port: int

    def client(self, key: str = "none") -> openai.OpenAI:
        """The official client, which does not try again."""
        http_client = openai.DefaultHttpxClient(trust_env=False)
        address = f"http://127.0.0.1:{self.port}/v1"
        return openai.OpenAI(base_url=address, api_key=key, max_retries=0, http_client=http_client)

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def ask(self, method: str, path: str, body=None, **headers: str) -> tuple[int, dict]:
        """Status and JSON of a request that the official client would not send."""
        connection = self.connection()
        try:
            connection.request(method, path, body, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def counted(self, name: str) -> float:
        """The sum of a metric over its labels."""
        text = self.gate.metrics.text()
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


@contextmanager
def running(gate: Gate):
    """The app on a free port of this machine."""
    config = uvicorn.Config(gate, host="127.0.0.1", port=0, log_level="warning", access_log=False, lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started or not thread.is_alive())
    try:
        yield Running(gate, server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()


def wait_for(condition, seconds: float = 60.0) -> None:
    """Until something is so; a machine may be busy."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.01)
