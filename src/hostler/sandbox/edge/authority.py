"""The certificate authority of this installation, which sandboxes trust and nobody else: it signs for the hosts to
which the proxy carries secrets, while a connection lasts.

Its key stays in the server's data folder. It must not sign for more than one host at a time,
or for anything but TLS servers.
"""

from __future__ import annotations

import datetime
import logging
import os
import secrets
import ssl
from collections import OrderedDict
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hostler.addresses import is_numeric

log = logging.getLogger(__name__)

_FILE = "authority.pem"
_BUNDLE = "ca-bundle.pem"
_YEAR = datetime.timedelta(days=365)
_LIFE = 5 * _YEAR
_RENEWAL = _YEAR  # before the end: sandboxes that know the older certificate have ended by then
_LEAF_LIFE = datetime.timedelta(days=7)
_LEAF_RENEWAL = datetime.timedelta(days=1)
_CONTEXTS = 256
_SKEW = datetime.timedelta(hours=1)

PrivateKey = ec.EllipticCurvePrivateKey


class Authority:
    """Lives in a folder of its own, made at the first use. One instance for each process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._signer: tuple[PrivateKey, x509.Certificate] | None = None
        self._leaf_key: PrivateKey | None = None
        self._contexts: OrderedDict[tuple[str, str | None], tuple[ssl.SSLContext, datetime.datetime]] = OrderedDict()

    @property
    def certificate(self) -> bytes:
        """The public part, as PEM. Raises OSError when the folder can't be used."""
        return self._own()[1].public_bytes(serialization.Encoding.PEM)

    def bundle(self, machine: Path | None) -> Path:
        """A file with what the machine trusts and this authority: for the inside of sandboxes, and nothing else."""
        trusted = machine.read_bytes().rstrip(b"\n") + b"\n" if machine is not None else b""
        file = self._folder / _BUNDLE
        wanted = trusted + self.certificate
        if not file.exists() or file.read_bytes() != wanted:
            _write(file, wanted, 0o644)
        return file

    def context(self, host: str, protocol: str | None) -> ssl.SSLContext:
        """For TLS towards a client that wants this host and will speak this protocol."""
        key, now = (host, protocol), datetime.datetime.now(datetime.UTC)
        found = self._contexts.pop(key, None)
        if found is None or found[1] - _LEAF_RENEWAL < now:
            found = (self._make_context(host, protocol, now), now + _LEAF_LIFE)
        self._contexts[key] = found
        while len(self._contexts) > _CONTEXTS:
            self._contexts.popitem(last=False)
        return found[0]

    def _make_context(self, host: str, protocol: str | None, now: datetime.datetime) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        if protocol is not None:
            context.set_alpn_protocols([protocol])
        if self._leaf_key is None:
            self._leaf_key = ec.generate_private_key(ec.SECP256R1())  # in memory only
        leaf = self._sign_leaf(host, self._leaf_key, now)
        _load(context, _private(self._leaf_key) + leaf.public_bytes(serialization.Encoding.PEM) + self.certificate)
        return context

    def _sign_leaf(self, host: str, key: PrivateKey, now: datetime.datetime) -> x509.Certificate:
        signer, certificate = self._own()
        bare = host.strip("[]")
        name = x509.IPAddress(ip_address(bare)) if is_numeric(bare) else x509.DNSName(host)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        return (
            x509.CertificateBuilder(issuer_name=certificate.subject, subject_name=x509.Name([]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(min(now + _LEAF_LIFE, certificate.not_valid_after_utc))
            .add_extension(x509.SubjectAlternativeName([name]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(issuer, critical=False)
            .sign(signer, hashes.SHA256())
        )

    def _own(self) -> tuple[PrivateKey, x509.Certificate]:
        if self._signer is None:
            self._signer = self._read() or self._make(ec.generate_private_key(ec.SECP256R1()))
        if self._signer[1].not_valid_after_utc - _RENEWAL < datetime.datetime.now(datetime.UTC):
            # The same key and name: what trusts the older certificate takes what is signed from now on, too.
            self._signer = self._make(self._signer[0])
        return self._signer

    def _read(self) -> tuple[PrivateKey, x509.Certificate] | None:
        try:
            stored = (self._folder / _FILE).read_bytes()
            key = serialization.load_pem_private_key(stored, None)
            certificate = x509.load_pem_x509_certificate(stored)
        except FileNotFoundError:
            return None
        except ValueError:
            key = None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            log.warning("%s is damaged: a new one is made, which sandboxes that live now don't trust", _FILE)
            return None
        return key, certificate

    def _make(self, key: PrivateKey) -> tuple[PrivateKey, x509.Certificate]:
        now = datetime.datetime.now(datetime.UTC)
        digest = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Hostler sandboxes {digest.digest.hex()[:12]}")])
        certificate = (
            x509.CertificateBuilder(issuer_name=name, subject_name=name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(now + _LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.NameConstraints(None, [x509.DNSName("localhost")]), critical=True)
            .add_extension(digest, critical=False)
            .sign(key, hashes.SHA256())
        )
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write(self._folder / _FILE, _private(key) + certificate.public_bytes(serialization.Encoding.PEM), 0o600)
        return key, certificate


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _private(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load(context: ssl.SSLContext, chain: bytes) -> None:
    """The standard library takes certificates from files only: this one is in memory."""
    descriptor = os.memfd_create("leaf", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, chain)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _write(file: Path, data: bytes, mode: int) -> None:
    """Whole or not at all, and for no other eyes than `mode` says from the first moment."""
    half = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as made:
        made.write(data)
        made.flush()
        os.fsync(made.fileno())
    half.replace(file)
