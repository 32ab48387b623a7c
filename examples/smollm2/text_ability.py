"""How SmolLM2's text suffers from learning images: before, with the new rows, and after training.

    python examples/smollm2/text_ability.py --work runs/smollm2 --out runs/smollm2/text.json

Perplexity on a text that was written for this file, and the greedy answers to a few prompts in SmolLM2's own chat
format. Extending the vocabulary changes nothing, bit by bit; LoRA does. Without the adapter the text is the old one.
"""

import argparse
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from seed_hf import SeedLlamaForCausalLM
from seed_hf.files import write_text


TEXT = """The mill stood where the two streams met, a mile below the village, and nobody had ground corn in it for \
thirty years. Its wheel was gone. The children said that the miller had sold it to a circus, but the older \
people remembered the flood that took it, and the morning after, when they found the paddles in the orchards \
on the far side of the valley. Anna bought the building in spring because it was cheap and because she needed \
a room with a high ceiling for her looms. She mended the roof first, then the stairs, and left the cracked \
millstone where it lay, since no one could lift it. In the evenings she sat on it with a cup of tea and \
listened to the water, and after a while she began to wonder how much of the old machinery was still there, \
under the floor, waiting for somebody to turn it."""
PROMPTS = ("Describe a fire engine.", "What is the capital of France?", "Write one sentence about the sea.")


@torch.inference_mode()
def measured(model, tokenizer) -> dict:
    """Perplexity on `TEXT` and the answers to `PROMPTS`."""
    ids = tokenizer(TEXT, return_tensors="pt").input_ids
    logits = model(ids).logits[0, :-1, : len(tokenizer)].float()
    said = []
    for prompt in PROMPTS:
        chat = [{"role": "user", "content": prompt}]
        inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        mode = {"generation_mode": "text"} if hasattr(model.config, "codebook_size") else {}
        out = model.generate(**inputs, **mode, do_sample=False, max_new_tokens=24)
        said.append(tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())
    loss = torch.nn.functional.cross_entropy(logits, ids[0, 1:])
    return {"perplexity": round(loss.exp().item(), 2), "said": dict(zip(PROMPTS, said)), "logits": logits}


def main(argv: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of smollm2.py")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args(argv)
    work, results, before = arguments.work, {}, None
    tokenizer = AutoTokenizer.from_pretrained(work / "smollm2")
    for name, kind in (
        ("smollm2", AutoModelForCausalLM), ("start", SeedLlamaForCausalLM), ("trained", SeedLlamaForCausalLM)
    ):  # fmt: skip
        results[name] = measured(kind.from_pretrained(work / name).eval(), tokenizer)
        logits = results[name].pop("logits")
        before = logits if before is None else before
        results[name]["largest_difference_of_text_logits"] = (logits - before).abs().max().item()
    written = json.dumps(results, indent=1)
    if arguments.out:
        write_text(arguments.out, written + "\n")
    print(written)
    return results


if __name__ == "__main__":
    main()
