"""What this house asks of its own files, beyond what the common linters know."""

import ast
import functools
import re

import pytest
import salt.config
import salt.loader
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from run_tests import ROOT, is_shell, repository_files

FILES = repository_files()
FORMULAS = sorted(file.split("/")[2] for file in FILES if re.fullmatch(r"salt/states/[a-z][a-z_]*/init\.sls", file))
INPUTS = [file for file in FILES if file.startswith(("requirements/", "tests/")) and file.endswith(".in")]
LOCKS = [file.removesuffix(".in") + ".txt" for file in INPUTS]

# In pieces, or this file would break its own rules.
REGISTRIES = ["py" + "pi.org", "python" + "hosted.org", "deb." + "debian.org", "security." + "debian.org"]
REGISTRIES += ["registry." + "npmjs", "registry-1." + "docker", "crates" + ".io", "ruby" + "gems.org"]
WORKPLACE = re.compile(r"(?<![\w.-])/" + r"work/(main|shared|\.library)\b")


@functools.cache
def text(file):
    return (ROOT / file).read_text(encoding="utf-8", errors="replace")


def offences(pattern, files=FILES):
    return [
        f"{file}:{number}: {line.strip()[:120]}"
        for file in files
        for number, line in enumerate(text(file).splitlines(), 1)
        if re.search(pattern, line)
    ]


def state_functions_of(sls):
    """The functions that an SLS calls, in any branch of its Jinja: lines such as ``  file.managed:``."""
    return re.findall(r"^ +([a-z_0-9]+\.[a-z_0-9]+):?(?: \[\])?$", sls, re.MULTILINE)


def test_rules_find_what_they_look_for():
    assert len(FORMULAS) >= 7
    assert len(LOCKS) >= 4
    assert state_functions_of("/a:\n  file.absent\n{{ b }}:\n  pkg.installed:\n    - pkgs: []\n") == [
        "file.absent",
        "pkg.installed",
    ]


# --- nothing of where it was written ----------------------------------------------------------------------------------


def test_no_file_names_a_package_registry():
    assert offences("|".join(map(re.escape, REGISTRIES))) == []


def test_no_file_names_a_path_of_the_machine_it_was_written_on():
    assert offences(WORKPLACE) == []
    # A short path, such as one folder below the root, may be part of an honest one.
    if len(ROOT.parts) > 2:
        assert offences(re.escape(str(ROOT)) + r"\b") == []


def test_git_has_no_secret_of_a_site():
    assert not {"salt/pillar/secrets.sls", "salt/pillar/site.sls"} & set(FILES)


def test_no_password_has_a_default():
    settings = [file for file in FILES if re.match(r"salt/(pillar/.*\.sls|states/[a-z_]+/defaults\.yaml)$", file)]
    assert offences(r"^\s*[a-z_]*(password|secret|token)[a-z_]*:\s*\S", settings) == []


# --- requirements -----------------------------------------------------------------------------------------------------


def requirements_of(file):
    for line in text(file).splitlines():
        if line and not line.startswith(("#", " ", "-")):
            yield Requirement(line.split("  #")[0].removesuffix("\\"))


def versions_of(lock):
    return {canonicalize_name(requirement.name): requirement.specifier for requirement in requirements_of(lock)}


@pytest.mark.parametrize("file", INPUTS)
def test_every_requirement_says_why(file):
    lines = [line for line in text(file).splitlines() if line and not line.startswith(("#", "-r "))]
    assert [line for line in lines if not re.search(r"  # \S+ \S+|  # likewise$", line)] == []


@pytest.mark.parametrize("file", LOCKS)
def test_lock_has_exact_versions_with_hashes_and_no_url(file):
    assert "://" not in text(file)
    entries = re.split(r"^(?=\S)", text(file), flags=re.MULTILINE)
    entries = [entry for entry in entries if entry.strip() and not entry.startswith("#")]
    assert entries
    wanted = r"[A-Za-z0-9._-]+(\[[a-z0-9,-]+\])?==\S+( ; [^\\]+)? \\\n( +--hash=sha256:[0-9a-f]{64}( \\)?\n)+( +#.*\n)*"
    assert [entry.splitlines()[0] for entry in entries if not re.fullmatch(wanted, entry)] == []


@pytest.mark.parametrize("file", INPUTS)
def test_lock_holds_what_was_asked_for(file):
    locked = versions_of(file.removesuffix(".in") + ".txt")
    for requirement in requirements_of(file):
        (exact,) = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(exact.version), f"{requirement}: requirements/compile was not run"


