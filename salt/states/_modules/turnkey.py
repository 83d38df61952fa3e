"""The one door between pillar and the formulas: merged, checked settings and the topology.

Every formula states its settings in ``defaults.yaml`` and their bounds in ``schema.yaml``; a site states in pillar,
under the formula's name, only where it differs. A wrong value ends the rendering with the key's name, so that nothing
at all has been applied yet.

What a formula offers to other hosts stands in its ``defaults.yaml`` too, under ``serves``: by the setting that holds
the port, hosts of which roles offer it (``by``) to those of which roles (``to``). Where a service listens, where its
clients look for it, and what the firewall lets in all follow from this one line; the site has no say in it.
"""

import collections
import copy
import hashlib
import ipaddress
import json
import pathlib
import re

import jsonschema
import yaml
from cryptography import x509
from salt.exceptions import CommandExecutionError

LOOPBACK = "127.0.0.1"
# libyaml's, where PyYAML has it: an apply reads some three hundred times, and spent a quarter of its time on it.
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
ANYONE = ["0.0.0.0/0", "::/0"]
# Without one host of each nothing is served.
NEEDED_ROLES = ("lb", "web", "data")


def settings(formula):
    """Return the settings of *formula*: its defaults, then what differs on this OS, then the site's pillar.

    Dictionaries are merged, all else is replaced. In ``defaults.yaml`` the key ``by_os`` holds the differences of an OS
    under its ``osfinger`` grain, such as ``Debian-12``.

    Raises CommandExecutionError naming each wrong key by its pillar path, such as ``nginx:gzip:level``.

    CLI Example:

    .. code-block:: bash

        salt-call turnkey.settings nginx
    """
    site = __pillar__.get(formula, {})
    # Every template asks, for its own formula and for others: merged and checked once for the pillar of this apply.
    known = __context__.setdefault("turnkey.settings", {})
    if formula not in known or known[formula][0] != site:
        known[formula] = copy.deepcopy(site), _settings(formula, site)
    # Whoever changes what he was given changes nobody else's.
    return copy.deepcopy(known[formula][1])


def _settings(formula, site):
    merged = _load(f"{formula}/defaults.yaml")
    by_os = merged.pop("by_os", {})
    merged.pop("serves", None)
    for layer in (by_os.get(__grains__["osfinger"], {}), site):
        merged = _merge(merged, layer)
    faults = _faults(formula, merged, _load(f"{formula}/schema.yaml"))
    # A host is not told the secrets of others (salt/pillar/secrets_of_host.sls), and does not need them.
    needless = {f"{path}: is required" for path in __pillar__.get("withheld", [])}
    _refuse([fault for fault in faults if fault not in needless])
    return merged


def check():
    """Check what no formula can check for itself: the topology, names that nobody knows, ports that two want.

    Raises CommandExecutionError naming each wrong key by its pillar path, such as ``topology:hosts:web1:address``.

    CLI Example:

    .. code-block:: bash

        salt-call turnkey.check
    """
    formulas = _formulas()
    known = {*formulas, "led_by", "roles", "topology", "withheld", "zabbix"}
    faults = [
        f"{key}: unknown key (known here: {', '.join(sorted(known))})"
        for key in sorted(map(str, __pillar__.keys()))
        if key not in known
    ]
    faults += _topology_faults(__pillar__["topology"]) or _port_faults(formulas) + _service_faults(formulas)
    _refuse(faults)


def addresses(service):
    """Return ``{host: address}`` of the hosts that offer *service*, such as ``redis:port``, as its clients reach them.

    Who offers it and who its clients are is what its formula says under ``serves``. The address is the loopback one
    where no other host needs the service: what a service binds to and what its clients connect to are one fact, so a
    single host opens nothing to its network.

    CLI Example:

    .. code-block:: bash

        salt-call turnkey.addresses redis:port
    """
    formula, _, key = service.partition(":")
    facts = _load(f"{formula}/defaults.yaml").get("serves", {}).get(key)
    if facts is None:
        raise CommandExecutionError(f"{service} is no service: {formula}/defaults.yaml does not have it under serves")
    hosts, offering, callers = __pillar__["topology"]["hosts"], _hosts_with(facts["by"]), _hosts_with(facts["to"])
    return {
        name: LOOPBACK if facts["to"] != "anyone" and callers <= {name} else host["address"]
        for name, host in hosts.items()
        if name in offering
    }


