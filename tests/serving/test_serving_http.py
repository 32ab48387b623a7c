"""What HTTP itself asks of a server: methods, lines of a stream, and the end of the server."""

import asyncio
import json

import pytest

from running_server import running
from seed_hf.serving.app import build_app
from seed_hf.serving.limits import Limits
from seed_hf.serving.served import ServedModel
from seed_hf.serving.writing import Written
from served_requests import user


@pytest.fixture(scope="module")
def server(served):
    with running(build_app(served, Limits())) as server:
        yield server


@pytest.mark.parametrize("method, path, allowed", [("GET", "/v1/embeddings", "POST"), ("POST", "/v1/models", "GET")])
def test_other_methods_are_told_the_right_one(server, method, path, allowed):
    connection = server.connection()
    connection.request(method, path)
    answer = connection.getresponse()
    assert answer.status == 405 and answer.headers["Allow"] == allowed
    connection.close()


def test_health_is_asked_without_the_body(server):
    connection = server.connection()
    connection.request("HEAD", "/health")
    answer = connection.getresponse()
    assert answer.status == 200 and not answer.read()
    connection.close()


def test_other_methods_get_openai_errors(server):
    for method, path, status in (("GET", "/v1/embeddings", 405), ("PUT", "/health", 405), ("GET", "/docs", 404)):
        found, answer = server.ask(method, path)
        assert found == status and answer["error"]["type"] == "invalid_request_error"


class Lines(ServedModel):
    """It writes what ends lines, for some."""

    said = "one\u2028two\x85three"

    def runners(self):
        def write(jobs):
            for job in jobs:
                job.give(self.said)
                job.finish(Written("stop", 3))

        return super().runners() | {"write": write}


def test_every_event_of_a_stream_is_one_line(served):
    """Also for clients that split lines as Python's texts do."""
    writer = Lines(served.name, served.model, served.processor, served.pipe)
    with running(build_app(writer, Limits())) as server:
        connection = server.connection()
        body = json.dumps({"messages": user("a dog"), "stream": True})
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line and line != "data: [DONE]"]
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == writer.said


def test_requests_that_the_server_ends_are_told_so(served, caplog):
    """uvicorn cancels what goes on after its last wait, and is gone as soon as the app has ended, too."""
    gate, sent = build_app(served, Limits()), []
    path, body = "/v1/images/generations", json.dumps({"prompt": "a dog", "steps": 100})
    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}

    async def send(message):
        sent.append(message)

    async def ended():
        for_app, for_request = asyncio.Queue(), asyncio.Queue()
        app = asyncio.ensure_future(gate({"type": "lifespan", "state": {}}, for_app.get, send))
        for_app.put_nowait({"type": "lifespan.startup"})
        for_request.put_nowait({"type": "http.request", "body": body.encode()})
        request = asyncio.ensure_future(gate(scope, for_request.get, send))
        while 'kind="prompt"' not in gate.metrics.text():  # the codes are there, and are drawn now
            await asyncio.sleep(0.01)
        request.cancel()
        for_app.put_nowait({"type": "lifespan.shutdown"})
        await app
        return request

    request = asyncio.run(ended())
    assert request.done() and gate.taken == 0
    startup, head, content, shutdown = sent
    assert head["status"] == 503 and b"The server was stopped" in content["body"]
    assert shutdown["type"] == "lifespan.shutdown.complete"
    assert "Traceback" not in caplog.text
