"""Answers: what a person or a program is told, and the pipeline from a question to it."""
