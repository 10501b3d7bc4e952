"""mixrag inside other frameworks, each with an extra of its name: ``langchain``, ``llama_index``, ``haystack``.

Each module has a retriever, whose scores are the prior p(z | x), and one that answers, with the probability of the
answer and the posterior of its passages. Import the module that you need; this package imports none of them.
"""
