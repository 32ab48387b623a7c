"""Makes the Auto classes of transformers, diffusers and `push_to_hub` know the SEED classes.

Importing this module is enough.

After it, `AutoModel.from_pretrained(folder)` and its relatives load a SEED folder without `trust_remote_code`,
`DiffusionPipeline.from_pretrained` knows a folder that names `SeedImagePipeline`, and
`push_to_hub` of the SEED classes writes a model card from the templates. (Each class names its own Auto class in
`_auto_class`, so `save_pretrained` writes the code beside the weights with or without this module.)
"""

from importlib import import_module
from types import ModuleType

from seed_hf.modeling.import_hook_seed import when_imported
from seed_hf.modeling.publishing_seed import PrivateByDefault  # importing the models registers them


def lend_name(library: str, name: str, module: str) -> None:
    """Gives another library a public name of ours, as if it were its own. Neither is imported for that.

    Args:
        library: Name of the package. If it is imported later, it has the name from then on.
        name: What it lacks. A name that it has stays as it is.
        module: The module of ours that defines it.
    """
    when_imported(library, lambda imported: _lend(imported, name, module))


def _lend(library: ModuleType, name: str, module: str) -> None:
    if not hasattr(library, name):
        found = property(lambda self: getattr(import_module(module), name))
        library.__class__ = type(type(library).__name__, (type(library),), {name: found})


_plain_push = PrivateByDefault.push_to_hub


def _push_with_card(self, repo_id, *args, private=True, **kwargs):
    """Publish with a model card in one commit, private unless told otherwise; see `seed_hf.hub.saved`."""
    from seed_hf.hub.saved import has_card, push_object

    if args or not has_card(self):
        return _plain_push(self, repo_id, *args, private=private, **kwargs)
    return push_object(self, repo_id, private=private, **kwargs)


PrivateByDefault.push_to_hub = _push_with_card  # type: ignore[method-assign] # the models cannot know of cards

# diffusers looks for the class of a pipeline among its own names.
lend_name("diffusers", "SeedImagePipeline", "seed_hf.pipelines.pipeline_seed_image")
