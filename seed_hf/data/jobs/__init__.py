"""Jobs over a source that may be killed at any moment: plan, shards, locks, decoding, tokenizing."""
