"""Objects in a bucket of S3: written under conditions, so that of several writers one alone succeeds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

from mixrag.utils.extras import require

_TAKEN = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})
_ABSENT = frozenset({"NoSuchKey", "404", "NotFound"})
_SETTINGS = {"connect_timeout": 5, "read_timeout": 30, "retries": {"max_attempts": 3}}


def _botocore(module: str) -> Any:
    return require(f"botocore.{module}", "lance", "stores in object storage")


@cache
def _loader(path: str | None) -> Any:
    """What reads, once in a process, what botocore knows of all services of AWS."""
    return _botocore("loaders").create_loader(path)


class Objects:
    """The objects of a bucket below a prefix. Methods raise what botocore raises."""

    def __init__(self, bucket: str, prefix: str) -> None:
        config = _botocore("config").Config
        session = _botocore("session").get_session()
        session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
        self.bucket, self.prefix = bucket, prefix
        self.client: Any = session.create_client("s3", config=config(**_SETTINGS))
        self.endpoint = str(self.client.meta.endpoint_url)
        self.is_amazon = "amazonaws.com" in self.endpoint
        if not self.is_amazon:  # by path, as LanceDB asks it: the names of buckets are no hosts there
            self.client = session.create_client("s3", config=config(**_SETTINGS, s3={"addressing_style": "path"}))
        region = str(self.client.meta.region_name or "")
        self.region = "us-east-1" if region == "aws-global" else region

    def key(self, *parts: str) -> str:
        """The full name of an object."""
        return "/".join(part for part in (self.prefix, *parts) if part)

    def put(self, key: str, content: bytes, **condition: str) -> str | None:
        """Write an object; what identifies this writing of it (its ETag), or None where the condition fails."""
        try:
            answer = self.client.put_object(Bucket=self.bucket, Key=key, Body=content, **condition)
        except Exception as error:
            if not condition or code(error) not in _TAKEN | _ABSENT:
                raise
            # A write that was repeated since its answer was lost finds itself.
            return self.tag(key) or None if self.get(key) == content else None
        return str(answer["ETag"])

    def get(self, key: str) -> bytes | None:
        """The content; None where there is no such object."""
        try:
            return bytes(self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read())
        except Exception as error:
            if code(error) in _ABSENT:
                return None
            raise

    def tag(self, key: str) -> str:
        """What identifies the last writing of an object; empty where there is none."""
        try:
            return str(self.client.head_object(Bucket=self.bucket, Key=key)["ETag"])
        except Exception as error:
            if code(error) in _ABSENT:
                return ""
            raise

    def remove(self, key: str) -> None:
        """Delete an object, if it is there."""
        self.client.delete_object(Bucket=self.bucket, Key=key)

    def pages(self, **options: str) -> Iterator[Mapping[str, Any]]:
        """Lists of objects."""
        yield from self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, **options)

    def now(self) -> float:
        """Seconds since 1970 by the clock of the server; of this machine, where the server does not say."""
        answer = self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.key("lock"), MaxKeys=1)
        said = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        return parsedate_to_datetime(said).timestamp() if said else time.time()

    def ask(self) -> None:
        """Any request at all, for the exception that it raises."""
        self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.key(""), MaxKeys=1)


def code(error: Exception) -> str:
    """The code of a refusal by the server; empty for other exceptions."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""
