"""The name of a release follows its content, and the releases that are kept."""

import os
import pathlib
import subprocess

import pytest
from salt.exceptions import CommandExecutionError

from rendering import load

LOCK = "salt://site/requirements.txt"
ENVIRONMENT = {"REDIS_URL": "redis://127.0.0.1/0", "DEPTH": 3}


@pytest.fixture
def site(tmp_path):
    """What `release.digest` sees below ``salt://``: an app of two files, and its lock."""
    app = tmp_path / "site" / "app"
    (app / "web").mkdir(parents=True)
    (app / "wsgi.py").write_text("app = 1\n")
    (app / "web" / "__init__.py").write_text("")
    (tmp_path / "site" / "requirements.txt").write_text("flask==1\n")
    return tmp_path


def module(site, osfinger="Debian-13", context=None):
    """The execution module, which sees *site* below ``salt://``."""

    def cache_file(url):
        path = site / url.removeprefix("salt://")
        return str(path) if path.is_file() else ""

    def list_master(prefix=""):
        names = (str(path.relative_to(site)) for path in site.rglob("*") if path.is_file())
        return [name for name in names if name.startswith(prefix)]

    return load(
        "_modules/release.py",
        __context__={} if context is None else context,
        __grains__={"osfinger": osfinger},
        __salt__={"cp.cache_file": cache_file, "cp.list_master": list_master},
    )


def digest(site, environment=ENVIRONMENT, osfinger="Debian-13", source="salt://site/app", lock=LOCK, context=None):
    return module(site, osfinger, context).digest(source, lock, environment)


def test_releases_of_one_lock_share_what_it_installs(site):
    before = module(site).venv(LOCK)
    (site / "site/app/wsgi.py").write_text("app = 2\n")
    assert module(site).venv(LOCK) == before
    assert module(site, "Debian-12").venv(LOCK) != before
    (site / "site/requirements.txt").write_text("flask==2\n")
    assert module(site).venv(LOCK) != before
    with pytest.raises(CommandExecutionError, match=r"app:requirements: no such file: salt://site/other\.txt"):
        module(site).venv("salt://site/other.txt")


@pytest.fixture
def before(site):
    return digest(site)


def test_same_content_has_the_same_name(site, before):
    assert digest(site) == before
    assert len(before) == 16
    assert int(before, 16) >= 0


def test_name_is_one_within_an_apply_whatever_changes_meanwhile(site):
    context = {}
    before = digest(site, context=context)
    (site / "site/app/wsgi.py").write_text("app = 2\n")
    assert digest(site, context=context) == before
    assert digest(site, {"DEPTH": 4}, context=context) != before


def test_changed_file_makes_a_new_release(site, before):
    (site / "site/app/wsgi.py").write_text("app = 2\n")
    assert digest(site) != before


def test_renamed_file_makes_a_new_release(site, before):
    (site / "site/app/wsgi.py").rename(site / "site/app/main.py")
    assert digest(site) != before


def test_line_that_moves_from_one_file_to_the_next_makes_a_new_release(site):
    first, second = site / "site/app/a.py", site / "site/app/b.py"
    first.write_text("1\n2\n")
    second.write_text("")
    before = digest(site)
    first.write_text("1\n")
    second.write_text("2\n")
    assert digest(site) != before


def test_end_of_a_name_is_no_start_of_a_content(site):
    (site / "site/app/z").write_text(".py\n")
    before = digest(site)
    (site / "site/app/z").unlink()
    (site / "site/app/z.py").write_text("\n")
    assert digest(site) != before


def test_changed_lock_makes_a_new_release(site, before):
    (site / "site/requirements.txt").write_text("flask==2\n")
    assert digest(site) != before


def test_changed_environment_makes_a_new_release(site, before):
    assert digest(site, ENVIRONMENT | {"DEPTH": 4}) != before
    assert digest(site, ENVIRONMENT | {"DEPTH": "3"}) != before
    assert digest(site, {"REDIS_URL": ENVIRONMENT["REDIS_URL"]}) != before


def test_order_of_the_environment_is_no_change(site, before):
    assert digest(site, dict(reversed(ENVIRONMENT.items()))) == before


def test_other_system_has_another_release(site, before):
    assert digest(site, osfinger="Debian-12") != before


def test_what_tools_leave_behind_is_no_change(site, before):
    for place in ("__pycache__", "web/__pycache__", ".git"):
        (site / "site/app" / place).mkdir()
        (site / "site/app" / place / "left").write_text("behind")
    assert digest(site) == before


def test_source_without_files_is_refused_by_its_key(site):
    with pytest.raises(CommandExecutionError, match="app:source: no file below salt://site/nothing"):
        digest(site, source="salt://site/nothing")


