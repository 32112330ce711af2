"""Kits from the coordinator's hand to the site's."""

from __future__ import annotations

import datetime
import io
import os
import shutil
import ssl
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from flwr.cli.supernode.register import try_load_public_key

from fedpsyau_client.connection.site_kit import opened_kit
from fedpsyau_client.connection.taking_part import policy_in_force
from fedpsyau_client.settings import ClientSettings
from fedpsyau_model.certificates import read_certificate, require_valid_dates
from fedpsyau_model.errors import (
    CertificateDatesError,
    KeyPermissionsError,
    KitError,
    OutputExistsError,
    OutputWriteError,
    PrivateKeyError,
    SettingsError,
    UnknownPartitionError,
)
from fedpsyau_model.private_keys import public_line
from fedpsyau_model.settings import load_settings
from fedpsyau_server.kits.provisioning import add_sites, provision, renew_server, revoke, rotate
from fedpsyau_server.kits.server_kit import ServerKit, open_server_kit
from fedpsyau_server.kits.site_list import SiteList

HOSTS = ("fl.example.org", "192.0.2.10")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A coordinator's folder with kits for the sites a and b."""
    provision(tmp_path / "coordinator", ["a", "b"], HOSTS, 9092)
    return tmp_path / "coordinator"


@pytest.fixture
def kit(folder: Path, tmp_path: Path) -> Path:
    """The kit of the site a, unpacked as a person would."""
    with tarfile.open(folder / "kits" / "a.tar.gz") as archive:
        archive.extractall(tmp_path / "site")
    return tmp_path / "site" / "a"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def handshake(folder: Path, name: str, trusted: Path | None = None) -> None:
    """A TLS handshake in memory, by OpenSSL: the server with its kit, a site with its authority."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(folder / "server.crt", folder / "server.key")
    site_context = ssl.create_default_context(cafile=trusted or folder / "ca.crt")
    site_context.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_site = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_site, server_side=True)
    site = site_context.wrap_bio(to_site, to_server, server_hostname=name)
    for _ in range(3):
        for side in (site, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert site.version() == "TLSv1.3"


def test_what_is_made(folder: Path) -> None:
    assert mode(folder) == 0o700
    private = [folder / "ca.key", folder / "server.key", *folder.glob("kits/*.tar.gz")]
    assert len(private) == 4
    assert {mode(path) for path in private} == {0o600}
    open_server_kit(folder)
    with tarfile.open(folder / "kits" / "b.tar.gz") as archive:
        members = {member.name: member.mode for member in archive}
    assert members == {
        "b/ca.crt": 0o644,
        "b/site.key": 0o600,
        "b/client.toml": 0o644,
        "b/README.md": 0o644,
    }
    assert not list(folder.parent.glob(".*partial*"))


@pytest.mark.parametrize("name", [*HOSTS, "localhost", "127.0.0.1", "::1"])
def test_openssl_accepts_the_server_under_every_name(folder: Path, name: str) -> None:
    handshake(folder, name)


def test_openssl_refuses_another_name_and_another_authority(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(folder, "other.example.org")
    provision(tmp_path / "other", ["a"], HOSTS, 9092)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"self.signed|issuer"):
        handshake(folder, HOSTS[0], tmp_path / "other" / "ca.crt")


def test_flower_takes_the_public_keys(folder: Path, kit: Path, tmp_path: Path) -> None:
    keys = SiteList.read(folder / "sites.json").keys
    assert sorted(keys.values()) == ["a", "b"]
    for key in keys:
        (tmp_path / "key.pub").write_text(key)
        assert try_load_public_key(tmp_path / "key.pub")
    with opened_kit(kit) as opened:
        assert keys[public_line(opened.site_key)] == "a"


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_a_kit_needs_nothing_else(folder: Path, kit: Path, form: str) -> None:
    path = kit if form == "folder" else folder / "kits" / "a.tar.gz"
    with opened_kit(path) as opened:
        settings = load_settings(ClientSettings, opened.settings, environment={})
        assert (settings.partition, settings.superlink) == ("a", "fl.example.org:9092")
        assert opened.authority.read_bytes() == (folder / "ca.crt").read_bytes()
        assert mode(opened.key) == 0o600
        unpacked = opened.folder
    assert unpacked.exists() == (form == "folder")
    assert "`fedpsyau-client --kit ." in (kit / "README.md").read_text()
    assert "{" not in (kit / "README.md").read_text()


#: Opens a kit, shows that another process can read it, says where it is, and waits to be killed.
OPENER = """
import subprocess, sys, time
from pathlib import Path
from fedpsyau_client.connection.site_kit import opened_kit

