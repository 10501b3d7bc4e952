"""HTML pages that need nothing else: no script, no font, no network.

What a page shows are data from strangers. Jinja2 escapes all of them, characters that HTML forbids or that turn
the writing direction are replaced, and the page's policy lets a browser load nothing and run nothing but the one
style sheet, known by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import math
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mixrag.utils.text import printable


def page(name: str, *, images: bool = False, **values: Any) -> str:
    """The page of the templates ``name``.html and ``name``.css over these values; with ``images``, PNGs in it."""
    style = resources.files("mixrag.utils").joinpath(f"templates/{name}.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    policy += "; img-src data:" if images else ""
    return _environment().get_template(f"{name}.html").render(**values, css=Markup(style), policy=policy)


def probability(p: float) -> str:
    """A probability for reading; only what is 0 or 1 is shown as 0 or 1."""
    if not 0.0 < p < 1.0:
        return "undefined" if math.isnan(p) else f"{p:.0f}"
    if p > 0.99995:
        return "> 0.9999"
    return f"{p:.4f}" if p >= 0.0001 else f"{p:.1e}".replace("-", "−")


def nats(x: float, sign: bool = False) -> str:
    """A logarithm for reading; with ``sign``, + where it is above 0. What rounds to 0 has none."""
    if math.isnan(x):
        return "undefined"
    shown = f"{abs(x):.3f}" if math.isfinite(x) else "∞"
    if shown == "0.000":
        return shown
    return ("−" if x < 0 else "+" if sign else "") + shown


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mixrag.utils"),
        autoescape=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= {"probability": probability, "nats": nats, "exp": math.exp}
    return environment
