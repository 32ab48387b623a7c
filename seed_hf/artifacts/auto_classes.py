"""Registers the SEED classes with transformers' Auto classes. Importing this module is enough.

Without it an Auto class that meets a SEED folder offers to run the code saved in it, also where it is used by another
class: `SeedProcessor.from_pretrained` reads its text tokenizer through `AutoTokenizer`, which reads the configuration.
"""

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    AutoProcessor,
)

from seed_hf.modeling.configuration_seed import SeedConfig, SeedTokenizerConfig
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.modeling_seed import SeedForConditionalGeneration
from seed_hf.modeling.modeling_seed_text import LANGUAGE_MODELS
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.modeling.processing_seed import SeedProcessor


for _config in (SeedTokenizerConfig, SeedConfig):
    AutoConfig.register(_config.model_type, _config, exist_ok=True)

AutoModel.register(SeedTokenizerConfig, SeedTokenizer, exist_ok=True)
AutoModel.register(SeedConfig, SeedForConditionalGeneration, exist_ok=True)
AutoModelForMultimodalLM.register(SeedConfig, SeedForConditionalGeneration, exist_ok=True)

for _model in LANGUAGE_MODELS.values():
    AutoConfig.register(_model.config_class.model_type, _model.config_class, exist_ok=True)
    AutoModelForCausalLM.register(_model.config_class, _model, exist_ok=True)

for _config in (SeedTokenizerConfig, SeedConfig):
    AutoImageProcessor.register(_config, image_processor_classes={"pil": SeedImageProcessor}, exist_ok=True)
AutoProcessor.register(SeedConfig, SeedProcessor, exist_ok=True)
