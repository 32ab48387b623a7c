"""What transformers calls the keys and values of earlier tokens: `cache` from 5.24 on, `past_key_values` before."""

from typing import Any

from transformers.modeling_outputs import CausalLMOutputWithPast


CACHE_NAMES = ("past_key_values", "cache")
CACHE = "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"


def given_cache(past_key_values: Any, cache: Any) -> dict[str, Any]:
    """The argument for the library, of the two names that a caller may use; none if there is no cache.

    Raises:
        ValueError: Both are given.
    """
    if past_key_values is not None and cache is not None:
        raise ValueError("past_key_values and cache are two names of one argument: give one.")
    given = past_key_values if cache is None else cache
    return {} if given is None else {CACHE: given}


__all__ = ["CACHE", "CACHE_NAMES", "given_cache"]
