#!/opt/salt/bin/python
"""Who is who between a Salt master and its minions, and which secrets of the site are whose: see --help.

A key is trusted because somebody carried its fingerprint over by a way that he trusts, such as ssh (in the lab,
lab/converge does): the minions' to the master, the master's to each minion.

    monitor# salt/keyring.py fingerprint --master    ->  FINGERPRINT of the master
    web1#    salt/keyring.py fingerprint             ->  web1 FINGERPRINT
    web1#    salt/keyring.py trust FINGERPRINT       the master with this fingerprint, and no other
    monitor# salt/keyring.py accept                  lines such as `web1 FINGERPRINT` come in
"""

import argparse
import os
import pathlib
import re
import sys
import time
from collections.abc import Iterable
from typing import Any

import salt.config
import salt.crypt
import salt.key
import salt.utils.crypt
import yaml

PILLAR = pathlib.Path(__file__).resolve().parent / "pillar"
FINGERPRINT = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){31}")


class RefusedError(Exception):
    """What was asked is not done; the message says why."""


def of_pem(text: str) -> str:
    """Return the fingerprint of a public key, as `master_finger` and `salt-call key.finger` have it."""
    lines = [line for line in text.encode().splitlines(keepends=True) if line.strip()]
    return str(salt.utils.crypt.pem_finger(key=b"".join(lines[1:-1]), sum_type="sha256"))


def well_formed(fingerprint: str) -> str:
    if not FINGERPRINT.fullmatch(fingerprint):
        raise RefusedError(f"no fingerprint (32 pairs of hexadecimal digits with colons between): {fingerprint!r}")
    return fingerprint


def write(path: pathlib.Path, text: str, mode: int) -> None:
    """Put *text* at *path* at once, readable by whom *mode* says from the first byte on."""
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
    draft.replace(path)


# --- on a minion ------------------------------------------------------------------------------------------------------


def minion_fingerprint(config: pathlib.Path) -> str:
    """Return `ID FINGERPRINT` of this host, whose key is made where there is none."""
    options = salt.config.minion_config(str(config / "minion"))
    folder = pathlib.Path(options["pki_dir"])
    public = folder / "minion.pub"
    if not public.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        private_text, public_text = salt.crypt.gen_keys(options["keysize"])
        write(folder / "minion.pem", private_text, 0o400)
        write(public, public_text, 0o644)
    return f"{options['id']} {of_pem(public.read_text())}"


def trust(config: pathlib.Path, fingerprint: str) -> None:
    """Have this host follow the master of *fingerprint* only; one that it followed before it forgets."""
    file = config / "minion.d" / "trust.conf"
    text = f"# Written by salt/keyring.py.\nmaster_finger: '{well_formed(fingerprint)}'\n"
    known = pathlib.Path(salt.config.minion_config(str(config / "minion"))["pki_dir"]) / "minion_master.pub"
    if known.exists() and of_pem(known.read_text()) != fingerprint:
        known.unlink()
    # The file's time restarts the minion (formula salt_minion).
    if not file.exists() or file.read_text() != text:
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file, text, 0o644)


# --- on the master ----------------------------------------------------------------------------------------------------


def master_fingerprint(config: pathlib.Path) -> str:
    """Return the fingerprint of this host's master, whose key is made where there is none."""
    minion = salt.config.minion_config(str(config / "minion"))
    # The master's own configuration comes with the first apply. A key is named by the id.
    options = salt.config.master_config(str(config / "master"))
    options.update({key: minion[key] for key in ("id", "keysize")})
    folder = pathlib.Path(options["pki_dir"])
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return of_pem(salt.crypt.MasterKeys(options).get_pub_str())


