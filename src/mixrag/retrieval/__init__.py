"""p(passage | question): encoders, index, retriever."""
