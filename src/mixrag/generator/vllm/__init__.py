"""Causal language models inside vLLM, whose logits processor mixes the branches of each question."""
