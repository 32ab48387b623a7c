"""`seed-hf bench encode` and the other benchmarks of speed: against another way, and against the floor."""

from typing import Annotated

import typer

from . import bench_report as options
from .bench_report import check_out, check_size, positive_numbers, show
from .shared import Device, comma_separated, plain_errors, quiet_libraries, show_messages


Batches = Annotated[str, typer.Option(metavar="SIZES", help="Batch sizes, separated by commas.")]


def encode(
    *,
    size: options.Size = "tiny",
    layers: options.Layers = None,
    batches: Batches = "1,8,32",
    search_images: Annotated[int, typer.Option(help="Whose codes the search by itself finds.", min=1)] = 1024,
    compiled: Annotated[
        str,
        typer.Option("--compile", help="Also compiled by torch.compile: blocks, whole, graphs (CUDA), all or none."),
    ] = "none",
    timing: options.Timing,
    out: options.Out = None,
):
    """Images to codes: against the authors' way, and the codebook search against the whole distance matrix."""
    with plain_errors():
        check_out(out)
        check_size(size)
        if compiled not in ("blocks", "whole", "graphs", "all", "none"):
            raise ValueError(f"--compile is blocks, whole, graphs, all or none, got {compiled!r}.")
        sizes = positive_numbers("--batches", batches)
        quiet_libraries()
        from seed_hf.bench import encode as benchmark
        from seed_hf.bench.frame import table

        show_messages()
        report = benchmark.measure(
            size=size, layers=layers, batches=sizes, search_images=search_images, compiled=compiled, **vars(timing)
        )
    show(table, report, out)


def train(
    size: options.Size = "tiny",
    layers: options.Layers = None,
    stages: Annotated[str, typer.Option(help="Separated by commas.")] = "language-model,stage-1,stage-2",
    samples: Annotated[
        int,
        typer.Option(help="Captions of a step of the language-model stage, padded; packed four times as many.", min=1),
    ] = 16,
    batches: Annotated[str, typer.Option(metavar="SIZES", help="Images of a step in stage I and II.")] = "16,32",
    pack_length: Annotated[
        int | None, typer.Option(help="Tokens of a packed sequence. Default: 192 for tiny, 1024 for full.", min=1)
    ] = None,
    compiled: Annotated[bool, typer.Option("--compile", help="Also with compiled blocks.")] = False,
    device: Device = None,
    rounds: options.Rounds = 3,
    threads: options.MaybeThreads = None,
    out: options.Out = None,
):
    """Optimizer steps of each stage, and packed against padded sequences: operations a second beside the limit."""
    with plain_errors():
        check_out(out)
        check_size(size)
        sizes, names = positive_numbers("--batches", batches), comma_separated(stages) or ()
        quiet_libraries(drawing=False)
        from seed_hf.bench import train as benchmark
        from seed_hf.bench.frame import table

        show_messages()
        if unknown := [name for name in names if name not in benchmark.STAGES]:
            raise ValueError(f"--stages takes {', '.join(benchmark.STAGES)}; got {unknown[0]!r}.")
        report = benchmark.measure(
            size=size,
            layers=layers,
            stages=names,
            samples=samples,
            batches=sizes,
            pack_length=pack_length,
            compiled=compiled,
            device=device,
            rounds=rounds,
            threads=threads,
        )
    show(table, report, out)


def tokenize(
    *,
    size: options.Size = "tiny",
    layers: options.Layers = None,
    images: Annotated[int, typer.Option(help="Of the source.", min=1)] = 512,
    side: Annotated[int, typer.Option(help="Of an image, in pixels.", min=8)] = 256,
    workers: Annotated[str, typer.Option(help="Numbers of decoding processes, separated by commas.")] = "0,2",
    batch: Annotated[int, typer.Option(help="Images encoded at once.", min=1)] = 64,
    timing: options.LongTiming,
    out: options.Out = None,
):
    """The job `seed-hf tokenize` over a local source against the encoding alone."""
    with plain_errors():
        check_out(out)
        check_size(size)
        numbers = comma_separated(workers) or ()
        if not all(number.isdecimal() for number in numbers):
            raise ValueError(f"--workers takes numbers, separated by commas; got {workers!r}.")
        quiet_libraries(drawing=False)
        from seed_hf.bench import tokenizing as benchmark
        from seed_hf.bench.frame import table

        show_messages()
        report = benchmark.measure(
            size=size,
            layers=layers,
            images=images,
            side=side,
            workers=[int(number) for number in numbers],
            batch=batch,
            **vars(timing),
        )
    show(table, report, out)


