"""A signed repository with a *stand-in* for Logstash: a package of that name that only does as if.

Logstash is in no repository that tests can reach. What is proved with this one is all around it: repository, key, pin,
version, package, service and files; not Logstash.
"""

import datetime
import hashlib
import os
import pathlib
import subprocess
import tempfile

SUITE, COMPONENT, VERSION = "stable", "main", "1:9.1.3-1"

# Told to test a configuration it wants to see one, as its user; else it runs for as long as it is let.
PROGRAM = """\
#!/bin/bash
# A stand-in for Logstash.
set -euo pipefail
[ "$(id -un)" = logstash ]
case " $* " in
    *" --config.test_and_exit "*)
        while [ "$1" != --path.config ]; do shift; done
        grep -q '^input {' "$2" && grep -q '^output {' "$2" && echo 'Configuration OK (says a stand-in)'
        ;;
    *) exec sleep infinity ;;
esac
"""
UNIT = """\
[Unit]
Description=A stand-in for Logstash
[Service]
User=logstash
Group=logstash
ExecStart=/usr/share/logstash/bin/logstash --path.settings /etc/logstash
[Install]
WantedBy=multi-user.target
"""
POSTINST = """\
#!/bin/sh
set -e
getent passwd logstash >/dev/null || useradd --system --user-group --shell /usr/sbin/nologin logstash
install -d -o logstash -g logstash /var/lib/logstash /var/log/logstash
install -d /etc/logstash
"""
POSTRM = """\
#!/bin/sh
set -e
if [ "$1" = purge ]; then
    rm -rf /var/lib/logstash /var/log/logstash /etc/logstash
    userdel logstash 2>/dev/null || true
fi
"""


def package(folder: pathlib.Path, version: str = VERSION) -> pathlib.Path:
    """Build the stand-in of this *version*."""
    tree = folder / "tree"
    for path, text, mode in (
        ("usr/share/logstash/bin/logstash", PROGRAM, 0o755),
        ("usr/lib/systemd/system/logstash.service", UNIT, 0o644),
        ("DEBIAN/postinst", POSTINST, 0o755),
        ("DEBIAN/postrm", POSTRM, 0o755),
        ("DEBIAN/control", control(version), 0o644),
    ):
        file = tree / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
    for file in (tree, *tree.rglob("*")):
        if file.is_dir():
            file.chmod(0o755)
    made = folder / "logstash.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, made], check=True, capture_output=True)
    return made


def control(version: str) -> str:
    return (
        f"Package: logstash\nVersion: {version}\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\n"
        "Description: stand-in for Logstash, for tests\n"
    )


def key(folder: pathlib.Path) -> str:
    """Make a key in the keyring *folder*; return the public one, armoured."""
    folder.mkdir(mode=0o700, parents=True)
    gpg(folder, "--quick-generate-key", "repository@example.org", "ed25519", "sign", "never")
    return gpg(folder, "--armor", "--export").strip()


def gpg(keyring: pathlib.Path, *arguments: str) -> str:
    command = ["gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", *arguments]
    # The way to its agent's socket must be short.
    with tempfile.TemporaryDirectory(prefix="gpg-") as short:
        link = pathlib.Path(short, "home")
        link.symlink_to(keyring)
        environment = os.environ | {"GNUPGHOME": str(link)}
        try:
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        finally:
            subprocess.run(["gpgconf", "--kill", "all"], check=False, capture_output=True, env=environment)
        return done.stdout


def repository(folder: pathlib.Path, keyring: pathlib.Path, version: str = VERSION) -> None:
    """Make a repository in *folder*, signed by the key in *keyring*, that has the stand-in in this *version*."""
    suite = folder / "dists" / SUITE
    index = suite / COMPONENT / "binary-all"
    index.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as built:
        content = package(pathlib.Path(built), version).read_bytes()
    (folder / "logstash.deb").write_bytes(content)
    sums = f"Size: {len(content)}\nSHA256: {hashlib.sha256(content).hexdigest()}\n"
    listed = (control(version) + f"Filename: logstash.deb\n{sums}").encode()
    (index / "Packages").write_bytes(listed)
    release = (
        f"Origin: stand-in\nSuite: {SUITE}\nCodename: {SUITE}\nComponents: {COMPONENT}\n"
        "Architectures: all amd64 arm64\n"
        f"Date: {datetime.datetime.now(datetime.UTC):%a, %d %b %Y %H:%M:%S} UTC\n"
        f"SHA256:\n {hashlib.sha256(listed).hexdigest()} {len(listed)} {COMPONENT}/binary-all/Packages\n"
    )
    (suite / "Release").write_text(release)
    gpg(keyring, "--clearsign", "--output", str(suite / "InRelease"), str(suite / "Release"))
