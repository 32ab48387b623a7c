"""The stage `features` of `examples/seed_tiny`: what the ViT has seen is kept, whole, and belongs to that ViT."""

from pathlib import Path

import numpy as np
import pytest
import torch

from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.pictograms.scene_things import read_things
from tiny import tiny_tokenizer_config
from tiny_scenes import write_art


def vit(seed: int):
    torch.manual_seed(seed)
    return SeedTokenizer(tiny_tokenizer_config()).eval().vision_model


@pytest.fixture
def features(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples" / "seed_tiny"))
    import features

    monkeypatch.setattr(features, "BATCH", 2)
    monkeypatch.setattr(features, "SHARD", 4)
    return features


def test_a_longer_run_goes_on_and_another_vit_begins_anew(features, tmp_path):
    data, folder, eyes = tmp_path / "data", tmp_path / "train", vit(0)
    write_art(data, read_things(), side=24)

    def see(number, eyes=eyes):
        features.see(eyes, data, lambda start, count: features.scenes("language", start, count), number, folder)
        return features.Shards(folder)

    short = np.stack([see(6)[row] for row in range(6)])
    longer = see(10)
    assert [len(shard) for shard in longer.shards] == [4, 4, 2]
    # The half of a shard that was there has been computed again, the same.
    assert np.array_equal(np.stack([longer[row] for row in range(6)]), short)
    with pytest.raises(SystemExit, match="another ViT"):
        see(10, vit(1))
    (folder / "00000.npy").write_bytes((folder / "00002.npy").read_bytes())
    with pytest.raises(ValueError, match="not whole"):
        features.Shards(folder)
