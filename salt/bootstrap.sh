#!/bin/bash
# Salt on a bare Debian machine: pinned, hash-checked, in a virtual environment of its own.
set -euo pipefail

usage() {
    cat <<'EOF'
Usage: salt/bootstrap.sh [OPTION]...

Installs Salt on this machine and points it at the repository this script lies in. Afterwards
`salt-call state.apply` makes the machine serve. May be run again at any time: what is in place stays.

  --topology NAME  the file of salt/pillar/topology/ that lists the hosts (default: single)
  --id ID          which host of the topology this machine is (default: as before; else the only
                   host of the topology; else this machine's host name)
  --pillar NAME    a further file of salt/pillar/ for this machine, such as lab; may be repeated
  --install-only   only install Salt: for an image, where no systemd runs yet
  --help           show this text

Needs root, Debian 12 or 13, and systemd. Secrets of the site are generated once, on its only host
or on its master, into salt/pillar/secrets.sls (mode 0600, ignored by git). Every other host is
given those of its own roles, and trust between it and the master is made, with salt/keyring.py.
EOF
}

fail() {
    printf 'bootstrap.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

step() {
    printf 'bootstrap: %s\n' "$1"
}

topology='' id='' install_only=false
extra_pillar=()
while [ $# -gt 0 ]; do
    case $1 in
        --topology | --id | --pillar)
            [ $# -ge 2 ] || fail "$1 needs a value; see --help" 2
            case $1 in
                --topology) topology=$2 ;;
                --id) id=$2 ;;
                --pillar) extra_pillar+=("$2") ;;
            esac
            shift 2
            ;;
        --install-only) install_only=true; shift ;;
        --help) usage; exit 0 ;;
        *) fail "unknown option '$1'; see --help" 2 ;;
    esac
done

readonly VENV=/opt/salt
readonly CONFIG=/etc/salt/minion
repository=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)
readonly LOCK=$repository/requirements/salt.txt BUILD_LOCK=$repository/requirements/build.txt

[ "$(id -u)" = 0 ] || fail 'must run as root (try sudo)'
# shellcheck source=/dev/null
os=$(. /etc/os-release 2>/dev/null && echo "${ID:-unknown} ${VERSION_ID:-unknown}") || os='unknown'
case $os in
    'debian 12' | 'debian 13') ;;
    *) fail "needs Debian 12 or 13; this is $os" ;;
esac
$install_only || [ -d /run/systemd/system ] || fail 'needs systemd as the running init (or --install-only)'
[[ -r $LOCK && -r $BUILD_LOCK ]] || fail "cannot read $LOCK and $BUILD_LOCK"

