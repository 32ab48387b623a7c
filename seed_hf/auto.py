"""Makes transformers' Auto classes know the SEED classes. Importing this module is all there is to do.

After it, `AutoModel.from_pretrained(folder)` and its relatives load a SEED folder without `trust_remote_code`, and
`push_to_hub` of the SEED classes writes a model card from the templates. (Each class names its own Auto class in
`_auto_class`, so `save_pretrained` writes the code beside the weights with or without this module.)
"""

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    AutoProcessor,
)

from seed_hf.modeling.configuration_seed import SeedConfig, SeedTextConfig, SeedTokenizerConfig
from seed_hf.modeling.image_processing_seed import SeedImageProcessor
from seed_hf.modeling.modeling_seed import SeedForConditionalGeneration
from seed_hf.modeling.modeling_seed_text import SeedForCausalLM
from seed_hf.modeling.modeling_seed_tokenizer import SeedTokenizer
from seed_hf.modeling.processing_seed import SeedProcessor
from seed_hf.modeling.publishing_seed import PrivateByDefault


for _config in (SeedTokenizerConfig, SeedTextConfig, SeedConfig):
    AutoConfig.register(_config.model_type, _config, exist_ok=True)

AutoModel.register(SeedTokenizerConfig, SeedTokenizer, exist_ok=True)
AutoModel.register(SeedConfig, SeedForConditionalGeneration, exist_ok=True)
AutoModelForCausalLM.register(SeedTextConfig, SeedForCausalLM, exist_ok=True)
AutoModelForMultimodalLM.register(SeedConfig, SeedForConditionalGeneration, exist_ok=True)

for _config in (SeedTokenizerConfig, SeedConfig):
    try:
        AutoImageProcessor.register(_config, image_processor_classes={"pil": SeedImageProcessor}, exist_ok=True)
    except ImportError:
        # Older releases of transformers 5 refuse to touch AutoImageProcessor without torchvision. Nothing here needs
        # it: SeedProcessor loads its image processor by name.
        break
AutoProcessor.register(SeedConfig, SeedProcessor, exist_ok=True)

_plain_push = PrivateByDefault.push_to_hub


def _push_with_card(self, repo_id, *args, private=True, **kwargs):
    """Publish with a model card in one commit, private unless told otherwise; see `seed_hf.hub.saved`."""
    from seed_hf.hub.saved import has_card, push_object

    if args or not has_card(self):
        return _plain_push(self, repo_id, *args, private=private, **kwargs)
    return push_object(self, repo_id, private=private, **kwargs)


PrivateByDefault.push_to_hub = _push_with_card  # type: ignore[method-assign] # the models cannot know of cards
