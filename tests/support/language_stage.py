"""A small run of the language-model stage or the instruction stage: model, data, configuration and trainer."""

import torch

from seed_hf.data.batches.instruction import InstructionCollator
from seed_hf.data.batches.language_model import LanguageModelCollator
from seed_hf.modeling.configuration_seed import SeedTextConfig
from seed_hf.modeling.modeling_seed_text import SeedForCausalLM
from seed_hf.training.instruction import InstructionConfig
from seed_hf.training.language_model import LanguageModelConfig, LanguageModelTrainer
from stages import settings
from tiny import tiny_text_tokenizer


def text_config(**overrides):
    settings = {
        "text_vocab_size": len(tiny_text_tokenizer()),
        "codebook_size": 64,
        "code_dim": 8,
        "hidden_size": 32,
        "word_embed_proj_dim": 32,
        "ffn_dim": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 96,
        "dropout": 0.1,
        "init_std": 0.1,
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
        **overrides,
    }
    return SeedTextConfig(**settings)


def tiny_language_model(seed=0, **overrides):
    torch.manual_seed(seed)
    return SeedForCausalLM(text_config(**overrides))


def collator(**kwargs):
    return LanguageModelCollator(tiny_text_tokenizer(), text_config(), **kwargs)


def rows(number=16):
    names = ["a red apple", "the blue fire engine", "a question", "an answer"]
    codes = torch.randint(0, 64, (4, 32), generator=torch.Generator().manual_seed(0)).tolist()
    return [
        {"codes": codes[i % 4], "caption": f"{names[i % 4]}", "questions": [("what is shown?", names[i % 4])]}
        for i in range(number)
    ]


def config(folder, **overrides):
    return LanguageModelConfig(**settings(folder, **{"learning_rate": 5e-3, "max_steps": 8, "lora_r": 4, **overrides}))


def trainer_for(model, args, data=None, mix=None, **kwargs):
    return LanguageModelTrainer(
        model, args, data_collator=collator(directions=mix), train_dataset=data or rows(), **kwargs
    )


def instruction_collator(**kwargs):
    return InstructionCollator(tiny_text_tokenizer(), text_config(prompt_format="vicuna"), **kwargs)


def conversations(number=16):
    """Questions about an image, requests for one, chats of two turns without images, and pairs."""
    found = []
    for i, row in enumerate(rows(number)):
        image, answer = {"type": "image", "codes": row["codes"]}, row["caption"]
        turns = (
            ([image, {"type": "text", "text": "what is shown?"}], answer),
            (f"Draw {answer}", [{"type": "text", "text": "Here."}, image]),
            (answer, "yes", "and?", answer),
        )
        roles = ("user", "assistant") * 2
        chat = [{"role": role, "content": content} for role, content in zip(roles, turns[i % 4 - 1])]
        found.append({"messages": chat} if i % 4 else row)
    return found


def instruction_config(folder, **overrides):
    return InstructionConfig(
        **settings(folder, **{"learning_rate": 5e-3, "max_steps": 8, "lora_r": 4, "warmup_steps": 0, **overrides})
    )
