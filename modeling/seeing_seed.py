"""Running the half of the visual tokenizer that sees: ViT and Causal Q-Former on images, Q-Former on texts."""

from typing import Any

import torch
from torch.nn import functional as F
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPooling, BaseModelOutputWithPoolingAndCrossAttentions

from .cache_name_seed import CACHE
from .checked_inputs_seed import check_caption_ids, check_pixel_values
from .empty_batches_seed import takes_empty_batches
from .offloading_seed import at_hand


def asked_outputs(
    tokenizer: Any, output_hidden_states: bool | None = None, output_attentions: bool | None = None
) -> dict[str, bool]:
    """The options that make ViT and Q-Former return more than their results.

    Args:
        tokenizer ([`SeedTokenizer`]): The tokenizer.
        output_hidden_states, output_attentions: `None` is what its configuration says.

    Raises:
        ValueError: Attentions are asked for, but the attention in use does not keep them.
    """
    asked = {"output_hidden_states": output_hidden_states, "output_attentions": output_attentions}
    asked = {name: getattr(tokenizer.config, name) if value is None else value for name, value in asked.items()}
    in_use = {part.config._attn_implementation for part in (tokenizer.vision_model, tokenizer.qformer)}
    if asked["output_attentions"] and in_use != {"eager"}:
        raise ValueError(
            f"output_attentions needs eager attention, which keeps the weights; in use: {', '.join(sorted(in_use))}. "
            'Call set_attn_implementation("eager"), or load the model with attn_implementation="eager".'
        )
    return {name: value for name, value in asked.items() if value}


@takes_empty_batches
def see_images(
    tokenizer: Any, pixel_values: torch.Tensor | None, vision_embeddings: torch.Tensor | None = None, **outputs: bool
) -> tuple[BaseModelOutputWithPooling | None, BaseModelOutputWithPoolingAndCrossAttentions]:
    """What ViT and Causal Q-Former return for images. The ViT's is `None` where its embeddings are given.

    Args:
        tokenizer ([`SeedTokenizer`]): The tokenizer.
        pixel_values: `(batch, 3, image_size, image_size)`.
        vision_embeddings: `(batch, patches + 1, vision width)`, instead of pixel values.
        outputs: Of [`asked_outputs`].
    """
    vision = None
    if vision_embeddings is None:
        vision = tokenizer.vision_model(check_pixel_values(pixel_values, tokenizer.config), **outputs)
        vision_embeddings = vision.last_hidden_state
    queries = at_hand(tokenizer, "query_tokens").expand(vision_embeddings.shape[0], -1, -1)
    mask = None
    if tokenizer.config.causal_queries:
        # An explicit mask, in the form of the attention implementation; without it, queries see later ones.
        mask = create_causal_mask(
            config=tokenizer.qformer.config,
            inputs_embeds=queries,
            attention_mask=None,
            **{CACHE: None},
            allow_is_causal_skip=False,
        )
    found = tokenizer.qformer(queries, encoder_hidden_states=vision_embeddings, attention_mask=mask, **outputs)
    if found.attentions:  # transformers puts the cross-attentions among these, too
        found["attentions"] = tuple(w for w in found.attentions if not any(w is c for c in found.cross_attentions))
    return vision, found


def read_texts(
    tokenizer: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor | None, **outputs: bool
) -> BaseModelOutputWithPooling:
    """What the Q-Former returns for texts. `pooler_output` is the first token's state in the shared space of stage I.

    Args:
        tokenizer ([`SeedTokenizer`]): A tokenizer with a text tower.
        input_ids, attention_mask: `(batch, length)`.
        outputs: Of [`asked_outputs`].
    """
    check_caption_ids(input_ids, tokenizer.config)
    if attention_mask is None:
        attention_mask = torch.ones_like(input_ids)
    # Not by its forward, which moves ids to where the weights are: nowhere, if they were offloaded.
    table, places = tokenizer.text_embeddings, torch.arange(input_ids.shape[1], device=input_ids.device)
    words = table.word_embeddings(input_ids) + table.position_embeddings(places)
    found = tokenizer.qformer(words, query_length=0, attention_mask=attention_mask, **outputs)
    return BaseModelOutputWithPooling(
        last_hidden_state=found.last_hidden_state,
        pooler_output=F.normalize(tokenizer.text_projection(found.last_hidden_state[:, 0]), dim=-1),
        hidden_states=found.hidden_states,
        attentions=found.attentions,
    )


__all__ = ["asked_outputs", "read_texts", "see_images"]
