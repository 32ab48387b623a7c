"""A thousand samples of each family in each mode, and ten thousand hostile texts for each kind of text tokenizer.

`tests/modeling/test_families.py` takes a sample.
"""

import random

import pytest
import torch

from family_sweeps import extended_family, images_of_samples, text_processors
from hostile_prompts import TextToIds, hostile_text
from seed_hf.modeling.generation_seed import GENERATION_MODES
from tiny_families import FAMILIES


@pytest.mark.soak
@pytest.mark.parametrize("mode", GENERATION_MODES)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_thousand_samples_are_valid(name, mode, tmp_path):
    model = extended_family(name, tmp_path)
    images_of_samples(model, mode, 1000)
    if mode != "text":
        torch.manual_seed(2)
        images_of_samples(model, mode, 1000, code_guidance_scale=2.5)


@pytest.mark.soak
@pytest.mark.parametrize("kind", text_processors())
def test_no_text_becomes_a_code(kind):
    ways, draw = [TextToIds(processor) for processor in text_processors()[kind]], random.Random(1)
    for number in range(10_000):
        ways[number % len(ways)].check(hostile_text(draw))
