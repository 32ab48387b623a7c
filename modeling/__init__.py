"""The models, as a Hub repository carries them. Importing any of them makes transformers' Auto classes know all.

Else an Auto class that meets a SEED folder offers to run the code saved in it, also where another class uses it:
`SeedProcessor.from_pretrained` reads its text tokenizer through `AutoTokenizer`, which reads the configuration.
"""

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoProcessor,
)
from transformers.models.auto.video_processing_auto import AutoVideoProcessor  # without torchvision, too

from .configuration_seed import SeedConfig, SeedTokenizerConfig
from .image_processing_seed import SeedImageProcessor
from .modeling_seed import SeedForConditionalGeneration
from .modeling_seed_text import LANGUAGE_MODELS
from .modeling_seed_tokenizer import SeedTokenizer
from .processing_seed import SeedProcessor


for _config in (SeedTokenizerConfig, SeedConfig):
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
    # None: a pipeline asks for one wherever there is an image processor, and then for its code.
    AutoVideoProcessor.register(_config, None, exist_ok=True)
    AutoImageProcessor.register(_config, image_processor_classes={"pil": SeedImageProcessor}, exist_ok=True)

AutoModel.register(SeedTokenizerConfig, SeedTokenizer, exist_ok=True)
AutoModel.register(SeedConfig, SeedForConditionalGeneration, exist_ok=True)
AutoModelForImageTextToText.register(SeedConfig, SeedForConditionalGeneration, exist_ok=True)
AutoModelForMultimodalLM.register(SeedConfig, SeedForConditionalGeneration, exist_ok=True)
AutoProcessor.register(SeedConfig, SeedProcessor, exist_ok=True)

for _model in LANGUAGE_MODELS.values():
    AutoConfig.register(_model.config_class.model_type, _model.config_class, exist_ok=True)
    AutoModelForCausalLM.register(_model.config_class, _model, exist_ok=True)
    if _model.family.headless is not None:
        AutoModel.register(_model.config_class, _model.family.headless, exist_ok=True)
