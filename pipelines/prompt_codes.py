"""From prompts to visual codes: the language model writes them, the text tower picks the best candidate."""

import threading

import torch
from transformers.modeling_utils import PreTrainedModel


_STATE = threading.Lock()  # torch's random state is that of all threads: only one at a time draws from it


def prompt_batches(
    prompts: list[str], generator: torch.Generator | list[torch.Generator] | None
) -> list[tuple[list[str], torch.Generator | list[torch.Generator] | None]]:
    """The prompts whose codes are sampled together, with what fixes them: each on its own, if each has a generator.

    Args:
        prompts: What to draw.
        generator: Of the call; a list has as many for each prompt.

    Raises:
        ValueError: The list cannot be shared out among the prompts.
    """
    if not isinstance(generator, list):
        return [(prompts, generator)]
    if not generator or len(generator) % len(prompts):
        raise ValueError(f"{len(prompts)} prompts need one generator each, got a list of {len(generator)}.")
    return [([prompt], own) for prompt, own in zip(prompts, generator[:: len(generator) // len(prompts)])]


def generate_codes(
    seed_model: PreTrainedModel,
    inputs,
    generator: torch.Generator | list[torch.Generator] | None,
    options: dict,
) -> torch.Tensor:
    """Codes `(rows, num_query_tokens)` that the language model generates for prompts.

    Transformers samples from torch's global state. So that a generator also fixes sampled codes, this step is seeded
    from a copy of it. Generator and global state stay as they were: drawing the same codes, given as `codes=`, starts
    from the same noise.

    Args:
        seed_model: A [`SeedForConditionalGeneration`].
        inputs: Of `SeedProcessor.draw`, on the model's device.
        generator: The generator of the call; of a list, the first one.
        options: Other options of `generate`.
    """
    device = inputs["input_ids"].device
    source = generator[0] if isinstance(generator, list) else generator
    devices = [device] if device.type == "cuda" else []
    with _STATE, torch.random.fork_rng(devices, enabled=source is not None):
        if source is not None:
            copied = torch.Generator(source.device)
            copied.set_state(source.get_state())
            seed = torch.randint(2**62, (1,), generator=copied, device=source.device).item()
            for each in _generators_of(device):
                each.manual_seed(seed)
        ids = seed_model.generate(**inputs, generation_mode="image", **options)
        ids = getattr(ids, "sequences", ids)  # the model's own settings may ask for more
    config = seed_model.config.text_config
    start = inputs["input_ids"].shape[1] + 1  # after the prompt and <img>; image mode makes the span valid
    return ids[:, start : start + config.num_query_tokens] - config.visual_token_offset


def _generators_of(device: torch.device) -> list:
    """What sampling on a device draws from, and no other device's, whose state nobody puts back."""
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        return [torch.default_generator, torch.cuda.default_generators[index]]
    return [torch.default_generator, *([] if device.type == "cpu" else [torch.get_device_module(device)])]


@torch.no_grad()
def nearest_codes(
    visual_tokenizer: PreTrainedModel, processor, codes: torch.Tensor, prompts: list[str]
) -> torch.Tensor:
    """For each prompt, the candidate whose image features are nearest to its text features: `(prompts, ...)`.

    Both features are those of stage I. DALL-E ranked its images with CLIP in the same way; here nothing has to be
    drawn, because codes have image features of their own.

    Args:
        visual_tokenizer: A [`SeedTokenizer`] with its text tower.
        processor: A [`SeedProcessor`].
        codes: `(prompts * candidates, num_query_tokens)`, the candidates of a prompt in consecutive rows.
        prompts: What to draw.
    """
    limit = visual_tokenizer.config.qformer_config.max_position_embeddings
    texts = processor.text_tower(prompts, limit).to(codes.device)
    wanted = visual_tokenizer.get_text_features(texts.input_ids, texts.attention_mask).pooler_output
    found = visual_tokenizer.get_image_features(codes=codes).pooler_output.unflatten(0, (len(prompts), -1))
    best = torch.einsum("pcd,pd->pc", found, wanted).argmax(1)
    return codes.unflatten(0, (len(prompts), -1))[torch.arange(len(prompts), device=codes.device), best]


__all__ = ["generate_codes", "nearest_codes", "prompt_batches"]
