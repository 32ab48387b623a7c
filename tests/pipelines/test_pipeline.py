"""SeedImagePipeline: every form of call, exact save and load, guidance, batches, callbacks, and errors that teach."""

import inspect
import json

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
)
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from seed_hf import (
    SeedForConditionalGeneration,
    SeedImagePipeline,
    SeedImageProcessor,
    SeedProcessor,
    SeedTokenizer,
    inference,
)
from seed_hf.modeling.processing_seed import code_token
from seed_hf.pipelines.empty_prompt import EmptyPromptEmbedding
from tiny import tiny_text_tokenizer, tiny_tokenizer
from tiny_diffusion import (
    DIM,
    TOKENS,
    generators,
    some_codes,
    tiny_dc,
    tiny_model_and_processor,
    tiny_pipeline,
    tiny_unet,
    tiny_vae,
)


EMBEDDING = "language_model.model.decoder.embed_tokens.weight"
STEPS = {"num_inference_steps": 2, "output_type": "pt"}


def picture(colour: str = "red") -> Image.Image:
    image = Image.new("RGB", (40, 30), "white")
    image.paste(colour, (5, 5, 20, 25))
    return image


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


@pytest.fixture(scope="module")
def drawing_pipe():
    model, processor = tiny_model_and_processor()
    return tiny_pipeline(model, processor=processor)


# The forms of a call


def test_codes_to_images(pipe):
    output = pipe(codes=some_codes(3), num_inference_steps=2)
    assert len(output.images) == 3
    assert output.images[0].size == (16, 16) and output.images[0].mode == "RGB"
    assert torch.equal(output.codes, some_codes(3))


def test_one_row_of_codes(pipe):
    one = pipe(codes=some_codes(1)[0], generator=generators(5), **STEPS)
    assert torch.equal(one.images, pipe(codes=some_codes(1), generator=generators(5), **STEPS).images)


def test_image_goes_through_its_codes_and_nothing_else(pipe):
    drawn = pipe(image=[picture(), picture("blue")], generator=generators(1, 2), **STEPS)
    again = pipe(codes=drawn.codes, generator=generators(1, 2), **STEPS)
    assert torch.equal(drawn.images, again.images)
    pixels = SeedImageProcessor(size={"height": 28, "width": 28})(picture(), return_tensors="pt").pixel_values
    assert torch.equal(drawn.codes[:1], pipe.seed_model.encode(pixels))
    assert pipe(image=picture(), **STEPS).images.shape == (1, 3, 16, 16)


def test_prompt_to_codes_to_images(drawing_pipe):
    drawn = drawing_pipe("a red apple", generator=generators(1), **STEPS)
    assert drawn.codes.shape == (1, 32) and drawn.codes.dtype == torch.long
    assert torch.equal(drawn.images, drawing_pipe(codes=drawn.codes, generator=generators(1), **STEPS).images)


def test_the_model_pipeline_also_takes_images_and_codes(drawing_pipe):
    drawn = drawing_pipe(image=picture(), generator=generators(1), **STEPS)
    assert torch.equal(drawn.images, drawing_pipe(codes=drawn.codes, generator=generators(1), **STEPS).images)


# What comes out


def test_output_types(pipe):
    shared = {"codes": some_codes(1), "num_inference_steps": 2}
    of = {kind: pipe(**shared, generator=generators(0), output_type=kind).images for kind in ("pil", "np", "pt")}
    assert of["pt"].shape == (1, 3, 16, 16) and 0 <= of["pt"].min() and of["pt"].max() <= 1
    assert np.allclose(of["np"], of["pt"].permute(0, 2, 3, 1).numpy())
    assert np.abs(np.asarray(of["pil"][0]) - of["np"][0] * 255).max() <= 0.51
    latents = pipe(**shared, generator=generators(0), output_type="latent").images
    decoded = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    assert torch.allclose((decoded / 2 + 0.5).clamp(0, 1), of["pt"], atol=1e-6)


def test_tuple_equals_dataclass(pipe):
    output = pipe(codes=some_codes(), generator=generators(0, 1), **STEPS)
    images, codes = pipe(codes=some_codes(), generator=generators(0, 1), return_dict=False, **STEPS)
    assert torch.equal(images, output.images) and torch.equal(codes, output.codes)


