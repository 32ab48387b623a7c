"""What a server refuses, in OpenAI's form, and that whoever leaves frees a place. Nothing of it ends the server."""

import asyncio
import base64
import http.client
import io
import json

import openai
import pytest
import torch
from PIL import Image

from running_server import running, wait_for
from seed_hf.serving.app import build_app
from seed_hf.serving.errors import RequestError
from seed_hf.serving.incoming import parsed_size
from seed_hf.serving.limits import Limits
from seed_hf.serving.metrics import Metrics
from seed_hf.serving.served import ServedModel
from seed_hf.serving.writing import Row, SeededSampling
from served_requests import data_url, drawn, part, user
from tiny_diffusion import tiny_model_and_processor


LONG = {"modalities": ["image"], "steps": 100}
SIZE = 200_000  # bytes of a request


@pytest.fixture(scope="module")
def server(served):
    """Takes one request at a time, of 200 kB."""
    with running(build_app(served, Limits(body=SIZE, places=1, pixels=1_000_000, values=20_000))) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    return server.client()


def chat(**fields):
    return "/v1/chat/completions", json.dumps({"model": "seed-tiny", "messages": user("a dog"), **fields})


def image(url):
    return chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}])


def draw(**fields):
    return "/v1/images/generations", json.dumps({"prompt": "a dog", **fields})


def embed(given, **fields):
    return "/v1/embeddings", json.dumps({"model": "seed-tiny", "input": given, **fields})


def codes(**fields):
    return "/v1/codes", json.dumps(fields)


def huge_png() -> str:
    file = io.BytesIO()
    Image.new("1", (2000, 1000)).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


