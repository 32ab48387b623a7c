"""How a [`SeedImagePipeline`] gets from its folder and back, and from one pipeline to another."""

import os
from typing import Any

from diffusers import DiffusionPipeline
from torch import nn
from transformers import ProcessorMixin
from transformers.modeling_utils import PreTrainedModel

from .diffusion_parts import HUB_OPTIONS, load_diffusion, local_folder, parts_of
from .hub_code import add_code, installed_classes


class PipelineFolder:
    """Loading, saving and copying, as a mix-in of the pipeline."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs):
        """Loads a folder that `save_pretrained` wrote, or a Hub repository with the same content.

        All arguments of `DiffusionPipeline.from_pretrained` work. A repository is downloaded whole first: diffusers
        finds classes of other packages only for a local folder.
        """
        hub = {name: kwargs.pop(name) for name in HUB_OPTIONS if name in kwargs}
        return super().from_pretrained(  # type: ignore[misc] # a mix-in
            local_folder(pretrained_model_name_or_path, **hub), **kwargs
        )

    @classmethod
    def from_diffusion(
        cls,
        diffusion: str | os.PathLike | DiffusionPipeline,
        seed_model: PreTrainedModel,
        *,
        processor: ProcessorMixin | None = None,
        guidance_scale: float | None = None,
        **kwargs,
    ) -> Any:
        """Builds a pipeline from Stable Diffusion (SEED-1) or unCLIP (SEED-2).

        Take the diffusion model that the tokenizer was aligned with. Its text encoder is used once, for the empty
        prompt, and does not become part of the pipeline.

        Args:
            diffusion: A `StableDiffusionPipeline` or `StableUnCLIPImg2ImgPipeline`, its folder or repository id.
            seed_model, processor: As for the class itself.
            guidance_scale: The new pipeline's default; by default the authors' 7.5 for Stable Diffusion and 10 for
                unCLIP.
            kwargs: For loading: `dtype`, `revision`, `variant`, `local_files_only` ...

        Raises:
            TypeError, ValueError: `diffusion` is another pipeline, or does not fit the tokenizer; or it is loaded, and
                there are `kwargs`.
        """
        loaded = isinstance(diffusion, DiffusionPipeline)
        if loaded and kwargs:
            raise TypeError(f"{', '.join(kwargs)}: for loading, and {type(diffusion).__name__} is loaded already.")
        donor = diffusion if loaded else load_diffusion(diffusion, **kwargs)
        parts = parts_of(donor)
        if guidance_scale is not None:
            parts["guidance_scale"] = guidance_scale
        pipe = cls(seed_model, processor=processor, **parts)  # type: ignore[call-arg] # a mix-in
        pipe.register_modules(text_encoder=None, tokenizer=None)  # type: ignore[attr-defined] # a mix-in
        return pipe

    @classmethod
    def load_config(cls, *args, **kwargs):
        config = super().load_config(*args, **kwargs)  # type: ignore[misc] # a mix-in
        return installed_classes(config) if __name__.startswith("seed_hf.") else config

    def save_pretrained(self, save_directory: str | os.PathLike, safe_serialization: bool = True, *args, **kwargs):
        """As `DiffusionPipeline.save_pretrained`, in safetensors alone.

        Raises:
            ValueError: `safe_serialization=False`, which asks for pickles; LoRA weights beside those of a part.
        """
        for name, part in self.components.items():
            if _has_lora(part):
                unet = name == "unet"
                merge = "fuse_lora() and unload_lora_weights()" if unet else "merge_and_unload() of its PeftModel"
                alone = "save_lora_weights" if unet else "save_pretrained of it"
                raise ValueError(
                    f"{name} has LoRA weights, which this folder could not hold. Make them part of it with {merge}, "
                    f"or save them by themselves with {alone} and unload them."
                )
        if not safe_serialization:
            raise ValueError(
                "A SeedImagePipeline is saved in safetensors alone: a pickle may run code when it is opened. Leave "
                "out safe_serialization=False."
            )
        super().save_pretrained(save_directory, True, *args, **kwargs)  # type: ignore[misc] # a mix-in

    def save_config(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs) -> None:
        """Writes `model_index.json`, and the code for users who have not installed this package.

        They load the folder with `DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)`.
        `save_pretrained` calls this after writing the components and before uploading.
        """
        super().save_config(  # type: ignore[misc] # a mix-in
            save_directory, push_to_hub=push_to_hub, **kwargs
        )
        add_code(self, save_directory)

    @classmethod
    def from_pipe(cls, pipeline, **kwargs):
        """As `DiffusionPipeline.from_pipe`, and with the parts that it leaves out.

        Those are models whose class is not the very one of the signature: an `AutoencoderTiny`, a UNet of a class of
        one's own, and the empty prompt, which in a folder with code has another class.
        """
        for name in {"unet", "vae", "empty_prompt"} & pipeline.components.keys():
            kwargs.setdefault(name, pipeline.components[name])
        return super().from_pipe(pipeline, **kwargs)  # type: ignore[misc] # a mix-in

    @property
    def components(self) -> dict[str, Any]:
        """The parts, and the defaults of a call: `SeedImagePipeline(**pipe.components)` draws the same."""
        parts = super().components  # type: ignore[misc] # a mix-in
        settings = ("guidance_scale", "num_candidates")
        return {**parts, **{name: self.config[name] for name in settings}}  # type: ignore[attr-defined] # a mix-in


def _has_lora(part: Any) -> bool:
    """Whether a model, or one inside it, has adapters beside its weights; other parts have none."""
    return isinstance(part, nn.Module) and any(getattr(each, "peft_config", None) for each in part.modules())


__all__ = ["PipelineFolder"]
