"""The judge of scenes: what is drawn, how many, in which colours, and where. It shares nothing with the models."""
