"""The store of a folder: documents, passages, vectors and words in one SQLite file. All SQL of SQLite is here."""
