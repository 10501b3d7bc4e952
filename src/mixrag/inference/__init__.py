"""From components and their likelihoods to an answer: the mixture, decoders, batches, pruning."""
