"""Rows to batches: collators, packing, augmentation."""
