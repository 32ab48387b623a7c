"""torch.compile for the half of the visual tokenizer that sees, block by block."""

from typing import Any


class CompiledBlocks:
    """A mix-in for a model with a ViT, `vision_model`, and a Q-Former, `qformer`."""

    vision_model: Any
    qformer: Any

    def compile_blocks(self, **options) -> None:
        """Compile the blocks of ViT and Causal Q-Former in place; they are compiled when they first run.

        Blocks of a kind share what is compiled: three kinds, each once for single images and once for all other batch
        sizes. Names of weights, saving, and the errors of NaN stay as they are.

        Args:
            options: Of `torch.compile`, in place of `dynamic=True, fullgraph=True`.
        """
        for block in (*self.vision_model.encoder.layers, *self.qformer.encoder.layer):
            block.compile(**{"dynamic": True, "fullgraph": True, **options})


__all__ = ["CompiledBlocks"]