install_packages() {
    local missing=()
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    step "installing ${missing[*]}"
    # A package run that was cut off leaves dpkg half way; it must end before anything else is installed.
    export DEBIAN_FRONTEND=noninteractive
    dpkg --configure -a
    apt-get update -qq
    apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

install_salt() {
    local stamp
    stamp=$(cat "$BUILD_LOCK" "$LOCK" | sha256sum)
    if [ "$(cat $VENV/.installed 2>/dev/null)" = "$stamp" ] && $VENV/bin/python -c 'import salt' 2>/dev/null; then
        return
    fi
    # timelib, one of Salt's dependencies, comes as source only: hence the compiler.
    install_packages ca-certificates gcc libc6-dev python3 python3-dev python3-venv
    step "installing Salt into $VENV (a few minutes)"
    rm -rf "$VENV"
    python3 -m venv "$VENV"
    local pip=(env PIP_CERT=/etc/ssl/certs/ca-certificates.crt
        "$VENV/bin/pip" install --quiet --disable-pip-version-check --no-input --require-hashes --no-deps)
    # Build tools first, and no isolated build: pip would fetch others for that, neither pinned nor checked.
    "${pip[@]}" -r "$BUILD_LOCK"
    "${pip[@]}" --no-build-isolation -r "$LOCK"
    # In a root of its own: an id that it finds here, such as that of an image's build, would stay with this host.
    local trial
    trial=$(mktemp -d)
    printf 'id: trial\nroot_dir: %s\n' "$trial" >"$trial/minion"
    "$VENV/bin/salt-call" --config-dir="$trial" --local --log-level=error test.ping >/dev/null ||
        fail 'Salt is installed but does not run: see above'
    rm -r "$trial"
    printf '%s\n' "$stamp" >"$VENV/.installed"
}

link_commands() {
    ln -sfn "$VENV/bin/salt-call" /usr/local/bin/salt-call
}

configure() {
    "$VENV/bin/python" - "$repository" "$CONFIG" "$topology" "$id" "${extra_pillar[@]}" <<'EOF'
"""Write the minion's configuration and the site's secrets; keep what an earlier run decided."""
import base64
import datetime
import os
import pathlib
import secrets
import socket
import sys

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

repository, config_file, topology, host, *extra_pillar = sys.argv[1:]
repository, config_file = pathlib.Path(repository), pathlib.Path(config_file)
pillar = repository / "salt" / "pillar"


def read(path):
    return (yaml.safe_load(path.read_text()) if path.exists() else None) or {}


def write(path, comment, data, mode):
    text = f"# {comment}\n" + yaml.safe_dump(data, sort_keys=False)
    if path.exists() and path.read_text() == text and path.stat().st_mode & 0o777 == mode:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
    draft.replace(path)
    print(f"bootstrap: wrote {path}")


def identities(formula):
    """Return the identities of both ends of *formula*'s connections, each in one line of base64: its key, its
    certificate, and that of the authority that signed both, whose own key nobody keeps."""
    now = datetime.datetime.now(datetime.timezone.utc)

    def pem(key):
        form = serialization.PrivateFormat.PKCS8
        return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()

    def certificate(name, key, issuer, signer, purposes):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=not purposes, path_length=None if purposes else 0), critical=True)
        )
        if purposes:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    authority, made = ec.generate_private_key(ec.SECP256R1()), {}
    its_own = certificate(f"{formula}-authority", authority, f"{formula}-authority", authority, [])
    for leaf, name, purpose in (
        ("identity", f"{formula}-sender", ExtendedKeyUsageOID.CLIENT_AUTH),
        ("server_identity", f"{formula}-receiver", ExtendedKeyUsageOID.SERVER_AUTH),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        text = pem(key) + certificate(name, key, f"{formula}-authority", authority, [purpose]) + its_own
        made[leaf] = base64.b64encode(text.strip().encode()).decode()
    return made


before = read(config_file)
site = before.get("turnkey", {})
topology = topology or site.get("topology", "single")
extra_pillar = extra_pillar or site.get("pillar", [])
for name in [f"topology/{topology}", *extra_pillar]:
    if not (pillar / f"{name}.sls").is_file():
        sys.exit(f"bootstrap.sh: there is no {pillar / name}.sls")

hosts = read(pillar / "topology" / f"{topology}.sls")["topology"]["hosts"]
if not host:
    kept = before.get("id")
    host = kept if kept in hosts else next(iter(hosts)) if len(hosts) == 1 else socket.gethostname()
if host not in hosts:
    sys.exit(f"bootstrap.sh: topology {topology} has no host {host!r}; --id takes one of: {', '.join(hosts)}")

# Without a master this host's modules are used from where they lie: to copy them first takes a second of each apply.
own_modules = (
    {}
    if len(hosts) > 1 and any("monitor" in entry["roles"] for entry in hosts.values())
    else {"module_dirs": [str(repository / "salt" / "states")], "autoload_dynamic_modules": False}
)
write(
    config_file,
    "Written by salt/bootstrap.sh; changes are lost when it runs again.",
    {
        "id": host,
        # Of this host's keys, the minion's and the master's.
        "keysize": 3072,
        "file_client": "local",
        "file_roots": {"base": [str(repository / "salt" / "states"), str(repository / "salt" / "sources")]},
        "pillar_roots": {"base": [str(pillar)]},
        # A release is named by its content: a list of files some seconds old would name the one before.
        "fileserver_list_cache_time": 0,
        # States run from top to bottom, and what follows a failure would only fail in its wake.
        "failhard": True,
        "state_output": "changes",
        # How each apply ended is noted (salt/states/_returners/applied.py): Zabbix tells when one fails, or none comes.
        "return": "applied",
        **own_modules,
        "turnkey": {"topology": topology, "pillar": extra_pillar, "repository": str(repository)},
    },
    0o644,
)

# Each secret is generated in one place, once, and never defaulted.
secret_file = pillar / "secrets.sls"
kept = read(secret_file)
if len(hosts) == 1 or "monitor" in hosts[host]["roles"]:
    missing = []
    for path, roles in read(pillar / "secrets_of_roles.yaml").items():
        formula, key = path.split(":")
        room = kept.setdefault(formula, {})
        if isinstance(roles, dict):
            # Each host has its own; that of a host which left goes.
            known = room.get(key, {})
            room[key] = {name: known.get(name) or secrets.token_hex(32) for name in hosts}
        elif not key.endswith("identity"):
            room.setdefault(key, secrets.token_urlsafe(32))
        elif key not in room:
            missing.append(formula)
    for formula in set(missing):
        kept[formula].update(identities(formula))
    write(secret_file, "The secrets of this site, generated by salt/bootstrap.sh. Keep them out of git.", kept, 0o600)
elif not secret_file.exists():
    write(secret_file, "This host has been told no secret yet: salt/keyring.py secrets, on the master, tells them.", {}, 0o600)
EOF
}

install_salt
link_commands
if ! $install_only; then
    configure
    step 'done; next: salt-call state.apply'
fi
