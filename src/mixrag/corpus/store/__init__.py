"""The store: documents, passages, vectors and words in one SQLite file. All SQL of mixrag is here."""
