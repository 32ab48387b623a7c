"""The authors' name of each parameter of a [`SeedTokenizer`].

Sources: `models/visual_tokenizer.py` (branch v1), `models/seed_qformer/` and `SEED_Tokenizer/` (branch main) of the
authors' release, and LAVIS, from which they took the names of BLIP-2.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class OriginalNames:
    """The authors' names of one release.

    Args:
        target: "text" or "image", which is a part of names such as `blocks_text`.
        reverse_suffix: "" or "_text": in branch main the Reverse Q-Former of the text target is called
            `Reverse_Qformer_text`.
    """

    target: str = "text"
    reverse_suffix: str = ""

    def of(self, name: str) -> tuple[str, ...]:
        """The authors' name of a parameter, or two: they store the biases of queries and values apart.

        Args:
            name: Of our parameter.

        Raises:
            KeyError: A [`SeedTokenizer`] has no such parameter.
        """
        for pattern, replacement in self._rules():
            renamed, count = pattern.subn(replacement, name)
            if count:
                renamed = (_in_qformer if ".bert." in renamed else _in_vit)(renamed)
                if renamed.startswith("visual_encoder.") and renamed.endswith("attn.qkv.bias"):
                    stem = renamed.removesuffix("qkv.bias")
                    return f"{stem}q_bias", f"{stem}v_bias"  # the keys have no bias
                return (renamed,)
        raise KeyError(f"{name} has no name in the authors' checkpoints.")

    def _rules(self) -> list[tuple[re.Pattern, str]]:
        target, reverse = self.target, self.reverse_suffix
        rules = {
            r"vision_model\.embeddings\.class_embedding": "visual_encoder.cls_token",
            r"vision_model\.embeddings\.position_embedding": "visual_encoder.pos_embed",
            r"vision_model\.embeddings\.patch_embedding": "visual_encoder.patch_embed.proj",
            r"vision_model\.encoder\.layers": "visual_encoder.blocks",
            r"vision_model\.post_layernorm": "ln_vision",
            r"query_tokens": "query_tokens",
            r"qformer": "Qformer.bert",
            r"text_embeddings": "Qformer.bert.embeddings",
            r"vision_projection": "vision_proj",
            r"text_projection": "text_proj",
            r"temperature": "temp",
            r"code_encoder": "encode_task_layer",
            r"quantizer": "quantize",
            r"code_decoder": "decode_task_layer",
            r"embedding_decoder\.position_embeddings": "pos_embed",
            r"embedding_decoder\.encoder\.layers": "blocks",
            r"generation_decoder\.decoder\.position_embeddings": f"pos_embed_{target}",
            r"generation_decoder\.decoder\.encoder\.layers": f"blocks_{target}",
            r"generation_decoder\.query_tokens": f"reverse_tokens{reverse}",
            r"generation_decoder\.reverse_qformer": f"Reverse_Qformer{reverse}.bert",
            r"generation_decoder\.bottleneck": "image_down",
            r"generation_decoder\.projection": f"distill_{target}_proj",
        }
        return [(re.compile(rf"^{ours}(?=\.|$)"), theirs) for ours, theirs in rules.items()]


def _in_vit(name: str) -> str:
    """Names in the blocks of the ViT and of the code decoders, which are those of timm."""
    name = name.replace(".self_attn.projection.", ".attn.proj.").replace(".self_attn.", ".attn.")
    return name.replace(".layer_norm", ".norm")


def _in_qformer(name: str) -> str:
    """Names in the Q-Formers, which are those of LAVIS' BERT."""
    name = name.replace(".bert.layernorm.", ".bert.embeddings.LayerNorm.")
    return name.replace("attention.attention.", "attention.self.")


# Keys that a checkpoint may have and the converted model may not need: parts that no class reads, the text tower if it
# is left out, the branch of the other target, and stage II if only stage I is wanted. The patterns are exact, so that
# no misspelt key matches them.
_WB = r"\.(weight|bias)"
_BLOCK = rf"\.\d+\.(norm[12]{_WB}|attn\.([qv]_bias|(qkv|proj){_WB})|mlp\.fc[12]{_WB})"
_BERT_LAYER = (
    rf"((cross)?attention\.(self\.(query|key|value)|output\.(dense|LayerNorm)){_WB}"
    rf"|intermediate(_query)?\.dense{_WB}|output(_query)?\.(dense|LayerNorm){_WB})"
)
_BERT = (
    rf"\.(cls\..*|bert\.(pooler\.dense{_WB}|embeddings\.(position_ids|LayerNorm{_WB}"
    rf"|(word|position|token_type)_embeddings\.weight)|encoder\.layer\.\d+\.{_BERT_LAYER}))"
)
_SPARE = re.compile(
    rf"visual_encoder\.((norm|fc_norm|head){_WB}|blocks{_BLOCK})"
    rf"|(Reverse_)?Qformer(_text)?{_BERT}"
    rf"|(vision_proj|text_proj|itm_head){_WB}|temp"
    rf"|blocks(_text|_image)?{_BLOCK}|pos_embed(_text|_image)?|reverse_tokens(_text)?"
    rf"|distill_(text|image)_proj{_WB}|image_down\.\d\.weight"
    rf"|quantize\.embedding\.weight|(en|de)code_task_layer\.[02]{_WB}"
)


def is_known(key: str) -> bool:
    """Whether the authors' classes or LAVIS' BLIP-2 have such a key.

    Args:
        key: Of a checkpoint.
    """
    return _SPARE.fullmatch(key) is not None
