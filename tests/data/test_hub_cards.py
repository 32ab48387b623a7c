"""Data sets on the Hub: a card that would hold the library that reads it, and conversations."""

import io
import subprocess
import sys

import pyarrow.parquet as pq

from stand_in_hub import Repository, StandInHub
from tiny_sources import rows, write_parquet
from yaml_bomb import bomb


OPEN = """
import sys
from seed_hf.data.sources.locating import locate_source
for name in sys.argv[1:]:
    try:
        print(len(locate_source(name, "train", None).files), "file")
    except ValueError as error:
        print(error)
"""


def test_a_card_that_grows_is_refused_and_a_sound_one_is_not(tmp_path):
    write_parquet(tmp_path / "train.parquet", rows(2))
    table = (tmp_path / "train.parquet").read_bytes()
    assert pq.read_table(io.BytesIO(table)).num_rows == 2
    cards = {
        "sound": b"---\nlicense: mit\nlast_update: 2026-01-02\n---\n# Data\n",
        "bomb": f"---\n{bomb()}\n---\n".encode(),
    }
    with StandInHub() as hub:
        for name, card in cards.items():
            files = {"README.md": card, "data/train-00000.parquet": table}
            hub.repositories["dataset", f"tester/{name}"] = Repository(private=False, files=files)
        command = [sys.executable, "-c", OPEN, "tester/sound", "tester/bomb"]
        done = subprocess.run(
            command, env=hub.environment(tmp_path / "home"), capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 0, done.stderr
    sound, refused = done.stdout.splitlines()
    assert sound == "1 file" and refused.startswith("tester/bomb: README.md of this data set: line")


READ = """
from seed_hf.data.sources.sequence_rows import sequence_rows
for row in sequence_rows("tester/chats"):
    print(row["messages"][1]["content"][0]["text"])
"""


def test_conversations_in_json_lines(tmp_path):
    chats = b"".join(
        b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "answer %d"}]}\n' % number
        for number in range(2)
    )
    with StandInHub() as hub:
        hub.repositories["dataset", "tester/chats"] = Repository(private=False, files={"data/train.jsonl": chats})
        done = subprocess.run(
            [sys.executable, "-c", READ],
            env=hub.environment(tmp_path / "home"),
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["answer 0", "answer 1"]
