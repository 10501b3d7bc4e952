"""Settings of single commands, and of opening a store."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BeforeValidator

from mixrag.config.schema import (
    ALL,
    ASKING,
    LARGEST,
    WRITING,
    Count,
    CountOrNone,
    Positive,
    Seed,
    same_as,
    schema,
    setting,
)
from mixrag.config.settings import Settings
from mixrag.config.values import Words, as_tuple, is_plain, one_of

OcrMode = Literal["auto", "never"]
CalibrationMethod = Literal["none", "temperature", "isotonic", "logistic", "two-part"]


ContextName = Literal["full", "title", "none"]
ShareName = Literal["documents", "likelihoods"]
IndexName = Literal["auto", "exact", "faiss"]
INDEXES: tuple[IndexName, ...] = get_args(IndexName)


def _checked_index(value: Any) -> Any:
    """The name of an index, or an object that builds one; values that can be neither are refused."""
    if value not in INDEXES and is_plain(value):
        raise ValueError("no index")
    return value


AnyIndex = Annotated[
    Any,
    BeforeValidator(_checked_index),
    Words(f"{one_of(INDEXES)} or an object that builds an Index", one_of(INDEXES)),
]


@schema
class StoreConfig:
    """Which store is opened, with which trained models.

    Raises:
        SettingError: a value of another type.
    """

    store: Path | str = setting(
        default=Path("mixrag-store"),
        help="The store: a folder or URL.",
        more="A folder, `lance:PATH`, `s3://BUCKET/PREFIX` or `postgresql://HOST/DATABASE`; to ask also "
        "the address of a `mixrag serve`, a manifest `*.shards.json`, or several of these with commas "
        "between them. See [shards](../how-to/shards.md).",
        read=str,  # a path would lose a slash of "://"
        commands=ALL,
        shown_first=True,
        short="-s",
        metavar="STORE",
        env="MIXRAG_STORE",
    )
    model: Path | str | None = setting(
        default=None,
        help="Folder that mixrag train wrote.",
        more="Other options replace its values.",
        absent="none",
        commands=(*ALL, "calibrate"),
        shown_first=True,
        metavar="DIR",
        env="MIXRAG_MODEL",
    )
    index: AnyIndex = setting(
        default="auto",
        help="How to search: auto, exact or faiss.",
        more="`auto` computes all inner products up to 50,000 passages, and is approximate beyond. "
        "In Python also an object that builds an `Index`.",
        commands=ASKING,
    )
    shard_seconds: Positive = setting(
        default=10.0,
        help="Longest wait for a shard, in seconds.",
        more="Of a store in parts: one that has not answered by then is missing from the answer, and named.",
        commands=("info", *ASKING),
        rare=True,
    )
    shard_key_env: str | None = setting(
        default=None,
        help="Environment variable with the key of --store.",
        more="The key is sent to all servers that --store names, and to no others.",
        absent="no key is sent",
        commands=("info", *ASKING),
        metavar="NAME",
        rare=True,
    )
    confidence: Path | str | None = setting(
        default=None,
        help="Confidence of eval or calibrate; none = none.",
        absent="the model's",
        commands=WRITING,
        metavar="FILE",
    )


@schema
class IndexingSettings:
    """How files become passages."""

    splitter: str = setting(
        default="structure:200",
        help="structure:N (tokens), words:N or sentences:N.",
        more="`structure:N`: whole sentences, rows and items under one heading, up to N tokens of the encoder; "
        "`words:N`: N words each; `sentences:N`: whole sentences, up to N words.",
        commands=("index",),
        shown_first=True,
    )
    context: ContextName = setting(
        default="full",
        help="Read before each passage: full, title or none.",
        more="By encoder, BM25 and language model. `full`: the title, the headings above it and the caption of "
        "its table; `title`: the title; `none`: nothing, but for the title in the prompt.",
        commands=("index",),
        shown_first=True,
    )
    max_mb: Positive = setting(
        default=25.0, help="Skip files larger than this many megabytes.", commands=("index",), shown_first=True
    )
    parse_seconds: Positive = setting(
        default=60.0,
        help="Skip files that take longer to parse, in seconds.",
        more="Parsers run in a process of their own, which is ended then.",
        commands=("index",),
    )
    parse_mb: Annotated[float, Ge(256), Le(LARGEST)] = setting(
        default=1024.0,
        help="Skip files whose parsing needs more megabytes of memory.",
        commands=("index",),
    )
    ocr: OcrMode = setting(
        default="auto",
        help="Read pages that are pictures: auto or never.",
        more="`auto` reads them where tesseract and the extra `ocr` are installed, at a second or more a page, "
        "and for at most three quarters of `--parse-seconds` a file.",
        commands=("index",),
    )
    ocr_language: str = setting(
        default="eng",
        help="Languages of these pages, as tesseract names them.",
        more="Several are joined by a plus: `eng+deu`.",
        commands=("index",),
    )
    shard: str | None = setting(
        default=None,
        help="Index part i of n of the files alone: i/n.",
        more="By a hash of each file's path below the folder that is named, so that n machines index n parts "
        "without talking to each other. See [shards](../how-to/shards.md).",
        absent="all of them",
        commands=("index",),
        metavar="I/N",
    )
    re_embed: bool = setting(
        default=False,
        help="Compute all vectors again, with another encoder.",
        commands=("index",),
        shown_first=True,
    )
    ray: str | None = setting(
        default=None,
        help="Workers of a Ray cluster: local, auto or HOST:PORT.",
        more="They read the files and compute the vectors, and this process writes the store. `local` starts a "
        "cluster of this machine, `auto` is the one that runs on it, `ray://HOST:PORT` is reached by Ray's "
        "client. See [index with Ray](../how-to/index-with-ray.md).",
        absent="this process",
        commands=("index",),
        metavar="ADDRESS",
    )
    ray_encoders: Count | None = setting(
        default=None,
        help="Encoders on the Ray cluster.",
        absent="one for each GPU, else for each processor",
        commands=("index",),
    )


_serving = partial(setting, commands=("serve",), shown_first=True)
_guarding = partial(setting, commands=("serve",), panel="Safety")
_asked_by_clients = partial(setting, commands=("serve", "mcp"), shown_first=True)


@schema
class ServerSettings:
    """Where the server listens, and how much it takes on at once."""

    host: str = _serving(default="127.0.0.1", help="Address to listen at.")
    port: Annotated[int, Ge(0), Le(65535)] = _serving(default=8080, help="Port; 0 = one that is free.", short="-p")
    also: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] = _asked_by_clients(
        default=(),
        help="A further store: NAME=DIR; repeatable.",
        more="Clients name it as the model; it has the same models and settings as the first.",
        repeat=True,
        absent="none",
        metavar="NAME=DIR",
    )
    presets: Path | None = _asked_by_clients(
        default=None,
        help="TOML file of named settings.",
        more="Each table `[NAME]` changes settings of `ask`; clients name it as `STORE:NAME`.",
        absent="none",
        metavar="FILE",
    )
    threads: Count = _serving(
        default=16,
        help="Questions answered side by side.",
        more="Those of one language model are rows of one batch, which they join and leave between its steps.",
    )
    batch_rows: Count = _serving(
        default=80,
        help="Rows of the language model in one batch.",
        more="A row is a passage in an answer: a beam of 4 over 5 passages takes 20. Bounds the batch's memory; "
        "further questions wait for rows. Where a pass costs as much for many rows as for few, as on a GPU, more "
        "rows answer more.",
    )
    waiting: CountOrNone = _serving(
        default=64, help="Questions that may wait.", more="Further ones are refused with status 429."
    )
    answer_seconds: Positive = _serving(default=300.0, help="Longest time for one answer.")
    file_mb: Positive = _serving(default=25.0, help="Largest uploaded file, in MB.")
    share: ShareName = _serving(
        default="documents",
        help="What is served: documents or likelihoods.",
        more="`likelihoods` is for a federation: others ask over this store as a shard, and get inner products, "
        "word frequencies, log Z and likelihoods of given answers. No text, title or path of a document is sent, "
        "filters are refused, and nothing else is served. "
        "See [federation](../how-to/shards.md#owners-who-share-no-documents).",
    )
    keys: Path | None = _serving(
        default=None,
        help="API keys: a file that mixrag keys add wrote.",
        more="Needed with a --host that other machines reach. See [serve safely](../how-to/serve-safely.md).",
        absent="none",
        metavar="FILE",
    )
    allowed_host: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] = _guarding(
        default=(),
        help="A further name of this server; repeatable.",
        more="Requests under other names are refused with status 421; `localhost` and --host are known.",
        repeat=True,
        absent="none",
        metavar="NAME",
    )
    cors: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] = _guarding(
        default=(),
        help="A site whose pages may ask; repeatable.",
        more="An origin, such as `https://chat.example.org`. Pages of other sites are refused with status 403.",
        repeat=True,
        absent="none",
        metavar="ORIGIN",
    )
    proxy: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] = _guarding(
        default=(),
        help="Address of a reverse proxy; repeatable.",
        more="Of its requests `X-Forwarded-For` and `X-Forwarded-Proto` are believed; of others they are not.",
        repeat=True,
        absent="none",
        metavar="ADDRESS",
    )
    request_mb: Positive = _guarding(default=4.0, help="Largest request, in megabytes.")
    upload_mb: Positive = _guarding(
        default=100.0, help="Largest upload, in megabytes.", more="All files of one request together."
    )
    read_seconds: Positive = _guarding(
        default=20.0,
        help="Longest wait for a request to arrive.",
        more="A body has a second more for each 16 KiB of it.",
    )
    connections: Count = _guarding(
        default=256, help="Connections at once.", more="Further ones are refused with status 503."
    )
    log_requests: bool = _guarding(
        default=False,
        help="One line on standard error for each request.",
        more="Without questions, answers and keys. See [logging](../how-to/logging.md#requests-to-mixrag-serve).",
    )


@schema
class ClozeSettings:
    """How many cloze pairs are made of the stored documents."""

    number: Count = setting(
        default=2000, help="Pairs to make.", commands=("clozes",), shown_first=True, short="-n"
    )
    seed: Seed = same_as(Settings, default=0)


@schema
class PrecomputeSettings:
    """How much of the store the language model reads ahead."""

    gib: Positive = setting(
        default=4.0, help="GiB that the files of this model may take.", commands=("precompute",), shown_first=True
    )
    forget: bool = setting(
        default=False,
        help="Delete the files of all models instead.",
        commands=("precompute",),
        shown_first=True,
    )


_calibration = partial(setting, commands=("eval", "calibrate"), shown_first=True)


@schema
class CalibrationSettings:
    """How a confidence is fitted, and what its threshold is for."""

    calibration: CalibrationMethod | None = _calibration(
        default=None,
        help="none, temperature, isotonic, logistic, two-part or best.",
        more="How a probability becomes a confidence; `best` has the least cross-validated log loss among those "
        "that are not worse than plain p(answer).",
        absent="best",
        none="best",
    )
    precision: Annotated[float, Gt(0), Le(1)] = _calibration(
        default=0.8,
        help="Share of right answers that the threshold is for.",
        more="Among the answers given; the lowest threshold that attains it is stored.",
    )
    coverage: Annotated[float, Gt(0), Le(1)] | None = _calibration(
        default=None,
        help="Share of questions to answer, instead of --precision.",
        absent="--precision",
    )
    system: str | None = setting(
        default=None,
        help="Whose stored answers are taken.",
        absent="mixture, sequence or trained",
        commands=("calibrate",),
        shown_first=True,
    )
    seed: Seed = same_as(Settings, default=0)


_evaluation = partial(setting, commands=("eval",), shown_first=True)


@schema
class EvaluationSettings:
    """Which systems are compared, on how many questions, and how confidence is calibrated."""

    systems: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] = _evaluation(
        default=("closed-book", "concat", "uniform", "token", "sequence"),
        help="Comma-separated; also best-passage and mixture.",
        more="All on the same language model; `mixture` is the settings as they are.",
    )
    questions: Count | None = _evaluation(
        default=None, help="At most so many of the pairs, drawn by --seed.", absent="all"
    )
    off_corpus: Annotated[tuple[Path, ...], BeforeValidator(as_tuple)] = _evaluation(
        default=(),
        help="Pairs that the documents cannot answer.",
        repeat=True,
        absent="none",
        metavar="FILE",
    )
    distractors: Annotated[tuple[Count, ...], BeforeValidator(as_tuple)] = _evaluation(
        default=(),
        help="Irrelevant passages to add, such as 5,20.",
        absent="none",
    )
    calibration: CalibrationMethod | None = same_as(CalibrationSettings, default=None)
    precision: Annotated[float, Gt(0), Le(1)] = same_as(CalibrationSettings, default=0.8)
    coverage: Annotated[float, Gt(0), Le(1)] | None = same_as(CalibrationSettings, default=None)
    seed: Seed = same_as(Settings, default=0)


_guarantee = partial(setting, commands=("guarantee",), shown_first=True)
Level = Annotated[float, Gt(0), Lt(1)]


@schema
class GuaranteeSettings:
    """What is guaranteed, and how it is tested."""

    risk: Level = _guarantee(default=0.1, help="Largest share wrong of the answers that are given.")
    delta: Level = _guarantee(default=0.05, help="Chance, over the pairs, that the guarantee does not hold.")
    split: bool = _guarantee(
        default=False,
        help="Fit a confidence on half of the pairs.",
        more="The guarantee is tested on the other half; --seed draws the halves.",
    )
    by: str | None = _guarantee(
        default=None,
        help="Key of the metadata: a test for each kind.",
        absent="one test for all",
        metavar="KEY",
    )
    simultaneous: bool = _guarantee(
        default=False,
        help="All kinds hold together: each is tested at delta / kinds.",
        more="Without it each kind holds with probability 1 - delta on its own.",
    )
    answers: Path | None = _guarantee(
        default=None,
        help="File of answers, as eval writes: read, and added to.",
        more="What it has for these models, this store and these settings is not asked again.",
        absent="every question is asked",
        metavar="FILE",
    )
    seed: Seed = same_as(Settings, default=0)


_report = partial(setting, commands=("train",), shown_first=True)


@schema
class TrainingReportSettings:
    """What a training run is compared with."""

    dev: Annotated[tuple[Path, ...], BeforeValidator(as_tuple)] = _report(
        default=(),
        help="Held-out pairs.",
        repeat=True,
        more="For early stopping and scores.",
        absent="a tenth of the pairs",
        metavar="FILE",
    )
    evaluate: CountOrNone = _report(default=200, help="Held-out questions answered before and after; 0 = none.")
    baselines: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] = _report(
        default=(),
        help="closed-book, passages, concatenation, frozen.",
        more="Comma-separated; trained in the same way. See [baselines](training.md#baselines).",
        absent="none",
    )