def test_folder_with_a_longer_name_is_not_the_source(site):
    with pytest.raises(CommandExecutionError, match="app:source"):
        digest(site, source="salt://site/ap")


def test_missing_lock_is_refused_by_its_key(site):
    with pytest.raises(CommandExecutionError, match=r"app:requirements: no such file: salt://site/none\.txt"):
        digest(site, lock="salt://site/none.txt")


# --- pruned -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def releases(tmp_path):
    """Five releases, `r1` the oldest, and what an apply that was cut off left behind; `r5` runs."""
    root = tmp_path / "releases"
    for age, name in enumerate(["r5", "r4", "r3", "r2", "r1"]):
        (root / name / "src").mkdir(parents=True)
        marker = root / name / "tried"
        marker.touch()
        os.utime(marker, (1_000_000 - age, 1_000_000 - age))
    (root / "cut-off" / "src").mkdir(parents=True)
    (tmp_path / "current").symlink_to(root / "r5")
    return root


def pruned(releases, keep, test=False):
    state = load("_states/release.py", __opts__={"test": test})
    return state.pruned(str(releases), str(releases.parent / "current"), keep)


def names(releases):
    return sorted(path.name for path in releases.iterdir())


def test_last_releases_are_kept_and_the_rest_removed(releases):
    ret = pruned(releases, keep=3)
    assert names(releases) == ["r3", "r4", "r5"]
    assert ret["result"] is True
    assert ret["changes"] == {"removed": ["cut-off", "r1", "r2"]}


def test_release_that_runs_is_kept_however_old_it_is(releases):
    current = releases.parent / "current"
    current.unlink()
    current.symlink_to(releases / "r1")
    pruned(releases, keep=2)
    assert names(releases) == ["r1", "r4", "r5"]


def test_what_a_lock_installed_goes_with_the_last_release_of_it(releases):
    installed = releases.parent / "venvs"
    for name in ("old", "new", "cut-off"):
        (installed / name / "bin").mkdir(parents=True)
    for release, name in {"r1": "old", "r2": "old", "r3": "new", "r4": "new", "r5": "new"}.items():
        (releases / release / "venv").symlink_to(installed / name)
    pruned(releases, keep=4)
    assert names(installed) == ["new", "old"]
    ret = pruned(releases, keep=3)
    assert names(installed) == ["new"]
    assert ret["changes"] == {"removed": ["r2", "old"]}


def test_what_is_used_stays_where_a_link_leads_to_it(releases, tmp_path):
    venv = releases.parent / "venvs" / "new"
    venv.mkdir(parents=True)
    for name in ("r3", "r4", "r5"):
        (releases / name / "venv").symlink_to(venv)
    (tmp_path / "linked").symlink_to(releases.parent)
    pruned(tmp_path / "linked" / releases.name, keep=3)
    assert venv.is_dir()


def test_nothing_is_removed_while_something_is_installed(releases):
    installed = releases.parent / "venvs"
    (installed / "old").mkdir(parents=True)
    order = 'echo; sleep 1; touch "$0/old/complete"'
    with subprocess.Popen(["flock", installed, "sh", "-c", order, installed], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        pruned(releases, keep=3)
    assert (other.returncode, names(installed)) == (0, [])


def test_second_run_changes_nothing(releases):
    pruned(releases, keep=3)
    ret = pruned(releases, keep=3)
    assert (ret["result"], ret["changes"]) == (True, {})


def test_dry_run_tells_and_removes_nothing(releases):
    ret = pruned(releases, keep=3, test=True)
    assert (ret["result"], ret["changes"]) == (None, {})
    assert "cut-off, r1, r2" in ret["comment"]
    assert len(names(releases)) == 6


def test_nothing_outside_the_folder_is_removed(releases):
    outside = releases.parent / "precious"
    outside.mkdir()
    pruned(releases, keep=2)
    assert outside.is_dir()
    assert pathlib.Path(releases.parent / "current").exists()


def test_what_a_rollback_can_go_to_is_what_was_tried_the_latest_first(releases):
    asked = load("_modules/release.py", __grains__={"osfinger": "Debian-13"})
    root = str(releases.parent)
    told = asked.kept(root)
    assert (told["current"], told["kept"], told["os"]) == ("r5", ["r5", "r4", "r3", "r2", "r1"], "Debian-13")
    assert asked.pinned(root, "r1") == "r1"
    with pytest.raises(CommandExecutionError, match=r"app:pinned: no release cut-off is kept here \(kept: r5, "):
        asked.pinned(root, "cut-off")


def test_a_host_without_a_release_has_nothing_to_go_back_to(tmp_path):
    asked = load("_modules/release.py", __grains__={"osfinger": "Debian-13"})
    assert asked.kept(str(tmp_path)) == {"current": None, "switched": 0, "kept": [], "os": "Debian-13"}
