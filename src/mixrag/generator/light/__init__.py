"""Models and tokenizers of which only files and torch are needed: a new process answers without transformers."""
