"""Guidance on codes the plain way, which `generate` must equal."""

import torch

from seed_hf.modeling.generation_seed import VisualSpanLogitsProcessor
from seed_hf.modeling.visual_vocabulary_seed import VisualVocabulary


def eager_to_draw(layout, strength=6.0):
    """Settings that make a random model open image spans often."""
    return {"sequence_bias": [[[layout.boi_token_id], strength]]}


@torch.no_grad()
def guided_scores(model, ids, scale, bos=0):
    """The plain way, of the token after each place: a pass over the row, and one over bos and each of its images."""
    layout = VisualVocabulary.of(model.config)
    scores = model(torch.tensor([ids])).logits[0]
    for begin in [place for place, token in enumerate(ids) if token == layout.boi_token_id]:
        stop = begin + 1
        while stop < min(len(ids), begin + layout.num_query_tokens) and layout.is_code(ids[stop]):
            stop += 1
        empty = [] if bos is None else [bos]
        alone = model(torch.tensor([empty + ids[begin:stop]])).logits[0, len(empty) :].log_softmax(-1)
        scores[begin:stop] = alone + scale * (scores[begin:stop].log_softmax(-1) - alone)
    return scores


def assert_two_passes(model, ids, start, scale, *, mode="image", total=None, bos=0, strength=6.0):
    """Every new token of a row is the most likely one of the two passes, and the row has all its tokens.

    Args:
        model: A language model with an eos of 2.
        ids: A row that was generated greedily, without padding before it.
        start: Length of the prompt.
        scale, mode: What it was generated with.
        total: Length at which generation stopped, if the row does not end with eos.
        bos: Of the empty prompt, if it has one.
        strength: Of `eager_to_draw`, if it was generated with that.
    """
    layout = VisualVocabulary.of(model.config)
    end = ids.index(2, start) + 1 if 2 in ids[start:] else len(ids)
    assert end == total or ids[end - 1] == 2
    scores = guided_scores(model, ids[:end], scale, bos)
    scores[:, layout.boi_token_id] += strength
    constraint = VisualSpanLogitsProcessor(layout, mode, prompt_length=start, max_length=total, eos_token_id=2)
    for place in range(start, end):
        allowed = constraint(torch.tensor([ids[:place]]), scores[place - 1 : place])
        assert int(allowed.argmax()) == ids[place], place
