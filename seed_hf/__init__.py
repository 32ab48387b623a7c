"""seed_hf: the SEED image tokenizer as Hugging Face models, and one language model that sees and draws.

`import seed_hf` is light: it loads neither torch nor transformers. The first touch of a public name, `bundled` too,
registers all SEED classes with transformers' Auto classes (`seed_hf.auto`): no folder is opened by the code in it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from seed_hf.lazy import lazy_names
from seed_hf.version import __version__ as __version__


# Public name -> the module that defines it.
_PUBLIC = {
    "SeedTokenizer": "seed_hf.modeling.modeling_seed_tokenizer",
    "SeedTokenizerConfig": "seed_hf.modeling.configuration_seed",
    "SeedTextConfig": "seed_hf.modeling.configuration_seed",
    "SeedLlamaConfig": "seed_hf.modeling.configuration_seed",
    "SeedQwen3Config": "seed_hf.modeling.configuration_seed",
    "SeedConfig": "seed_hf.modeling.configuration_seed",
    "SeedForCausalLM": "seed_hf.modeling.modeling_seed_text",
    "SeedLlamaForCausalLM": "seed_hf.modeling.modeling_seed_text",
    "SeedQwen3ForCausalLM": "seed_hf.modeling.modeling_seed_text",
    "SeedForConditionalGeneration": "seed_hf.modeling.modeling_seed",
    "SeedImageProcessor": "seed_hf.modeling.image_processing_seed",
    "SeedProcessor": "seed_hf.modeling.processing_seed",
    "SeedImagePipeline": "seed_hf.pipelines.pipeline_seed_image",
    "bundled": "seed_hf.artifacts.bundled",
}

__all__ = ["__version__", *_PUBLIC]
_find, __dir__ = lazy_names(__name__, _PUBLIC)


def __getattr__(name: str):
    if name in _PUBLIC:
        import_module("seed_hf.auto")
    return _find(name)


if TYPE_CHECKING:  # `as` says that they are public
    from seed_hf.artifacts.bundled import bundled as bundled
    from seed_hf.modeling.configuration_seed import SeedConfig as SeedConfig
    from seed_hf.modeling.configuration_seed import SeedLlamaConfig as SeedLlamaConfig
    from seed_hf.modeling.configuration_seed import SeedQwen3Config as SeedQwen3Config
    from seed_hf.modeling.configuration_seed import SeedTextConfig as SeedTextConfig
    from seed_hf.modeling.configuration_seed import SeedTokenizerConfig as SeedTokenizerConfig
    from seed_hf.modeling.image_processing_seed import SeedImageProcessor as SeedImageProcessor
    from seed_hf.modeling.modeling_seed import SeedForConditionalGeneration as SeedForConditionalGeneration
    from seed_hf.modeling.modeling_seed_text import SeedForCausalLM as SeedForCausalLM
    from seed_hf.modeling.modeling_seed_text import SeedLlamaForCausalLM as SeedLlamaForCausalLM
    from seed_hf.modeling.modeling_seed_text import SeedQwen3ForCausalLM as SeedQwen3ForCausalLM
    from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer as SeedTokenizer
    from seed_hf.modeling.processing_seed import SeedProcessor as SeedProcessor
    from seed_hf.pipelines.pipeline_seed_image import SeedImagePipeline as SeedImagePipeline
