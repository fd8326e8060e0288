"""Signed manifests (C2PA content credentials), with the extra ``c2pa``; everything works offline.

What is signed: that this file was made or edited with doppelgan, how (IPTC's digital source type), and, where
the input is known, the input as parent, with its own credentials if it brought some. No thumbnails: a small
unedited face must not travel inside the edited picture. No time stamp service is asked.

The key is the user's: `--sign-key` and `--sign-certificate`, or one made on first use (ECDSA on P-256) in
``<user config>/signing/``, for this user's eyes only. Its certificate comes from an authority that is made
along with it and whose key is forgotten: readers see that nothing was changed since and that the same key
signed other files, but not who holds it.
"""

from __future__ import annotations

import datetime
import mimetypes
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import SinkError
from ..host.files import write_whole
from ..host.user_folders import user_config

_FORMATS: Final = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
}
_SETTINGS: Final[dict[str, Any]] = {
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {"verify_after_sign": False, "remote_manifest_fetch": False, "ocsp_fetch": False},
}
_TEN_YEARS: Final = datetime.timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a file's manifest says. trusted: its signer is on a trust list that the reader knows."""

    intact: bool  # signature and content agree
    trusted: bool
    signer: str | None
    tool: str | None
    source_type: str | None  # last part of the IPTC URI


def is_available() -> bool:
    """Whether the extra is installed."""
    try:
        import c2pa  # noqa: F401
    except (ImportError, OSError):
        return False
    return True


def signs(path: Path) -> bool:
    """Whether files of this format can carry a manifest."""
    return path.suffix.lower() in _FORMATS


class Signatory:
    """A key and its certificate, ready to sign files."""

    def __init__(
        self,
        key: Path | None = None,  # PEM, not encrypted; None: the user's own, made on first use
        certificate: Path | None = None,  # PEM, the signing certificate first
    ) -> None:
        """Raises SinkError where the extra or a file is missing or does not fit."""
        try:
            import c2pa
            from cryptography.hazmat.primitives import serialization
        except (ImportError, OSError) as error:
            raise SinkError(
                "signing: expected the package c2pa-python, found none; pip install 'doppelgan[c2pa]' or "
                "leave --sign out"
            ) from error
        if (key is None) != (certificate is None):
            raise SinkError("signing: expected a key and its certificate, got one of them; pass both")
        if key is None or certificate is None:
            key, certificate = _own_key()
        try:
            key_pem, self._chain = key.read_bytes(), certificate.read_bytes()
            private: Any = serialization.load_pem_private_key(key_pem, password=None)
        except (OSError, ValueError, TypeError) as error:
            reason = getattr(error, "strerror", None) or "not a PEM private key without a password"
            raise SinkError(f"{key}: cannot sign with it: {reason}; pass another key") from error
        self._library: Any = c2pa
        self._key = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        self._algorithm = _algorithm(private, key)

    def sign(self, path: Path, kind: str, parent: Path | None = None) -> bool:
        """Sign the finished file at ``path``; False if its format carries no manifest. Raises SinkError."""
        if not signs(path):
            return False
        library = self._library
        kinds = library.C2paDigitalSourceType
        made_of = (
            kinds.TRAINED_ALGORITHMIC_MEDIA
            if kind == "avatar"
            else kinds.COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA
        )
        aside = path.with_name(f".{path.stem}.{os.getpid()}.signed{path.suffix}")
        try:
            context = library.Context(library.Settings.from_dict(_SETTINGS))
            with library.Builder(self._manifest(path, kind, parent), context) as builder:
                if parent is not None:
                    builder.set_intent(library.C2paBuilderIntent.EDIT)
                    with parent.open("rb") as file:
                        builder.add_ingredient(
                            {"title": parent.name, "relationship": "parentOf"}, _format(parent), file
                        )
                else:
                    builder.set_intent(library.C2paBuilderIntent.CREATE, made_of)
                signer = library.Signer.from_info(
                    library.C2paSignerInfo(self._algorithm, self._chain, self._key, None)
                )
                with signer, path.open("rb") as source, aside.open("w+b") as target:
                    builder.sign(signer, _format(path), source, target)
            aside.replace(path)
        except (OSError, library.C2paError) as error:
            raise SinkError(f"{path}: cannot be signed: {error}; leave --sign out or choose .png") from error
        finally:
            aside.unlink(missing_ok=True)
        return True

    def _manifest(self, path: Path, kind: str, parent: Path | None) -> dict[str, Any]:
        from .metadata import SOURCE_TYPES, VOCABULARY

        manifest: dict[str, Any] = {
            "claim_generator_info": [{"name": "doppelgan", "version": _version()}],
            "title": path.name,
            "format": _format(path),
        }
        if parent is not None:
            edited = {"action": "c2pa.edited", "digitalSourceType": VOCABULARY + SOURCE_TYPES[kind]}
            manifest["assertions"] = [{"label": "c2pa.actions.v2", "data": {"actions": [edited]}}]
        return manifest


