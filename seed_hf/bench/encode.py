"""`seed-hf bench encode`: images to codes, by batch size, against the authors' way; the codebook search by itself."""

from collections.abc import Sequence
from functools import partial

import torch

from seed_hf.artifacts.bundled import bundled
from seed_hf.modeling.configuration_seed import SeedTokenizerConfig
from seed_hf.modeling.modeling_seed_quantizer import SeedVectorQuantizer
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer

from .authors_encoding import AuthorsEncoder
from .frame import Bench, Way, equal_share
from .full_size import visual_tokenizer
from .limits import bytes_of, flops_of


def measure(
    *,
    size: str = "tiny",
    layers: int | None = None,
    batches: Sequence[int] = (1, 8, 32),
    compiled: bool = False,
    search_images: int = 1024,
    device: str | None = None,
    dtype: str | None = None,
    rounds: int = 5,
    threads: int | None = None,
) -> dict:
    """Measure encoding.

    Args:
        size: `"tiny"` is seed-tiny; `"full"` ViT-g and the rest at full size, with random weights.
        layers: Blocks of the ViT at full size; all by default.
        batches: Batch sizes, a case each.
        compiled: Also the compiled model.
        search_images: Images whose codes the search by itself finds.
        device, dtype, rounds: Of [`Bench`].
        threads: Of torch.

    Returns:
        A report for JSON.
    """
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    bench = Bench("encode", device, dtype, rounds, size=size, layers=layers, compiled=compiled)
    tokenizer = _tokenizer(size, layers, bench)
    side = tokenizer.config.vision_config.image_size
    authors = AuthorsEncoder(tokenizer)
    ways = {"the authors' way": authors.encode, "encode": tokenizer.encode}
    if compiled:
        ways["encode, compiled"] = torch.compile(tokenizer.encode, dynamic=True)
    flops = encoding_flops(tokenizer.config)
    weights = bytes_of(*(getattr(tokenizer, name) for name in tokenizer.PARTS["seeing"]))

    def of_batch(batch: int) -> dict[str, Way]:
        pixels = torch.randn(batch, 3, side, side, device=bench.device)
        moved = weights + pixels.nbytes
        return {name: Way(partial(run, pixels), batch, flops * batch, moved) for name, run in ways.items()}

    for batch in batches:
        bench.case(f"batch {batch}", partial(of_batch, batch), same=equal_share)
    bench.case(f"search, {search_images} images", lambda: search(tokenizer.quantizer, search_images), same=equal_share)
    return bench.report


def search(quantizer: SeedVectorQuantizer, images: int) -> dict[str, Way]:
    """The codebook search against that with the whole distance matrix.

    Args:
        quantizer: Of a tokenizer.
        images: Whose features are random, 32 rows each.
    """
    codebook = quantizer.embedding.weight
    size, width = codebook.shape
    features = torch.randn(images, 32, width, device=codebook.device) * codebook.float().std()

    def whole() -> torch.Tensor:
        rows, vectors = features.flatten(0, 1), codebook.float()
        distances = rows.pow(2).sum(1, keepdim=True) + vectors.pow(2).sum(1) - 2 * rows @ vectors.T
        order = torch.arange(size, device=codebook.device)
        nearest = distances.amin(-1, keepdim=True)
        return torch.where(distances == nearest, order, size).amin(-1).view(images, 32)

    flops = 2 * images * 32 * size * width
    moved = bytes_of(features, codebook)
    return {
        "whole matrix": Way(whole, images, flops, moved),
        "encode": Way(lambda: quantizer.encode(features), images, flops, moved),
    }


def _tokenizer(size: str, layers: int | None, bench: Bench) -> SeedTokenizer:
    if size == "full":
        return visual_tokenizer(bench.device, bench.dtype, **({"layers": layers} if layers else {}))
    tokenizer = SeedTokenizer.from_pretrained(bundled("seed-tiny", "tokenizer"))
    return tokenizer.to(bench.device, bench.dtype).eval()


def encoding_flops(config: SeedTokenizerConfig) -> int:
    """Operations of one image to its codes.

    Args:
        config: Of the tokenizer.
    """
    with torch.device("meta"):
        bare = SeedTokenizer(config).eval().requires_grad_(False)
        image = torch.empty(1, 3, config.vision_config.image_size, config.vision_config.image_size)

    def run():
        # `encode` itself refuses weights on the meta device: it takes them for offloaded ones.
        seen = bare.vision_model(image).last_hidden_state
        bare.code_encoder(bare.qformer(bare.query_tokens, encoder_hidden_states=seen).last_hidden_state)

    return flops_of(run) + 2 * config.num_query_tokens * config.codebook_size * config.code_dim