URL = "data:image/png;base64,"
REFUSED = {
    "no JSON": (("/v1/chat/completions", "{"), "not valid JSON"),
    "deep JSON": (("/v1/chat/completions", "[" * 100_000), ""),
    "very many values": (("/v1/codes", '{"codes": [' + "[]," * 50_000 + "[]]}"), "values"),
    "many wrong codes": (codes(codes=[[-1] * 2000]), "codes"),
    "many rows of codes": (codes(codes=[[0] * 32] * 300), "300 images to draw; at most 10"),
    "many texts": (embed(["a"] * 300), "300 inputs in a request; at most 256"),
    "many images": (embed([part(drawn(1))] * 11), "11 images in a request; at most 10"),
    "long number": (draw(seed=1)[:1] + ('{"prompt": "a", "seed": ' + "9" * 10_000 + "}",), ""),
    "no object": (("/v1/chat/completions", "3"), "Send a JSON object"),
    "half a character": (("/v1/images/generations", '{"prompt": "\\ud800"}'), "prompt"),
    "half a name": (("/v1/images/generations", '{"prompt": "a", "\\udcff": 1}'), "string"),
    "half a kind": (("/v1/embeddings", '{"input": [{"type": "\\ud800"}]}'), "input"),
    "half a model": (("/v1/embeddings", '{"input": "a", "model": "\\ud800"}'), "half a character"),
    "not a number": (("/v1/chat/completions", chat()[1][:-1] + ', "temperature": NaN}'), "temperature"),
    "another model": (chat(model="gpt-5"), "'gpt-5' is not served here"),
    "no messages": (chat(messages=[]), "messages"),
    "empty messages": (chat(messages=user("")), "empty"),
    "another role": (chat(messages=[{"role": "tool", "content": "a"}]), "messages.0.role"),
    "another part": (chat(messages=[{"role": "user", "content": [{"type": "video"}]}]), "'video'"),
    "number as text": (chat(messages=[{"role": "user", "content": 3}]), "messages.0.content"),
    "tools": (chat(tools=[{"type": "function"}]), "'tools' is not a field that this server knows"),
    "several answers": (chat(n=2), "n: "),
    "another modality": (chat(modalities=["audio"]), "modalities"),
    "no modality": (chat(modalities=[]), "modalities"),
    "hot": (chat(temperature=3), "temperature"),
    "penalty": (chat(presence_penalty=1), "presence_penalty"),
    "too many stops": (chat(stop=list("abcde")), "stop"),
    "long text": (chat(messages=user("a " * 1000)), "Shorten the messages."),
    "very long text": (chat(messages=user("a" * 150_000)), "characters of text"),
    "too many tokens": (chat(max_tokens=100_000), "Shorten the messages or lower max_tokens."),
    "placeholder": (chat(messages=user("<image>")), "<image> stands for an image"),
    "image without words": (chat(messages=user(drawn(1)), modalities=["image"]), "say in words"),
    "room for half an image": (chat(modalities=["image"], max_tokens=5), "34 tokens"),
    "address": (image("http://127.0.0.1/a.png"), "Addresses of images are not fetched"),
    "file": (image("file:///etc/passwd"), "Addresses of images are not fetched"),
    "data that is no base64": (image(URL + "%%"), "not valid base64"),
    "data without base64": (image("data:image/png,abc"), "base64"),
    "no image": (image(URL + base64.b64encode(b"<svg/>").decode()), "not an image"),
    "too many pixels": (image(huge_png()), "at most 1 million are read"),
    "too many images": (chat(messages=user(*[drawn(1)] * 11)), "11 images in a request; at most 10"),
    "empty prompt": (draw(prompt=" "), "prompt is empty"),
    "long prompt": (draw(prompt="a " * 400), "Shorten the prompt."),
    "too many drawings": (draw(n=11), "11 images to draw; at most 10"),
    "negative seed": (draw(seed=-1), "seed"),
    "many steps": (draw(steps=101), "at most 100"),
    "size": (draw(size="1000000x1000000"), "size is WIDTHxHEIGHT"),
    "odd size": (draw(size="3x-7"), "size is WIDTHxHEIGHT"),
    "as an address": (draw(response_format="url"), "response_format"),
    "empty text": (embed(""), "1 to"),
    "long words": (embed("a " * 100), "one has"),
    "tokens": (embed([1, 2, 3]), "input"),
    "nothing": (embed([]), "input"),
    "dimensions": (embed("a", dimensions=3), "dimensions"),
    "too few codes": (codes(codes=[[1, 2]]), "codes from 0 to"),
    "too large codes": (codes(codes=[[10**6] * 32]), "codes from 0 to"),
    "negative codes": (codes(codes=[[-1] * 32]), "codes"),
    "true as a code": (codes(codes=[[True] * 32]), "codes"),
    "both ways": (codes(codes=[[1] * 32], input=part(drawn(1))), "either input"),
    "neither way": (codes(), "either input"),
    "no such route": (("/v1/completions", "{}"), "no such route"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_requests_get_openai_errors(server, name):
    (path, body), words = REFUSED[name]
    status, answer = server.ask("POST", path, body)
    assert status == (404 if name in ("another model", "no such route") else 400), answer
    error = answer["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error"
    assert words in error["message"] and len(error["message"]) < 400, error


def test_the_client_raises_its_own_errors(client):
    with pytest.raises(openai.NotFoundError) as error:
        client.chat.completions.create(model="other", messages=user("a"))
    assert error.value.code == "model_not_found" and error.value.param == "model"
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model="seed-tiny", messages=user("a " * 1000))
    assert error.value.code == "context_length_exceeded"
    for wrong, words in (
        ({"prompt": "a dog", "n": 40}, "40 images to draw; at most 10"),
        ({"prompt": "a dog", "mask": b"PNG"}, "mask"),
        ({"prompt": "a dog", "extra_body": {"seed": "nan"}}, "seed"),
        ({"prompt": "a dog", "image": b"no image"}, "not an image"),
        ({"prompt": " "}, "The prompt is empty"),
    ):
        with pytest.raises(openai.BadRequestError, match=words):
            client.images.edit(**{"image": base64.b64decode(data_url(drawn(1)).partition(",")[2]), **wrong})


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/plain"}, {"Content-Type": "multipart/form-data"}])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/images/edits"])
def test_bodies_of_other_kinds_are_refused(server, path, headers):
    connection = server.connection()
    connection.request("POST", path, b'{"messages": 3}', headers)
    answer = connection.getresponse()
    assert answer.status == 400 and json.loads(answer.read())["error"]["type"] == "invalid_request_error"
    connection.close()


def test_a_form_without_files_is_not_read(server):
    """It takes seconds, in which nobody is answered: the body is never looked at."""
    for kind, body in (
        ("application/x-www-form-urlencoded", b"&" * 1000 + b"n=x"),
        ("application/json", b"{}"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\na\r\n--b--\r\n',
        ),
    ):
        status, answer = server.ask("POST", "/v1/images/edits", body, **{"Content-Type": kind})
        assert status == 400 and "needs a file image" in answer["error"]["message"]
        assert answer["error"]["param"] == "image"


