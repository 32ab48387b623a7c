"""Requests of every kind that a server answers, seeded, and what is compared of their answers."""

import base64
import io
import random

import numpy as np
from PIL import Image


STEPS = {"steps": 2}
PROMPTS = ("a red apple", "a dog", "a blue car", "the moon", "a train")
QUESTIONS = ("What is its main colour?", "What is shown?", "Is it an animal?")


def drawn(number: int) -> Image.Image:
    """An image without meaning, of a size of its own."""
    numbers = np.random.default_rng(number)
    small = numbers.integers(0, 256, (3 + number % 4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((40 + number % 30, 50))


def data_url(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def part(image: Image.Image) -> dict:
    return {"type": "image_url", "image_url": {"url": data_url(image)}}


def user(*content) -> list[dict]:
    """Messages: one of a user, of texts and images."""
    parts = [{"type": "text", "text": each} if isinstance(each, str) else part(each) for each in content]
    return [{"role": "user", "content": parts}]


def pixels(b64: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(b64)))).astype(int)


def mixed_requests(count: int, seed: int = 0) -> list[tuple[str, dict]]:
    """Kinds and arguments, in a seeded order; all kinds are there from a count of 10 on."""
    numbers = random.Random(seed)
    kinds = ["caption", "answer", "stream", "sample", "draw", "draw two", "chat image", "edit", "embed", "codes"]
    chosen = [kinds[number % len(kinds)] for number in range(count)]
    numbers.shuffle(chosen)
    return [
        (
            kind,
            {
                "image": drawn(numbers.randrange(40)),
                "prompt": numbers.choice(PROMPTS),
                "question": numbers.choice(QUESTIONS),
                "seed": numbers.randrange(1000),
            },
        )
        for kind in chosen
    ]


def answer(client, kind: str, given: dict) -> dict:
    """What a request is answered: texts and codes, which must be equal, and images, which are to rounding."""
    image, prompt, question, seed = given["image"], given["prompt"], given["question"], given["seed"]
    chat, drawing = client.chat.completions.create, {"seed": seed, **STEPS}
    model = "seed-tiny"
    if kind == "caption":
        return {"text": chat(model=model, messages=user(image)).choices[0].message.content}
    if kind == "answer":
        return {"text": chat(model=model, messages=user(image, question)).choices[0].message.content}
    if kind == "stream":
        chunks = list(chat(model=model, messages=user(image, question), stream=True))
        return {"text": "".join(chunk.choices[0].delta.content or "" for chunk in chunks)}
    if kind == "sample":
        said = chat(model=model, messages=user(image), temperature=1.3, top_p=0.9, seed=seed, max_tokens=12)
        return {"text": said.choices[0].message.content}
    if kind == "draw":
        return _images(client.images.generate(prompt=prompt, extra_body=drawing).data)
    if kind == "draw two":
        return _images(client.images.generate(prompt=prompt, n=2, extra_body=drawing).data)
    if kind == "chat image":
        said = chat(model=model, messages=user(prompt), extra_body={"modalities": ["image"], **drawing}, seed=seed)
        (image,) = said.choices[0].message.model_extra["images"]
        return {"codes": [image["codes"]], "images": [pixels(image["image_url"]["url"].partition(",")[2])]}
    if kind == "edit":
        file = io.BytesIO()
        image.save(file, "PNG")
        return _images(client.images.edit(image=("a.png", file.getvalue()), prompt=prompt, extra_body=drawing).data)
    if kind == "embed":
        found = client.embeddings.create(model=model, input=[prompt, part(image)])
        return {"numbers": np.array([row.embedding for row in found.data])}
    codes = client.post("/codes", body={"input": part(image)}, cast_to=object)["data"][0]["codes"]
    again = client.post("/codes", body={"codes": [codes], **drawing}, cast_to=object)
    return {"codes": [codes], "images": [pixels(again["data"][0]["b64_json"])]}


def _images(data) -> dict:
    return {"codes": [row.model_extra["codes"] for row in data], "images": [pixels(row.b64_json) for row in data]}


def check_equal(found: dict, wanted: dict) -> None:
    """Texts and codes are equal. In a batch, pixels are rounded elsewhere: by one of 255 levels, hardly anywhere."""
    assert found.keys() == wanted.keys()
    assert found.get("text") == wanted.get("text")
    assert found.get("codes") == wanted.get("codes")
    np.testing.assert_allclose(found.get("numbers", 0), wanted.get("numbers", 0), atol=1e-5)
    for a, b in zip(found.get("images", []), wanted.get("images", []), strict=True):
        assert np.abs(a - b).max() <= 1 and (a != b).mean() < 0.005
