"""A store below a prefix of a bucket: objects by conditional writes, the write lock is an object with a lease."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from mixrag.corpus.store.lance.lease import Lease
from mixrag.corpus.store.lance.objects import Objects, code
from mixrag.corpus.store.lance.place import Check, ExistsError, Place, in_one_line
from mixrag.corpus.store.location import Location
from mixrag.errors import SettingError, StoreError

_REFUSED = {
    *("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"),
    *("403", "401", "Forbidden", "AuthorizationHeaderMalformed", "RequestTimeTooSkewed"),
}
_CREDENTIALS = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and the clock of this machine"


class BucketPlace(Place):
    """See ``Place``. Credentials, region and endpoint come from the environment, as for all programs of AWS."""

    can_lose_lock = True

    def __init__(self, location: Location) -> None:
        parts = urlsplit(location.text)
        self.location = location
        if not parts.netloc or set(parts.netloc) & set("@:") or parts.query or parts.fragment:
            raise SettingError("a store s3://BUCKET/PREFIX", location.name, "write no more than this")
        with self.errors():
            self.objects = Objects(parts.netloc, parts.path.strip("/"))
        self.uri = f"s3://{parts.netloc}/{self.objects.prefix}".rstrip("/")
        self.options = {"client_max_retries": "3", "client_retry_timeout": "30", "connect_timeout": "5s"}
        if self.objects.region:
            self.options["aws_region"] = self.objects.region
        if not self.objects.is_amazon:
            endpoint = self.objects.endpoint
            self.options |= {"aws_endpoint": endpoint, "allow_http": str(endpoint.startswith("http:")).lower()}

    def names(self, folder: str, after: str = "") -> list[str]:
        """See ``Place.names``."""
        start = self.objects.key(folder, "") + "/"
        with self.errors():
            pages = self.objects.pages(Prefix=start, StartAfter=start + after)
            return sorted(each["Key"][len(start) :] for page in pages for each in page.get("Contents", ()))

    def entries(self) -> list[str]:
        """See ``Place.entries``."""
        start = f"{self.objects.prefix}/" if self.objects.prefix else ""
        with self.errors():
            pages = list(self.objects.pages(Prefix=start, Delimiter="/"))
        found = [each["Key"] for page in pages for each in page.get("Contents", ())]
        found += [each["Prefix"] for page in pages for each in page.get("CommonPrefixes", ())]
        return sorted(each[len(start) :].strip("/") for each in found if each != start)

    def read(self, folder: str, name: str) -> bytes | None:
        """See ``Place.read``."""
        with self.errors():
            return self.objects.get(self.objects.key(folder, name))

    def create(self, folder: str, name: str, content: bytes) -> None:
        """See ``Place.create``."""
        with self.errors():
            if self.objects.put(self.objects.key(folder, name), content, IfNoneMatch="*") is None:
                raise ExistsError(name)

    def replace(self, folder: str, name: str, content: bytes) -> None:
        """See ``Place.replace``."""
        with self.errors():
            self.objects.put(self.objects.key(folder, name), content)

    def delete(self, folder: str, names: list[str]) -> None:
        """See ``Place.delete``."""
        with self.errors():
            for name in names:
                self.objects.remove(self.objects.key(folder, name))

    def prepare(self) -> None:
        """See ``Place.prepare``: the server must refuse to create an object a second time.

        Raises:
            StoreError: it does not.
        """
        # Its own, since another process may make a store here at the same time.
        key = self.objects.key(f"conditional-{secrets.token_hex(8)}")
        with self.errors():
            self.objects.put(key, b"1")
            refused = self.objects.put(key, b"2", IfNoneMatch="*") is None
            self.objects.remove(key)
        if not refused:
            raise StoreError(
                f"conditional writes (If-None-Match) by {self.objects.endpoint}",
                "a server that overwrites objects",
                "take one that has them, as those of AWS and MinIO do",
            )

    @contextmanager
    def lock(self, timeout: float) -> Iterator[Check]:
        """See ``Place.lock``."""
        lease = Lease(self, self.objects, timeout)
        lease.acquire()
        try:
            yield lease.check
        finally:
            lease.release()

    def now(self) -> float:
        """See ``Place.now``."""
        with self.errors():
            return self.objects.now()

    def explain(self, error: Exception) -> StoreError:
        """See ``Place.explain``; LanceDB does not say why in one line, so the server is asked once more."""
        if not type(error).__module__.startswith("botocore"):
            try:
                self.objects.ask()
            except Exception as reason:
                error = reason
        name, found, kind = self.location.name, code(error), type(error).__name__
        server = self.objects.endpoint if hasattr(self, "objects") else "AWS_ENDPOINT_URL"
        if found == "NoSuchBucket":
            bucket = self.objects.bucket
            return StoreError(f"a bucket {bucket}", f"none at {server}", "create it, or check its name")
        if found in _REFUSED:
            return StoreError(f"the right to use {name}", f"{found} from {server}", _CREDENTIALS)
        if "Credentials" in kind:
            return StoreError(f"credentials for {name}", "none", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        if any(part in kind for part in ("Connect", "Timeout", "Endpoint")):
            remedy = "check AWS_ENDPOINT_URL and the network"
            return StoreError(f"a server of objects at {server}", in_one_line(error), remedy)
        return StoreError(f"a usable store in {name}", in_one_line(error), "check bucket, permissions and network")
