"""`upright_rgb`, loaded from its file: the package around it, `seed_hf.modeling`, imports transformers and torch.

Processes that only decode images would spend seconds and hundreds of megabytes on them.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from seed_hf.modeling.image_preparation_seed import UnusableImageError, upright_rgb


def _module():
    name = "seed_hf.modeling.image_preparation_seed"
    if name not in sys.modules:
        package = find_spec("seed_hf.modeling")
        assert package is not None and package.submodule_search_locations  # a part of this package
        spec = spec_from_file_location(name, Path(package.submodule_search_locations[0]) / "image_preparation_seed.py")
        assert spec is not None and spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[name] = module  # the one that the package finds when it is imported
    return sys.modules[name]


if not TYPE_CHECKING:
    UnusableImageError, upright_rgb = _module().UnusableImageError, _module().upright_rgb

__all__ = ["UnusableImageError", "upright_rgb"]