def test_several_images_per_row(pipe):
    output = pipe(codes=some_codes(2), num_images_per_prompt=3, generator=generators(*range(6)), **STEPS)
    assert output.images.shape[0] == 6
    assert torch.equal(output.codes, some_codes(2).repeat_interleave(3, dim=0))
    alone = pipe(codes=some_codes(2)[1], generator=generators(4), **STEPS).images
    assert torch.allclose(output.images[4:5], alone, atol=1e-5)
    assert not torch.allclose(output.images[3], output.images[4], atol=1e-3)


def test_rows_do_not_touch_each_other(pipe):
    together = pipe(codes=some_codes(3), generator=generators(0, 1, 2), **STEPS).images
    for row in range(3):
        alone = pipe(codes=some_codes(3)[row], generator=generators(row), **STEPS).images
        assert torch.allclose(together[row], alone[0], atol=1e-5)


def test_codes_steer_the_image(pipe):
    first = pipe(codes=some_codes(1), generator=generators(0), **STEPS).images
    other = pipe(codes=some_codes(1, seed=9), generator=generators(0), **STEPS).images
    assert not torch.allclose(first, other, atol=1e-4)


def test_given_latents_replace_the_generator(pipe):
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    given = pipe(codes=some_codes(1), latents=noise, **STEPS).images
    assert torch.equal(given, pipe(codes=some_codes(1), generator=generators(0), **STEPS).images)


def test_other_sizes(pipe):
    assert pipe(codes=some_codes(1), height=24, width=8, **STEPS).images.shape == (1, 3, 24, 8)


@pytest.mark.parametrize("scheduler", [DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler])
def test_other_schedulers(pipe, scheduler):
    other = tiny_pipeline(scheduler=scheduler())
    first = other(codes=some_codes(1), generator=torch.Generator().manual_seed(0), **STEPS).images
    again = other(codes=some_codes(1), generator=torch.Generator().manual_seed(0), **STEPS).images
    assert torch.equal(first, again) and torch.isfinite(first).all()
    assert not torch.equal(first, pipe(codes=some_codes(1), generator=generators(0), **STEPS).images)


def test_default_scheduler_is_dpm_solver_plus_plus(pipe):
    assert isinstance(pipe.scheduler, DPMSolverMultistepScheduler)
    assert pipe.scheduler.config.algorithm_type == "dpmsolver++"
    assert inspect.signature(pipe.__call__).parameters["num_inference_steps"].default == inference.STEPS == 20


def test_works_with_the_deep_compression_autoencoder():
    pipe = tiny_pipeline(vae=tiny_dc())
    assert pipe(codes=some_codes(1), **STEPS).images.shape == (1, 3, 16, 16)


# Guidance


def test_guidance_mixes_the_two_predictions():
    seen = {}

    class Recorder(DDIMScheduler):
        def step(self, model_output, timestep, sample, **kwargs):
            seen["noise"], seen["input"], seen["time"] = model_output, sample, timestep
            return super().step(model_output, timestep, sample, **kwargs)

    pipe = tiny_pipeline(scheduler=Recorder())
    pipe(codes=some_codes(1), num_inference_steps=1, guidance_scale=3.0, output_type="latent")
    with torch.no_grad():
        condition = pipe.seed_model.decode(some_codes(1))
        by_codes = pipe.unet(seen["input"], seen["time"], condition).sample
        by_nothing = pipe.unet(seen["input"], seen["time"], pipe.empty_prompt.embeds[None]).sample
    assert torch.allclose(seen["noise"], by_nothing + 3.0 * (by_codes - by_nothing), atol=1e-5)


def test_guidance_defaults_to_the_pipelines_own():
    pipe = tiny_pipeline(guidance_scale=2.0)
    default = pipe(codes=some_codes(1), generator=generators(0), **STEPS).images
    for scale, same in ((2.0, True), (1.0, False)):
        given = pipe(codes=some_codes(1), generator=generators(0), guidance_scale=scale, **STEPS).images
        assert torch.equal(default, given) == same


