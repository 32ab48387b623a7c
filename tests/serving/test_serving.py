"""`seed-hf serve`, asked by the official openai client: every answer is what the library says."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openai
import pytest
import torch

from running_server import running
from seed_hf.serving.app import build_app
from seed_hf.serving.limits import Limits
from seed_hf.serving.served import ServedModel
from seed_hf.texts import answer as say
from seed_hf.texts import describe
from served_requests import STEPS, answer, check_equal, drawn, mixed_requests, part, pixels, user
from tiny_diffusion import tiny_model_and_processor, tiny_pipeline


@pytest.fixture(scope="module")
def server(served):
    with running(build_app(served, Limits(window=0.05))) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    return server.client()


def test_the_model_has_a_name(server, client, served):
    assert [model.id for model in client.models.list()] == ["seed-tiny"] == [served.name]
    assert client.models.retrieve("seed-tiny").owned_by == "seed_hf"
    assert server.ask("GET", "/health") == (200, {"status": "ok", "model": "seed-tiny"})


def test_captions_and_answers_are_those_of_the_library(client, served):
    image = drawn(3)
    said = client.chat.completions.create(model="seed-tiny", messages=user(image))
    assert said.choices[0].message.content == describe(served.model, served.processor, [image])[0]
    assert said.choices[0].finish_reason == "stop" and said.usage.completion_tokens > 1
    asked = client.chat.completions.create(model="seed-tiny", messages=user(image, "What is shown?"))
    assert [asked.choices[0].message.content] == say(served.model, served.processor, [image], ["What is shown?"])


def test_fields_that_are_null_or_empty_are_left_out(server):
    """Clients send what they do not use."""
    empty = ("temperature", "top_p", "n", "stop", "stream", "seed", "max_tokens", "modalities", "tools", "logit_bias")
    message = {"role": "user", "content": "a dog", "name": None, "images": None, "tool_calls": []}
    body = {"model": "seed-tiny", "messages": [message], **dict.fromkeys(empty), "functions": [], "max_tokens": 2}
    status, answer = server.ask("POST", "/v1/chat/completions", json.dumps(body))
    assert status == 200 and answer["usage"]["completion_tokens"] <= 2, answer


def test_fields_that_change_nothing_are_taken(server):
    neutral = {"response_format": {"type": "text"}, "tool_choice": "none", "parallel_tool_calls": False,
               "service_tier": "auto", "top_logprobs": 0, "logprobs": False, "max_tokens": 2, "user": "a",
               "safety_identifier": "a", "prompt_cache_key": "a",
               "stream_options": {"include_obfuscation": False}}  # fmt: skip
    body = {"model": "seed-tiny", "messages": [{"role": "user", "content": "a dog"}], **neutral}
    status, answer = server.ask("POST", "/v1/chat/completions", json.dumps(body))
    assert status == 200 and isinstance(answer["choices"][0]["message"]["content"], str), answer
    neutral = {"output_format": "png", "quality": "auto", "background": "auto", "moderation": "auto", "stream": False,
               "partial_images": 0}  # fmt: skip
    status, answer = server.ask("POST", "/v1/images/generations", json.dumps({"prompt": "a dog", **neutral, **STEPS}))
    assert status == 200, answer


def test_drawings_are_those_of_the_library(client, served):
    """One of the likeliest codes, and several of sampled ones, as `seed-hf draw -n` makes them."""
    for count, sampling in ((1, {}), (2, {"do_sample": True, "temperature": 1.0})):
        found = client.images.generate(prompt="a red apple", n=count, extra_body={"seed": 5, **STEPS}).data
        for number, image in enumerate(found):
            generator = torch.Generator("cpu").manual_seed(5 + number)
            wanted = served.pipe("a red apple", num_inference_steps=2, generator=generator, generation_kwargs=sampling)
            assert image.model_extra["codes"] == wanted.codes[0].tolist()
            assert np.abs(pixels(image.b64_json) - np.asarray(wanted.images[0]).astype(int)).max() <= 1


def test_codes_and_embeddings_are_those_of_the_library(client, served):
    image, tokenizer = drawn(7), served.tokenizer
    values = served.pixels(image)[None]
    codes = tokenizer.encode(values)
    found = client.post("/codes", body={"input": [part(image)]}, cast_to=object)["data"]
    assert found == [{"object": "codes", "index": 0, "codes": codes[0].tolist()}]
    inputs = ["a red apple", part(image), {"type": "image_codes", "codes": codes[0].tolist()}]
    with torch.no_grad():
        texts = served.processor.text_tower(["a red apple"], 64)
        wanted = [
            tokenizer.get_text_features(texts.input_ids, texts.attention_mask).pooler_output,
            tokenizer.get_image_features(values).pooler_output,
            tokenizer.get_image_features(codes=codes).pooler_output,
        ]
    for form in ("float", "base64"):
        rows = client.embeddings.create(model="seed-tiny", input=inputs, encoding_format=form).data
        if form == "float":
            np.testing.assert_allclose([row.embedding for row in rows], torch.cat(wanted), atol=1e-5)
    np.testing.assert_allclose(
        [row.embedding for row in client.embeddings.create(model="seed-tiny", input=inputs).data],
        torch.cat(wanted),
        atol=1e-5,
    )


def test_requests_at_once_are_answered_as_alone(server):
    """In batches, whose rows do not know of each other; the client asks for base64 and decodes it."""
    requests = mixed_requests(10)
    alone = [answer(server.client(), *request) for request in requests]
    jobs, batches = server.counted("seed_hf_jobs_total"), server.counted("seed_hf_batches_total")
    with ThreadPoolExecutor(10) as clients:
        at_once = list(clients.map(lambda request: answer(server.client(), *request), requests))
    for found, wanted in zip(at_once, alone):
        check_equal(found, wanted)
    jobs, batches = server.counted("seed_hf_jobs_total") - jobs, server.counted("seed_hf_batches_total") - batches
    assert batches < jobs
    assert server.counted("seed_hf_requests_in_work") == server.counted("seed_hf_jobs_waiting") == 0


def test_a_stream_brings_texts_images_and_counts(client):
    options = {"stream": True, "stream_options": {"include_usage": True}}
    whole = client.chat.completions.create(model="seed-tiny", messages=user(drawn(3)))
    chunks = list(client.chat.completions.create(model="seed-tiny", messages=user(drawn(3)), **options))
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert "".join(text or "" for text in texts) == whole.choices[0].message.content
    assert len([text for text in texts if text]) >= len(whole.choices[0].message.content.split()) > 1
    assert chunks[-1].usage == whole.usage and chunks[-2].choices[0].finish_reason == "stop"
    body = {"modalities": ["image"], **STEPS}
    chunks = client.chat.completions.create(model="seed-tiny", messages=user("a dog"), stream=True, extra_body=body)
    images = [i for chunk in chunks for i in (chunk.choices[0].delta.model_extra or {}).get("images", [])]
    drawn_alone = client.images.generate(prompt="a dog", extra_body=STEPS).data[0]
    assert [image["codes"] for image in images] == [drawn_alone.model_extra["codes"]]
    assert images[0]["image_url"]["url"].endswith(drawn_alone.b64_json)


def test_a_stream_passes_proxies_as_it_comes(client):
    answer = client.chat.completions.with_raw_response.create(model="seed-tiny", messages=user("a dog"), stream=True)
    assert answer.headers["X-Accel-Buffering"] == "no" and answer.headers["Cache-Control"] == "no-cache"
    answer.parse().close()


def test_an_answer_goes_back_as_it_came(client, served):
    """The message with a drawn image, sent back, is read by its codes."""
    body = {"modalities": ["image"], **STEPS}
    first = client.chat.completions.create(model="seed-tiny", messages=user("a dog"), extra_body=body)
    message = first.choices[0].message.model_dump()
    chat = [*user("a dog"), message, *user("What is shown?")]
    again = client.chat.completions.create(model="seed-tiny", messages=chat)
    by_codes = [{"type": "image_codes", "codes": message["images"][0]["codes"]}]
    chat[1] = {"role": "assistant", "content": by_codes}
    wanted = client.chat.completions.create(model="seed-tiny", messages=chat)
    assert again.choices[0].message == wanted.choices[0].message and again.usage == wanted.usage
    assert again.usage.prompt_tokens > served.places


def test_samples_depend_on_their_seed_alone(client):
    def sample(seed, **more):
        options = {"temperature": 2.0, "max_tokens": 16, "seed": seed, **more}
        return client.chat.completions.create(model="seed-tiny", messages=user(drawn(1)), **options).choices[0]

    with ThreadPoolExecutor(4) as clients:
        beside_others = [choice.message.content for choice in clients.map(sample, [1, 2, 3, 1])]
    assert beside_others[0] == beside_others[3] == sample(1).message.content
    assert len(set(beside_others)) == 3
    greedy = client.chat.completions.create(model="seed-tiny", messages=user(drawn(1))).choices[0].message.content
    assert sample(1, top_p=1e-6).message.content == greedy  # the likeliest token alone


def test_the_share_of_the_likeliest_is_of_what_a_reply_may_hold(client):
    """The model would begin an image after such a prompt, which a reply in words may not."""
    said = [
        client.chat.completions.create(
            model="seed-tiny", messages=user("Generate an image a red apple"), temperature=1.0, top_p=0.01, seed=seed
        ).choices[0].message.content
        for seed in range(4)
    ]  # fmt: skip
    greedy = client.chat.completions.create(model="seed-tiny", messages=user("Generate an image a red apple"))
    assert set(said) == {greedy.choices[0].message.content}


def test_replies_end_where_they_are_told(client):
    whole = client.chat.completions.create(model="seed-tiny", messages=user(drawn(3))).choices[0].message.content
    words = whole.split()
    assert len(words) > 1, whole
    for options, wanted, reason in (
        ({"stop": words[-1]}, whole[: whole.index(words[-1])].rstrip(), "stop"),
        ({"stop": ["no such words", words[0][:2]]}, "", "stop"),
        ({"max_tokens": 1}, None, "length"),
    ):
        choice = client.chat.completions.create(model="seed-tiny", messages=user(drawn(3)), **options).choices[0]
        assert choice.finish_reason == reason
        assert whole.startswith(choice.message.content or "") and wanted in (None, choice.message.content or "")


def test_words_that_a_small_model_never_read_are_named(client, served):
    notes = client.images.generate(prompt="a qwertz", extra_body=STEPS).model_extra.get("notes", [])
    assert len(notes) == (served.known is not None) and all("qwertz" in note for note in notes)


def test_a_model_without_pipeline_sees_and_draws_nothing(served):
    alone = ServedModel("eyes", served.model, served.processor)
    with running(build_app(alone, Limits())) as server:
        said = server.client().chat.completions.create(model="eyes", messages=user(drawn(3)))
        assert said.choices[0].message.content == describe(served.model, served.processor, [drawn(3)])[0]
        with pytest.raises(openai.BadRequestError, match="draws nothing"):
            server.client().images.generate(prompt="a dog")


def test_seeds_hold_where_the_model_itself_samples():
    """By its generation config, whatever comes at the same time."""
    model, processor = tiny_model_and_processor()
    model.generation_config.update(do_sample=True, temperature=3.0)
    served = ServedModel("samples", model, processor, tiny_pipeline(model, processor=processor))
    with running(build_app(served, Limits())) as server, ThreadPoolExecutor(4) as clients:
        generate = server.client().images.generate

        def codes(seed):
            return generate(prompt="a dog", extra_body={**STEPS, "seed": seed}).data[0].model_extra["codes"]

        found = list(clients.map(codes, [1, 2, 3, 1]))
        assert found[0] == found[3] == codes(1) and len(set(map(str, found))) == 3
