"""What a call, and each of the methods that encode, checks before a model runs; sizes that a UNet does not say."""

import pytest
import torch
from diffusers import (
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    FlowMapEulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from seed_hf import SeedImagePipeline
from seed_hf.pipelines.empty_prompt import EmptyPromptEmbedding
from tiny import tiny_tokenizer
from tiny_diffusion import (
    DIM,
    TOKENS,
    generators,
    some_codes,
    tiny_model_and_processor,
    tiny_pipeline,
    tiny_unet,
    tiny_vae,
)


CALL = {"num_inference_steps": 2, "output_type": "pt"}


def empty(tokens=TOKENS, dim=DIM):
    return EmptyPromptEmbedding.from_embeds(torch.zeros(tokens, dim))


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_guidance_is_a_number(scale):
    with pytest.raises(ValueError, match="guidance_scale must be a finite number"):
        tiny_pipeline()(codes=some_codes(1), guidance_scale=scale)


def test_embeddings_to_lead_away_from_with_no_images():
    pipe = tiny_pipeline()
    away = pipe.encode_codes(some_codes(1)).detach()
    with pytest.raises(ValueError, match="num_images_per_prompt must be at least 1"):
        pipe(codes=some_codes(1), negative_prompt_embeds=away, num_images_per_prompt=0)
    with pytest.raises(TypeError, match="integers|tensor"):
        pipe.encode_codes(some_codes(1).tolist())


def test_flow_matching_is_refused():
    for scheduler in (FlowMatchEulerDiscreteScheduler(), FlowMapEulerDiscreteScheduler()):
        with pytest.raises(ValueError, match=f"{type(scheduler).__name__} is for flow matching"):
            tiny_pipeline(scheduler=scheduler)(codes=some_codes(1), **CALL)


SOLVERS = (
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    DEISMultistepScheduler,
    UniPCMultistepScheduler,
)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of diffusers' solvers
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.__name__)
def test_steps_that_share_a_timestep(solver):
    """Karras' sigmas on a schedule that begins with hardly anything but noise, as that of seed-tiny. Solvers of
    diffusers, left alone, begin with the second of such steps, and miss one at the end."""
    schedule = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}
    pipe = tiny_pipeline(scheduler=solver(use_karras_sigmas=True, **schedule))
    settings = {"num_inference_steps": 8, "output_type": "latent", "batch_size": 1}
    drawn = pipe(codes=some_codes(2), generator=generators(0, 1), **settings).images
    assert pipe.scheduler.timesteps[0] == pipe.scheduler.timesteps[1] and pipe.scheduler.step_index == 8
    assert drawn.isfinite().all()


def test_a_scheduler_refuses_steps_before_the_model_runs():
    model, processor = tiny_model_and_processor()
    pipe = tiny_pipeline(model, processor=processor)
    model.language_model.register_forward_pre_hook(lambda *_: pytest.fail("the model runs"))
    pipe.scheduler = UniPCMultistepScheduler.from_config(pipe.scheduler.config)
    with pytest.raises(ValueError, match="use_flow_sigmas"):
        pipe("a red apple", sigmas=[9.0, 1.0])
    for generator in (7, tuple(generators(1)), [7]):
        with pytest.raises(TypeError, match="generator must be a torch.Generator or a list"):
            pipe("a red apple", generator=generator)


def test_numbers_of_tokens_are_compared():
    assert empty(tokens=1).embeds.shape == (1, DIM)
    pipe = tiny_pipeline()
    embeds = torch.zeros(1, 10, DIM)
    with pytest.raises(ValueError, match=r"shape \(10, 20\) and those of the empty prompt \(6, 20\)"):
        pipe(prompt_embeds=embeds, guidance_scale=2.0, **CALL)
    assert pipe(prompt_embeds=embeds, guidance_scale=1.0, **CALL).images.shape[0] == 1
    with pytest.raises(ValueError, match=r"\(6, 20\) and those of the empty prompt \(5, 20\)"):
        tiny_pipeline(empty_prompt=empty(tokens=5))(codes=some_codes(1), guidance_scale=2.0, **CALL)
    with pytest.raises(ValueError, match="empty prompt's embedding is 16 wide"):
        tiny_pipeline(empty_prompt=empty(dim=16))


def test_a_unet_whose_config_says_no_size():
    pipe = tiny_pipeline(unet=tiny_unet(sample_size=None))
    with pytest.raises(ValueError, match="no sample_size: give height and width"):
        pipe(codes=some_codes(1), height=16, **CALL)
    assert pipe(codes=some_codes(1), height=16, width=24, **CALL).images.shape == (1, 3, 16, 24)


def test_a_unet_with_a_width_for_each_block():
    pipe = tiny_pipeline(unet=tiny_unet(cross_attention_dim=(DIM, DIM)))
    drawn = pipe(prompt_embeds=pipe.encode_codes(some_codes(1)), generator=torch.Generator().manual_seed(0), **CALL)
    expected = pipe(codes=some_codes(1), generator=torch.Generator().manual_seed(0), **CALL)
    assert torch.equal(drawn.images, expected.images)
    with pytest.raises(ValueError, match="UNet reads 24"):
        tiny_pipeline(unet=tiny_unet(cross_attention_dim=(24, 24)))


def test_encoding_checks_as_a_call_does():
    model, processor = tiny_model_and_processor()
    pipe = tiny_pipeline(model, processor=processor)
    for wrong, words in (("", "empty"), ([], "empty"), ("a " * 200, "too long")):
        with pytest.raises(ValueError, match=words):
            pipe.encode_prompt(wrong)
    with pytest.raises(ValueError, match="may not contain return_dict_in_generate"):
        pipe.encode_prompt("a", generation_kwargs={"return_dict_in_generate": True})
    several = {"num_return_sequences": 2, "do_sample": True}
    assert pipe.encode_prompt(["a", "b"], generation_kwargs=several).shape == (4, 32)
    with pytest.raises(ValueError, match="may not contain num_return_sequences"):
        pipe.encode_prompt("a", generation_kwargs=several, num_candidates=2)
    with pytest.raises(ValueError, match="negative_prompt is empty. Say what guidance leads away from"):
        pipe("a", negative_prompt=" ", **CALL)
    with pytest.raises(ValueError, match="bare SeedTokenizer"):
        tiny_pipeline().encode_prompt("a")
    alone = SeedImagePipeline(None, tiny_unet(), tiny_vae())
    for encode, given in ((alone.encode_prompt, "a"), (alone.encode_image, []), (alone.encode_codes, some_codes(1))):
        with pytest.raises(ValueError, match="needs a seed_model"):
            encode(given)


def test_a_pipeline_of_ours_is_no_stable_diffusion(tmp_path):
    tiny_pipeline().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds a SeedImagePipeline. SEED draws with StableDiffusionPipeline"):
        SeedImagePipeline.from_diffusion(tmp_path, tiny_tokenizer())
