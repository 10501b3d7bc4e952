"""All SQL stands in the folders of the backends: nothing else imports sqlite3, or holds a statement."""

import ast
import re
from pathlib import Path

import mixrag

SOURCE = Path(mixrag.__file__).parent
STORE = SOURCE / "corpus" / "store"
# Statements as SQL writes them, so that plain English in a message is none.
STATEMENT = re.compile(
    r"\b(SELECT\b.+\bFROM|INSERT (OR \w+ )?INTO|DELETE FROM|UPDATE \w+ SET|CREATE TABLE|PRAGMA"
    r"|BEGIN (IMMEDIATE|EXCLUSIVE))\b",
    re.S,
)


def uses_sql(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "sqlite3" for alias in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sqlite3":
            return True
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and STATEMENT.search(node.value):
            return True
    return False


def is_backend(file):
    """A file of one backend, or of what two have in common; locks between processes are SQLite's too."""
    return STORE in file.parent.parents or file in (STORE / "locks.py", STORE / "sql.py")


def test_sql_stands_in_the_backends_only():
    files = list(SOURCE.rglob("*.py"))
    assert {file.name for file in files if uses_sql(file.read_text("utf-8")) and not is_backend(file)} == set()
    assert sum(uses_sql(file.read_text("utf-8")) for file in (STORE / "sqlite").glob("*.py")) >= 5


def test_the_search_for_sql_finds_it():
    for source in (
        "import sqlite3",
        "from sqlite3 import connect",
        "x = 'SELECT 1 FROM t'",
        "x = f'DELETE FROM {t}'",
    ):
        assert uses_sql(source)
    assert not uses_sql("x = 'select one from the list, or update it'")
