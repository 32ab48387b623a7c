"""Code encoder and codebook of which each of the 32 places says something of its own.

The Causal Q-Former is trained through its last embedding alone, so all 32 embeddings of a picture say much the same:
less the mean of their place, their cosines are 0.96. An encoder that reads all places alike then writes one code 32
times, and a picture is left with 10 bits. Here the encoder starts, in closed form, as product quantization: each place
looks at a few directions of its own and has codebook vectors of its own.

Two facts make that possible with the encoder as it is, linear, tanh, linear, the same for every place. The means of
the places are long and nearly orthogonal, so a hidden unit can tell its place from the others and be saturated,
hence silent, at those. And the embeddings differ from their means in a few dozen directions only.
"""

import numpy as np
import torch

from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.training.codebook import kmeans


DIRECTIONS = 48  # the pictures' directions that are quantized at all
PER_PLACE = 3  # how many mixtures of them a place looks at
LOUDEST = 0.5  # standard deviation of the strongest hidden unit, so that tanh is nearly linear
SATURATION = 6.0  # what a unit's input is at the places that are not its own
DISTANCE = 4.0  # between the codebook vectors of two places, in code space
ROWS = 12_000  # embeddings of a place that k-means sees


def caption_directions(content: torch.Tensor, captions: list[str], number: int) -> torch.Tensor:
    """Directions `(width, number)` in which pictures of different captions differ most, against those of the same.

    Fisher's linear discriminants of `content` `(views, rows, width)`; each has the length that gives its projection
    as much variance as it holds of signal, measured in noise.
    """
    width = content.shape[-1]
    names = {name: i for i, name in enumerate(sorted(set(captions)))}
    labels = torch.tensor([names[caption] for caption in captions])
    sums = torch.zeros(len(names), width).index_add_(0, labels, content.mean(0))
    means = sums / torch.bincount(labels)[:, None]
    total, noise = _covariance(content), _covariance(content - means[labels])
    root = torch.linalg.inv(torch.linalg.cholesky(noise + 1e-4 * noise.trace() / width * torch.eye(width)))
    ratios, directions = torch.linalg.eigh(root @ total @ root.T)
    ratios, directions = ratios.flip(0)[:number], (root.T @ directions).flip(1)[:, :number]
    return directions * ((ratios - 1).clamp_min(0.01) / ratios).sqrt()


def _covariance(rows: torch.Tensor) -> torch.Tensor:
    rows = rows.flatten(0, -2)
    return rows.T @ rows / len(rows)


def mixtures(places: int, generator: torch.Generator) -> torch.Tensor:
    """Which mixtures of the directions each place looks at: `(places, DIRECTIONS, PER_PLACE)`, from random
    rotations, so that together they see every direction equally often."""
    turns = -(-places * PER_PLACE // DIRECTIONS)
    rotations = [torch.linalg.qr(torch.randn(DIRECTIONS, DIRECTIONS, generator=generator))[0] for _ in range(turns)]
    chosen = torch.cat(rotations, 1)[:, : places * PER_PLACE]
    return chosen.unflatten(1, (places, PER_PLACE)).transpose(0, 1)


@torch.no_grad()
def give_places_directions(model: SeedTokenizer, causal: np.ndarray, captions: list[str], seed: int = 0) -> None:
    """Set `model.code_encoder` and the codebook from the causal embeddings `(views, rows, places, width)`."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.from_numpy(np.asarray(causal))
    views, rows, places, width = embeddings.shape
    units = 1 + PER_PLACE  # hidden units of a place; the first only says whether this is it
    if places * units > width:
        raise ValueError(f"{places} places need {places * units} hidden units, and there are {width}.")
    means = torch.stack([embeddings[:, :, p].flatten(0, 1).float().mean(0) for p in range(places)])
    content = torch.stack([view.float().mean(1) for view in embeddings]) - means.mean(0)
    # Detectors `(width, places)`: 1 at their place's mean, 0 at the others', and otherwise as quiet as can be.
    quiet = torch.linalg.inv(_covariance(content) + 1e-3 * torch.eye(width)) @ means.T
    detectors = quiet @ torch.linalg.inv(means @ quiet)
    directions = caption_directions(content, captions, DIRECTIONS)
    looks = directions @ mixtures(places, generator)  # (places, width, PER_PLACE)
    looks = looks - detectors @ (means @ looks)  # deaf to which place it is
    strongest = torch.stack([(embeddings[0, :, p].float() @ looks[p]).std(0).max() for p in range(places)])
    looks = looks * (LOUDEST / strongest)[:, None, None]

    first, second = model.code_encoder[0], model.code_encoder[2]
    first.weight.zero_()
    first.bias.zero_()
    second.weight.zero_()
    for place in range(places):
        for k in range(units):
            unit = place * units + k
            first.weight[unit] = -SATURATION * detectors[:, place] + (looks[place, :, k - 1] if k else 0)
            first.bias[unit] = SATURATION
            second.weight[(place + k) % places, unit] = 1.0 if k else DISTANCE
    second.bias.copy_(-second.weight.sum(1))  # a silent unit is at 1

    each = len(model.quantizer.embedding.weight) // places
    centres = []
    for place in range(places):
        some = embeddings[:, :, place].flatten(0, 1)[torch.randperm(views * rows, generator=generator)[:ROWS]]
        centres.append(kmeans(model.code_encoder(some.float()), each, 15, generator))
    model.quantizer.embedding.weight.copy_(torch.cat(centres))
