"""The cache of stage II: what its frozen networks compute, stored once."""
