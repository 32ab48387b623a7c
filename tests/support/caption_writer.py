"""Images with captions, and a decoder that writes captions of embeddings, for stage II."""

import torch
from torch import nn

from stage_two import images


WORDS = 12


class Writer(nn.Module):
    """Logits of the next word from the mean embedding and the word before."""

    def __init__(self, width):
        super().__init__()
        torch.manual_seed(0)
        self.seen, self.words = nn.Linear(width, WORDS), nn.Embedding(WORDS, WORDS)

    def forward(self, embeddings, input_ids):
        return self.seen(embeddings.mean(1))[:, None] + self.words(input_ids)


def captioned(number=16):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(WORDS, (number, 5), generator=generator)
    mask = (torch.arange(5) < torch.randint(2, 6, (number, 1), generator=generator)).long()
    return [{**row, "input_ids": i, "attention_mask": m} for row, i, m in zip(images(number), ids, mask)]


def writer_for(model):
    return Writer(model.config.qformer_config.hidden_size)
