"""GenEval's detector for photographs: boxes around masks, colours by CLIP, thresholds."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessor, SwinConfig

from seed_hf.evaluation.photo_detector import COLOURS, PhotoDetector, geneval_names
from tiny_clip import save_clip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    pytest.importorskip("scipy")  # of transformers' Mask2Former
    root = tmp_path_factory.mktemp("detector")
    torch.manual_seed(0)
    stages = [f"stage{number}" for number in range(1, 5)]
    swin = SwinConfig(
        image_size=32, embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=4, out_features=stages
    )
    sizes = dict.fromkeys(("feature_size", "mask_feature_size", "hidden_dim", "dim_feedforward"), 32)
    config = Mask2FormerConfig(
        backbone_config=swin,
        encoder_feedforward_dim=32,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        num_queries=5,
        id2label={0: "dog", 1: "cup", 2: "hot dog"},
        **sizes,
    )
    Mask2FormerForUniversalSegmentation(config).save_pretrained(root / "detector")
    Mask2FormerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(root / "detector")
    save_clip(root / "clip")
    return root


def test_objects_have_boxes_and_colours(folders):
    random = np.random.default_rng(0)
    images = [Image.fromarray(random.integers(0, 255, (40, 50, 3), dtype=np.uint8)) for _ in range(2)]
    detector = PhotoDetector(folders / "detector", folders / "clip", threshold=0.0, device="cpu")
    assert detector.labels == ("dog", "cup", "hot dog") and detector.facts["counting_threshold"] == 0.9
    found = detector.detect(images)
    assert found[1] == detector.detect(images[1:])[0] and found[0] != found[1]
    assert found[0]
    for each in found[0]:
        left, top, right, bottom = each.box
        assert 0 <= left < right <= 50 and 0 <= top < bottom <= 40
        assert each.label in detector.labels and each.colour in COLOURS and 0 < each.score <= 1
    sure = PhotoDetector(folders / "detector", folders / "clip", threshold=0.99, device="cpu")
    assert sure.detect(images) == [[], []]


def test_labels_are_those_of_genevals_prompts():
    """Where COCO's 80 objects have other names in GenEval's prompts, or in the models that the Hub has."""
    objects = (
        "person bicycle car motorcycle airplane bus train truck boat traffic_light fire_hydrant stop_sign "
        "parking_meter bench bird cat dog horse sheep cow elephant bear zebra giraffe backpack umbrella "
        "handbag tie suitcase frisbee skis snowboard sports_ball kite baseball_bat baseball_glove skateboard "
        "surfboard tennis_racket bottle wine_glass cup fork knife spoon bowl banana apple sandwich orange "
        "broccoli carrot hot_dog pizza donut cake chair couch potted_plant bed dining_table toilet tv laptop "
        "computer_mouse tv_remote computer_keyboard cell_phone microwave oven toaster sink refrigerator book "
        "clock vase scissors teddy_bear hair_drier toothbrush"
    )
    asked = [name.replace("_", " ") for name in objects.split()]
    assert len(asked) == 80
    coco = {"computer mouse": "mouse", "tv remote": "remote", "computer keyboard": "keyboard"}
    hub = {"motorcycle": "motorbike", "airplane": "aeroplane", "couch": "sofa", "potted plant": "pottedplant"}
    hub |= {"dining table": "diningtable", "tv": "tvmonitor", **coco}
    for other in ({}, coco, hub):
        labels = {number: other.get(name, name) for number, name in enumerate(asked)}
        assert list(geneval_names(labels).values()) == asked


def test_what_is_no_detector_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no detector here"):
        PhotoDetector(tmp_path, tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "detr"}')
    with pytest.raises(ValueError, match="a model of type 'detr'"):
        PhotoDetector(tmp_path, tmp_path)