def test_the_first_of_two_kinds_counts_for_all_checks(server):
    """What the gate takes for a form must not be read as JSON behind it, and the other way round."""
    connection = server.connection()
    connection.putrequest("POST", "/v1/codes")
    body = json.dumps({"codes": [[]] * 15_000}).encode()
    for value in ("application/json", "multipart/form-data"):
        connection.putheader("Content-Type", value)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    assert "more than 20000 values" in connection.getresponse().read().decode()
    connection.close()


def test_large_requests_are_refused_while_they_come(server):
    for body in (b"x" * (SIZE + 1), iter([b"x" * 50_000] * 5)):  # with and without a length
        status, answer = server.ask("POST", "/v1/chat/completions", body)
        assert status == 413 and "0.2 MB" in answer["error"]["message"]
    assert server.gate.taken == 0


def half_a_request(server) -> http.client.HTTPConnection:
    """Holds a place: the server waits for the other half."""
    connection = server.connection()
    connection.putrequest("POST", "/v1/chat/completions")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", "100")
    connection.endheaders(b"{")
    wait_for(lambda: server.gate.taken == 1)
    return connection


def test_a_full_server_says_so_until_a_place_is_free(server, client):
    slow = half_a_request(server)
    with pytest.raises(openai.RateLimitError) as error:
        client.chat.completions.create(model="seed-tiny", messages=user(drawn(1)))
    assert error.value.response.headers["retry-after"] and error.value.code == "rate_limit_exceeded"
    assert server.ask("GET", "/health")[0] == 200
    slow.close()
    wait_for(lambda: server.gate.taken == 0)
    assert client.chat.completions.create(model="seed-tiny", messages=user(drawn(1))).choices


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_place(server, client, stream):
    connection = server.connection()
    connection.request("POST", *chat(**LONG, stream=stream), {"Content-Type": "application/json"})
    wait_for(lambda: server.gate.taken == 1)
    if stream:
        connection.getresponse().read1()
    connection.close()
    if stream:
        connection.sock = None
    wait_for(lambda: server.gate.taken == 0)
    assert client.chat.completions.create(model="seed-tiny", messages=user(drawn(1))).choices
    assert server.counted("seed_hf_jobs_waiting") == 0


def test_what_takes_too_long_ends(served):
    """As an error of its own, or as the last event of a stream that has begun."""
    with running(build_app(served, Limits(seconds=0.3))) as server:
        status, answer = server.ask("POST", *chat(**LONG))
        assert status == 504 and answer["error"]["code"] == "timeout" and "0.3 s" in answer["error"]["message"]
        with pytest.raises(openai.APIError, match=r"No answer within 0.3 s"):
            list(
                server.client().chat.completions.create(
                    model="seed-tiny", messages=user("a dog"), stream=True, extra_body=LONG
                )
            )
        wait_for(lambda: server.gate.taken == 0)


class OutOfMemory(ServedModel):
    """Its device fails at every text."""

    def runners(self):
        def fail(jobs):
            raise RuntimeError("out of memory")

        return super().runners() | {"write": fail}


def test_a_failure_of_the_server_is_told_as_such(served, caplog):
    """And nothing of it: the log has it."""
    broken = OutOfMemory(served.name, served.model, served.processor, served.pipe)
    with running(build_app(broken, Limits())) as server:
        status, answer = server.ask("POST", *chat())
        assert status == 500 and answer["error"]["type"] == "server_error" and "memory" not in str(answer)
        with pytest.raises(openai.APIError, match="The server failed"):
            list(server.client().chat.completions.create(model="seed-tiny", messages=user("a dog"), stream=True))
        wait_for(lambda: server.gate.taken == 0)  # the client is told in the stream, before the place is free
        assert "out of memory" in caplog.text
        assert server.counted("seed_hf_requests_total") == 2


@pytest.mark.parametrize("path, status", [("/health", 200), ("/nothing", 404)])
def test_whoever_has_the_answer_finds_it_counted(served, path, status):
    gate, counts = build_app(served, Limits()), []

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        if message["type"] == "http.response.body" and not message.get("more_body"):
            counts.append(f'status="{status}"}} 1' in gate.metrics.text())

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    asyncio.run(gate(scope, receive, send))
    assert counts == [True]


