"""A certificate authority for one cluster: EC P-256, certificates that name addresses of both families.

Importing this module loads `cryptography` (60 ms, 14 MB), so import it where a certificate is made and nowhere else.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Container, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from twinstack.ip import Address

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

CA_LIFETIME = datetime.timedelta(days=3650)
LEAF_LIFETIME = datetime.timedelta(days=365)
_PURPOSES = {
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    "client auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "code signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "s/mime": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "ocsp signing": ExtendedKeyUsageOID.OCSP_SIGNING,
    "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
}
_CLOCK_SKEW = datetime.timedelta(minutes=5)  # machines whose clocks run behind accept a fresh certificate


class CertificateAuthority:
    """Signs certificates with one key. The name is the subject of the authority's own certificate."""

    def __init__(self, certificate: x509.Certificate, key: PrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, common_name: str) -> CertificateAuthority:
        """A new authority with a new key, valid for ten years."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(common_name, ())
        public = key.public_key()
        builder = (
            _builder(name, name, public, CA_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, cert_path: Path | str, key_path: Path | str) -> CertificateAuthority:
        """Read an authority from PEM files; raises OSError or ValueError."""
        certificate = x509.load_pem_x509_certificate(Path(cert_path).read_bytes())
        key = serialization.load_pem_private_key(Path(key_path).read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise ValueError(f"{key_path}: the authority's key is neither an elliptic-curve nor an RSA key")
        if certificate.public_key() != key.public_key():
            raise ValueError(f"{cert_path} and {key_path} do not belong together")
        return cls(certificate, key)

    @property
    def certificate_pem(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return _key_pem(self._key)

    def issue(
        self,
        common_name: str,
        organizations: Sequence[str] = (),
        dns_names: Sequence[str] = (),
        addresses: Sequence[Address] = (),
        *,
        server: bool = False,
        client: bool = False,
    ) -> tuple[bytes, bytes]:
        """A certificate and its new key, both PEM, valid for a year and never longer than the authority.

        In Kubernetes the common name is the user and the organizations are its groups.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key()
        issuer = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        subject = _name(common_name, organizations)
        builder = (
            _builder(subject, self._certificate.subject, public, LEAF_LIFETIME, self._certificate.not_valid_after_utc)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
        )
        usages = [ExtendedKeyUsageOID.SERVER_AUTH] * server + [ExtendedKeyUsageOID.CLIENT_AUTH] * client
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        names: list[x509.GeneralName] = [x509.DNSName(name) for name in dns_names]
        names += [x509.IPAddress(ipaddress.ip_address(address.packed)) for address in addresses]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), _key_pem(key)

    def sign(self, request: CertificateRequest, usages: Sequence[str], lifetime: datetime.timedelta) -> bytes:
        """The certificate of a request, PEM, never longer than the authority; `usages` in the API's words.

        The subject, its other names and the key are the request's; nothing else that it asks for is given.
        """
        issuer = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        limit = self._certificate.not_valid_after_utc
        builder = (
            _builder(request.subject, self._certificate.subject, request.public_key, lifetime, limit)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
        )
        if any(usage not in _PURPOSES for usage in usages):  # an extension without a bit would make it invalid
            builder = builder.add_extension(_key_usages(usages), critical=True)
        purposes = [_PURPOSES[usage] for usage in usages if usage in _PURPOSES]
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(dict.fromkeys(purposes)), critical=False)
        if len(list(request.alternative_names)):
            builder = builder.add_extension(request.alternative_names, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class CertificateRequest:
    """A PKCS #10 request in PEM, whose signature shows that the key is there. Raises ValueError."""

    def __init__(self, pem: bytes) -> None:
        request = x509.load_pem_x509_csr(pem)
        public = request.public_key()
        if not request.is_signature_valid:
            raise ValueError("the request's signature is not that of its key")
        if not isinstance(public, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
            raise ValueError("a key must be RSA or elliptic-curve")
        self.subject = request.subject
        self.public_key = public
        try:
            self.alternative_names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            self.alternative_names = x509.SubjectAlternativeName([])

    @property
    def common_name(self) -> str:
        return "".join(self._subject(NameOID.COMMON_NAME)[-1:])

    @property
    def organizations(self) -> list[str]:
        return self._subject(NameOID.ORGANIZATION_NAME)

    @property
    def dns_names(self) -> list[str]:
        return self.alternative_names.get_values_for_type(x509.DNSName)

    @property
    def addresses(self) -> list[str]:
        return [str(address) for address in self.alternative_names.get_values_for_type(x509.IPAddress)]

    @property
    def emails(self) -> list[str]:
        return self.alternative_names.get_values_for_type(x509.RFC822Name)

    @property
    def uris(self) -> list[str]:
        return self.alternative_names.get_values_for_type(x509.UniformResourceIdentifier)

    def _subject(self, kind: x509.ObjectIdentifier) -> list[str]:
        return [str(attribute.value) for attribute in self.subject.get_attributes_for_oid(kind)]


def not_valid_after(pem: bytes) -> float:
    """Unix seconds at which the first certificate in `pem` expires. Raises ValueError."""
    return x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: PublicKey,
    lifetime: datetime.timedelta,
    limit: datetime.datetime | None = None,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    end = now + lifetime
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(min(end, limit) if limit is not None else end)
    )


def _name(common_name: str, organizations: Sequence[str]) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in organizations]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return _key_usages({"digital signature", "cert sign", "crl sign"} if authority else {"digital signature"})


def _key_usages(usages: Container[str]) -> x509.KeyUsage:
    """Of the API's words for usages."""
    agrees = "key agreement" in usages
    return x509.KeyUsage(
        digital_signature="digital signature" in usages or "signing" in usages,
        key_cert_sign="cert sign" in usages,
        crl_sign="crl sign" in usages,
        content_commitment="content commitment" in usages,
        key_encipherment="key encipherment" in usages,
        data_encipherment="data encipherment" in usages,
        key_agreement=agrees,
        encipher_only=agrees and "encipher only" in usages,
        decipher_only=agrees and "decipher only" in usages,
    )


def _key_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
