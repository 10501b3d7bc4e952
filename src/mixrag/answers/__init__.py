"""Answers: the pipeline from a question to an answer, its explanation, its confidence."""
