"""What is saved and loaded: the kinds of artifacts, loading any of them, the bundled checkpoint, fingerprints."""