def test_empty_prompt_is_made_from_the_text_encoder():
    tokenizer = tiny_text_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=DIM,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        eos_token_id=2,
    )
    text_encoder = CLIPTextModel(config).eval()
    pipe = tiny_pipeline(text_encoder=text_encoder, tokenizer=tokenizer)
    ids = tokenizer("", padding="max_length", max_length=TOKENS, return_tensors="pt").input_ids
    with torch.no_grad():
        assert torch.equal(pipe.empty_prompt.embeds, text_encoder(ids).last_hidden_state[0])
    without = tiny_pipeline(empty_prompt=pipe.empty_prompt)  # the text encoder itself is not needed any more
    assert torch.equal(
        pipe(codes=some_codes(1), generator=generators(0), **STEPS).images,
        without(codes=some_codes(1), generator=generators(0), **STEPS).images,
    )


def test_guidance_without_an_empty_prompt_is_an_error():
    pipe = tiny_pipeline(empty_prompt=None)
    with pytest.raises(ValueError, match="empty_prompt"):
        pipe(codes=some_codes(1), **STEPS)
    assert pipe(codes=some_codes(1), guidance_scale=1.0, **STEPS).images.shape == (1, 3, 16, 16)


# Saving and loading


def same_images(first, second, **call) -> bool:
    images = [each(**call, generator=generators(7), **STEPS).images for each in (first, second)]
    return torch.equal(*images)


def test_save_and_load_are_exact(tmp_path, pipe):
    pipe.save_pretrained(tmp_path / "a")
    loaded = SeedImagePipeline.from_pretrained(tmp_path / "a")
    loaded.set_progress_bar_config(disable=True)
    assert same_images(pipe, loaded, codes=some_codes(1))
    assert same_images(pipe, loaded, image=picture())
    assert loaded.dtype == torch.float32
    loaded.save_pretrained(tmp_path / "b")
    files = {path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()}
    assert files == {path.relative_to(tmp_path / "b") for path in (tmp_path / "b").rglob("*") if path.is_file()}
    weights = [path for path in files if path.suffix == ".safetensors"]
    assert len(weights) == 4  # seed_model, unet, vae, empty_prompt
    for path in weights:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()


def test_save_and_load_with_a_language_model(tmp_path, drawing_pipe):
    drawing_pipe.save_pretrained(tmp_path)
    loaded = SeedImagePipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert type(loaded.seed_model) is type(drawing_pipe.seed_model)
    for call in ({"prompt": "a red apple"}, {"image": picture()}, {"codes": some_codes(1)}):
        assert same_images(drawing_pipe, loaded, **call)


def test_own_guidance_and_scheduler_are_saved(tmp_path):
    tiny_pipeline(guidance_scale=3.5, scheduler=DDIMScheduler(clip_sample=False)).save_pretrained(tmp_path)
    loaded = SeedImagePipeline.from_pretrained(tmp_path)
    assert loaded.config.guidance_scale == 3.5
    assert isinstance(loaded.scheduler, DDIMScheduler) and loaded.scheduler.config.clip_sample is False


def test_components_can_be_replaced_at_load(tmp_path, pipe):
    pipe.save_pretrained(tmp_path)
    unet = tiny_unet(seed=9)
    assert SeedImagePipeline.from_pretrained(tmp_path, unet=unet, empty_prompt=None).unet is unet
    assert SeedImagePipeline.from_pretrained(tmp_path, empty_prompt=None).empty_prompt is None


