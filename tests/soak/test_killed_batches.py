"""`see --out`, `ask --questions` and `draw --prompts`, killed at any moment: the result of an unbroken run.

`tests/cli/test_cli_many.py` interrupts each of them once.
"""

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batch_jobs
from jobs import in_a_process, killed
from tiny_sources import damaged_rows


pytestmark = pytest.mark.soak


def everything(path) -> dict[str, bytes]:
    files = (file for file in sorted(path.rglob("*")) if file.is_file() and ".job" not in file.parts)
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


@pytest.mark.parametrize("name", ["describe", "ask", "draw"])
@pytest.mark.parametrize("seed", range(6))
def test_killed_at_any_moment(tmp_path, name, seed):
    made, _ = damaged_rows(24, every=6)
    texts = [f"apple {number}" if number % 7 else "" for number in range(24)]
    source = tmp_path / "source.parquet"
    table = {"image": [row["image"] for row in made], "question": texts, "prompt": texts}
    pq.write_table(pa.table(table), source)
    job, rng = getattr(batch_jobs, name), random.Random(seed)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    in_a_process(job, source, whole / "out").join()
    # `OUT.job`; of drawings inside of the folder OUT
    shards = broken / "out" / "drawings.jsonl.job" if name == "draw" else broken / "out.job"
    hit = 0
    for count in range(6):  # of six shards
        process = in_a_process(job, source, broken / "out")
        hit += killed(process, shards, "part-*.rows.jsonl", count, delay=rng.uniform(0, 0.3))
    last = in_a_process(job, source, broken / "out")
    last.join()
    assert last.exitcode == 0 and hit > 2
    assert everything(broken) == everything(whole)
