"""What artifacts compute, with the package or without it.

    python remote_child.py FOLDER OUT.safetensors

loads them without: by `trust_remote_code`, with the code that lies beside the weights. FOLDER has the parts
`tokenizer`, `language_model`, `families/`, `model` and `pipeline`, `broken/` with parts that lack a weight, and
`inputs.safetensors`. It runs in any environment that has the libraries.
"""

import sys
from pathlib import Path


if __name__ == "__main__":
    sys.modules["seed_hf"] = None  # whoever imports it fails, installed or not

import torch
from diffusers import DiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMultimodalLM, AutoProcessor, pipeline


@torch.no_grad()
def compute(folder: Path, pipeline_class=DiffusionPipeline, **trust) -> dict[str, torch.Tensor]:
    inputs = load_file(folder / "inputs.safetensors")
    out = {}

    tokenizer = AutoModel.from_pretrained(folder / "tokenizer", **trust)
    out["codes"] = codes = tokenizer.encode(inputs["pixel_values"])
    out["generation_embeddings"] = tokenizer.decode(codes)
    out["image_features"] = tokenizer.get_image_features(codes=codes).pooler_output

    language_model = AutoModelForCausalLM.from_pretrained(folder / "language_model", **trust)
    out["logits"] = language_model(inputs["input_ids"]).logits
    out["hidden_states"] = AutoModel.from_pretrained(folder / "language_model", **trust)(inputs["input_ids"])[0]
    out["opt_logits"] = language_model.to_opt()(inputs["input_ids"]).logits
    for family in sorted(path.name for path in (folder / "families").iterdir()):
        other = AutoModelForCausalLM.from_pretrained(folder / "families" / family, **trust)
        out[f"{family}_logits"] = other(inputs["input_ids"]).logits
        headless = AutoModel.from_pretrained(folder / "families" / family, **trust)
        out[f"{family}_hidden_states"] = headless(inputs["input_ids"]).last_hidden_state
        out[f"{family}_plain_logits"] = other.to_plain()(inputs["input_ids"]).logits
        settings = {"generation_mode": "image", "code_guidance_scale": 2.0, "do_sample": False}
        out[f"{family}_drawn"] = other.generate(inputs["input_ids"], **settings)
        eager = {"sequence_bias": [[[other.config.boi_token_id], 60.0]], "max_new_tokens": 40}
        out[f"{family}_told"] = other.generate(
            inputs["input_ids"], **{**settings, "generation_mode": "interleaved"}, **eager
        )

    model = AutoModelForMultimodalLM.from_pretrained(folder / "model", **trust)
    out["same_logits"] = AutoModel.from_pretrained(folder / "model", **trust)(inputs["input_ids"]).logits
    processor = AutoProcessor.from_pretrained(folder / "model", **trust)
    picture = Image.fromarray(inputs["picture"].numpy())
    asked = processor(text="<image> a photo of", images=picture, return_tensors="pt")
    out["pixel_values"] = asked["pixel_values"]
    out["said"] = model.generate(**asked, generation_mode="text", max_new_tokens=8, do_sample=False)
    out["drawn"] = model.generate(**processor.draw(["a red apple"]), generation_mode="image", do_sample=False)

    seen = pipeline("image-feature-extraction", model=str(folder / "tokenizer"), **trust)
    out["features"] = seen(picture, return_tensors=True)
    asking = pipeline("image-text-to-text", model=str(folder / "model"), **trust)
    greedy = {"max_new_tokens": 8, "do_sample": False}
    turn = {"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": "what is it ?"}]}
    (answer,) = asking(text=[turn], return_full_text=False, generate_kwargs=greedy)
    out["answer"] = torch.tensor(list(answer["generated_text"].encode()))

    settings = {"num_inference_steps": 2, "output_type": "pt"}
    first = pipeline_class.from_pretrained(folder / "pipeline", **trust)
    first.save_pretrained(folder / "saved_again")  # its code goes along, wherever it came from
    again = pipeline_class.from_pretrained(folder / "saved_again", **trust)
    for place, pipe in (("", first), ("_again", again)):
        pipe.set_progress_bar_config(disable=True)
        for name, given in (("prompt", "a red apple"), ("image", picture), ("codes", codes)):
            generator = torch.Generator().manual_seed(0)
            out[f"from_{name}{place}"] = pipe(**{name: given}, generator=generator, **settings).images
    return out


def refused(folder: Path, cls, **trust) -> bool:
    try:
        cls.from_pretrained(folder, **trust)
    except ValueError as error:
        return "Missing (1)" in str(error)
    return False


if __name__ == "__main__":
    torch.set_num_threads(1)  # as the tests
    computed = compute(Path(sys.argv[1]), trust_remote_code=True)
    for place in sorted((Path(sys.argv[1]) / "broken").iterdir()):
        cls = DiffusionPipeline if place.name == "pipeline" else AutoModel
        cls = AutoModelForCausalLM if place.name == "language_model" else cls
        assert refused(place, cls, trust_remote_code=True), f"{place} lacks a weight, and loads"
    save_file({name: tensor.contiguous() for name, tensor in computed.items()}, sys.argv[2])
