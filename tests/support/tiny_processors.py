"""transformers' own processors around the parts of the tiny one: what they do is what ours must do."""

from tokenizers import processors
from transformers import JanusProcessor

from seed_hf.modeling.processing_seed import extend_text_tokenizer
from tiny import tiny_text_tokenizer
from tiny_language import CODEBOOK_SIZE, tiny_processor


def janus_tokenizer():
    """The text tokenizer of the tiny processor with what transformers' processors expect of theirs."""
    tokenizer = extend_text_tokenizer(tiny_text_tokenizer(), CODEBOOK_SIZE)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)]
    )
    tokenizer.image_token, tokenizer.boi_token, tokenizer.eoi_token = "<image>", "<img>", "</img>"
    tokenizer.image_token_id = tokenizer.convert_tokens_to_ids("<image>")
    return tokenizer


def janus_processor() -> JanusProcessor:
    """It writes images as we do: `<img>`, 32 times `<image>`, `</img>`."""
    ours = tiny_processor()
    reference = JanusProcessor(
        ours.image_processor, janus_tokenizer(), chat_template=ours.chat_template, num_image_tokens=32
    )
    reference.image_token_id = reference.tokenizer.image_token_id
    return reference
