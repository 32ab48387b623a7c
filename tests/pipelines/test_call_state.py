"""What a call keeps while it runs, and what is left for schedulers that are made from a pipeline's."""

from contextlib import nullcontext

import pytest
from diffusers import DDIMScheduler, DDPMScheduler, DiffusionPipeline

from seed_hf import SeedImagePipeline, bundled
from tiny_diffusion import generators, some_codes, tiny_pipeline


STEPS = {"num_inference_steps": 2, "output_type": "pt"}


def test_a_call_asks_once_for_its_device(monkeypatch):
    """And the next one asks again, also after one that failed: the pipeline may be somewhere else by then."""
    pipe, asked, device_of = tiny_pipeline(), [], DiffusionPipeline._execution_device.fget
    monkeypatch.setattr(DiffusionPipeline, "_execution_device", property(lambda p: asked.append(p) or device_of(p)))

    def fail(*_):
        raise RuntimeError("stop")

    for callback in (None, fail, None):
        with nullcontext() if callback is None else pytest.raises(RuntimeError, match="stop"):
            pipe(codes=some_codes(1), generator=generators(0), callback_on_step_end=callback, **STEPS)
    assert len(asked) == 3 and pipe.to("meta")._execution_device.type == "meta"


@pytest.mark.parametrize("scheduler", [DDIMScheduler, DDPMScheduler])
def test_schedulers_from_the_config_do_not_clip_latents(scheduler):
    """Of pipelines without a scheduler, and of seed-tiny: DDIM of a config that says nothing clips to [-1, 1]."""
    bundled_one = SeedImagePipeline.from_pretrained(bundled("seed-tiny", "pipeline"), seed_model=None).scheduler
    for config in (tiny_pipeline(scheduler=None).scheduler.config, bundled_one.config):
        assert scheduler.from_config(config).config.clip_sample is False
