"""Shards: a corpus in parts, each of which answers for itself."""
