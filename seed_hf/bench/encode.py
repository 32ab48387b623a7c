"""`seed-hf bench encode`: images to codes, by batch size, against the authors' way; the codebook search by itself."""

import copy
from collections.abc import Callable, Sequence
from functools import partial

import torch

from seed_hf.artifacts.bundled import bundled
from seed_hf.data.jobs.pixel_values import normalisation_table, normalise
from seed_hf.modeling.configuration_seed import SeedTokenizerConfig
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
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
    compiled: str = "none",
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
        compiled: Also the compiled model: `"blocks"`, `"whole"`, `"graphs"` (CUDA graphs), `"all"` or `"none"`.
        search_images: Images whose codes the search by itself finds.
        device, dtype, rounds: Of [`Bench`].
        threads: Of torch.

    Returns:
        A report for JSON.
    """
    bench = Bench("encode", device, dtype, rounds, threads=threads, size=size, layers=layers, compiled=compiled)
    tokenizer = _tokenizer(size, layers, bench)
    side = tokenizer.config.vision_config.image_size
    ways = _ways(tokenizer, compiled)
    flops = encoding_flops(tokenizer.config)
    weights = bytes_of(*(getattr(tokenizer, name) for name in tokenizer.PARTS["seeing"]))

    def of_batch(batch: int) -> dict[str, Way]:
        pixels = torch.randn(batch, 3, side, side, device=bench.device)
        moved = weights + pixels.nbytes
        return {name: Way(partial(run, pixels), batch, flops * batch, moved) for name, run in ways.items()}

    for batch in batches:
        bench.case(f"batch {batch}", partial(of_batch, batch), same=equal_share)
    bench.case(
        f"search, {search_images} images", partial(search, tokenizer.quantizer, search_images), same=equal_share
    )
    bench.case(
        f"from the host, batch {batches[-1]}", partial(_from_the_host, tokenizer, batches[-1]), same=equal_share
    )
    return bench.report


def _ways(tokenizer: SeedTokenizer, compiled: str) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """From the authors' way to ours, a switch each."""
    eager, last = copy.deepcopy(tokenizer), copy.deepcopy(tokenizer).to(memory_format=torch.channels_last)
    eager.set_attn_implementation("eager")
    ways: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "the authors' way": AuthorsEncoder(tokenizer).encode,
        "encode, attention materialised": eager.encode,
        "encode": tokenizer.encode,
        "encode, not waiting": partial(tokenizer.encode, check_finite=False),
        "encode, channels last": lambda pixels: last.encode(pixels.contiguous(memory_format=torch.channels_last)),
    }
    if compiled in ("blocks", "all"):
        blocks = copy.deepcopy(tokenizer)
        blocks.compile_blocks()
        ways["encode, blocks compiled"] = blocks.encode
    if compiled in ("whole", "all"):
        ways["encode, compiled"] = torch.compile(tokenizer.encode, dynamic=True, fullgraph=True)
    if compiled in ("graphs", "all") and tokenizer.device.type == "cuda":
        graphs = torch.compile(tokenizer.encode, dynamic=False, fullgraph=True, mode="reduce-overhead")
        ways["encode, compiled, CUDA graphs"] = lambda pixels: graphs(pixels).clone()
    return ways


def _from_the_host(tokenizer: SeedTokenizer, batch: int) -> dict[str, Way]:
    """Images in the host's memory to codes in it: pixel values made there, or bytes sent and normalised here."""
    config = tokenizer.config.vision_config
    pixels = torch.randint(0, 256, (batch, 3, config.image_size, config.image_size), dtype=torch.uint8)
    table = normalisation_table(SeedImageProcessor.for_tokenizer(tokenizer.config))
    here = table.to(tokenizer.device)

    def values_sent() -> torch.Tensor:
        return tokenizer.encode(normalise(pixels, table).to(tokenizer.device)).cpu()

    def bytes_sent() -> torch.Tensor:
        return tokenizer.encode(normalise(pixels.to(tokenizer.device), here)).cpu()

    return {"values sent": Way(values_sent, batch), "bytes sent": Way(bytes_sent, batch)}


def search(quantizer: SeedVectorQuantizer, images: int) -> dict[str, Way]:
    """The codebook search against that of the authors, with the whole distance matrix.

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
        return distances.argmin(-1).view(images, 32)

    def in_one_piece() -> torch.Tensor:
        rows, vectors = features.flatten(0, 1), codebook.float()
        return torch.addmm(vectors.pow(2).sum(1) / 2, rows, vectors.T, alpha=-1).min(-1).indices.view(images, 32)

    flops = 2 * images * 32 * size * width
    moved = bytes_of(features, codebook)
    return {
        "whole matrix": Way(whole, images, flops, moved),
        "encode's, in one piece": Way(in_one_piece, images, flops, moved),
        "encode": Way(lambda: quantizer.encode(features), images, flops, moved),
    }


def _tokenizer(size: str, layers: int | None, bench: Bench) -> SeedTokenizer:
    if size == "full":
        return visual_tokenizer(bench.device, bench.dtype, **({"layers": layers} if layers else {}))
    tokenizer = SeedTokenizer.from_pretrained(bundled("seed-tiny", "tokenizer"))
    return tokenizer.to(bench.device, bench.dtype).eval()


def seeing_flops(config: SeedTokenizerConfig) -> int:
    """Operations of one image to its causal embeddings.

    Args:
        config: Of the tokenizer.
    """
    with torch.device("meta"):
        bare = SeedTokenizer(config).eval().requires_grad_(False)
        image = torch.empty(1, 3, config.vision_config.image_size, config.vision_config.image_size)
    # The methods refuse weights on the meta device: they take them for offloaded ones.
    vit = bare.vision_model
    return flops_of(lambda: bare.qformer(bare.query_tokens, encoder_hidden_states=vit(image).last_hidden_state))


def encoding_flops(config: SeedTokenizerConfig) -> int:
    """Operations of one image to its codes.

    Args:
        config: Of the tokenizer.
    """
    hidden, width = config.qformer_config.hidden_size, config.code_dim
    a_query = hidden * hidden + hidden * width + config.codebook_size * width
    return seeing_flops(config) + 2 * config.num_query_tokens * a_query
