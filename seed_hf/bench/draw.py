"""`seed-hf bench draw`: codes and prompts to images, against fifty steps image by image."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler, LCMScheduler
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer

from seed_hf.artifacts.loading import load_pipeline
from seed_hf.modeling.static_step_seed import drop_steps
from seed_hf.pipelines.empty_prompt import EmptyPromptEmbedding
from seed_hf.pipelines.pipeline_seed_image import SeedImagePipeline

from .frame import Bench, Way
from .full_size import UNETS, on_device, opt_2_7b, unet, vae, visual_tokenizer
from .limits import bytes_of, flops_of


MODELS = ("tiny", *UNETS)
PROMPT = 16  # tokens


@dataclass(frozen=True)
class Steps:
    """How often the UNet runs.

    Args:
        before: Of the way that all others are compared with.
        solver: Of DPM-Solver++.
        few: Of a UNet that was distilled for few steps, with LCM's scheduler and without guidance. The UNets here were
            not: the time is that of one that was.
    """

    before: int = 50
    solver: int = 20
    few: int = 4


def measure(
    *,
    model: str = "tiny",
    side: int | None = None,
    batches: Sequence[int] = (1, 8),
    many: int = 32,
    steps: Steps = Steps(),
    prompts: bool = False,
    layers: int | None = None,
    compiled: bool = False,
    device: str | None = None,
    dtype: str | None = None,
    rounds: int = 5,
    seconds: float = 0.2,
    threads: int | None = None,
) -> dict:
    """Measure drawing.

    Args:
        model: Of `MODELS`: seed-tiny, or a UNet and a VAE of full size with random weights.
        side: Height and width in pixels; by default the model's own.
        batches: Batch sizes, a case each.
        many: Images of a call for the comparison of memory; 0 leaves it out.
        steps: Of the ways.
        prompts: Also from prompts; at full size by OPT-2.7B.
        layers: Blocks of OPT-2.7B; all by default.
        compiled: Also with blocks that torch compiles.
        device, dtype, rounds, seconds: Of [`Bench`].
        threads: Of torch.

    Returns:
        A report for JSON.
    """
    bench = Bench(
        "draw", device, dtype, rounds, seconds, threads, model=model, side=side, steps=vars(steps), compiled=compiled
    )
    if model == "tiny":
        pipe = load_pipeline(None, device=str(bench.device), dtype=bench.dtype)
    else:
        pipe = full_size_pipeline(model, bench.device, bench.dtype)
    pipes = Pipes(pipe, side, steps, bench, compiled)
    add_cases(bench, pipes, batches, many, Writer(pipes, layers, bench) if prompts else None)
    return bench.report


def add_cases(bench: Bench, pipes: "Pipes", batches: Sequence[int], many: int, writer: "Writer | None") -> None:
    """Measures the cases of a pipeline.

    Args:
        bench: Gets them.
        pipes: What draws.
        batches, many: Of `measure`.
        writer: Makes codes of prompts; `None` leaves prompts out.
    """
    for batch in batches:
        bench.case(f"codes to images, batch {batch}", partial(pipes.ways, batch))
    if writer is not None:
        for batch in batches:
            bench.case(f"prompts to images, batch {batch}", partial(writer.ways, batch))
    if many:
        bench.case(f"{many} images, 2 steps", partial(pipes.memory_ways, many))


class Pipes:
    """Pipelines that draw the same in different ways.

    Args:
        pipe: Draws from codes.
        side, steps: Of `measure`.
        bench: Where and in which number type.
        compiled: Whether there is one whose blocks are compiled.
    """

    def __init__(self, pipe: SeedImagePipeline, side: int | None, steps: Steps, bench: Bench, compiled: bool):
        self.bench, self.steps, self.side, self.plain = bench, steps, side, pipe
        self.plain.set_progress_bar_config(disable=True)
        self.codebook_size = self.plain.visual_tokenizer.config.codebook_size
        self.last = self._channels_last(self.plain)
        self.fast = self._like(self.last, self.last.unet)
        self.fast.enable_cuda_graphs()
        self.compiled = None
        if compiled:
            blocks = copy.deepcopy(self.last.unet)
            blocks.compile_repeated_blocks(fullgraph=True)
            self.compiled = self._like(self.last, blocks)
            self.compiled.enable_cuda_graphs()

    def draw(self, pipe: SeedImagePipeline, codes: torch.Tensor, steps: int, **options: Any) -> Any:
        """Images of codes, always from the same noise.

        Args:
            pipe: One of the pipelines.
            codes: `(rows, num_query_tokens)`.
            steps: Of the denoising.
            options: Of the call.
        """
        size: dict[str, Any] = {} if self.side is None else {"height": self.side, "width": self.side}
        noise = torch.Generator(self.bench.device).manual_seed(0)
        return pipe(codes=codes, num_inference_steps=steps, generator=noise, **size, **options).images

    def ways(self, batch: int) -> dict[str, Way]:
        """From codes to images, in the order of what each adds.

        Args:
            batch: Images at once.
        """
        codes, steps = self.codes(batch), self.steps
        before = self._like(self.plain, self.plain.unet, DDIMScheduler)
        few = self._like(self.fast, self.fast.unet, LCMScheduler)
        few.captured_unet = self.fast.captured_unet
        unet_flops, vae_flops = self.flops()

        def way(pipe: SeedImagePipeline, count: int, rows: torch.Tensor = codes, guided: bool = True) -> Way:
            options = {} if guided else {"guidance_scale": 1.0}
            flops = len(rows) * (count * (2 if guided else 1) * unet_flops + vae_flops)
            moved = count * bytes_of(pipe.unet) + bytes_of(pipe.vae.decoder)
            return Way(partial(self.draw, pipe, rows, count, **options), len(rows), flops, moved)

        found = {
            f"{steps.before} steps, one by one": way(before, steps.before, codes[:1]),
            f"{steps.solver} steps": way(self.plain, steps.solver),
            "the same, channels-last": way(self.last, steps.solver),
            "the same, captured": way(self.fast, steps.solver),
        }
        if self.compiled is not None:
            found["the same, blocks compiled"] = way(self.compiled, steps.solver)
        found[f"{steps.few} steps, no guidance, captured"] = way(few, steps.few, guided=False)
        return found

    def memory_ways(self, images: int) -> dict[str, Way]:
        """Many images in one call, all at once and in parts.

        Args:
            images: How many.
        """
        codes = self.codes(images)
        return {
            "all at once": Way(partial(self.draw, self.last, codes, 2), images),
            "batch_size=4": Way(partial(self.draw, self.last, codes, 2, batch_size=4), images),
        }

    def codes(self, rows: int) -> torch.Tensor:
        """Random codes.

        Args:
            rows: How many.
        """
        generator = torch.Generator().manual_seed(0)
        return torch.randint(self.codebook_size, (rows, 32), generator=generator).to(self.bench.device)

    def flops(self) -> tuple[int, int]:
        """Operations of one pass of the UNet and of the VAE's decoder, for one image."""
        pipe, config = self.plain, self.plain.unet.config
        side = (self.side or pipe.vae_scale_factor * config.sample_size) // pipe.vae_scale_factor
        condition, width = pipe.visual_tokenizer.config, config.cross_attention_dim
        with torch.device("meta"):
            bare, decoder = type(pipe.unet).from_config(config), type(pipe.vae).from_config(pipe.vae.config)
            latents = torch.empty(1, config.in_channels, side, side)
            tokens = 77 if pipe.is_unclip else condition.num_generation_tokens
            given = {"encoder_hidden_states": torch.empty(1, tokens, width)}
            if pipe.is_unclip:
                given["class_labels"] = torch.empty(1, config.projection_class_embeddings_input_dim)
            time = torch.zeros(1)
        with torch.no_grad():
            return flops_of(lambda: bare(latents, time, **given)), flops_of(lambda: decoder.decode(latents))

    def _like(self, pipe: SeedImagePipeline, drawer: Any, scheduler: Any = None) -> SeedImagePipeline:
        """A pipeline of the same parts with a scheduler of its own."""
        scheduler = (scheduler or type(pipe.scheduler)).from_config(pipe.scheduler.config)
        other = copy.copy(pipe)
        other.__dict__ = dict(pipe.__dict__, captured_unet=None, unet=drawer, scheduler=scheduler)
        return other

    def _channels_last(self, pipe: SeedImagePipeline) -> SeedImagePipeline:
        other = self._like(pipe, copy.deepcopy(pipe.unet).to(memory_format=torch.channels_last))
        other.vae = copy.deepcopy(pipe.vae).to(memory_format=torch.channels_last)
        return other


