"""Files, hashing, HTML, processor features: what has nothing to do with retrieval or language models."""
