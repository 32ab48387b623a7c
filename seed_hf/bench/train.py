"""`seed-hf bench train`: optimizer steps of the three stages, and packed against padded sequences.

A step is forward, backward, clipping and update, by the stage's own trainer. Making batches is not timed. The share of
the limit is what is called model FLOPs utilisation, with the operations counted as they are computed: LoRA computes no
gradients of frozen weights.
"""

import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer

from seed_hf.artifacts.bundled import bundled
from seed_hf.data.batches.language_model import LanguageModelCollator
from seed_hf.modeling.configuration_seed import SeedConfig
from seed_hf.modeling.modeling_seed_text import SeedForCausalLM
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.training import (
    ContrastiveConfig,
    ContrastiveTrainer,
    LanguageModelConfig,
    LanguageModelTrainer,
    QuantizationConfig,
    QuantizationTrainer,
)
from seed_hf.training.precision import widen_trained

from .frame import Bench, Way
from .full_size import opt_2_7b, visual_tokenizer
from .limits import flops_of
from .packing import AUTHORS_LENGTH, draw_rows, pad_to, read_captions


STAGES = ("language-model", "stage-1", "stage-2")
# Packed sequences hold so many times the samples of padded ones in about the same number of tokens.
PACKED_SAMPLES = 4


class Steps:
    """Optimizer steps of a trainer, as `Trainer.train` does them.

    Args:
        trainer: A trainer of one of the stages.
        compiled: The blocks that are compiled.
    """

    def __init__(self, trainer: Any, compiled: Iterable[torch.nn.Module] = ()):
        self.trainer, self.device = trainer, trainer.args.device
        for block in compiled:
            block.compile(dynamic=True)
        widen_trained(trainer.model, trainer.accelerator.mixed_precision)
        trainer.create_optimizer()
        # Adds autocast, where the arguments ask for it.
        self.model = trainer.accelerator.prepare_model(trainer.model)
        self.model.train()
        self.trained = [weight for weight in trainer.model.parameters() if weight.requires_grad]

    def __call__(self, inputs: dict[str, torch.Tensor]) -> None:
        self._gradients(inputs)
        torch.nn.utils.clip_grad_norm_(self.trained, self.trainer.args.max_grad_norm)
        self.trainer.optimizer.step()
        self.trainer.optimizer.zero_grad()

    def _gradients(self, inputs: dict[str, torch.Tensor]) -> None:
        self.trainer.accelerator.backward(self.trainer.compute_loss(self.model, inputs))

    def way(self, inputs: dict[str, torch.Tensor], items: int, flops: float | None = None) -> Way:
        """The way that does such a step again and again.

        Args:
            inputs: A batch.
            items: That are in it.
            flops: Of a step; counted by default.
        """
        inputs = {name: value.to(self.device) for name, value in inputs.items() if isinstance(value, torch.Tensor)}
        if flops is None:
            flops = flops_of(partial(self._gradients, inputs), fused=self.device.type == "cuda")
            self.trainer.optimizer.zero_grad()
        return Way(partial(self, inputs), items, flops)


def measure(
    *,
    size: str = "tiny",
    layers: int | None = None,
    stages: Iterable[str] = STAGES,
    samples: int = 16,
    batches: Iterable[int] = (16, 32),
    pack_length: int | None = None,
    compiled: bool = False,
    device: str | None = None,
    rounds: int = 3,
    threads: int | None = None,
) -> dict:
    """Measure training. On a GPU it is in bf16: autocast, and the frozen weights of the language model.

    Args:
        size: `"tiny"` is seed-tiny; `"full"` OPT-2.7B and ViT-g, with random weights.
        layers: Blocks of the full-size models; all by default.
        stages: Of `STAGES`.
        samples: Captions with their codes of a step of the language-model stage, padded; packed there are four times
            as many.
        batches: Images of a step in stage I and II.
        pack_length: Tokens of a packed sequence; 192 for seed-tiny and 1024 at full size by default.
        compiled: Also with compiled blocks of the language model.
        device, rounds: Of [`Bench`].
        threads: Of torch.

    Returns:
        A report for JSON.

    Raises:
        ValueError: Another GPU than the first, which is the one that a trainer takes.
    """
    if (number := (device or "").partition(":")[2]) not in ("", "0"):
        raise ValueError(f"A training is on the first GPU: set CUDA_VISIBLE_DEVICES={number}, and leave out --device.")
    bench = Bench("train", device, None, rounds, 0.0, threads, size=size, layers=layers, pack_length=pack_length)
    pack_length = pack_length or (192 if size == "tiny" else 1024)
    with tempfile.TemporaryDirectory() as folder:
        for stage in stages:
            if stage == "language-model":
                for lora in (True, False):
                    ways = partial(
                        _language_model, bench, size, layers, pack_length, samples, lora, compiled and lora, folder
                    )
                    bench.case(f"language-model stage, {'LoRA' if lora else 'all weights'}", ways, unit="samples")
            else:
                bench.case(stage, partial(_tokenizer_stage, bench, size, layers, stage, list(batches), folder))
    return bench.report