with opened_kit(Path(sys.argv[1])) as kit:
    read = subprocess.run(["cat", kit.key, kit.authority], check=True, capture_output=True).stdout
    assert b"PRIVATE KEY" in read and b"CERTIFICATE" in read
    print(kit.key, flush=True)
    time.sleep(600)
"""


def test_a_process_that_is_killed_leaves_nothing_of_its_kit(folder: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", OPENER, folder / "kits" / "a.tar.gz"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(temporary)},
    ) as process:
        assert process.stdout
        key = Path(process.stdout.readline().strip())
        assert key.is_relative_to(temporary)
        assert b"PRIVATE KEY" in key.read_bytes()
        process.kill()
    assert not key.exists()
    assert [path for path in temporary.rglob("*") if path.is_file()] == []


def test_the_policy_in_an_unpacked_kit_is_found(folder: Path, kit: Path, tmp_path: Path) -> None:
    archive = folder / "kits" / "a.tar.gz"
    own = tmp_path / "own.toml"
    own.write_text("max-rounds = 3")
    (kit / "policy.toml").write_text("max-rounds = 4")
    found = []
    for path, flags in ((archive, {}), (kit, {}), (kit, {"policy": own})):
        with opened_kit(path) as opened:
            settings = load_settings(ClientSettings, opened.settings, flags, environment={})
            found.append(policy_in_force(settings, opened)[0].max_rounds)
    assert found == [None, 4, 3]


def test_adding_a_site_keeps_all_else(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert add_sites(folder, ["c"]) == [folder / "kits" / "c.tar.gz"]
    del before[folder / "sites.json"]
    assert {path: path.read_bytes() for path in before} == before
    assert SiteList.read(folder / "sites.json").names == ("a", "b", "c")
    with pytest.raises(OutputExistsError, match="--rotate c"):
        add_sites(folder, ["c"])


def test_provision_never_touches_what_is_there(folder: Path) -> None:
    before = (folder / "ca.crt").read_bytes()
    with pytest.raises(OutputExistsError, match="--add-site"):
        provision(folder, ["a"], HOSTS, 9092)
    assert (folder / "ca.crt").read_bytes() == before


def test_rotation_voids_the_old_key(folder: Path) -> None:
    old = {site: key for key, site in SiteList.read(folder / "sites.json").keys.items()}
    rotate(folder, ["a"])
    listed = SiteList.read(folder / "sites.json")
    new = {site: key for key, site in listed.keys.items()}
    assert new["b"] == old["b"]
    assert new["a"] != old["a"]
    assert [(key.site, key.public_key, key.why) for key in listed.void] == [
        ("a", old["a"], "rotated")
    ]
    with opened_kit(folder / "kits" / "a.tar.gz") as opened:
        assert public_line(opened.site_key) == new["a"]
    with pytest.raises(UnknownPartitionError, match=r"'z'.*a"):
        rotate(folder, ["z"])


def test_revocation_and_the_way_back(folder: Path) -> None:
    revoke(folder, "a")
    listed = SiteList.read(folder / "sites.json")
    assert listed.names == ("b",)
    assert [(key.site, key.why) for key in listed.void] == [("a", "revoked")]
    assert not (folder / "kits" / "a.tar.gz").exists()
    with pytest.raises(UnknownPartitionError, match="'a'"):
        revoke(folder, "a")
    rotate(folder, ["a"])
    listed = SiteList.read(folder / "sites.json")
    assert listed.names == ("b", "a")
    assert listed.void[0].public_key not in listed.keys


def test_renewal_keeps_the_authority_and_takes_new_names(folder: Path) -> None:
    authority = (folder / "ca.crt").read_bytes()
    renew_server(folder, ["new.example.org"], days=10)
    assert (folder / "ca.crt").read_bytes() == authority
    assert mode(folder / "server.key") == 0o600
    open_server_kit(folder)
    handshake(folder, "new.example.org")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(folder, HOSTS[0])
    (folder / "ca.key").unlink()
    with pytest.raises(KitError, match=r"ca\.key"):
        renew_server(folder, [], days=10)


@pytest.mark.parametrize("host", ["fl.example.org:9092", "a b", "-x", ""])
def test_hosts_that_are_none(tmp_path: Path, host: str) -> None:
    with pytest.raises(SettingsError, match="--host"):
        provision(tmp_path / "k", ["a"], [host], 9092)
    with pytest.raises(SettingsError, match="--host"):
        provision(tmp_path / "k", ["a"], [], 9092)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputWriteError, match="file"):
        provision(tmp_path / "file" / "k", ["a"], HOSTS, 9092)


def test_site_names_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"\.\./a"):
        provision(tmp_path / "k", ["../a"], HOSTS, 9092)
    with pytest.raises(SettingsError, match="once"):
        provision(tmp_path / "k", ["a", "a"], HOSTS, 9092)


# What is wrong with a site's kit --------------------------------------------------------------


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_a_key_that_others_may_read(folder: Path, kit: Path, form: str) -> None:
    path = kit if form == "folder" else folder / "kits" / "a.tar.gz"
    secret = kit / "site.key" if form == "folder" else path
    secret.chmod(0o640)
    with pytest.raises(KeyPermissionsError, match="0640") as refusal, opened_kit(path):
        pass
    assert f"`chmod 600 {secret}`" in str(refusal.value)
    secret.chmod(0o600)
    with opened_kit(path):
        pass


def openssh(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


P384 = ec.generate_private_key(ec.SECP384R1())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no key",
        openssh(rsa.generate_private_key(65537, 2048)),
        openssh(ec.generate_private_key(ec.SECP256R1())),
        P384.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    ],
    ids=["empty", "text", "rsa", "p256", "pkcs8"],
)
def test_a_key_of_the_wrong_kind(kit: Path, content: bytes) -> None:
    (kit / "site.key").write_bytes(content)
    with pytest.raises(PrivateKeyError, match=r"site\.key.*P-384.*--rotate"), opened_kit(kit):
        pass


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
def test_keys_made_with_ssh_keygen(kit: Path) -> None:
    def make(passphrase: str) -> None:
        (kit / "site.key").unlink()
        command = ["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", passphrase]
        (kit / "site.key.pub").unlink(missing_ok=True)
        subprocess.run([*command, "-f", str(kit / "site.key")], check=True)

    make("")
    with opened_kit(kit) as opened:
        assert public_line(opened.site_key) in (kit / "site.key.pub").read_text()
    make("a passphrase")
    with pytest.raises(PrivateKeyError, match="without a passphrase"), opened_kit(kit):
        pass


def test_a_missing_key(kit: Path) -> None:
    (kit / "site.key").unlink()
    with pytest.raises(PrivateKeyError, match=r"site\.key"), opened_kit(kit):
        pass


@pytest.mark.parametrize("name", ["ca.crt", "client.toml"])
def test_a_kit_with_a_file_missing(kit: Path, name: str) -> None:
    (kit / name).unlink()
    with pytest.raises(KitError, match=name), opened_kit(kit):
        pass


def test_no_kit_at_all(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(KitError, match="nowhere"), opened_kit(tmp_path / "nowhere"):
        pass
    # The coordinator's own folder is not a site's.
    with pytest.raises(KitError, match=r"client\.toml"), opened_kit(folder):
        pass


def test_a_certificate_that_is_none(kit: Path) -> None:
    (kit / "ca.crt").write_text("no certificate")
    with pytest.raises(KitError, match=r"ca\.crt"), opened_kit(kit):
        pass


@pytest.mark.parametrize(
    "name", ["a/evil.sh", "a/policy.toml", "../../client.toml.bak", "/etc/passwd", "a/site.key.pub"]
)
def test_archives_with_anything_else_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "kit.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = 4
        archive.addfile(member, io.BytesIO(b"evil"))
    path.chmod(0o600)
    with pytest.raises(KitError, match="no site's kit"), opened_kit(path):
        pass


def test_members_stay_inside_whatever_they_are_called(folder: Path, tmp_path: Path) -> None:
    """A member `../../client.toml` is the kit's client.toml, and a link is refused."""
    path = tmp_path / "deep" / "kit.tar.gz"
    path.parent.mkdir()
    with tarfile.open(folder / "kits" / "a.tar.gz") as good, tarfile.open(path, "w:gz") as archive:
        for member in good.getmembers():
            content = good.extractfile(member)
            member.name = f"../../{Path(member.name).name}"
            archive.addfile(member, content)
    path.chmod(0o600)
    with opened_kit(path) as opened:
        assert opened.settings.parent == opened.folder
    assert not list(tmp_path.glob("*.toml"))
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo("a/ca.crt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    with pytest.raises(KitError, match=r"ca\.crt"), opened_kit(path):
        pass


@pytest.mark.parametrize("size", [0, 20, 700])
def test_a_truncated_archive(folder: Path, size: int) -> None:
    path = folder / "kits" / "a.tar.gz"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(KitError, match=r"a\.tar\.gz|client\.toml"), opened_kit(path):
        pass


# What is wrong with the coordinator's folder --------------------------------------------------


def test_a_server_key_that_others_may_read(folder: Path) -> None:
    (folder / "server.key").chmod(0o604)
    with pytest.raises(KeyPermissionsError, match=r"chmod 600 .*server\.key"):
        open_server_kit(folder)


def test_a_server_key_of_another_certificate(folder: Path) -> None:
    shutil.copy(folder / "ca.key", folder / "server.key")
    with pytest.raises(KitError, match="is not the key of"):
        open_server_kit(folder)


def test_a_server_certificate_of_another_authority(folder: Path, tmp_path: Path) -> None:
    provision(tmp_path / "other", ["a"], HOSTS, 9092)
    shutil.copy(tmp_path / "other" / "ca.crt", folder / "ca.crt")
    with pytest.raises(KitError, match="was not issued by"):
        open_server_kit(folder)


@pytest.mark.parametrize("content", ["", "{", "{}", '{"schema-version": 9}', "[]"])
def test_a_damaged_list_of_sites(folder: Path, content: str) -> None:
    (folder / "sites.json").write_text(content)
    with pytest.raises(KitError, match=r"sites\.json"):
        open_server_kit(folder)


def test_a_folder_that_is_no_coordinators(tmp_path: Path, kit: Path) -> None:
    with pytest.raises(KitError, match="provision"):
        open_server_kit(tmp_path / "nowhere")
    with pytest.raises(KitError, match=r"sites\.json"):
        open_server_kit(kit)


@pytest.mark.parametrize(
    ("days", "words"),
    [(-0.1, "is not valid before"), (400, "has expired"), (4000, "has expired")],
)
def test_dates_of_a_certificate(folder: Path, days: float, words: str) -> None:
    certificate = read_certificate(ServerKit(folder).certificate)
    now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    with pytest.raises(CertificateDatesError, match=words) as refusal:
        require_valid_dates(certificate, "The certificate", "renew it.", now)
    assert ("renew it." in str(refusal.value)) == (days > 0)
    assert f"{now:%Y-%m-%d}" in str(refusal.value)


def test_lifetimes(folder: Path) -> None:
    def days(certificate: x509.Certificate) -> int:
        return (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days

    assert days(read_certificate(folder / "ca.crt")) == 3650
    assert days(read_certificate(folder / "server.crt")) == 398