def openings(host=None):
    """Return what *host* (by default this one) offers to others, and to whom: what its firewall lets in.

    A list of ``{service, protocol, port, sources}``, where sources are addresses and networks. Services that no other
    host comes to are not among them.

    CLI Example:

    .. code-block:: bash

        salt-call turnkey.openings
    """
    host = host or __grains__["id"]
    known = __pillar__["topology"]["hosts"]
    found = []
    for formula in _formulas():
        for key, facts in _load(f"{formula}/defaults.yaml").get("serves", {}).items():
            offering = _hosts_with(facts["by"])
            if host not in offering or (len(offering) == 1 and not facts.get("alone", True)):
                continue
            # Another formula's settings may be secret to this host: only those of its own services are asked for.
            own = settings(formula)
            clients = sorted(known[name]["address"] for name in _hosts_with(facts["to"]) - {host})
            sources = ANYONE if facts["to"] == "anyone" else clients + own.get(facts.get("networks"), [])
            if sources:
                opening = {"service": f"{formula}:{key}", "protocol": facts["protocol"], "sources": sources}
                found.append(opening | {"port": own.get(key)})
    return found


def families(networks):
    """Return *networks* (or addresses) as nftables takes them: ``{"ip": […], "ip6": […]}``, none within another.

    CLI Example:

    .. code-block:: bash

        salt-call turnkey.families '[10.0.0.0/8, 10.0.0.1, "::1"]'
    """
    parsed = set(map(ipaddress.ip_network, networks))
    found: dict[str, list[str]] = {}
    for version, family in ((4, "ip"), (6, "ip6")):
        # Sorted: the order of hosts in the topology is no reason to load rules anew.
        for network in (own := sorted(network for network in parsed if network.version == version)):
            if not any(network != other and network[0] in other and network[-1] in other for other in own):
                found.setdefault(family, []).append(_without_mask(network))
    return found


def fingerprint(formula, *facts):
    """Return 16 hex digits that change with the files and settings of *formula*, and with the further *facts* it uses.

    A daemon that serves them shows which configuration it runs: a reload may fail without a word.

    CLI Example:

    .. code-block:: bash

        salt-call turnkey.fingerprint nginx
    """
    hashed = hashlib.sha256()
    for path in sorted(path for path in _files() if path.startswith(f"{formula}/files/")):
        hashed.update(__salt__["cp.hash_file"](f"salt://{path}")["hsum"].encode())
    hashed.update(json.dumps([settings(formula), *facts], sort_keys=True).encode())
    return hashed.hexdigest()[:16]


def _formulas():
    return sorted(path.split("/")[0] for path in _files() if path.endswith("/schema.yaml"))


def _files():
    """Return the paths of all files that Salt serves; listed each time, this would take a tenth of an apply."""
    if "turnkey.files" not in __context__:
        __context__["turnkey.files"] = __salt__["cp.list_master"]()
    return __context__["turnkey.files"]


def _hosts_with(roles):
    """Return the hosts with one of *roles*; ``hosts`` and ``anyone`` stand for all of them."""
    hosts = __pillar__["topology"]["hosts"]
    return {name for name, host in hosts.items() if isinstance(roles, str) or set(host["roles"]) & set(roles)}


def _without_mask(network):
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def _load(path):
    cached = __salt__["cp.cache_file"](f"salt://{path}")
    if not cached:
        raise CommandExecutionError(f"salt://{path} is missing")
    return yaml.load(pathlib.Path(cached).read_text(encoding="utf-8"), Loader) or {}  # noqa: S506  a safe one


def _merge(base, update):
    if not (isinstance(base, dict) and isinstance(update, dict)):
        return copy.deepcopy(update)
    merged = dict(base)
    for key, value in update.items():
        merged[key] = _merge(base[key], value) if key in base else copy.deepcopy(value)
    return merged


def _refuse(faults):
    if faults:
        raise CommandExecutionError("wrong pillar, nothing applied: " + "; ".join(faults))


