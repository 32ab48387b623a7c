"""Work over a source that may be killed at any moment: plan, shards, lock, decoding, tokenizing."""
