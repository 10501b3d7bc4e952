"""Causal language models in GGUF files, run by llama.cpp in process as they are: quantised weights stay so."""
