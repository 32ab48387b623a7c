"""lmms-eval's own command, with the model `seed`: `lmms_eval_seed.py --model seed --model_args ... --tasks ...`."""

import sys

from lmms_eval.cli.dispatch import main
from lmms_eval.models import MODEL_REGISTRY_V2
from lmms_eval.models.registry_v2 import ModelManifest


MODEL_REGISTRY_V2.register_manifest(ModelManifest("seed", simple_class_path="seed_lmms.SeedLmms"))

if __name__ == "__main__":
    sys.exit(main())
