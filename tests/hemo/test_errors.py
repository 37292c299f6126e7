"""Texts of errors."""

import pytest

from hemo.errors import first_names, without_passwords


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://user:sesame@host:5432/db", "postgresql://user:***@host:5432/db"),
        ("not 'mysql+pymysql://u:ses@me/a:b@h/db', but", "not 'mysql+pymysql://u:***@h/db', but"),
        ("postgresql://h/db?user=u&password=sesame&a=1", "postgresql://h/db?user=u&password=***&a=1"),
        ("user:sesame@host/db", "user:***@host/db"),
        ("mysql://:sesame@host/db", "mysql://:***@host/db"),
        ("postgresql://user@host/studies", "postgresql://user@host/studies"),
        ("sqlite:////shared/study.db cannot be opened", "sqlite:////shared/study.db cannot be opened"),
        ("s3://bucket/x: mail me@host", "s3://bucket/x: mail me@host"),
    ],
)
def test_passwords_of_database_urls_are_hidden_and_nothing_else(text: str, shown: str) -> None:
    assert without_passwords(text) == shown


def test_first_names_and_how_many_more() -> None:
    assert (first_names(["a", "b"]), first_names(list("abcdefg"))) == ("a, b", "a, b, c, d, e and 2 more")
