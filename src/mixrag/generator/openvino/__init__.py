"""Causal language models on processors through OpenVINO: converted once, then run without torch's model."""