def read_credentials(path: Path) -> Credentials | None:
    """What the file's manifest says; None without one. Raises SinkError where the extra is missing."""
    try:
        import c2pa
    except (ImportError, OSError) as error:
        raise SinkError("content credentials: expected c2pa-python; pip install 'doppelgan[c2pa]'") from error
    library: Any = c2pa
    if not signs(path):
        return None
    try:
        with path.open("rb") as file, library.Reader(_format(path), file) as reader:
            manifest = reader.get_active_manifest()
            state = str(reader.get_validation_state())
    except (OSError, library.C2paError):
        return None
    if not manifest:
        return None
    tools = manifest.get("claim_generator_info") or [{}]
    return Credentials(
        intact=state in ("Valid", "Trusted"),
        trusted=state == "Trusted",
        signer=(manifest.get("signature_info") or {}).get("common_name")
        or (manifest.get("signature_info") or {}).get("issuer"),
        tool=tools[0].get("name"),
        source_type=_source_type(manifest),
    )


def _source_type(manifest: dict[str, Any]) -> str | None:
    for assertion in manifest.get("assertions", []):
        if str(assertion.get("label", "")).startswith("c2pa.actions"):
            for action in (assertion.get("data") or {}).get("actions", []):
                if action.get("digitalSourceType"):
                    return str(action["digitalSourceType"]).rsplit("/", 1)[-1]
    return None


def _format(path: Path) -> str:
    known = _FORMATS.get(path.suffix.lower())
    return known or mimetypes.guess_type(path.name)[0] or "application/octet-stream"


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("doppelgan")
    except metadata.PackageNotFoundError:
        return "0"


def _algorithm(private: Any, path: Path) -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(private, ec.EllipticCurvePrivateKey):
        curves = {"secp256r1": b"es256", "secp384r1": b"es384", "secp521r1": b"es512"}
        if private.curve.name in curves:
            return curves[private.curve.name]
    if isinstance(private, rsa.RSAPrivateKey):
        return b"ps256"
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return b"ed25519"
    raise SinkError(f"{path}: expected a key on P-256, P-384, P-521 or Ed25519, or RSA; pass another key")


def _own_key() -> tuple[Path, Path]:
    folder = user_config() / "signing"
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    if not (key.is_file() and certificate.is_file()):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            key_pem, chain = _new_key()
            write_whole(certificate, chain)
            descriptor = os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(key_pem)
        except OSError as error:
            raise SinkError(
                f"{folder}: cannot keep a signing key: {error.strerror}; pass --sign-key and "
                "--sign-certificate, or set DOPPELGAN_CONFIG to a folder that can be written"
            ) from error
    return key, certificate


def _new_key() -> tuple[bytes, bytes]:
    """A private key and its certificate chain, PEM. A certificate that signs itself is not accepted."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def name(text: str) -> x509.Name:
        return x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, text),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "doppelgan user"),
            ]
        )

    def usage(signs_certificates: bool) -> x509.KeyUsage:
        return x509.KeyUsage(
            digital_signature=not signs_certificates,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=signs_certificates,
            crl_sign=signs_certificates,
            encipher_only=False,
            decipher_only=False,
        )

    now = datetime.datetime.now(datetime.timezone.utc)
    begin, end = now - datetime.timedelta(days=1), now + _TEN_YEARS
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority_name = name("doppelgan local authority")
    authority_id = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())

    def certificate(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority_id), critical=False
            )
        )

    authority = (
        certificate(authority_name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    leaf = (
        certificate(name("doppelgan local signer"), key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private, leaf.public_bytes(pem) + authority.public_bytes(pem)
