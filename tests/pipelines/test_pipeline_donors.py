"""`SeedImagePipeline.from_diffusion` draws what Stable Diffusion (SEED-1) and unCLIP (SEED-2) draw by themselves."""

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from seed_hf import SeedImagePipeline, SeedTokenizer
from tiny import tiny_tokenizer
from tiny_diffusion import some_codes, tiny_donor


CALL = {"num_inference_steps": 3, "output_type": "pt"}


def generator(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tokenizer_for(kind: str, **settings) -> SeedTokenizer:
    if kind == "image":
        settings = {"generation_target": "image", "num_generation_tokens": 1, **settings}
    return tiny_tokenizer(**settings)


def silent(pipe: SeedImagePipeline) -> SeedImagePipeline:
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_stable_diffusion_draws_the_same_alone(guidance):
    donor, tokenizer = tiny_donor("text"), tokenizer_for("text")
    pipe = silent(SeedImagePipeline.from_diffusion(donor, tokenizer))
    ours = pipe(codes=some_codes(), guidance_scale=guidance, generator=generator(), **CALL).images
    empty = donor.encode_prompt("", "cpu", 2, False)[0]
    with torch.no_grad():
        embeds = tokenizer.decode(some_codes())
    theirs = donor(
        prompt_embeds=embeds, negative_prompt_embeds=empty, guidance_scale=guidance, generator=generator(), **CALL
    ).images
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("noise_level", [0, 20])
@pytest.mark.parametrize("head", ["qformer", "mlp"])
def test_unclip_draws_the_same_alone(guidance, noise_level, head):
    donor, tokenizer = tiny_donor("image"), tokenizer_for("image", generation_head=head)
    pipe = silent(SeedImagePipeline.from_diffusion(donor, tokenizer))
    options = {"guidance_scale": guidance, "noise_level": noise_level, **CALL}
    ours = pipe(codes=some_codes(), generator=generator(), **options).images
    with torch.no_grad():
        embeds = tokenizer.decode(some_codes())
    theirs = donor(image_embeds=embeds, prompt=["", ""], generator=generator(), **options).images
    assert ours.shape == (2, 3, 16, 16)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["text", "image"])
def test_rows_of_a_batch_are_those_of_single_calls(kind):
    pipe = silent(SeedImagePipeline.from_diffusion(tiny_donor(kind), tokenizer_for(kind)))
    codes = some_codes(3)
    together = pipe(codes=codes, generator=[generator(seed) for seed in range(3)], **CALL).images
    alone = [pipe(codes=row, generator=[generator(seed)], **CALL).images for seed, row in enumerate(codes)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


@pytest.mark.parametrize("kind, guidance", [("text", 7.5), ("image", 10.0)])
def test_from_a_folder_and_back(kind, guidance, tmp_path):
    tiny_donor(kind).save_pretrained(tmp_path / "donor")
    pipe = silent(SeedImagePipeline.from_diffusion(tmp_path / "donor", tokenizer_for(kind)))
    assert pipe.config.guidance_scale == guidance and pipe.text_encoder is None and pipe.tokenizer is None
    pipe.save_pretrained(tmp_path / "saved")
    again = silent(SeedImagePipeline.from_pretrained(tmp_path / "saved"))
    assert (again.image_normalizer is not None) == (kind == "image")
    first, second = (each(codes=some_codes(), generator=generator(), **CALL).images for each in (pipe, again))
    assert torch.equal(first, second)


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="draw with unCLIP"):
        SeedImagePipeline.from_diffusion(tiny_donor("text"), tokenizer_for("image"))
    with pytest.raises(ValueError, match="draw with Stable Diffusion"):
        SeedImagePipeline.from_diffusion(tiny_donor("image"), tokenizer_for("text"))
    with pytest.raises(ValueError, match="is 24 wide"):
        SeedImagePipeline.from_diffusion(tiny_donor("image"), tokenizer_for("image", generation_dim=24))
    unet = UNet2DModel(8, block_out_channels=(8,), norm_num_groups=4, down_block_types=("DownBlock2D",),
                       up_block_types=("UpBlock2D",))  # fmt: skip
    other = DDPMPipeline(unet, DDPMScheduler())
    with pytest.raises(TypeError, match="StableDiffusionPipeline.*DDPMPipeline"):
        SeedImagePipeline.from_diffusion(other, tokenizer_for("text"))
    with pytest.raises(TypeError, match="dtype: for loading, and StableDiffusionPipeline is loaded already"):
        SeedImagePipeline.from_diffusion(tiny_donor("text"), tokenizer_for("text"), dtype=torch.bfloat16)
    other.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds a DDPMPipeline"):
        SeedImagePipeline.from_diffusion(tmp_path, tokenizer_for("text"))
    drawn = SeedImagePipeline.from_diffusion(tiny_donor("text"), tokenizer_for("text"))
    with pytest.raises(ValueError, match="noise_level is for unCLIP"):
        drawn(codes=some_codes(), noise_level=3)
    drawn = SeedImagePipeline.from_diffusion(tiny_donor("image"), tokenizer_for("image"))
    with pytest.raises(ValueError, match=r"noise_level must be in \[0, 50\)"):
        drawn(codes=some_codes(), noise_level=50)
    drawn.register_modules(empty_prompt=None)
    with pytest.raises(ValueError, match="unCLIP needs the embedding of the empty prompt"):
        drawn(codes=some_codes(), guidance_scale=1.0)
