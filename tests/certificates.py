"""Certificates of one's own for tests of TLS, made by openssl."""

import shutil
import subprocess
from pathlib import Path

import pytest


class Certificates:
    """An authority, and a certificate of 127.0.0.1 that it signed; its key is kept unencrypted in PKCS#8."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("openssl makes the certificates of these tests: install it to run them")
        folder.mkdir(parents=True)
        self.authority, self._authority_key = folder / "authority.pem", folder / "authority.key"
        self.certificate, self.key = folder / "server.pem", folder / "server.key"
        _openssl(self.authority, self._authority_key, "/CN=authority of a test")
        signed: list[str | Path] = ["-CA", self.authority, "-CAkey", self._authority_key]
        names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-addext", "basicConstraints=CA:FALSE"]
        _openssl(self.certificate, self.key, "/CN=127.0.0.1", *signed, *names)

    @property
    def chain(self) -> str:
        """The server's key and certificate in one text, as Kafka's PEM key stores hold them."""
        return self.key.read_text() + self.certificate.read_text()


def _openssl(certificate: Path, key: Path, subject: str, *options: str | Path) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", subject]
    subprocess.run([*command, "-keyout", key, "-out", certificate, *options], check=True, capture_output=True)
