"""What the codes keep: retrieval from embeddings and from codes, and how the codebook is used.

`measure_codes.py --data D --model FOLDER --vocabulary FOLDER` reads a tokenizer that stage II trained. Candidates are
the different full descriptions of the set; an image is right when its own is ranked first.
"""

import argparse
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from seed_hf.codes import distinct, perplexity
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.pictograms.scene_texts import full_description
from vocabulary import encode_texts
from world import normalised_images, scenes


@torch.no_grad()
def measure(model: SeedTokenizer, tokenizer, data: Path, name: str, count: int) -> dict[str, float]:
    found = scenes("measuring", 3 * 10**9, count, name)
    size = model.config.vision_config.image_size
    pixels = normalised_images(found, data, size)
    texts = [full_description(scene) for scene in found]
    candidates = sorted(set(texts))
    ids, mask = encode_texts(tokenizer, candidates)
    said = torch.cat([model.get_text_features(i, m).pooler_output for i, m in zip(ids.split(128), mask.split(128))])
    own = torch.tensor([candidates.index(text) for text in texts])
    causal = torch.cat([model.get_causal_embeddings(part) for part in pixels.split(128)])
    codes = model.quantizer.encode(model.code_encoder(causal))
    content = torch.nn.functional.normalize(causal - causal.mean(0), dim=-1)
    cosines = (content @ content.transpose(1, 2)).pow(2)
    places = causal.shape[1]
    result = {"candidates": len(candidates)}
    for kind, features in (
        ("embeddings", model._project_image(causal)),
        ("codes", torch.cat([model.get_image_features(codes=part).pooler_output for part in codes.split(128)])),
    ):
        ranks = ((features @ said.T) > (features * said[own]).sum(1, keepdim=True) + 1e-6).sum(1)
        result |= {f"{kind} TR@{k}": round((ranks < k).float().mean().item(), 3) for k in (1, 5)}
    counts = torch.bincount(codes.flatten(), minlength=model.config.codebook_size)
    return result | {
        "alike": round(((cosines.sum((1, 2)) - places) / (places * (places - 1))).mean().item(), 3),
        "different codes": round(distinct(codes).float().mean().item(), 1),
        "used": int((counts > 0).sum()),
        "perplexity": round(perplexity(counts).item(), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--vocabulary", type=Path, required=True)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--sets", nargs="+", default=["test", "test_colour", "test_art", "test_style"])
    arguments = parser.parse_args()
    model = SeedTokenizer.from_pretrained(arguments.model).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(arguments.vocabulary)
    for name in arguments.sets:
        print(name, measure(model, tokenizer, arguments.data, name, arguments.count), flush=True)


if __name__ == "__main__":
    main()
