"""The layout of the released SEED-LLaMA 8B with dummy weights, converted in under 3 GB of memory (14 GB of disk)."""

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM


LAYOUT = Path(__file__).parents[1] / "golden" / "seed_llama" / "layout"
SIZES = {
    "vocab_size": 40194,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
}
CONVERT = """
import sys
from pathlib import Path
from seed_hf.conversion import SeedLlamaConversion
conversion = SeedLlamaConversion(Path("released"), Path("tokenizer"), Path("converted"), dtype="bfloat16")
conversion.write()
print(conversion.report.parameters)
"""


@pytest.mark.soak
def test_the_8b_layout_stays_within_3_gigabytes(tmp_path):
    released, tokenizer = tmp_path / "released", tmp_path / "tokenizer"
    released.mkdir()
    config = LlamaConfig(**SIZES)
    config.save_pretrained(released)
    with torch.device("meta"):
        shapes = {name: weight.shape for name, weight in LlamaForCausalLM(config).state_dict().items()}
    names, weight_map = list(shapes), {}
    for number in range(3):
        file, part = f"pytorch_model-{number + 1:05d}-of-00003.bin", names[number::3]
        # One stored value for each tensor: what is written is of full size.
        torch.save({name: torch.full((1,), 0.01).expand(shapes[name]) for name in part}, released / file)
        weight_map.update(dict.fromkeys(part, file))
    (released / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    # The pieces that the small tokenizer of the golden set lacks.
    tokenizer.mkdir()
    shutil.copyfile(LAYOUT / "tokenizer.model", tokenizer / "tokenizer.model")
    pieces = 32000 - 1000
    added = {f"piece {number}": 1000 + number for number in range(pieces)}
    added |= {f"<img_{code:05d}>": 32000 + code for code in range(8192)} | {"<img>": 40192, "</img>": 40193}
    (tokenizer / "added_tokens.json").write_text(json.dumps(added))
    done = subprocess.run([sys.executable, "-c", CONVERT], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "6805540864"
    stored = sum(file.stat().st_size for file in (tmp_path / "converted").glob("*.safetensors"))
    assert 2 * 6805540864 < stored < 2 * 6805540864 + 10**6
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 3 * 2**20  # kilobytes
    shutil.rmtree(tmp_path / "converted")
