"""Stores: the contract (``protocol``), how one is named and opened, and a folder for each backend."""
