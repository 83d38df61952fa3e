"""A host as Salt sees it, without there being one: the real Salt renders for it, and nothing is applied."""

import base64
import dataclasses
import hashlib
import importlib.util
import json
import pathlib
import shutil
import tempfile

import salt.config
import salt.state
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[3]
STATES = ROOT / "salt" / "states"
FORMULAS = sorted(path.parent.name for path in STATES.glob("*/init.sls"))
OSES = ("Debian-12", "Debian-13")
SECRET = "never-a-password-but-for-tests"  # noqa: S105
IDENTITY = base64.b64encode(f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----".encode()).decode()
SECRETS = {
    "redis": {
        "password": SECRET,
        "replication_password": f"{SECRET}-of-replicas",
        "measure_password": f"{SECRET}-of-the-agent",
    },
    "rsyslog": {"identity": IDENTITY, "server_identity": IDENTITY},
    "sentinel": {"password": f"{SECRET}-of-sentinels"},
    "ntp": {"key": f"{SECRET}-of-clocks"},
    "status_page": {"password": f"{SECRET}-of-the-status-page"},
    "zabbix_server": {"password": f"{SECRET}-of-zabbix"},
}


def psk(name):
    """The key of an agent."""
    return hashlib.sha256(f"{SECRET} of {name}".encode()).hexdigest()


# Each role on hosts of its own, so that addresses are really used.
SPREAD = {
    "name": "spread",
    "network": "10.77.9.0/24",
    "hosts": {
        "door": {"address": "10.77.9.10", "roles": ["lb"]},
        "web1": {"address": "10.77.9.11", "roles": ["web"]},
        "web2": {"address": "10.77.9.12", "roles": ["web"]},
        "memory": {"address": "10.77.9.13", "roles": ["data"]},
        "worker": {"address": "10.77.9.14", "roles": ["worker"]},
    },
}
SINGLE, CLUSTER = (
    yaml.safe_load((ROOT / "salt" / "pillar" / "topology" / f"{name}.sls").read_text())["topology"]
    for name in ("single", "cluster")
)


def grains(name, osfinger, **more):
    """What such a host would say of itself: fixed, so that the machine that runs the tests does not matter."""
    release = osfinger.removeprefix("Debian-")
    return {
        "id": name,
        "kernel": "Linux",
        "os": "Debian",
        "os_family": "Debian",
        "osfinger": osfinger,
        "osrelease": release,
        "osmajorrelease": int(release),
        "oscodename": {"12": "bookworm", "13": "trixie"}[release],
        "init": "systemd",
        "num_cpus": 2,
        "mem_total": 2048,
        "virtual": "container",
        **more,
    }


def minion(folder, name, topology=SINGLE, site=None, extra=("lab",)):
    """The minion's configuration, with the keys that salt/bootstrap.sh writes, and its pillar, all in *folder*."""
    pillar = folder / "pillar"
    shutil.copytree(ROOT / "salt" / "pillar", pillar, ignore=shutil.ignore_patterns("secrets.sls", "site.sls", "pins"))
    keys = {"zabbix": {"psk": {host: psk(host) for host in topology["hosts"]}}}
    (pillar / "secrets.sls").write_text(yaml.safe_dump(SECRETS | keys))
    (pillar / "topology" / f"{topology['name']}.sls").write_text(yaml.safe_dump({"topology": topology}))
    if site:
        (pillar / "site.sls").write_text(yaml.safe_dump(site))
    modules = folder / "modules"
    for kind in ("modules", "states"):
        shutil.copytree(STATES / f"_{kind}", modules / kind)
    return {
        "id": name,
        "file_client": "local",
        "file_roots": {"base": [str(STATES), str(ROOT / "salt" / "sources")]},
        "pillar_roots": {"base": [str(pillar)]},
        "fileserver_list_cache_time": 0,
        "failhard": True,
        "turnkey": {"topology": topology["name"], "pillar": list(extra), "repository": str(ROOT)},
        # So far bootstrap's; the rest keeps everything in one folder.
        "root_dir": str(folder),
        "cachedir": str(folder / "cache"),
        "extension_modules": str(modules),
    }


@dataclasses.dataclass(frozen=True)
class Host:
    """What Salt would make of one host."""

    name: str
    osfinger: str
    roles: list[str]
    has_master: bool
    topology: dict
    chunks: list[dict]  # one dictionary for each state, in the order in which they would be applied
    texts: dict[str, str]  # what would be in the managed files, by path
    settings: dict[str, dict]  # by formula
    unknown: set[str]  # state functions that this Salt does not have

    @property
    def formulas(self):
        return {chunk["__sls__"] for chunk in self.chunks}

    @property
    def files(self):
        """``{path: its state}`` of the files that are managed."""
        return {chunk["name"]: chunk for chunk in self.chunks if is_managed_file(chunk)}

    def text(self, path):
        return self.texts[path]


def is_managed_file(chunk):
    return (chunk["state"], chunk["fun"]) == ("file", "managed")


def render(name, osfinger, topology=SINGLE, site=None, more_grains=None):
    """Have Salt make a `Host`; *site* is its site.sls, *more_grains* what it says of itself beyond the usual.

    Once in a process: the modules that Salt loads keep the options of the host they were last loaded for.
    """
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{osfinger}-{name}-"))
    options = salt.config.apply_minion_config(minion(folder, name, topology, site))
    interfaces = {"lo": ["127.0.0.1"], "eth0": ["192.0.2.10"], "eth1": [topology["hosts"][name]["address"]]}
    options["grains"] = grains(name, osfinger, ip_interfaces=interfaces, **(more_grains or {}))
    high = salt.state.HighState(options)
    chunks = high.compile_low_chunks()
    if wrong := [chunk for chunk in chunks if not isinstance(chunk, dict)]:
        raise AssertionError("\n".join(map(str, wrong)))
    chunks = json.loads(json.dumps(sorted(chunks, key=lambda chunk: chunk["order"])))
    functions = high.state.functions
    used = {f"{chunk['state']}.{chunk['fun']}" for chunk in chunks}
    return Host(
        name,
        osfinger,
        topology["hosts"][name]["roles"],
        len(topology["hosts"]) > 1 and any("monitor" in host["roles"] for host in topology["hosts"].values()),
        topology,
        chunks,
        {chunk["name"]: text_of(chunk, functions) for chunk in chunks if is_managed_file(chunk)},
        {formula: functions["turnkey.settings"](formula) for formula in FORMULAS},
        {function for function in used if function not in high.state.states},
    )


def text_of(chunk, functions):
    """What file.managed would put into its file, by the function that it would ask too."""
    unset = ["source_hash", "source_hash_name", "user", "group", "mode", "attrs", "defaults"]
    rendered, _, fault = functions["file.get_managed"](
        chunk["name"],
        chunk.get("template"),
        chunk["source"],
        saltenv="base",
        context=chunk.get("context"),
        **dict.fromkeys(unset),
    )
    if fault:
        raise AssertionError(f"{chunk['name']}: {fault}")
    # What is no template is used from where it lies.
    return pathlib.Path(rendered or functions["cp.cache_file"](chunk["source"])).read_text()


def load(path, **dunders):
    """Import a module of salt/states/ by its path, with what Salt's loader would put into it."""
    spec = importlib.util.spec_from_file_location(path.replace("/", "_").removesuffix(".py"), STATES / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module).update({"__context__": {}} | dunders)
    return module