def accept(config: pathlib.Path, wanted: dict[str, str], patience: float) -> None:
    """Accept the keys of exactly these minions, each once it is there and only with the fingerprint *wanted*."""
    for fingerprint in wanted.values():
        well_formed(fingerprint)
    keys = salt.key.Key(salt.config.master_config(str(config / "master")))
    until = time.monotonic() + patience
    missing = dict(wanted)
    while missing:
        for name, fingerprint in list(missing.items()):
            if settle(keys, name, fingerprint):
                del missing[name]
        if missing and time.monotonic() > until:
            raise RefusedError(f"no key within {patience:.0f} s from: {', '.join(missing)}")
        if missing:
            time.sleep(0.5)


def settle(keys: salt.key.Key, name: str, fingerprint: str) -> bool:
    """Accept the key of *name* if it is the right one; say whether it is accepted now."""
    held = {status: found[name] for status, found in keys.key_str(name).items() if name in found}
    if "minions" in held and of_pem(held["minions"]) == fingerprint:
        return True
    if "minions_pre" in held:
        if (found := of_pem(held["minions_pre"])) != fingerprint:
            raise RefusedError(
                f"{name}: not accepted: the key that waits has the fingerprint {found}, not {fingerprint}"
            )
        keys.accept(match_dict={"minions_pre": [name]})
        return True
    if held:
        # The host was made anew: its old key goes, and the new one comes when the minion asks again.
        keys.delete_key(match_dict={status: [name] for status in held})
    return False


def secrets_of(name: str, topology: str) -> str:
    """Return, as the content of its secrets.sls, what the roles of the host *name* need of this site's secrets."""
    hosts = read(f"topology/{topology}.sls")["topology"]["hosts"]
    if name not in hosts:
        raise RefusedError(f"topology {topology} has no host {name}; it has: {', '.join(hosts)}")
    site = read("secrets.sls")
    told: dict[str, dict[str, Any]] = {}
    for path, roles in read("secrets_of_roles.yaml").items():
        formula, key = path.split(":")
        own = isinstance(roles, dict)
        if own or set(roles) & set(hosts[name]["roles"]):
            secret = site.get(formula, {}).get(key)
            # Of one that each host has its own of it is given no other's: it is not the master.
            missing = name not in (secret or {}) if own else secret is None
            if missing:
                path = f"{path}:{name}" if own else path
                raise RefusedError(f"{path}: salt/pillar/secrets.sls lacks this secret; salt/bootstrap.sh generates it")
            told.setdefault(formula, {})[key] = {name: secret[name]} if own else secret
    return f"# The secrets of {name}, from the master. Keep them out of git.\n" + str(yaml.safe_dump(told))


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((PILLAR / name).read_text()) or {}


# --- the command ------------------------------------------------------------------------------------------------------


def pairs(lines: Iterable[str]) -> dict[str, str]:
    wanted = dict(line.split() for line in lines if line.strip())
    if not wanted:
        raise RefusedError("no lines such as `web1 FINGERPRINT` came in")
    return wanted


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-dir", type=pathlib.Path, default=pathlib.Path("/etc/salt"), metavar="DIR")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("fingerprint", help="print the id and the fingerprint of this host's minion")
    command.add_argument("--master", action="store_true", help="print the fingerprint of this host's master")
    command = commands.add_parser("trust", help="follow the master with this fingerprint, and no other")
    command.add_argument("fingerprint")
    command = commands.add_parser("accept", help="accept the minions whose `ID FINGERPRINT` come in, a line each")
    command.add_argument("--patience", type=float, default=120, metavar="SECONDS", help="until all must be there (120)")
    command = commands.add_parser("secrets", help="print what a host is to have as salt/pillar/secrets.sls")
    command.add_argument("host")
    command.add_argument("--topology", default="cluster", help="(%(default)s)")
    options = parser.parse_args(arguments)
    try:
        if options.command == "fingerprint":
            print((master_fingerprint if options.master else minion_fingerprint)(options.config_dir))
        elif options.command == "trust":
            trust(options.config_dir, options.fingerprint)
        elif options.command == "accept":
            accept(options.config_dir, pairs(sys.stdin), options.patience)
        else:
            print(secrets_of(options.host, options.topology), end="")
    except (RefusedError, OSError) as error:
        print(f"keyring.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
