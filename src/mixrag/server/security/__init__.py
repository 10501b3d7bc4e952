"""Who may ask, from where, and how much: everything that a request passes through before its route.

Pure ASGI middlewares, so that answers stream; ``stack.protected`` says in which order. ``policy.Security`` is what
they are made of, and ``protocol`` guards the connections themselves.
"""
