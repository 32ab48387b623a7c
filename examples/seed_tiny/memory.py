"""The memory beside the Reverse Q-Former learns what the language model's codes look like, by plain regression.

The first 16 of what it adds to the generation embeddings are to hold the 4 x 4 patches of the latents, each in 64
directions of the embedding's 192: a UNet learns within minutes to read them there. Everything else stays as it is.
"""

import logging

import torch
from torch.nn import functional as F

from diffusion import training_latents
from lessons import Lessons
from loop import autocast, device, stage_arguments, train
from seed_hf.modeling.configuration_seed import SeedTokenizerConfig
from seed_hf.modeling.modeling_seed_decoders import SeedCodeMemory
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.modeling.whole_weights_seed import new_weights


STEPS, BATCH, RATE = 20_000, 512, 1e-3
DIM = 1152
PATCHES = 16


def patches(latents: torch.Tensor) -> torch.Tensor:
    """Latents `(rows, 16, 8, 8)` as `(rows, 16 patches, 64)`."""
    squares = latents.unflatten(3, (4, 2)).unflatten(2, (4, 2))
    return squares.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2).contiguous()


@torch.no_grad()
def prepare(memory: SeedCodeMemory, vectors: torch.Tensor) -> None:
    """Let the first layer begin with white inputs, and the projection with directions at right angles.

    Code vectors have most of their variance in a few directions. Not whitened, the same MLP takes five times as many
    steps.
    """
    first = memory.layers[0]
    mean = vectors.mean(0)
    values, directions = torch.linalg.eigh((vectors - mean).T @ (vectors - mean) / len(vectors))
    white = directions @ torch.diag((values + 1e-7 * values.max()).rsqrt()) @ directions.T
    first.weight.copy_(torch.randn_like(first.weight) / first.in_features**0.5 @ white)
    first.bias.copy_(-first.weight @ mean)
    memory.projection.copy_(2 * torch.linalg.qr(torch.randn_like(memory.projection.T))[0].T)


def main(argv: list[str] | None = None) -> None:
    arguments = stage_arguments(__doc__, argv, steps=STEPS)
    work, out = arguments.work, arguments.work / "memory"
    if (out / "model").exists():
        return
    folder = work / "quantization" / "model"
    config = SeedTokenizerConfig.from_pretrained(folder)
    config.generation_memory_dim = DIM
    with torch.device("meta"):
        memory_weights = [name for name in SeedTokenizer(config).state_dict() if name.startswith("generation_memory.")]
    torch.manual_seed(0)
    # float16 and back: the memory learns from the code vectors as they will be stored.
    with new_weights(memory_weights):
        visual = SeedTokenizer.from_pretrained(folder, config=config)
    visual = visual.half().float().requires_grad_(False)
    lessons = Lessons(arguments.data, work)
    vectors = visual.quantizer.lookup(lessons.codes.cpu()).flatten(1)
    prepare(visual.generation_memory, vectors)
    vectors, memory = vectors.to(device()), visual.generation_memory.layers.to(device()).requires_grad_(True)
    said = patches(training_latents(arguments.data, work))

    def loss_of(step: int) -> dict[str, torch.Tensor]:
        places, picked = lessons.draw(BATCH)
        first = memory[0](vectors[places])  # in full precision: it takes small differences apart
        with autocast():
            made = memory[1:](first).unflatten(1, (visual.config.num_generation_tokens, -1))
        return {"loss": F.mse_loss(made[:, :PATCHES].float(), said[picked])}

    train(memory, loss_of, out=out, steps=arguments.steps, learning_rate=RATE, weight_decay=0.01, log_every=500)
    visual.cpu().requires_grad_(True).save_pretrained(out / "model")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
