"""An independent judge of images: does an image show what its caption says?

Two small heads join frozen EfficientNet-Lite0 image features and frozen MiniLM caption vectors. They are trained on
the training pictograms alone. The judge shares no weights with the models that it judges, and nothing else uses its
seed. Its own retrieval figures and its verdict on real images show how far to trust it; report them beside every
verdict on drawings.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm.auto import tqdm

from seed_hf.files import whole_file

from .reference_features import ReferenceFeatures
from .reference_models import EFFICIENTNET_DIM, MINILM_DIM
from .retrieval import RetrievalResult, caption_ranks, retrieval_recalls
from .sets import distinct_captions, read_rows


logger = logging.getLogger(__name__)
# No training of a model may use this seed, so that judge and model stay independent.
JUDGE_SEED = 7919
JUDGE_EPOCHS = 25


class JudgeHeads(nn.Module):
    """Two linear heads into a shared space, `(batch, dim)` L2-normalised, and a learned temperature.

    Linear on purpose: heads with a hidden layer rank better (validation R@m near 90 instead of 80), but the floor for
    drawings was set with a judge of this strength.
    """

    def __init__(self, image_dim: int = EFFICIENTNET_DIM, text_dim: int = MINILM_DIM, dim: int = 256):
        super().__init__()
        self.settings = {"image_dim": image_dim, "text_dim": text_dim, "dim": dim}
        self.image_head = nn.Sequential(nn.LayerNorm(image_dim), nn.Linear(image_dim, dim))
        self.text_head = nn.Sequential(nn.LayerNorm(text_dim), nn.Linear(text_dim, dim))
        self.temperature = nn.Parameter(torch.tensor(0.07))

    def embed_images(self, features: torch.Tensor) -> torch.Tensor:
        """Pooled image features `(batch, image_dim)` to unit vectors `(batch, dim)`."""
        return nn.functional.normalize(self.image_head(features.float()), dim=-1)

    def embed_captions(self, vectors: torch.Tensor) -> torch.Tensor:
        """Sentence vectors `(batch, text_dim)` to unit vectors `(batch, dim)`."""
        return nn.functional.normalize(self.text_head(vectors.float()), dim=-1)


def train_heads(
    image_features: torch.Tensor,
    caption_vectors: torch.Tensor,
    caption_of_image: torch.Tensor,
    *,
    seed: int = JUDGE_SEED,
    epochs: int = JUDGE_EPOCHS,
    batch_size: int = 512,
    learning_rate: float = 5e-4,
    dim: int = 256,
) -> JudgeHeads:
    """Train the heads by a symmetric contrastive loss.

    Args:
        image_features: `(images, image_dim)`.
        caption_vectors: `(captions, text_dim)`, one row for each distinct caption.
        caption_of_image: LongTensor `(images,)`, indices into `caption_vectors`.
        seed: Of the weights and the order. The global random state does not change.
        epochs: Passes over the images.
        batch_size: Images of a step.
        learning_rate: The highest of the schedule.
        dim: Width of the shared space.

    Returns:
        The trained heads, frozen and in eval mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heads = JudgeHeads(image_features.shape[1], caption_vectors.shape[1], dim)
        steps = epochs * -(-len(image_features) // batch_size)
        optimizer = torch.optim.AdamW(heads.parameters(), lr=learning_rate, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
        for _ in tqdm(range(epochs), desc="judge", leave=False):
            for picked in torch.randperm(len(image_features)).split(batch_size):
                images = heads.embed_images(image_features[picked])
                texts = heads.embed_captions(caption_vectors[caption_of_image[picked]])
                logits = images @ texts.T / heads.temperature
                # Images with the same caption have the same target logits, so one label each is enough.
                labels = torch.arange(len(picked))
                loss = nn.functional.cross_entropy(logits, labels) + nn.functional.cross_entropy(logits.T, labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                heads.temperature.data.clamp_(0.01, 1.0)
    return heads.eval().requires_grad_(False)


class Judge:
    """Trained heads and the frozen reference models below them.

    Args:
        heads: The trained heads.
        references: The reference models; loaded when first needed by default.
        seed: That the heads were trained with.
        epochs: That the heads were trained for.
    """

    def __init__(
        self,
        heads: JudgeHeads,
        references: ReferenceFeatures | None = None,
        *,
        seed: int = JUDGE_SEED,
        epochs: int = JUDGE_EPOCHS,
    ):
        self.heads = heads
        self.references = references or ReferenceFeatures()
        self.seed = seed
        self.epochs = epochs

    def embed_pictures(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """Images of any size as unit vectors of the judge's space, `(len(pictures), dim)`."""
        return self.heads.embed_images(self.references.pictures(pictures))

    def embed_captions(self, captions: Sequence[str]) -> torch.Tensor:
        """Captions as unit vectors of the judge's space, `(len(captions), dim)`."""
        return self.heads.embed_captions(self.references.captions(captions))

    def save(self, path: str | Path) -> None:
        """Write the heads into a safetensors file."""
        path = Path(path)
        metadata = {"seed": str(self.seed), "epochs": str(self.epochs)}
        metadata |= {name: str(value) for name, value in self.heads.settings.items()}
        with whole_file(path) as temporary:
            save_file(self.heads.state_dict(), temporary, metadata=metadata)

    @classmethod
    def load(cls, path: str | Path, references: ReferenceFeatures | None = None) -> "Judge":
        """Read what [`Judge.save`] wrote."""
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata())
        seed, epochs = int(metadata.pop("seed")), int(metadata.pop("epochs"))
        heads = JudgeHeads(**{name: int(value) for name, value in metadata.items()})
        heads.load_state_dict(load_file(path))
        return cls(heads.eval().requires_grad_(False), references, seed=seed, epochs=epochs)


def judge_pictures(
    judge: Judge, pictures: Sequence[Image.Image], captions: Sequence[str], candidates: Sequence[str] | None = None
) -> float:
    """Share of images, in percent, whose own caption ranks first.

    Args:
        judge: Ranks the candidates.
        pictures: Images of any size, drawn or real.
        captions: What each image should show.
        candidates: The captions to choose from; the distinct ones of `captions` by default. Fewer are easier.

    Raises:
        ValueError: Not one caption per image, no images, or a caption that is not among the candidates.
    """
    if len(pictures) != len(captions) or not captions:
        raise ValueError(f"One caption for each image is needed, got {len(pictures)} and {len(captions)}.")
    distinct, caption_of_image = candidate_index(captions, candidates)
    return first_rank_share(judge.embed_pictures(pictures), judge.embed_captions(distinct), caption_of_image)


def candidate_index(captions: Sequence[str], candidates: Sequence[str] | None) -> tuple[list[str], torch.Tensor]:
    """The distinct candidates, and the index of each caption among them, a LongTensor `(len(captions),)`.

    Args:
        captions: The caption of each image.
        candidates: The captions to choose from; `captions` by default.

    Raises:
        ValueError: A caption is not among the candidates.
    """
    if candidates is None:
        return distinct_captions(captions)
    distinct, _ = distinct_captions(candidates)
    unknown = set(captions) - set(distinct)
    if unknown:
        raise ValueError(f"{len(unknown)} captions are not among the candidates, such as {min(unknown)!r}.")
    position = {caption: i for i, caption in enumerate(distinct)}
    return distinct, torch.tensor([position[caption] for caption in captions])


def first_rank_share(
    image_features: torch.Tensor, text_features: torch.Tensor, caption_of_image: torch.Tensor
) -> float:
    """Share of images, in percent, that rank their own caption first; arguments as in [`caption_ranks`]."""
    ranks = caption_ranks(image_features, text_features, caption_of_image)
    return 100.0 * (ranks == 1).double().mean().item()


def judge_retrieval(judge: Judge, picture_features: torch.Tensor, captions: Sequence[str]) -> RetrievalResult:
    """The judge's own recalls on real images, which show how far to trust it.

    Args:
        judge: Is measured.
        picture_features: Reference features `(images, 1280)`, see [`ReferenceFeatures`].
        captions: The caption of each image; the distinct ones are the candidates.
    """
    distinct, caption_of_image = distinct_captions(captions)
    image_features = judge.heads.embed_images(picture_features)
    return retrieval_recalls(image_features, judge.embed_captions(distinct), caption_of_image)


def load_or_train_judge(
    data_dir: str | Path, cache_dir: str | Path | None = None, *, seed: int = JUDGE_SEED, epochs: int = JUDGE_EPOCHS
) -> Judge:
    """A judge, from the cache folder if it was trained before, else trained on `train.parquet`.

    Args:
        data_dir: Folder of the pictograms.
        cache_dir: Folder for the trained heads and for image features, see [`ReferenceFeatures`].
        seed, epochs: As in [`train_heads`].
    """
    references = ReferenceFeatures(cache_dir)
    path = None if cache_dir is None else Path(cache_dir) / f"judge-seed{seed}-epochs{epochs}.safetensors"
    if path is not None and path.is_file():
        return Judge.load(path, references)
    captions, caption_of_image = distinct_captions(list(read_rows(data_dir, "train")["caption"]))
    features, vectors = references.split(data_dir, "train"), references.captions(captions)
    logger.info("training the judge on %d images of %d captions", len(features), len(captions))
    heads = train_heads(features, vectors, caption_of_image, seed=seed, epochs=epochs)
    judge = Judge(heads, references, seed=seed, epochs=epochs)
    if path is not None:
        judge.save(path)
    return judge
