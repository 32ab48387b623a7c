"""The embedded data set of pictograms: how it is built, read, and asked about."""
