"""The SEED language model as an OPT without any code of ours, for programs that serve OPT."""

import torch
from transformers import OPTConfig, OPTForCausalLM


@torch.no_grad()
def plain_opt(model) -> OPTForCausalLM:
    """See [`SeedForCausalLM.to_opt`]."""
    values = model.config.to_dict()
    known = OPTConfig().to_dict()
    # What only SEED knows goes; what only this OPT knows, as its dtype, is set by the weights.
    kept = {name: values[name] for name in known if name in values and name not in ("model_type", "architectures")}
    kept["use_cache"] = True  # training switches it off; a server never wants that
    state = model.state_dict()
    rows = state["model.decoder.embed_tokens.weight"]
    if model.config.visual_embedding == "projected":
        # On the way in a code is its projected codebook vector, on the way out a row of its own: no longer one matrix.
        kept["tie_word_embeddings"] = False
        state = {name: weight for name, weight in state.items() if not name.startswith("visual_")}
        every_id = torch.arange(len(rows), device=rows.device)
        state["model.decoder.embed_tokens.weight"] = model.embed_ids(every_id)
    with torch.device("meta"):
        opt = OPTForCausalLM._from_config(OPTConfig(**kept), dtype=rows.dtype)
    opt.load_state_dict({name: weight.detach().clone() for name, weight in state.items()}, assign=True)
    opt.tie_weights()
    opt.generation_config = model.generation_config
    return opt.train(model.training)


__all__ = ["plain_opt"]
