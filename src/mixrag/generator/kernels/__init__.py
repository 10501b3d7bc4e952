"""Faster forms of a model's layers; each has its exact reference in torch or transformers."""
