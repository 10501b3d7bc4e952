"""Faster versions of a model's layers; the reference of each is the layer of torch or transformers itself."""
