"""The store that the server's tests ask, and a server on loopback."""

from __future__ import annotations

from listening import listening, wait_until

TEXTS = {
    "cod.txt": "A licence to fish cod costs nine crowns a year.",
    "eel.txt": "A licence to fish eel costs four crowns a season.",
    "hen.txt": "Hens lay fewer eggs during winter.",
}
QUESTION = "What does a licence for cod cost?"
ANSWERS = {
    "cod": {"nine crowns": 0.9, "four crowns": 0.05},
    "eel": {"four crowns": 0.8, "nine crowns": 0.1},
    "": {"nine crowns": 0.3, "four crowns": 0.3},
}
"""What the language model answers where a passage has this word."""
__all__ = ["ANSWERS", "QUESTION", "TEXTS", "listening", "wait_until"]