@pytest.mark.parametrize("lock", ["requirements/salt.txt", "requirements/app.txt"])
def test_tests_run_on_the_versions_that_hosts_run_on(lock):
    dev = versions_of("requirements/dev.txt")
    assert {name: dev.get(name) for name in versions_of(lock)} == versions_of(lock)


# --- formulas ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("formula", FORMULAS)
def test_formula_has_the_five_rooms_and_no_other(formula):
    rooms = {file.split("/")[3] for file in FILES if file.startswith(f"salt/states/{formula}/")}
    # What is given to Zabbix, and to no host.
    rooms -= {"templates"} if formula == "zabbix_server" else set()
    assert rooms == {"init.sls", "defaults.yaml", "map.jinja", "files", "schema.yaml"}


def test_every_folder_of_states_is_a_formula_of_the_plan():
    folders = {file.split("/")[2] for file in FILES if file.startswith("salt/states/") and file.count("/") > 2}
    # orch is what operators call on the master: nothing there is applied to a host.
    assert folders - {"_modules", "_returners", "_runners", "_states", "orch"} == set(FORMULAS)
    plan = yaml.safe_load(text("salt/states/top.sls"))["base"]
    applied = {entry for target in plan.values() for entry in target if isinstance(entry, str)}
    # site applies nothing: it checks the pillar.
    assert applied == {*FORMULAS, "site"}


@pytest.mark.parametrize("formula", FORMULAS)
def test_every_setting_is_documented_above_it(formula):
    """Above each key is a comment; one comment may serve several keys where it, or the first key, names the others."""
    comment, first, undocumented = "", "", []
    above = ""
    for line in text(f"salt/states/{formula}/defaults.yaml").splitlines():
        if line.startswith("#"):
            comment = f"{comment} {line}" if above.startswith("#") else line
            first = ""
        elif key := re.match(r"([a-z_]+):", line):
            words = set(key[1].split("_"))
            known = set(re.findall(r"[a-z]+", f"{comment} {first}".lower().replace("_", " ")))
            if not comment or (first and not words & known):
                undocumented.append(key[1])
            first = first or key[1]
        elif not line.strip():
            comment = first = ""
        above = line
    assert undocumented == []


@pytest.mark.parametrize("file", [file for file in FILES if re.match(r"salt/states/[a-z_]+/files/", file)])
def test_file_is_a_template_by_name_if_and_only_if_it_is_one(file):
    assert bool(re.search(r"\{[{%]", text(file))) == file.endswith(".jinja")


@pytest.fixture(scope="module")
def functions_of_salt(tmp_path_factory):
    """Every state function of the pinned Salt and of this repository."""
    root = tmp_path_factory.mktemp("salt")
    options = salt.config.apply_minion_config(
        {"root_dir": str(root), "cachedir": str(root / "cache"), "file_client": "local", "grains": {}}
    )
    options["grains"] = {"os": "Debian", "os_family": "Debian", "kernel": "Linux"}
    modules = salt.loader.minion_mods(options)
    states = salt.loader.states(options, modules, salt.loader.utils(options), None)
    own = [
        f"{file.split('/')[-1].removesuffix('.py')}.{node.name}"
        for file in FILES
        if file.startswith("salt/states/_states/")
        for node in ast.parse(text(file)).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    ]
    return {*states, *own}


@pytest.mark.parametrize("formula", FORMULAS)
def test_every_state_function_exists_in_the_pinned_salt(formula, functions_of_salt):
    used = state_functions_of(text(f"salt/states/{formula}/init.sls"))
    assert used
    assert set(used) - functions_of_salt == set()


def test_a_state_function_that_salt_has_dropped_is_found(functions_of_salt):
    assert "file.managed" in functions_of_salt
    assert set(state_functions_of("a:\n  docker_container.running: []\n")) - functions_of_salt


# --- habits -----------------------------------------------------------------------------------------------------------


def test_scripts_can_be_run_as_they_are():
    scripts = [file for file in FILES if text(file).startswith("#!") and not file.startswith(("salt/states/", ".ci/"))]
    assert [file for file in scripts if not (ROOT / file).stat().st_mode & 0o111] == []


def test_shell_scripts_stop_at_the_first_failure():
    scripts = [file for file in FILES if is_shell(file) and text(file).startswith("#!")]
    assert [file for file in scripts if "\nset -euo pipefail\n" not in text(file)] == []


def test_names_of_tests_are_sentences():
    short = []
    for file in FILES:
        if re.match(r"tests/.*/test_[a-z_]+\.py$", file):
            names = [node.name for node in ast.walk(ast.parse(text(file))) if isinstance(node, ast.FunctionDef)]
            short += [f"{file}: {name}" for name in names if name.startswith("test_") and name.count("_") < 2]
    assert short == []
