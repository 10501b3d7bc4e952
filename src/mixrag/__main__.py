"""``python -m mixrag``."""

from mixrag.cli import main

main()
