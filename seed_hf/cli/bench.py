"""`seed-hf bench`: two ways of the same work, measured side by side in one run."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .bench_report import Out, Rounds, Threads, check_out, positive_numbers, show
from .bench_speed import draw, encode, fits, language, quantized, startup, tokenize, train
from .option_groups import expanded
from .shared import plain_errors, show_messages


bench = typer.Typer(help="Measure two ways of the same work side by side in one run.", no_args_is_help=True)
for speed in (encode, language, draw, fits, quantized, train, tokenize, startup):
    bench.command()(expanded(speed))

Captions = Annotated[
    Path | None, typer.Option("--data", help="Parquet file with a column `caption`. Default: random words.")
]


@bench.command("cached-features")
def cached_features(
    full_width: Annotated[
        bool, typer.Option("--full-width", help="Also the full width, with random weights and --blocks of the ViT.")
    ] = False,
    blocks: Annotated[int, typer.Option(help="Of the ViT at full width, out of 39.", min=1)] = 8,
    batch: Annotated[int, typer.Option(help="Batch size of seed-tiny.", min=1)] = 32,
    full_batch: Annotated[int, typer.Option(help="Batch size at full width.", min=1)] = 4,
    rounds: Rounds = 3,
    threads: Threads = 1,
    out: Out = None,
):
    """Stage II on images against stage II on cached features."""
    with plain_errors():
        check_out(out)
        from seed_hf.bench import cached_features as benchmark

        settings: dict[str, Any] = {"blocks": blocks, "batch": batch, "full_batch": full_batch}
        report = benchmark.measure(full_width=full_width, **settings, rounds=rounds, threads=threads)
    show(benchmark.table, report, out)


@bench.command()
def packing(
    data: Captions = None,
    long_share: Annotated[
        float, typer.Option(help="Share of captions that twelve captions in one replace.", min=0, max=1)
    ] = 0.0,
    pack_lengths: Annotated[
        str, typer.Option(metavar="LENGTHS", help="Lengths of packed sequences, separated by commas.")
    ] = "128,180,192,224,256",
    batch_size: Annotated[int, typer.Option(help="Samples of an optimizer step.", min=1)] = 64,
    rounds: Rounds = 5,
    threads: Threads = 2,
    out: Out = None,
):
    """Packed against padded batches in the language-model stage."""
    with plain_errors():
        check_out(out)
        lengths = positive_numbers("--pack-lengths", pack_lengths)
        _check_file(data)
        from seed_hf.bench import packing as benchmark

        settings: dict[str, Any] = {"pack_lengths": lengths, "batch_size": batch_size, "threads": threads}
        report = benchmark.measure(data=data, long_share=long_share, **settings, rounds=rounds)
    show(benchmark.table, report, out)


@bench.command()
def storage(
    data: Captions = None,
    rows: Annotated[int, typer.Option(help="Rows that are stored.", min=1)] = 50_000,
    rounds: Rounds = 3,
    out: Out = None,
):
    """Codes in Parquet against pickles in a tar, and as integers against text."""
    with plain_errors():
        check_out(out)
        _check_file(data)
        from seed_hf.bench import storage as benchmark

        report = benchmark.measure(data=data, rows=rows, rounds=rounds)
    show(benchmark.table, report, out)


@bench.command()
def memory(
    rows: Annotated[int, typer.Option(help="Rows that each job runs through.", min=50)] = 50_000,
    out: Out = None,
):
    """Memory of `tokenize` and of training from a stream, over many rows."""
    with plain_errors():
        check_out(out)
        from seed_hf.bench import memory as benchmark

        report = benchmark.measure(rows=rows)
    show(benchmark.table, report, out)


@bench.command()
def threads(
    busy: Annotated[int, typer.Option(help="Processes that keep a core busy meanwhile.", min=0)] = 2,
    threads: Annotated[int, typer.Option(help="Of the settings with several threads.", min=2)] = 2,
    rounds: Rounds = 3,
    limit: Annotated[float, typer.Option(help="Seconds after which a timing is given up.", min=0.1)] = 15.0,
    out: Out = None,
):
    """One CPU thread against several, by how they wait, beside other work."""
    with plain_errors():
        check_out(out)
        from seed_hf.bench import threads as benchmark

        report = benchmark.measure(busy=busy, threads=threads, rounds=rounds, limit=limit)
    show(benchmark.table, report, out)


@bench.command()
def codebook(
    data: Annotated[Path, typer.Option("--data", help="Folder of the pictograms.")],
    pictures: Annotated[int, typer.Option(help="Number of training images.", min=1)] = 3000,
    steps: Annotated[int, typer.Option(help="Steps of each run.", min=1)] = 150,
    batch_size: Annotated[int, typer.Option(help="Batch size.", min=1)] = 64,
    rate: Annotated[float, typer.Option(help="Learning rate.", min=0)] = 1e-3,
    out: Out = None,
):
    """Remedies for an unused codebook in stage II, on the pictograms."""
    with plain_errors():
        check_out(out)
        from seed_hf.bench import codebook as benchmark

        show_messages()
        report = benchmark.measure(data, images=pictures, steps=steps, batch_size=batch_size, learning_rate=rate)
    show(benchmark.table, report, out)


def _check_file(data: Path | None) -> None:
    if data is None:
        return
    if not data.is_file():
        raise ValueError(f"{data}: no such file. --data takes a Parquet file with a column `caption`.")
    import pyarrow as pa
    import pyarrow.parquet as pq

    from seed_hf.data.sources.parquet import parquet_schema

    schema = parquet_schema(str(data))
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    texts = "caption" in schema.names and any(kind(schema.field("caption").type) for kind in kinds)
    captions = pq.read_table(data, columns=["caption"])["caption"] if texts else None
    if captions is None or not len(captions) or captions.null_count:
        raise ValueError(f"{data}: --data takes a Parquet file whose column `caption` has a text in every row.")