def _topology_faults(topology):
    faults = _faults("topology", topology, _load("topology.yaml"))
    if faults:
        return faults
    hosts = topology["hosts"]
    network = _parsed(ipaddress.ip_network, topology["network"], "topology:network", faults)
    taken: dict[object, str] = {}
    for name, host in hosts.items():
        path = f"topology:hosts:{name}:address"
        address = _parsed(ipaddress.ip_address, host["address"], path, faults)
        if address and (other := taken.setdefault(address, name)) != name:
            faults.append(f"{path}: {address} is {other}'s already")
    holders = collections.defaultdict(list)
    for name, host in hosts.items():
        for role in host["roles"]:
            holders[role].append(name)
    faults += _virtual_address_faults(topology, network, taken, holders["lb"])
    # Long work that nobody does would be queued for ever.
    needed = (*NEEDED_ROLES, "worker") if __pillar__.get("app", {}).get("celery") else NEEDED_ROLES
    faults += [f"topology:hosts: no host has the role {role}" for role in needed if not holders[role]]
    if holders["data"] and len(holders["data"]) % 2 == 0:
        # Cut in two halves, neither may elect a primary; of two, the one that is left may not.
        faults.append(
            f"topology:hosts: {len(holders['data'])} hosts have the role data ({', '.join(holders['data'])});"
            " a majority needs an odd number: one, or three and more"
        )
    for role in ("monitor", "logs"):
        if len(holders[role]) > 1:
            faults.append(
                f"topology:hosts: {len(holders[role])} hosts have the role {role}"
                f" ({', '.join(holders[role])}); at most one may"
            )
    return faults


def _virtual_address_faults(topology, network, taken, balancers):
    path = "topology:virtual_address"
    if "virtual_address" not in topology:
        return [f"{path}: is required, as {', '.join(balancers)} all have the role lb"] if len(balancers) > 1 else []
    faults: list[str] = []
    address = _parsed(ipaddress.ip_address, topology["virtual_address"], path, faults)
    if address and network:
        if address not in network:
            faults.append(f"{path}: {address} is not in topology:network, {network}")
        elif address in (network.network_address, network.broadcast_address):
            faults.append(f"{path}: {address} is no host's address in {network}")
    if address in taken:
        faults.append(f"{path}: {address} is {taken[address]}'s already")
    return faults


def _parsed(parse, text, path, faults):
    try:
        return parse(text)
    except ValueError as error:
        faults.append(f"{path}: {error}")
        return None


def _port_faults(formulas):
    # For all formulas alike, whichever host they are for: hosts may be put together one day.
    faults: list[str] = []
    taken: dict[int, str] = {}
    for formula in formulas:
        for key, port in settings(formula).items():
            if key == "port" or key.endswith("_port"):
                path = f"{formula}:{key}"
                if (other := taken.setdefault(port, path)) != path:
                    faults.append(f"{path}: {port} is {other}'s already")
    return faults


def _service_faults(formulas):
    faults, schema = [], _load("serves.yaml")
    for formula in formulas:
        serves = _load(f"{formula}/defaults.yaml").get("serves", {})
        faults += _faults(f"{formula}:serves", serves, schema)
    return faults


def _faults(formula, merged, schema):
    """Say what is wrong with *merged* by *schema*, each fault with its pillar path."""
    strange = [f"{':'.join([formula, *path])}: a key must be text" for path in _strange_keys(merged)]
    if strange:
        return strange
    errors = Validator(schema).iter_errors(merged)
    errors = sorted(errors, key=lambda error: [str(part) for part in error.absolute_path])
    # Of several missing keys each error tells all.
    return list(dict.fromkeys(fault for error in errors for fault in _words(formula, error)))


def _strange_keys(value, path=()):
    # YAML takes on, off, yes, no and numbers for other things than names.
    if isinstance(value, dict):
        for key, below in value.items():
            if not isinstance(key, str):
                yield (*path, str(key))
            yield from _strange_keys(below, (*path, str(key)))


def _pattern(validator, pattern, instance, schema):
    # Python's $ allows for a newline at the end, and YAML's | makes one.
    if validator.is_type(instance, "string") and (instance.endswith("\n") or not re.search(pattern, instance)):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


def _format(validator, format, instance, schema):
    # Whoever reads it later says best what is wrong with it.
    try:
        if format == "network" and validator.is_type(instance, "string"):
            ipaddress.ip_network(instance)
        if format == "address" and validator.is_type(instance, "string"):
            ipaddress.ip_address(instance)
        if format == "certificate" and validator.is_type(instance, "string"):
            x509.load_pem_x509_certificate(instance.encode())
    except ValueError as error:
        yield jsonschema.ValidationError(str(error))


# JSON Schema takes 3.0 for an integer; Python and the daemons do not.
Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    validators={"pattern": _pattern, "format": _format},
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)


def _words(formula, error):
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