@pytest.mark.parametrize("size", ["64x64xfoo", "x64x64", "64", "64x64x64", "64 x 64", "-64x64", "\u0666\u0664x64"])
def test_sizes_of_another_form_are_refused(served, size):
    with pytest.raises(RequestError, match="size is WIDTHxHEIGHT in multiples of"):
        parsed_size(size, served.pipe)
    assert parsed_size("64x64", served.pipe) == (64, 64) and parsed_size("auto", served.pipe) is None


@pytest.mark.parametrize("temperature", [1e-6, 1e-38, 1e-45, 1e-300])
def test_tiny_temperatures_are_greedy(temperature):
    scores = torch.tensor([[1.0, 3.0, -torch.inf, 2.0]])
    row = Row(ids=[1], new_tokens=1, mode="text", temperature=temperature, seed=0)
    found = SeededSampling([row])(torch.zeros(1, 1, dtype=torch.long), scores)
    assert found.argmax() == 1 and not found.isnan().any()


def test_keys_open_everything_but_health(served):
    with running(build_app(served, Limits(), keys=["one", "two"])) as server:
        assert server.client("two").models.list().data
        for key in ("three", "on", "one two", "onetwo"):
            with pytest.raises(openai.AuthenticationError):
                server.client(key).models.list()
        for path in ("/metrics", "/v1/models", "/nothing"):
            status, answer = server.ask("GET", path)
            assert status == 401 and answer["error"]["code"] == "invalid_api_key"
        with pytest.raises(openai.AuthenticationError) as error:
            server.client("three").models.list()
        assert error.value.response.headers["WWW-Authenticate"] == "Bearer"
        assert server.ask("GET", "/health")[0] == 200
        assert server.ask("POST", *chat(), Authorization="Basic one")[0] == 401
        assert server.ask("POST", *chat(), Authorization="Bearer \xe9")[0] == 401


def test_a_server_without_keys_hears_to_its_own_names(served):
    """A page in a browser on this machine could reach it by a name that leads here."""
    with running(build_app(served, Limits(), hosts=["localhost", "127.0.0.1", "[::1]"])) as server:
        assert server.client().models.list().data
        for host, status in (
            ("localhost:1", 200),
            ("LOCALHOST:1", 200),
            ("[::1]", 200),
            ("evil.example", 403),
            ("localhost.evil:80", 403),
        ):
            assert server.ask("GET", "/v1/models", Host=host)[0] == status


def test_limits_of_images_and_inputs_are_those_of_the_server(served):
    with running(build_app(served, Limits(images=2, inputs=3))) as server:
        for (path, body), words in (
            (draw(n=3), "3 images to draw; at most 2"),
            (embed(["a"] * 4), "4 inputs in a request; at most 3"),
            (codes(codes=[[0] * 32] * 3), "3 images to draw; at most 2"),
        ):
            status, answer = server.ask("POST", path, body)
            assert status == 400 and words in answer["error"]["message"], answer
    with running(build_app(served, Limits(images=1, inputs=12))) as server:
        rows = [{"type": "image_codes", "codes": [number] * 32} for number in range(12)]
        status, answer = server.ask("POST", *embed(rows))  # nothing is decoded: codes count as inputs
        assert status == 200 and len(answer["data"]) == 12


def test_counts_keep_their_digits():
    metrics, name = Metrics(), "asked_total"
    metrics.counter(name, "how often")
    for _ in range(2):
        metrics.add(name, 1_234_567, k="v")
    metrics.add(name, 0.25, k="w")
    assert f'{name}{{k="v"}} 2469134\n' in metrics.text() and f'{name}{{k="w"}} 0.25\n' in metrics.text()


def test_weights_that_are_no_numbers_are_not_served(tmp_path):
    model, processor = tiny_model_and_processor()
    next(model.language_model.parameters()).data[0, 0] = torch.nan
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds values that are NaN or infinite"):
        ServedModel.load(tmp_path)


def test_metrics_are_read_by_prometheus(server):
    connection = server.connection()
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.read().decode().splitlines()
    connection.close()
    values = [line for line in lines if not line.startswith("#")]
    assert any(line.startswith('seed_hf_requests_total{route="/v1/chat/completions",status="400"}') for line in values)
    assert all(float(line.rsplit(" ", 1)[1]) >= 0 for line in values)
    kinds = {line.split()[2]: line.split()[3] for line in lines if line.startswith("# TYPE")}
    assert {line.split("{")[0].split()[0] for line in values} <= set(kinds)
    assert set(kinds.values()) == {"counter", "gauge"}