def startup(
    rounds: options.Rounds = 5,
    cases: Annotated[str, typer.Option(help="see, draw, light; separated by commas.")] = "see,draw,light",
    against: Annotated[
        str | None,
        typer.Option(
            metavar="PYTHON", help="A Python with another version of seed_hf, started in turn with this one."
        ),
    ] = None,
    out: options.Out = None,
):
    """Whole commands against the bare imports of the classes that they use, in CPU seconds."""
    with plain_errors():
        check_out(out)
        from seed_hf.bench import startup as benchmark

        report = benchmark.measure(rounds=rounds, cases=comma_separated(cases) or (), against=against)
    show(benchmark.table, report, out)


def language(
    *,
    model: Annotated[str, typer.Option(help="tiny: seed-tiny's. opt-2.7b, llama-7b: with random weights.")] = "tiny",
    layers: options.Layers = None,
    batches: Batches = "1,8",
    lengths: Annotated[
        str, typer.Option(metavar="NUMBERS", help="Tokens of an image that are compared, separated by commas.")
    ] = "32,576,1024,4096",
    compiled: Annotated[bool, typer.Option("--compile", help="Also steps that torch.compile has compiled.")] = False,
    timing: options.Timing,
    out: options.Out = None,
):
    """Prompts to codes and codes to text: against the default loop of transformers, and more tokens an image."""
    with plain_errors():
        check_out(out)
        sizes, tokens = positive_numbers("--batches", batches), positive_numbers("--lengths", lengths)
        quiet_libraries()
        from seed_hf.bench import language as benchmark
        from seed_hf.bench.frame import table

        if model not in benchmark.MODELS:
            raise ValueError(f"--model is one of {', '.join(benchmark.MODELS)}, got {model!r}.")
        report = benchmark.measure(
            model=model, layers=layers, batches=sizes, lengths=tokens, compiled=compiled, **vars(timing)
        )
    show(table, report, out)


def draw(
    *,
    model: Annotated[str, typer.Option(help="tiny: seed-tiny. sd-1.5, unclip: with random weights.")] = "tiny",
    side: Annotated[int | None, typer.Option(help="Height and width in pixels. Default: the model's.", min=8)] = None,
    batches: Batches = "1,8",
    many: Annotated[int, typer.Option(help="Images of a call whose memory is compared; 0: none.", min=0)] = 32,
    steps: Annotated[
        str, typer.Option(metavar="NUMBERS", help="Steps before, of DPM-Solver++, and of a distilled UNet.")
    ] = "50,20,4",
    prompts: Annotated[bool, typer.Option("--prompts", help="Also from prompts, by OPT-2.7B at full size.")] = False,
    layers: options.Layers = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Also with blocks that torch.compile has compiled.")
    ] = False,
    timing: options.Timing,
    out: options.Out = None,
):
    """Codes and prompts to images: against fifty steps image by image."""
    with plain_errors():
        check_out(out)
        sizes, counts = positive_numbers("--batches", batches), positive_numbers("--steps", steps)
        if len(counts) != 3:
            raise ValueError(f"--steps takes three numbers, such as 50,20,4; got {steps!r}.")
        quiet_libraries()
        from seed_hf.bench import draw as benchmark
        from seed_hf.bench.frame import table

        if model not in benchmark.MODELS:
            raise ValueError(f"--model is one of {', '.join(benchmark.MODELS)}, got {model!r}.")
        report = benchmark.measure(
            model=model,
            side=side,
            batches=sizes,
            many=many,
            steps=benchmark.Steps(*counts),
            prompts=prompts,
            layers=layers,
            compiled=compiled,
            **vars(timing),
        )
    show(table, report, out)


def fits(
    sizes: Annotated[str, typer.Option(metavar="GB", help="Memory of GPUs, separated by commas.")] = "16,24",
    out: options.Out = None,
):
    """What of the published sizes fits into a GPU's memory: computed from the numbers of parameters, not measured."""
    with plain_errors():
        check_out(out)
        gpus = positive_numbers("--sizes", sizes)
        quiet_libraries()
        from seed_hf.bench import fits as benchmark

        report = benchmark.measure(sizes=gpus)
    show(benchmark.table, report, out)


def quantized(
    *,
    model: Annotated[str | None, typer.Option(help="Model or pipeline. Default: seed-tiny.")] = None,
    prompts: Annotated[int, typer.Option(help="Written as codes, and captioned, in one batch.", min=1)] = 32,
    timing: options.LongTiming,
    out: options.Out = None,
):
    """A model whose language model has 16, 8 and 4 bits: memory, time, and the codes and captions that change."""
    with plain_errors():
        check_out(out)
        quiet_libraries()
        from seed_hf.bench import quantized as benchmark

        report = benchmark.measure(model=model, prompts=prompts, **vars(timing))
    show(benchmark.table, report, out)
