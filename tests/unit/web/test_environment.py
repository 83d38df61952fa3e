"""Settings: each is checked, documented, and refused in one clear line."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import web
from web.settings import EXIT_STATUS, Settings, SettingsError, from_environment, permitted, table, variable

NUMBERS = [setting for setting in fields(Settings) if "minimum" in setting.metadata]


def test_empty_environment_gives_the_defaults() -> None:
    assert from_environment({"PATH": "/bin"}) == Settings()


def test_every_setting_is_read_from_its_variable() -> None:
    environment = {
        "FIBONACCI_MAX_PER_PAGE": "500",
        "FIBONACCI_MAX_PAGE_BYTES": "2000000",
        "FIBONACCI_INLINE_LIMIT": "20000",
        "FIBONACCI_REDIS_TIMEOUT": "1",
        "FIBONACCI_REDIS_PAUSE": "2.5",
        "FIBONACCI_CACHE_EXPIRY": "60",
        "FIBONACCI_CACHE_MAX_BYTES": "2048",
        "FIBONACCI_SEQUENCE_MAX_BYTES": "0",
        "FIBONACCI_JOB_MAX_INDEX": "300000",
        "FIBONACCI_JOB_MAX_BYTES": "1048577",
        "FIBONACCI_SHORT_JOB_MAX_INDEX": "1",
        "FIBONACCI_SHORT_JOB_MAX_BYTES": "2",
        "FIBONACCI_JOB_BACKLOG": "3",
        "FIBONACCI_JOB_EXPIRY": "61",
        "FIBONACCI_JOB_TIME_LIMIT": "5",
        "FIBONACCI_JOB_ATTEMPTS": "6",
        "FIBONACCI_JOB_LEASE": "7.5",
        "STREAM_CONNECTIONS": "20",
        "FIBONACCI_STREAM_BATCH_BYTES": "4096",
        "FIBONACCI_STREAM_DEADLINE": "10",
        "FIBONACCI_STREAM_PING": "0.5",
        "FIBONACCI_CORS_ORIGINS": "*",
        "FIBONACCI_LOG_LEVEL": "ERROR",
        "REDIS_URL": "redis://app:pw@127.0.0.1:6379/0",
    }
    assert set(environment) == {variable(setting) for setting in fields(Settings)}
    cache, stream = (60, 2_048, 0), (20, 4_096, 10.0, 0.5)
    jobs = (300_000, 1_048_577, 1, 2, 3, 61, 5, 6, 7.5)
    values = (500, 2_000_000, 20_000, 1.0, 2.5, *cache, *jobs, *stream, "*", "ERROR", environment["REDIS_URL"])
    assert from_environment(environment) == Settings(*values)


@pytest.mark.parametrize("setting", NUMBERS, ids=lambda setting: setting.name)
def test_bounds_are_inclusive_and_named(setting: Any) -> None:
    minimum, maximum = setting.metadata["minimum"], setting.metadata["maximum"]
    assert getattr(from_environment({variable(setting): str(minimum)}), setting.name) == minimum
    assert getattr(from_environment({variable(setting): str(maximum)}), setting.name) == maximum
    for text in (str(maximum + 1), "-1", "", "x", "1e3", " 5", "٣", "nan", "9" * 5_000, "."):
        with pytest.raises(SettingsError) as error:
            from_environment({variable(setting): text})
        assert str(error.value).startswith(variable(setting))
        assert f"from {minimum} to {maximum}" in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [True, "500", 500.0, None])
def test_wrong_type_is_refused(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"FIBONACCI_MAX_PER_PAGE is .*; it must be an integer from 100 to 2000"):
        Settings(max_per_page=value)


def test_unknown_variable_with_our_prefix_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"FIBONACCI_MAX_PAGES is no setting .*FIBONACCI_MAX_PER_PAGE"):
        from_environment({"FIBONACCI_MAX_PAGES": "5"})


def test_log_level_is_one_of_its_choices() -> None:
    with pytest.raises(SettingsError, match="LOG_LEVEL is 'info'; it must be one of DEBUG, INFO, WARNING, ERROR"):
        from_environment({"FIBONACCI_LOG_LEVEL": "info"})


@pytest.mark.parametrize("value", ["", "any", "https://example.org", "*, https://example.org", "None"])
def test_scripts_of_all_web_sites_may_read_or_of_none(value: str) -> None:
    with pytest.raises(SettingsError, match=r"FIBONACCI_CORS_ORIGINS is .*; it must be one of none, \*$"):
        from_environment({"FIBONACCI_CORS_ORIGINS": value})


@pytest.mark.parametrize(
    "url",
    [
        "",
        "swordfish",
        "http://:swordfish@host",
        "redis://:swordfish@host:port",
        "redis://:swordfish@host?unknown=1",
        "redis://:swordfish@host..com",
        "sentinel://app:swordfish@host:port/turnkey",
    ],
)
def test_wrong_redis_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(SettingsError) as error:
        from_environment({"REDIS_URL": url})
    assert str(error.value).startswith("REDIS_URL is set")
    assert "redis://, rediss://, unix:// or sentinel://" in str(error.value)
    assert "swordfish" not in str(error.value)
    assert error.value.__cause__ is None


def test_password_is_not_in_the_settings_text() -> None:
    assert "swordfish" not in repr(Settings(redis_url="redis://:swordfish@host"))


def test_wrong_setting_ends_the_start_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FIBONACCI_MAX_PER_PAGE", "0")
    with pytest.raises(SystemExit) as end:
        web.create_app()
    assert end.value.code == EXIT_STATUS
    assert capsys.readouterr().err == (
        "web: wrong setting: FIBONACCI_MAX_PER_PAGE is 0; it must be an integer from 100 to 2000\n"
    )


@pytest.mark.parametrize("setting", fields(Settings), ids=lambda setting: setting.name)
def test_every_setting_is_documented(setting: Any) -> None:
    (row,) = [line for line in table().splitlines() if f"``{variable(setting)}``" in line]
    assert permitted(setting) in row
    assert setting.metadata["meaning"] in row


def test_table_in_the_readme_is_the_one_printed() -> None:
    readme = Path(web.__file__).parents[1] / "README.rst"
    assert table() in readme.read_text(encoding="utf-8")
