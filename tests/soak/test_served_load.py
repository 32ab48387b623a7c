"""`seed-hf serve` under load: nothing is lost, answers are those of single calls, memory stays, kills cost little."""

import json
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager

import openai
import psutil
import pytest

from running_server import wait_for
from served_requests import answer, check_equal, drawn, mixed_requests, user


pytestmark = pytest.mark.soak
GROWTH = 50e6  # bytes
CPU_SECONDS = 10.0  # of the server until it answers
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def healthy(port: int) -> bool:
    try:
        with _OPENER.open(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return json.load(answer)["status"] == "ok"
    except OSError:
        return False


def client_of(port: int, retries: int = 0) -> openai.OpenAI:
    plain = openai.DefaultHttpxClient(trust_env=False)
    address = f"http://127.0.0.1:{port}/v1"
    return openai.OpenAI(base_url=address, api_key="none", max_retries=retries, http_client=plain, timeout=600)


@contextmanager
def serving(port: int):
    process = subprocess.Popen([sys.executable, "-m", "seed_hf.cli", "serve", "--port", str(port), "--timeout", "600"])
    try:
        wait_for(lambda: healthy(port) or process.poll() is not None, 300)
        assert process.poll() is None
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def test_two_hundred_mixed_requests_of_twenty_clients():
    """None is lost, and each is answered as it is alone."""
    requests = mixed_requests(200, seed=1)
    port = free_port()
    with serving(port):
        begin = time.monotonic()
        with ThreadPoolExecutor(20) as clients:
            at_once = list(clients.map(lambda request: answer(client_of(port), *request), requests))
        between = time.monotonic()
        alone = [answer(client_of(port), *request) for request in requests]
        print(f"one by one takes {(time.monotonic() - between) / (between - begin):.1f} times as long as at once")
    for found, wanted in zip(at_once, alone, strict=True):
        check_equal(found, wanted)


def ask_or_leave(port: int, number: int) -> None:
    """A sound request, a bad one, or one whose client goes away."""
    numbers = random.Random(number)
    client = client_of(port)
    choice = numbers.random()
    if choice < 0.1:
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="seed-tiny", messages=user("a " * 2000))
    elif choice < 0.2:
        body = {"prompt": "a red apple", "steps": 100}
        with socket.create_connection(("127.0.0.1", port)) as connection:
            text = json.dumps(body)
            head = f"POST /v1/images/generations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(text)}\r\n"
            connection.sendall(f"{head}Content-Type: application/json\r\n\r\n{text}".encode())
    elif choice < 0.3:
        stream = client.chat.completions.create(model="seed-tiny", messages=user(drawn(number)), stream=True)
        next(iter(stream))
        stream.close()
    else:
        answer(client, *mixed_requests(10, seed=number)[number % 10])
    client.close()


def test_memory_is_flat_over_two_thousand_requests():
    port = free_port()
    with serving(port) as process, ThreadPoolExecutor(20) as clients:
        list(clients.map(lambda number: ask_or_leave(port, number), range(300)))
        before = process.memory_info().rss
        for begin in range(300, 2300, 500):
            list(clients.map(lambda number: ask_or_leave(port, number), range(begin, begin + 500)))
            grown = process.memory_info().rss - before
            print(f"{before / 1e6:.0f} MB, {grown / 1e6:+.0f} MB after {begin + 200} more requests")
        metrics = _OPENER.open(f"http://127.0.0.1:{port}/metrics").read().decode()
    assert grown < GROWTH
    assert "seed_hf_requests_in_work 0" in metrics and "seed_hf_jobs_waiting 0" in metrics
    assert 'status="500"' not in metrics


def test_killed_at_work_and_started_again_it_answers_within_seconds():
    """Counted in CPU time: how long a busy machine takes is its own matter."""
    port = free_port()
    for attempt in range(2):
        with serving(port) as process, ThreadPoolExecutor(4) as clients:
            said = client_of(port).chat.completions.create(model="seed-tiny", messages=user(drawn(1)))
            spent = sum(process.cpu_times()[:2])
            print(f"{spent:.1f} CPU seconds until the first answer")
            assert said.choices[0].message.content and spent < CPU_SECONDS
            at_work = [clients.submit(answer, client_of(port), *request) for request in mixed_requests(10, attempt)]
            next(as_completed(at_work))
            process.send_signal(signal.SIGKILL)
            for request in at_work:
                assert isinstance(request.exception(), (openai.APIConnectionError, type(None)))