def test_the_layout_of_the_bundle(tmp_path, drawing_pipe):
    """Each weight lies on disk once, in half precision; indexes point across folders; all loads in fp32."""
    pipe, model = drawing_pipe, drawing_pipe.seed_model
    pipe.save_pretrained(tmp_path / "pipeline")
    model.save_pretrained(tmp_path / "model")
    model.visual_tokenizer.save_pretrained(tmp_path / "tokenizer")
    for path in (*tmp_path.glob("*/model.safetensors"), *tmp_path.glob("pipeline/seed_model/*.safetensors")):
        path.unlink()
    state = {name: weight.half() for name, weight in model.state_dict().items() if "lm_head" not in name}
    eyes = {name: weight for name, weight in state.items() if name.startswith("visual_tokenizer.")}
    save_file(eyes, tmp_path / "tokenizer" / "eyes.safetensors", metadata={"format": "pt"})
    mouth = {name: weight for name, weight in state.items() if name not in eyes}
    save_file(mouth, tmp_path / "model" / "mouth.safetensors", metadata={"format": "pt"})
    for folder, names in (("tokenizer", eyes), ("model", state), ("pipeline/seed_model", state)):
        to_root = "../" * (folder.count("/") + 1)
        files = {n: f"{to_root}{'tokenizer/eyes' if n in eyes else 'model/mouth'}.safetensors" for n in names}
        index = {"metadata": {"total_size": 1}, "weight_map": files}
        (tmp_path / folder / "model.safetensors.index.json").write_text(json.dumps(index))

    tokenizer, loading = SeedTokenizer.from_pretrained(tmp_path / "tokenizer", output_loading_info=True)
    assert not any(loading.values()), loading
    both, loading = SeedForConditionalGeneration.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(loading.values()), loading
    loaded = SeedImagePipeline.from_pretrained(tmp_path / "pipeline")
    for part in (tokenizer, both.visual_tokenizer, loaded.visual_tokenizer):
        assert part.dtype == torch.float32
        for name, weight in part.state_dict().items():
            assert torch.equal(weight, eyes[f"visual_tokenizer.{name}"].float()), name
    for part in (both, loaded.seed_model):
        assert torch.equal(part.language_model.lm_head.weight, mouth[EMBEDDING].float())
        assert part.language_model.lm_head.weight is part.language_model.get_input_embeddings().weight


def test_half_precision(tmp_path, pipe):
    pipe.save_pretrained(tmp_path)
    half = SeedImagePipeline.from_pretrained(tmp_path, dtype=torch.bfloat16)
    half.set_progress_bar_config(disable=True)
    assert {part.dtype for part in (half.seed_model, half.unet, half.vae, half.empty_prompt)} == {torch.bfloat16}
    images = half(codes=some_codes(1), **STEPS).images
    assert torch.isfinite(images).all() and half(image=picture(), **STEPS).codes.dtype == torch.long


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        SeedImagePipeline.from_pretrained(tmp_path / "nowhere")


# Callbacks


def test_callback_sees_and_changes_the_latents(pipe):
    seen = []

    def zero_at_the_end(pipeline, step, timestep, tensors):
        seen.append((step, sorted(tensors)))
        return {"latents": torch.zeros_like(tensors["latents"])} if step == pipeline.num_timesteps - 1 else tensors

    latents = pipe(
        codes=some_codes(1),
        num_inference_steps=3,
        output_type="latent",
        callback_on_step_end=zero_at_the_end,
        callback_on_step_end_tensor_inputs=["latents", "prompt_embeds"],
    ).images
    assert seen == [(step, ["latents", "prompt_embeds"]) for step in range(3)]
    assert (latents == 0).all()


def test_callback_can_interrupt(pipe):
    steps = []

    def stop(pipeline, step, timestep, tensors):
        steps.append(step)
        pipeline._interrupt = True

    pipe(codes=some_codes(1), num_inference_steps=5, output_type="latent", callback_on_step_end=stop)
    assert steps == [0]
    assert pipe(codes=some_codes(1), **STEPS).images.shape == (1, 3, 16, 16)  # the next call runs again


