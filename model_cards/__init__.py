"""Templates of the model cards, one per kind of artifact, and what only people know about the bundled checkpoint."""
