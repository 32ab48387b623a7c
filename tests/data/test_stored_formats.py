"""What jobs store on disk, byte for byte where it is JSON: folders of earlier versions must go on and load."""

import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open

from seed_hf.artifacts.fingerprints import causal_fingerprint, model_fingerprint, tokenizer_fingerprint
from seed_hf.data import RowFilters, cache_features, open_source, tokenize_images
from tiny import tiny_text_encoder, tiny_text_tokenizer, tiny_tokenizer
from tiny_sources import noise, rows, write_folder, write_parquet, write_tar


MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
PROCESSOR = {"height": 28, "width": 28, "resample": 3, "mean": MEAN, "std": STD, "rescale_factor": 1 / 255}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def identity(kind: str, files, root, columns: dict) -> dict:
    """The identity of a source, written out a second time."""
    sizes = [(str(file.relative_to(root)), file.stat().st_size) for file in files]
    listed = "".join(f"{name}\0{size}\n" for name, size in sizes)
    return {
        "kind": kind,
        "parts": 1 if kind == "imagefolder" else len(sizes),
        "bytes": sum(size for _, size in sizes),
        "files_sha256": sha256(listed.encode()),
        "columns": columns,
    }


def digests(made: list[dict]) -> dict[str, str]:
    """Those of rows: of ids, captions and why a caption is left out; of the images of all others."""
    texts = [[row["id"], row["caption"], None if row["caption"].strip() else "empty_caption"] for row in made]
    images = [hashlib.sha256(row["image"]).digest() for row in made if row["caption"].strip()]
    return {"texts": sha256("".join(map(json.dumps, texts)).encode()), "images": sha256(b"".join(images))}


@pytest.mark.parametrize("kind", ["parquet", "webdataset", "imagefolder"])
def test_the_identity_of_a_source(tmp_path, kind):
    """Names and sizes of the files that are read, in their order; in a folder these are its images and metadata."""
    folder = tmp_path / "source"
    columns = {"image": "image", "caption": "caption", "id": "id"}
    if kind == "imagefolder":
        write_folder(folder, rows(3))
        (folder / "b" / ".thumbs").mkdir(parents=True)
        for name in (
            "b/notes.txt",
            "b/x.PNG",
            ".DS_Store",
            "Thumbs.db",
            "b/.thumbs/x.png",
            "b/.x.png",
            "id0.jpg.part",
        ):
            (folder / name).write_bytes(b"not an image")
        files = [folder / name for name in ("id0.jpg", "id1.jpg", "id2.jpg", "metadata.jsonl", "b/x.PNG")]
    else:
        folder.mkdir()
        for name in ("b", "a"):
            if kind == "parquet":
                write_parquet(folder / f"{name}.parquet", rows(2))
            else:
                write_tar(folder / f"{name}.tar", rows(2), caption="json")
        files = sorted(folder.iterdir())
        if kind == "webdataset":
            columns = {"image": "png", "caption": "json.caption", "id": None}
    assert json.dumps(open_source(folder).identity()) == json.dumps(identity(kind, files, folder, columns))


