"""Learning from question-answer pairs alone: retriever, generator or both, by the marginal likelihood."""
