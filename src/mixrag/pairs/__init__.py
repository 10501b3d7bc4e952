"""Pairs of a question and its answers: formats, SQuAD normalisation, text matching."""