def test_a_folder_of_codes(tmp_path):
    made = rows(5)
    made[1]["caption"], made[2]["image"], made[3]["image"] = " ", noise(2)[:50], noise(3, 90, 20)
    path = write_parquet(tmp_path / "a.parquet", made)
    tokenizer, out = tiny_tokenizer(), tmp_path / "out"
    filters = RowFilters(min_side=3, max_aspect=2.0)
    tokenize_images(open_source(path), tokenizer, out, batch_size=2, rows_per_shard=4, workers=0, filters=filters)
    shards = [(out / f"codes-00000-0000{index}.parquet").read_bytes() for index in range(2)]
    bad = {"file": "a.parquet", "row": 2, "id": "id2", "reason": "damaged or cut off"}
    line = (out / "bad_images.jsonl").read_text()
    reason = json.loads(line)["reason"]
    assert reason.startswith(bad["reason"]) and line == json.dumps({**bad, "reason": reason}) + "\n"
    accounts = [
        {
            "file": f"codes-00000-0000{index}.parquet",
            "stamp": None,  # the source was written within the last seconds
            "part": 0,
            "source": "a.parquet",
            "dropped": {"empty_caption": 1, "max_aspect": 1} if index == 0 else {},
            "bad": [{**bad, "reason": reason}] if index == 0 else [],
            "rows": [[0, 4], [4, 5]][index],
            "last": index == 1,
            "written": 1,
            "bytes": len(shard),
            "sha256": sha256(shard),
            "rows_sha256": digests(made[4 * index : 4 * index + 4]),
        }
        for index, shard in enumerate(shards)
    ]
    manifest = {
        "format": 1,
        "source": identity("parquet", [path], tmp_path, {"image": "image", "caption": "caption", "id": "id"}),
        "tokenizer": {"sha256": tokenizer_fingerprint(tokenizer), "codebook_size": 64, "num_query_tokens": 32},
        "settings": {
            "rows_per_shard": 4,
            "batch_size": 2,
            "dtype": "float32",
            "image_processor": PROCESSOR,
            "filters": {"min_side": 3, "max_aspect": 2.0, "empty_captions": False},
        },
        "complete": True,
        "rows": {"read": 5, "written": 2, "bad": 1},
        "dropped": {"empty_caption": 1, "max_aspect": 1},
        "bad_images": {
            "file": "bad_images.jsonl",
            "sha256": sha256(line.encode()),
            "reasons": {reason.partition(" (")[0]: 1},
        },
        "shards": [
            {name: value for name, value in account.items() if name not in ("bad", "stamp", "rows_sha256")}
            for account in accounts
        ],
    }
    assert (out / "manifest.json").read_text() == json.dumps(manifest, indent=1)
    begun_with = {name: manifest[name] for name in ("format", "source", "tokenizer", "settings")}
    key = hashlib.sha256(json.dumps(begun_with, sort_keys=True).encode()).digest()
    for index, account in enumerate(accounts):
        stored = (out / ".job" / f"codes-00000-0000{index}.json").read_text()
        seal = sha256(key + json.dumps(account, sort_keys=True).encode())
        assert stored == json.dumps({**account, "seal": seal}, indent=1)
    assert pq.read_schema(out / "codes-00000-00000.parquet").equals(
        pa.schema({"id": pa.string(), "caption": pa.string(), "codes": pa.list_(pa.uint16(), 32)})
    )


def test_a_folder_of_features(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", rows(3))
    tokenizer, out = tiny_tokenizer(), tmp_path / "out"
    text = {"text_encoder": tiny_text_encoder(), "text_tokenizer": tiny_text_tokenizer()}
    cache_features(open_source(path), tokenizer, out, **text, views=2, workers=0)
    shard = (out / "features-00000-00000.safetensors").read_bytes()
    manifest = {
        "format": 1,
        "source": identity("parquet", [path], tmp_path, {"image": "image", "caption": "caption", "id": "id"}),
        "tokenizer": {"causal_sha256": causal_fingerprint(tokenizer)},
        "text_encoder": {"sha256": model_fingerprint(text["text_encoder"], text["text_tokenizer"])},
        "image_encoder": None,
        "features": {
            "views": 2,
            "seed": 42,
            "dtype": "float16",
            "causal_embeddings": [32, 24],
            "target_embeddings": [6, 20],
        },
        "settings": {
            "rows_per_shard": 1024,
            "batch_size": 64,
            "compute_dtype": "float32",
            "image_processor": PROCESSOR,
            "filters": {"min_side": 0, "max_aspect": None, "empty_captions": False},
        },
        "complete": True,
        "rows": {"read": 3, "written": 3, "bad": 0},
        "dropped": {},
        "bad_images": {"file": "bad_images.jsonl", "sha256": sha256(b""), "reasons": {}},
        "shards": [
            {
                "file": "features-00000-00000.safetensors",
                "part": 0,
                "source": "a.parquet",
                "dropped": {},
                "rows": [0, 3],
                "last": True,
                "written": 3,
                "bytes": len(shard),
                "sha256": sha256(shard),
            }
        ],
    }
    assert (out / "manifest.json").read_text() == json.dumps(manifest, indent=1)
    with safe_open(out / "features-00000-00000.safetensors", "pt") as file:
        assert file.metadata() == {"rows": '[[0, "id0"], [1, "id1"], [2, "id2"]]'}
        assert file.get_tensor("causal_embeddings").shape == (3, 2, 32, 24)
        assert file.get_tensor("target_embeddings").shape == (3, 6, 20)
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}
