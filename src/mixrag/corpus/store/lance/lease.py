"""The write lock of a bucket: an object that its holder renews, and that others may take when it does not.

No clock of another machine is trusted: a waiter takes the lock of a holder that it has seen unchanged for the
whole lease by its own monotonic clock. It does so by a conditional write, so that one waiter alone succeeds, and
the former holder notices before its next commit; the commit itself is conditional as well (``log``).
"""

from __future__ import annotations

import secrets
import threading
import time

from mixrag.corpus.store.lance.objects import Objects
from mixrag.corpus.store.lance.place import Place
from mixrag.errors import StoreError

LEASE = 6.0
"""Seconds after which an unchanged lock is that of a holder that died."""
_RENEWED = LEASE / 4


class Lease:
    """One holding of the lock; methods raise StoreErrors."""

    def __init__(self, place: Place, objects: Objects, timeout: float) -> None:
        self.place, self.objects, self.timeout = place, objects, timeout
        self._key = objects.key("lock")
        self._token, self._beat, self._tag = secrets.token_hex(16), 0, ""
        self._renewed, self._lost = 0.0, False
        self._mutex, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._renew_until_released, name="mixrag store lock", daemon=True)

    def acquire(self) -> None:
        """Wait for it. Raises StoreBusyError after ``timeout`` seconds."""
        until = time.monotonic() + self.timeout
        seen, since, pause = "", 0.0, 0.02
        while not self._written(IfNoneMatch="*"):
            with self.place.errors():
                tag = self.objects.tag(self._key)
            now = time.monotonic()
            if tag != seen:
                seen, since = tag, now
            elif tag and now - since > LEASE and self._written(IfMatch=tag):
                break
            if now >= until:
                raise self.place.busy()
            if tag:
                time.sleep(min(pause, max(until - now, 0.0)))
                pause = min(2 * pause, 0.5)
        self._thread.start()

    def check(self) -> None:
        """Raise StoreBusyError where it was lost; renews it where that is due."""
        with self._mutex:
            if time.monotonic() - self._renewed > LEASE / 2:
                self._renew()
            if self._lost:
                raise self.place.lost()

    def release(self) -> None:
        """Let the next one have it. An error is ignored: the lease ends by itself."""
        self._ended.set()
        self._thread.join()
        try:
            with self.place.errors():
                if not self._lost and self.objects.tag(self._key) == self._tag:
                    self.objects.remove(self._key)
        except StoreError:
            return

    def _renew_until_released(self) -> None:
        while not self._ended.wait(_RENEWED):
            with self._mutex:
                try:
                    self._renew()
                except StoreError:
                    continue  # the network: ``check`` says so before anything is committed
                if self._lost:
                    return

    def _renew(self) -> None:
        if self._lost or self._written(IfMatch=self._tag):
            return
        with self.place.errors():  # an earlier renewal may have been written although its answer was lost
            own = (self.objects.get(self._key) or b"").startswith(self._token.encode())
            tag = self.objects.tag(self._key)
        self._lost = not (own and tag and self._written(IfMatch=tag))

    def _written(self, **condition: str) -> bool:
        """Write the lock under a condition; whether it held."""
        self._beat += 1
        with self.place.errors():
            tag = self.objects.put(self._key, f"{self._token} {self._beat}".encode(), **condition)
        if tag is not None:
            self._tag, self._renewed = tag, time.monotonic()
        return tag is not None
