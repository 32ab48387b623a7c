"""`seed-hf env`: what a bug report needs to say about the machine."""

import json

from .shared import AsJson, say


def env(as_json: AsJson = False):
    """Print versions, devices and threads for a bug report; no paths, user names or tokens."""
    from seed_hf.environment import environment

    found = environment()
    if as_json:
        say(json.dumps(found, indent=1))
        return
    width = max(map(len, found))
    for name, value in found.items():
        say(f"{name:<{width}}  {value}")
