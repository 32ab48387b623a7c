"""`seed-hf serve` refuses what it cannot do in one line, before a model is loaded."""

import socket

import pytest

from command_line import refused, run


@pytest.fixture(autouse=True)
def no_model_is_loaded(monkeypatch):
    monkeypatch.setattr("seed_hf.artifacts.loading.load_pipeline", lambda *_, **__: pytest.fail("a model was loaded"))


def test_a_port_in_use_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as other:
        refused("serve", "--port", other.getsockname()[1], words="cannot listen there")
    refused("serve", "--host", "192.0.2.1", "--port", 0, words="cannot listen there")


def test_what_is_no_model_is_one_line(tmp_path):
    refused("serve", "--port", 0, "--model", tmp_path / "gone", words="no such folder")
    refused("serve", "--port", 0, "--model", tmp_path, words="is not a")


def test_keys_that_no_client_can_send_are_refused(monkeypatch):
    monkeypatch.setenv("SEED_HF_API_KEYS", "good,b ad")
    refused("serve", "--port", 0, words="printable ASCII")


@pytest.mark.parametrize("given", ["", " , "])
def test_a_variable_of_the_keys_without_one_opens_nothing(monkeypatch, given):
    monkeypatch.setenv("SEED_HF_API_KEYS", given)
    refused("serve", "--port", 0, words="is set, and holds no key")


def test_help_names_the_variable_of_the_keys():
    status, out, _ = run("serve", "--help")
    assert status == 0 and "SEED_HF_API_KEYS" in out
