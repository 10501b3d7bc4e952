"""What a language model is known by on other machines: equal fingerprints, equal likelihoods, up to rounding."""

from __future__ import annotations

import hashlib
import json

from mixrag.config.bundle import NO_ADAPTER
from mixrag.config.default_models import default_generator, packaged_reader
from mixrag.config.model_config import ModelConfig, changing_numbers, known_by
from mixrag.generator.loading import default_prompt


def generator_fingerprint(models: ModelConfig) -> str:
    """16 hexadecimal digits of all that p(y | x, z) depends on: model, adapter, prompt, and int8 with its engine.

    Files count by their content, wherever they are. float32, bfloat16 and float16 of one model are one: how far
    those round is known (``generator.rounding``). A model behind a server is known by its address.
    """
    given, adapter = models.generator, models.adapter
    if adapter is None and given is None:
        adapter = packaged_reader()
    elif str(adapter) == NO_ADAPTER:
        adapter = None
    prompt = (models.prompt or default_prompt(given, models.adapter)).with_arguments(models.template_args)
    named = [known_by(default_generator() if given is None else given), known_by(adapter)]
    content = json.dumps([*named, prompt.fields(), *changing_numbers(models)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