def _arguments(bench: Bench, folder: str) -> dict[str, Any]:
    gpu = bench.device.type == "cuda"
    return {"output_dir": folder, "report_to": "none", "use_cpu": bench.device.type == "cpu", "bf16": gpu,
            "save_strategy": "no", "disable_tqdm": True}  # fmt: skip


def _language_model(bench, size, layers, pack_length, samples, lora, compiled, folder) -> dict[str, Way]:
    tokenizer = AutoTokenizer.from_pretrained(bundled("seed-tiny", "model"), trust_remote_code=False)

    def model() -> SeedForCausalLM:
        if size == "full":
            found = opt_2_7b(bench.device, bench.dtype, **({"layers": layers} if layers else {}))
        else:
            config = SeedConfig.from_pretrained(bundled("seed-tiny", "model")).text_config
            found = SeedForCausalLM(config).to(bench.device, bench.dtype)
        return found.requires_grad_(not lora)

    def steps(compiled: bool = False) -> Steps:
        arguments = LanguageModelConfig(**_arguments(bench, folder), **({} if lora else {"lora_r": 0}))
        language_model = model()
        trainer = LanguageModelTrainer(language_model, arguments, data_collator=padded)
        return Steps(trainer, language_model.model.decoder.layers if compiled else ())

    config = SeedConfig.from_pretrained(bundled("seed-tiny", "model")).text_config
    if size == "full":
        config = opt_2_7b("meta", torch.float32, layers=1).config
    max_length = min(pack_length, config.max_position_embeddings)
    padded = LanguageModelCollator(tokenizer, config, max_length=max_length)
    packed = LanguageModelCollator(tokenizer, config, max_length=max_length, pack_length=pack_length)
    many = PACKED_SAMPLES * samples
    captions = np.array(read_captions(None))
    rows = draw_rows(many, captions, 0.0, config, seed=0)
    longest = padded(rows[:samples])
    first = steps()
    whole = first.way(packed(rows), many)
    ways = {
        f"padded to {AUTHORS_LENGTH}": first.way(pad_to(longest, AUTHORS_LENGTH), samples),
        "padded to the longest": first.way(longest, samples),
        f"packed to {pack_length}": whole,
    }
    if compiled:
        ways[f"packed to {pack_length}, blocks compiled"] = steps(True).way(packed(rows), many, whole.flops)
    return ways


def _tokenizer_stage(bench, size, layers, stage, batches, folder) -> dict[str, Way]:
    if size == "full":
        tokenizer = visual_tokenizer(
            bench.device, torch.float32, text_tower=True, **({"layers": layers} if layers else {})
        )
    else:
        tokenizer = SeedTokenizer.from_pretrained(bundled("seed-tiny", "tokenizer")).to(bench.device)
    tokenizer.requires_grad_(True)
    config = tokenizer.config
    trainers: dict[str, Callable[[], Any]] = {
        "stage-1": lambda: ContrastiveTrainer(tokenizer, ContrastiveConfig(**_arguments(bench, folder))),
        "stage-2": lambda: QuantizationTrainer(tokenizer, QuantizationConfig(**_arguments(bench, folder))),
    }
    steps = Steps(trainers[stage]())
    target = (config.num_generation_tokens, config.generation_dim)

    def batch(images: int) -> dict[str, torch.Tensor]:
        side = config.vision_config.image_size
        inputs = {"pixel_values": torch.randn(images, 3, side, side, device=bench.device)}
        if stage == "stage-2":
            return inputs | {"target_embeddings": torch.randn(images, *target, device=bench.device)}
        ids = torch.randint(5, 500, (images, config.num_query_tokens), device=bench.device)
        return inputs | {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    return {f"batch {images}": steps.way(batch(images), images) for images in batches}
