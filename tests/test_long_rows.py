"""What is said of an image does not depend on what is said beside it."""

import pytest
import torch

from seed_hf.texts import generate_texts
from tiny_diffusion import tiny_model_and_processor


@pytest.fixture(scope="module")
def pair():
    return tiny_model_and_processor()


def test_a_long_question_does_not_cut_the_answers_beside_it(pair):
    model, processor = pair
    room = model.config.text_config.max_position_embeddings
    codes = torch.arange(32).repeat(4, 1)
    questions = ["what is this?", "what is this " + "x" * 60 + "?", "why?", "what is that " + "x" * 52 + "?"]
    prompts = [processor.ask(codes=codes[:1], questions=question) for question in questions]
    lengths = [prompt.input_ids.shape[1] for prompt in prompts]
    assert lengths[0] + 32 <= room < lengths[1] + 32 and lengths[1] < room and lengths[1] != lengths[3]
    alone = [generate_texts(model, processor, prompt)[0] for prompt in prompts]
    assert generate_texts(model, processor, processor.ask(codes=codes, questions=questions)) == alone
    beams = [generate_texts(model, processor, prompt, num_beams=2)[0] for prompt in prompts]
    assert generate_texts(model, processor, processor.ask(codes=codes, questions=questions), num_beams=2) == beams
