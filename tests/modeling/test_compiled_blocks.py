"""The compiled half that sees: no graph breaks, nothing compiled again for another batch size, the same codes."""

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from seed_hf.modeling.finite_values_seed import NotFiniteError
from tiny import tiny_tokenizer


def test_blocks_are_compiled_once_for_all_batch_sizes():
    tokenizer = tiny_tokenizer().eval()
    images = torch.randn(5, 3, *[tokenizer.config.vision_config.image_size] * 2)
    codes, names = tokenizer.encode(images), list(tokenizer.state_dict())
    torch._dynamo.reset()
    counter = CompileCounter()
    tokenizer.compile_blocks(backend=counter)  # with fullgraph=True, so a graph break is an error
    assert all(torch.equal(tokenizer.encode(images[:batch]), codes[:batch]) for batch in (2, 3, 5))
    kinds = 1 + min(
        2, len(tokenizer.qformer.encoder.layer)
    )  # of blocks: the ViT's, the Q-Former's with an image, without
    assert counter.frame_count == kinds
    assert list(tokenizer.state_dict()) == names
    with pytest.raises(NotFiniteError, match="row 1 of 2"):
        tokenizer.encode(torch.stack([images[0], images[0] / 0]))
