"""mixrag's own endpoints: the whole mixture of an answer, its passages, and the documents of a store."""