class Writer:
    """Codes of prompts, for the ways from prompts to images.

    Args:
        pipes: What draws them.
        layers: Blocks of OPT-2.7B.
        bench: Where and in which number type.
    """

    def __init__(self, pipes: Pipes, layers: int | None, bench: Bench):
        self.pipes = pipes
        model = pipes.plain.seed_model
        small = getattr(model, "language_model", None)
        self.options: dict[str, Any] = {"generation_mode": "image", "do_sample": False, "eos_token_id": 2}
        self.lm = small or opt_2_7b(bench.device, bench.dtype, **({"layers": layers} if layers else {}))
        if small is not None:
            small.generation_config = model.generation_config

    def codes(self, rows: int, **options: Any) -> torch.Tensor:
        """Codes of random prompts.

        Args:
            rows: How many prompts.
            options: Of `generate`.
        """
        config = self.lm.config
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(5, min(1000, config.text_vocab_size), (rows, PROMPT), generator=generator).to(
            self.lm.device
        )
        ids[:, 0] = config.bos_token_id or 0
        written = self.lm.generate(ids, attention_mask=torch.ones_like(ids), **self.options, **options)
        written = getattr(written, "sequences", written)
        codes = written[:, PROMPT + 1 : PROMPT + 1 + config.num_query_tokens] - config.visual_token_offset
        return codes.clamp(max=self.pipes.codebook_size - 1)

    def ways(self, batch: int) -> dict[str, Way]:
        """From prompts to images.

        Args:
            batch: Prompts at once.
        """
        pipes, steps = self.pipes, self.pipes.steps
        ways = pipes.ways(batch)
        drop_steps(self.lm)

        def after(way: Way, rows: int, **options: Any) -> Way:
            draw: Callable[..., Any] = way.run

            def run():
                codes = self.codes(rows, **options)
                return draw.func(draw.args[0], codes, *draw.args[2:], **draw.keywords)  # type: ignore[attr-defined]

            return Way(run, rows, way.flops, way.moved)

        before, *_, few = ways
        best = "the same, blocks compiled" if pipes.compiled is not None else "the same, captured"
        return {
            # A dictionary is returned by transformers' own loop alone.
            f"{before}, transformers' loop": after(ways[before], 1, return_dict_in_generate=True),
            f"{steps.solver} steps, captured": after(ways[best], batch),
            few: after(ways[few], batch),
        }


def full_size_pipeline(model: str, device: torch.device, dtype: torch.dtype, **settings: Any) -> SeedImagePipeline:
    """A pipeline of full size with random weights. Its tokenizer only draws: its ViT has one block.

    Args:
        model: `"sd-1.5"` or `"unclip"`.
        device: Where.
        dtype: Of the weights.
        settings: Of the UNet's configuration, fewer blocks for example.
    """
    drawer = unet(model, device, dtype, **settings)
    unclip = model == "unclip"
    target = {"generation_target": "image", "generation_head": "mlp"} if unclip else {}
    tokenizer = visual_tokenizer(device, dtype, layers=1, **target)
    empty = on_device(lambda: EmptyPromptEmbedding(77, drawer.config.cross_attention_dim), device, dtype)
    parts: dict[str, Any] = {}
    if unclip:
        parts["image_normalizer"] = on_device(lambda: StableUnCLIPImageNormalizer(1024), device, dtype)
        parts["image_noising_scheduler"] = DDPMScheduler()
    return SeedImagePipeline(tokenizer, drawer, vae(device, dtype), empty_prompt=empty, **parts)
