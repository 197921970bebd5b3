"""A certificate that this version can't use is told as such, whatever is wrong with it."""

import ssl
from pathlib import Path

import pytest

from sred_email_core.access.certificates import BadCertificateError, parse_certificate
from support.access_files import Certificates

P256 = bytes.fromhex("2a8648ce3d030107")
UNKNOWN_CURVE = P256[:-1] + b"\x7f"


def test_a_certificate_whose_key_is_of_an_unknown_type_is_refused_like_any_other_bad_one(tmp_path: Path) -> None:
    certificate, key = Certificates(tmp_path).issue("server")
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    assert der.count(P256) == 1
    changed = ssl.DER_cert_to_PEM_cert(der.replace(P256, UNKNOWN_CURVE)).encode()
    with pytest.raises(BadCertificateError, match="the certificate's file holds a key of a type that can't be used"):
        parse_certificate([changed, key.read_bytes()])
