"""`seed-hf bench encode` and the other benchmarks of speed: against another way, and against the floor."""

from typing import Annotated

import typer

from .bench_report import Dtype, Layers, MaybeThreads, Out, Rounds, Size, check_out, check_size, positive_numbers, show
from .shared import Device, comma_separated, plain_errors, quiet_libraries


def encode(
    size: Size = "tiny",
    layers: Layers = None,
    batches: Annotated[str, typer.Option(metavar="SIZES", help="Batch sizes, separated by commas.")] = "1,8,32",
    search_images: Annotated[int, typer.Option(help="Whose codes the search by itself finds.", min=1)] = 1024,
    compiled: Annotated[
        str,
        typer.Option("--compile", help="Also compiled by torch.compile: blocks, whole, graphs (CUDA), all or none."),
    ] = "none",
    device: Device = None,
    dtype: Dtype = None,
    rounds: Rounds = 5,
    threads: MaybeThreads = None,
    out: Out = None,
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

        report = benchmark.measure(
            size=size,
            layers=layers,
            batches=sizes,
            search_images=search_images,
            compiled=compiled,
            device=device,
            dtype=dtype,
            rounds=rounds,
            threads=threads,
        )
    show(table, report, out)


def startup(
    rounds: Rounds = 5,
    cases: Annotated[str, typer.Option(help="see, draw, light; separated by commas.")] = "see,draw,light",
    against: Annotated[
        str | None,
        typer.Option(
            metavar="PYTHON", help="A Python with another version of seed_hf, started in turn with this one."
        ),
    ] = None,
    out: Out = None,
):
    """Whole commands against the bare imports of the classes that they use, in CPU seconds."""
    with plain_errors():
        check_out(out)
        from seed_hf.bench import startup as benchmark

        report = benchmark.measure(rounds=rounds, cases=comma_separated(cases) or (), against=against)
    show(benchmark.table, report, out)
