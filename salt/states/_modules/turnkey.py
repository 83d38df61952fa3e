"""The one door between pillar and the formulas: merged, checked settings and the topology.

Every formula states its settings in ``defaults.yaml`` and their bounds in ``schema.yaml``; a site states in pillar,
under the formula's name, only where it differs. A wrong value ends the rendering with the key's name, so that nothing
at all has been applied yet.
"""

import copy
import hashlib
import json
import pathlib

import jsonschema
import yaml
from salt.exceptions import CommandExecutionError

LOOPBACK = "127.0.0.1"


def settings(formula):
    """Return the settings of *formula*: its defaults, then what differs on this OS, then the site's pillar.

    Dictionaries are merged, all else is replaced. In ``defaults.yaml`` the key ``by_os`` holds the differences of an OS
    under its ``osfinger`` grain, such as ``Debian-12``.

    Raises CommandExecutionError naming each wrong key by its pillar path, such as ``nginx:gzip:level``.

    CLI Example:

    .. code-block:: bash

        salt-call turnkey.settings nginx
    """
    merged = _load(f"{formula}/defaults.yaml")
    by_os = merged.pop("by_os", {})
    for layer in (by_os.get(__grains__["osfinger"], {}), __pillar__.get(formula, {})):
        merged = _merge(merged, layer)
    _check(formula, merged, _load(f"{formula}/schema.yaml"))
    return merged


def servers(role, clients):
    """Return ``{host: address}`` of the hosts with *role*, as hosts with one of the roles *clients* reach them.

    The address is the loopback one where no other host needs the service: what a service binds to and what its clients
    connect to are one fact, so a single host opens nothing to its network.

    CLI Example:

    .. code-block:: bash

        salt-call turnkey.servers data clients='[web, worker]'
    """
    hosts = __pillar__["topology"]["hosts"]
    callers = {name for name, host in hosts.items() if set(host["roles"]) & set(clients)}
    return {
        name: LOOPBACK if callers <= {name} else host["address"]
        for name, host in hosts.items()
        if role in host["roles"]
    }


def fingerprint(formula, *facts):
    """Return 16 hex digits that change with the files and settings of *formula*, and with the further *facts* it uses.

    A daemon that serves them shows which configuration it runs: a reload may fail without a word.

    CLI Example:

    .. code-block:: bash

        salt-call turnkey.fingerprint nginx
    """
    hashed = hashlib.sha256()
    for path in sorted(__salt__["cp.list_master"](prefix=f"{formula}/files/")):
        hashed.update(__salt__["cp.hash_file"](f"salt://{path}")["hsum"].encode())
    hashed.update(json.dumps([settings(formula), *facts], sort_keys=True).encode())
    return hashed.hexdigest()[:16]


def _load(path):
    cached = __salt__["cp.cache_file"](f"salt://{path}")
    if not cached:
        raise CommandExecutionError(f"salt://{path} is missing")
    return yaml.safe_load(pathlib.Path(cached).read_text(encoding="utf-8")) or {}


def _merge(base, update):
    if not (isinstance(base, dict) and isinstance(update, dict)):
        return copy.deepcopy(update)
    merged = dict(base)
    for key, value in update.items():
        merged[key] = _merge(base[key], value) if key in base else copy.deepcopy(value)
    return merged


def _check(formula, merged, schema):
    validator = jsonschema.Draft202012Validator(schema)
    errors = sorted(validator.iter_errors(merged), key=lambda error: [str(part) for part in error.absolute_path])
    faults = [fault for error in errors for fault in _faults(formula, error)]
    if faults:
        raise CommandExecutionError("wrong pillar, nothing applied: " + "; ".join(faults))


def _faults(formula, error):
    path = [formula, *map(str, error.absolute_path)]
    if error.validator == "additionalProperties" and isinstance(error.validator_value, bool):
        known = error.schema.get("properties", {})
        return [
            f"{':'.join([*path, str(key)])}: unknown key (known here: {', '.join(sorted(known))})"
            for key in error.instance
            if key not in known
        ]
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        return [f"{':'.join([*path, key])}: is required" for key in missing]
    if error.schema.get("writeOnly"):
        wanted = f"{error.validator} {error.validator_value}"
        return [f"{':'.join(path)}: wrong value (a secret, so not shown; wanted: {wanted})"]
    return [f"{':'.join(path)}: {error.message}"]
