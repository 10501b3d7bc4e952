"""Stores in LanceDB tables, in a folder or in object storage."""
