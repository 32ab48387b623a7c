"""Data: the pictogram set (how it is built, read and asked about)."""
