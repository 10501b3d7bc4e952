"""From the name of a remote language model to a generator: its server, model and tokenizer, and the probe."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2

from mixrag.config.prompt_template import PromptTemplate
from mixrag.config.server_address import Address, address_of
from mixrag.errors import MixragError, ModelError, ServerError
from mixrag.generator.prompt_tokenizer import UNLIMITED_CONTEXT, PromptTokenizer
from mixrag.generator.remote.capabilities import Capabilities
from mixrag.generator.remote.client import NOT_SUPPORTED, Client, Key, Limits, Refused, reason_of
from mixrag.generator.remote.completions import Completions
from mixrag.generator.remote.documents import part
from mixrag.generator.remote.engine import Engine
from mixrag.generator.remote.generator import ListingGenerator, LlamaCppGenerator, RemoteGenerator, TokenizedTexts
from mixrag.generator.remote.llamacpp import LlamaCpp
from mixrag.generator.remote.masked import MaskedEngine, MaskedLister
from mixrag.generator.remote.ollama import Ollama, ProbedLists, probe_lists
from mixrag.generator.remote.pieces import PieceTexts
from mixrag.generator.remote.probe import check_tokenizer, probe
from mixrag.generator.remote.sglang import SGLang
from mixrag.generator.remote.text_writer import CHATS, TextWriter, check_arguments
from mixrag.generator.tokenizer import SAMPLES, loaded_tokenizer
from mixrag.utils.quiet import quiet_libraries
from mixrag.utils.text import printable_name

logger = logging.getLogger("mixrag.generator")
OWNERS = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llamacpp", "library": "ollama", "openai": "openai"}
"""What servers say in ``owned_by`` of their models, and the kind of server that it means."""

Remote = RemoteGenerator | ListingGenerator | LlamaCppGenerator | TextWriter


def connect(
    name: str,
    *,
    tokenizer: Any = None,
    template: PromptTemplate | None = None,
    api_key_env: str | None = None,
    hub: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
) -> Remote:
    """The generator of a remote language model; the server is asked what it can return.

    Args:
        name: as ``address_of`` reads it.
        tokenizer: object, folder or hub name; None is the hub name or folder that ``name`` gives as the model.
        template: the prompt; None is the default one.
        api_key_env: the environment variable that has the key; None: none is sent.
        hub: options of a tokenizer that is loaded from the hub.
        limits: how long the server is waited for.
        transport: in the place of the network, in tests.

    Raises:
        SettingError: an address that is none, or no key in that variable.
        ServerError: the server cannot be reached, refuses, or has no such model.
        ModelError: no tokenizer, or another one than the server's.
    """
    address = address_of(name)
    client = Client(address.url, Key.of_environment(api_key_env), limits, transport)
    kind, card = _model(address, client)
    model = str(card["id"])
    prompts = template or PromptTemplate()
    if kind == "ollama":
        found: Remote = _with_pieces(client, address, model, prompts)
    elif kind in CHATS:
        reason = "OpenAI's chat interface is not probed: it scores no given text, and continues no answer begun"
        found = TextWriter(client, address, kind, model, prompts, Capabilities(kind, model, reason=reason))
    else:
        own = _tokenizer(tokenizer, address, model, hub or {})
        stops = stated_stops(address.model if tokenizer is None else tokenizer, hub or {})
        found = _with_tokens(client, address, kind, card, prompts, own, stops)
    if kind == "ollama" or isinstance(found, TextWriter):
        check_arguments(kind, prompts)
    logger.info("%s", found.capabilities.describe())
    return found


def _model(address: Address, client: Client) -> tuple[str, Mapping[str, Any]]:
    """The kind of the server, and what it says of the model."""
    try:
        cards = part(client.one(f"{address.url}/models"), list, "data")
    except Refused as error:
        if not address.model or error.status not in NOT_SUPPORTED:
            raise
        return address.kind, {"id": address.model}  # it has no such list, and says later whether it has the model
    named = {part(card, str, "id"): card for card in cards}
    if address.model:
        same = [card for name, card in named.items() if address.model in (name, name.removesuffix(":latest"))]
        if not same:
            raise ServerError(f"the model {address.model!r} on {address.url}", _listed(named), "name one of these")
        card = same[0]
    elif len(named) == 1:
        card = cards[0]
    else:
        raise ServerError(f"one model on {address.url}", _listed(named), f"name one: MODEL@{address.url}")
    return address.kind or OWNERS.get(str(card.get("owned_by")), ""), card


def _listed(named: Mapping[str, Any]) -> str:
    shown = ", ".join(printable_name(name)[:60] for name in [*named][:5])
    return f"{len(named)} models{': ' if shown else ''}{shown}{', …' if len(named) > 5 else ''}"


def _tokenizer(given: Any, address: Address, model: str, hub: Mapping[str, Any]) -> Any:
    """The tokenizer given, or that of the model that the user named.

    A name that only the server says is not loaded: it would choose what is read from the hub or the disk.
    """
    remedy = f"give its folder or hub name (--tokenizer), or openai:MODEL@{address.url} for text alone"
    if given is None and not address.model:
        found = f"none, for {printable_name(model)[:100]} on {address.url}"
        raise ModelError("the tokenizer of a remote model", found, remedy)
    try:
        tokenizer = loaded_tokenizer(given, address.model, hub)
    except MixragError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(
            f"a tokenizer at {address.model if given is None else given!r}", reason, remedy
        ) from error
    if tokenizer.eos_token_id is None:
        raise ModelError("a tokenizer with an end-of-text token", "none", "set its eos_token")
    return tokenizer


def _with_pieces(client: Client, address: Address, model: str, template: PromptTemplate) -> Remote:
    """A server that names tokens by their text."""
    try:
        probed = probe_lists(Ollama(client, address.root, model))
    except ServerError as error:
        probed = ProbedLists(Ollama(client, address.root, model), 0, reason_of(error))
    listed = not probed.reason
    found = Capabilities("ollama", model, top=probed.top, listed=listed, reason=probed.reason)
    writer = TextWriter(client, address, "ollama", model, template, found)
    if not listed:
        return writer
    engine = probed.engine
    texts = PieceTexts(engine.pieces, engine.stops, template)
    never = tuple(engine.pieces.number(marker.encode()) for marker in engine.thought_markers())
    lister = MaskedLister(engine, never, engine.stops) if never else engine
    return ListingGenerator(lister, texts, found, writer.name, writer)


def stated_stops(source: Any, hub: Mapping[str, Any]) -> frozenset[int]:
    """The tokens that a model's files say end an answer, besides its tokenizer's; none where they say none.

    A server reads them from these files as well.
    """
    from transformers import GenerationConfig

    if not isinstance(source, (str, Path)):
        return frozenset()
    try:
        with quiet_libraries():
            stated = GenerationConfig.from_pretrained(str(source), **hub).eos_token_id
    except (OSError, ValueError):  # a folder of a tokenizer alone
        return frozenset()
    ids = stated if isinstance(stated, (list, tuple)) else [stated]
    return frozenset(int(each) for each in ids if each is not None)


def _with_tokens(
    client: Client,
    address: Address,
    kind: str,
    card: Mapping[str, Any],
    template: PromptTemplate,
    tokenizer: Any,
    stops: frozenset[int],
) -> Remote:
    model, size = str(card["id"]), card.get("max_model_len")
    # One token less, because scoring lets the server write one.
    context = size - 1 if isinstance(size, int) and not isinstance(size, bool) and size > 1 else None
    limit = min(tokenizer.model_max_length, UNLIMITED_CONTEXT) if context is None else context
    name = f"{model} at {address.url}"
    tokens = PromptTokenizer(tokenizer, template, int(limit), keep_suffix=False)
    row = tokens.plain([SAMPLES[2]])[0]
    if kind == "llamacpp":
        server = LlamaCpp(client, address.root, tokens.plain(["a"])[0][-1])
        checked = check_tokenizer(server.tokenize, tokens.plain)
        context = server.context_size()
        if server.returns_forced(row, tokens.plain(["b"])[0][-1]):
            reason = "its probabilities are those after a token was forced (logit_bias), not the model's"
            return TextWriter(client, address, kind, model, template, Capabilities(kind, model, reason=reason))
        vocabulary = server.next_log_probs([row]).shape[-1]
        whole = Capabilities(
            kind,
            model,
            whole=True,
            top=vocabulary,
            token_ids=True,
            tokenizer_checked=checked,
            context_size=context,
        )
        return LlamaCppGenerator(
            server,
            tokenizer,
            whole,
            name=name,
            template=template,
            context_size=context,
            vocabulary_size=vocabulary,
            stops=stops,
        )
    engine: Engine
    if kind == "sglang":
        engine = SGLang(client, address.root, model)
    else:
        engine = Completions(client, address.url, address.root, model)
    checked = check_tokenizer(engine.tokenize, tokens.plain)
    probed = probe(engine, row)
    found = Capabilities(
        kind,
        model,
        given_text=probed.given_text,
        top=probed.top,
        listed=probed.listed,
        token_ids=probed.listed or probed.given_text,
        tokenizer_checked=checked,
        context_size=context,
        reason=probed.reason,
    )
    texts = TokenizedTexts(tokens, stops)
    never, ends = tokens.never, texts.stop_tokens
    if probed.given_text:
        scoring = MaskedEngine(probed.engine, never, ends) if never else probed.engine
        return RemoteGenerator(scoring, texts, found, name)
    writer = TextWriter(client, address, kind, model, template, found)
    lister = MaskedLister(engine, never, ends) if never else engine
    return ListingGenerator(lister, texts, found, name, writer) if probed.listed else writer
