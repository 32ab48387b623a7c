"""Rows to tensors: collators, packing, augmentation."""