# Errors, all before any model runs


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (ValueError, "exactly one", {}),
        (ValueError, "image and codes", {"image": picture(), "codes": some_codes()}),
        (ValueError, "bare SeedTokenizer", {"prompt": "a red apple"}),
        (TypeError, "integer", {"codes": torch.rand(1, 32)}),
        (TypeError, "list", {"codes": [[1] * 32]}),
        (ValueError, "31", {"codes": torch.zeros(1, 31, dtype=torch.long)}),
        (ValueError, "no rows", {"codes": torch.zeros(0, 32, dtype=torch.long)}),
        (ValueError, "64", {"codes": torch.full((1, 32), 64)}),
        (ValueError, "-1", {"codes": torch.full((32,), -1)}),
        (TypeError, "PIL", {"image": "red.png"}),
        (ValueError, "empty", {"image": []}),
        (ValueError, "at least 1", {"codes": some_codes(), "num_inference_steps": 0}),
        (ValueError, "at least 1", {"codes": some_codes(), "num_images_per_prompt": 0}),
        (ValueError, "multiples of 2", {"codes": some_codes(), "height": 15}),
        (ValueError, "multiples of 2", {"codes": some_codes(), "width": 0}),
        (ValueError, "3 generators for 2", {"codes": some_codes(), "generator": generators(0, 1, 2)}),
        (ValueError, r"\(2, 4, 8, 8\)", {"codes": some_codes(), "latents": torch.zeros(1, 4, 8, 8)}),
        (ValueError, "pil, np", {"codes": some_codes(), "output_type": "jpeg"}),
        (ValueError, "language model", {"codes": some_codes(), "generation_kwargs": {"do_sample": True}}),
        (ValueError, "noise", {"codes": some_codes(), "callback_on_step_end_tensor_inputs": ["noise"]}),
    ],
)
def test_wrong_calls(pipe, error, words, call):
    with pytest.raises(error, match=words):
        pipe(**call)


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (ValueError, "empty", {"prompt": " "}),
        (ValueError, "empty", {"prompt": []}),
        (TypeError, "string", {"prompt": 7}),
        (TypeError, "string", {"prompt": ["a", None]}),
        (ValueError, "generation_mode", {"prompt": "a", "generation_kwargs": {"generation_mode": "text"}}),
        (ValueError, "num_candidates must be at least 1", {"prompt": "a", "num_candidates": 0}),
        (ValueError, "sampling", {"prompt": "a", "num_candidates": 2, "generation_kwargs": {"do_sample": False}}),
    ],
)
def test_wrong_prompts(drawing_pipe, error, words, call):
    with pytest.raises(error, match=words):
        drawing_pipe(**call)


def test_a_processor_of_another_prompt_format_is_refused():
    model, processor = tiny_model_and_processor()
    model.config.text_config.prompt_format = "vicuna"
    with pytest.raises(ValueError, match=r"in the format 'seed', but the language model reads 'vicuna'. .*'vicuna'\)"):
        tiny_pipeline(model, processor=processor)
    parts = (processor.image_processor, processor.tokenizer)
    assert tiny_pipeline(model, processor=SeedProcessor(*parts, prompt_format="vicuna")).processor


def test_a_processor_of_another_vocabulary_is_refused():
    model, processor = tiny_model_and_processor()
    tokenizer = tiny_text_tokenizer()
    tokenizer.add_tokens(["</img>", "<img>", *(code_token(code) for code in range(64)), "<image>"])
    other = SeedProcessor(processor.image_processor, tokenizer)
    with pytest.raises(ValueError, match="eoi_token_id': 331}, the language model .*'eoi_token_id': 332}"):
        tiny_pipeline(model, processor=other)


def test_a_prompt_needs_a_processor():
    model, _ = tiny_model_and_processor()
    with pytest.raises(ValueError, match="SeedProcessor"):
        tiny_pipeline(model)("a red apple")


def test_parts_that_do_not_fit():
    with pytest.raises(ValueError, match="20.*cross_attention_dim|cross_attention_dim"):
        tiny_pipeline(unet=tiny_unet(cross_attention_dim=24))
    with pytest.raises(ValueError, match="latent channels"):
        tiny_pipeline(unet=tiny_unet(in_channels=8, out_channels=8))
    with pytest.raises(TypeError, match="SeedTokenizer"):
        tiny_pipeline(seed_model=tiny_vae())
    with pytest.raises(ValueError, match="unCLIP"):
        tiny_pipeline(tiny_tokenizer(generation_target="image", num_generation_tokens=1))
    with pytest.raises(ValueError, match="shape"):
        EmptyPromptEmbedding.from_embeds(torch.zeros(2, TOKENS, DIM))


def test_nothing_is_left_with_gradients(pipe):
    assert not pipe(codes=some_codes(1), num_inference_steps=1, output_type="latent").images.requires_grad
    with torch.enable_grad():
        condition = pipe.encode_codes(some_codes(1))
    assert condition.requires_grad  # only __call__ switches gradients off
