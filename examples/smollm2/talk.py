"""Talk with the trained model about an image, and let it draw.

    python examples/smollm2/talk.py --model runs/smollm2/model examples/pig.png "What is its main colour?"
    python examples/smollm2/talk.py --model runs/smollm2/model --draw "a red apple" --out apple.png

Questions are turns of one chat: the image stands in the first, and each answer is part of what the next one reads.
"""

import argparse
import logging
from pathlib import Path

import torch
from transformers.utils import logging as transformers_logging

from seed_hf.artifacts.loading import load_model, load_pipeline
from seed_hf.files import whole_file
from seed_hf.images import load_image
from seed_hf.texts import describe


def answers(model, processor, image, questions: list[str]) -> list[str]:
    """The answer to each question, all in one chat.

    Args:
        model: A `SeedForConditionalGeneration`.
        processor: Its `SeedProcessor`.
        image: A PIL image, encoded once: later turns read the same codes.
        questions: Turn after turn.
    """
    pixel_values = processor(images=image, return_tensors="pt").pixel_values.to(model.device)
    codes = model.visual_tokenizer.encode(pixel_values)[0].tolist()
    chat, said = [], []
    for question in questions:
        parts = [{"type": "text", "text": question}]
        if not chat:
            parts.insert(0, {"type": "image", "codes": codes})
        chat.append({"role": "user", "content": parts})
        inputs = processor.apply_chat_template(
            chat, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        ).to(model.device)
        with torch.inference_mode():
            ids = model.generate(**inputs, generation_mode="text", do_sample=False, max_new_tokens=32)
        new = ids[:, inputs["input_ids"].shape[1] :]
        said.append(processor.post_process_multimodal_output(new, generation_mode="text")[0].strip())
        chat.append({"role": "assistant", "content": said[-1]})
    return said


def draw(model, processor, prompt: str, diffusion: str | None, seed: int):
    """A PIL image: the model writes 32 codes, and the diffusion part of another pipeline draws them.

    Args:
        model, processor: As above.
        prompt: What to draw.
        diffusion: Folder or Hub id of a pipeline for the same codes; `None` for seed-tiny's.
        seed: Of the noise.
    """
    pipe = load_pipeline(diffusion, seed_model=model, processor=processor)
    return pipe(prompt, generator=torch.Generator().manual_seed(seed)).images[0]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", nargs="?", help="image file to talk about")
    parser.add_argument("questions", nargs="*", help="asked one after the other; without any the image is described")
    parser.add_argument("--model", required=True, help="folder that smollm2.py wrote: runs/smollm2/model")
    parser.add_argument("--draw", metavar="PROMPT", help="what to draw")
    parser.add_argument("--out", type=Path, default=Path("drawn.png"), help="image file for --draw (drawn.png)")
    parser.add_argument("--diffusion", help="pipeline that draws the codes (seed-tiny's)")
    parser.add_argument("--seed", type=int, default=0, help="of the drawing's noise (0)")
    arguments = parser.parse_args(argv)
    if not arguments.image and not arguments.draw:
        parser.error("give an image, or --draw PROMPT.")
    model, processor = load_model(arguments.model)
    if arguments.image:
        image = load_image(arguments.image)
        print(f"caption: {describe(model, processor, [image])[0]}")
        for question, answer in zip(arguments.questions, answers(model, processor, image, arguments.questions)):
            print(f"{question} {answer}")
    if arguments.draw:
        drawn = draw(model, processor, arguments.draw, arguments.diffusion, arguments.seed)
        with whole_file(arguments.out) as temporary:
            drawn.save(temporary, format="PNG")
        print(arguments.out)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    transformers_logging.disable_progress_bar()
    main()
