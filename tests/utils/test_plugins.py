"""An object that is plugged in is checked before use, and an extra that is missing is named."""

from __future__ import annotations

from typing import Protocol

import pytest

from mixrag.errors import MissingPackageError, PluginError
from mixrag.utils.extras import require
from mixrag.utils.plugins import check_plugin


class Reader(Protocol):
    @property
    def name(self) -> str: ...

    def read(self, text: str) -> str: ...


class Whole:
    name = "whole"

    def read(self, text: str) -> str:
        return text


class Half:
    name = "half"


def test_an_object_with_all_members_passes() -> None:
    given = Whole()
    assert check_plugin(given, Reader, "reader") is given


def test_a_missing_method_is_named_in_one_line() -> None:
    with pytest.raises(PluginError, match="found Half without read") as caught:
        check_plugin(Half(), Reader, "reader")
    assert "\n" not in str(caught.value) and "as reader" in str(caught.value)


def test_a_class_in_place_of_an_object_is_refused() -> None:
    with pytest.raises(PluginError, match="create an instance"):
        check_plugin(Whole, Reader, "reader")


def test_a_missing_package_names_the_command() -> None:
    with pytest.raises(MissingPackageError, match=r'pip install "mixrag\[files\]"'):
        require("no_such_package_at_all", "files", "reading PDF")


def test_an_installed_package_is_returned() -> None:
    assert require("json", "files", "anything").dumps({}) == "{}"
