"""The REST source over https: whom it trusts, and who it says it is."""

from __future__ import annotations

import ssl
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from edge.errors import SourceError

if TYPE_CHECKING:
    from pathlib import Path

T0 = 1_700_000_000


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A throw-away authority in ca.pem, and a certificate of its in end.pem for 127.0.0.1 alone."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority", "-days", "1")
    openssl("req", *key, "-keyout", "end.key", "-out", "end.csr", "-subj", "/CN=end")
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1", "-extfile", "san")
    openssl("x509", "-req", "-in", "end.csr", "-out", "end.pem", *signing)
    return folder


@pytest.fixture
def base_url(scripted_api: Any, certificates: Path) -> str:
    """The scripted server, over https."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates / "ca.pem")
    context.load_cert_chain(certificates / "end.pem", certificates / "end.key")
    context.verify_mode = ssl.CERT_OPTIONAL
    scripted_api.socket = context.wrap_socket(scripted_api.socket, server_side=True)
    scripted_api.script = lambda _: {"v": 1.5, "t": T0}
    return str(scripted_api.url.replace("http://", "https://"))


def test_a_server_of_an_authority_of_ones_own_is_trusted(gauges: Any, base_url: str, certificates: Path) -> None:
    tls = {"ca_file": str(certificates / "ca.pem")}
    ours = {"cert_file": str(certificates / "end.pem"), "key_file": str(certificates / "end.key")}
    for given in (tls, tls | ours):
        assert gauges.values(gauges.run(gauges.config(base_url=base_url, symbols=["a"], tls=given), gauges.poll)) == {
            "a/level": 1.5
        }


def test_the_systems_authorities_are_trusted(
    gauges: Any, base_url: str, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("certifi.where", lambda: pytest.fail("those of the HTTP library are asked"))
    config = gauges.config(base_url=base_url, symbols=["a"])
    with pytest.raises(SourceError, match="CERTIFICATE_VERIFY_FAILED"):
        gauges.run(config, gauges.poll)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))  # where OpenSSL takes the system's from
    assert len(gauges.run(config, gauges.poll)) == 1
    assert len(gauges.run(gauges.config(base_url=base_url, symbols=["a"], tls={}), gauges.poll)) == 1


def test_the_certificate_is_of_the_host_that_was_asked(gauges: Any, base_url: str, certificates: Path) -> None:
    tls = {"ca_file": str(certificates / "ca.pem")}
    config = gauges.config(base_url=base_url.replace("127.0.0.1", "localhost"), symbols=["a"], tls=tls)
    with pytest.raises(SourceError, match="CERTIFICATE_VERIFY_FAILED"):
        gauges.run(config, gauges.poll)


def test_no_secret_follows_from_https_to_http(
    gauges: Any, scripted_api: Any, base_url: str, certificates: Path, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAUGES_KEY", "s3cret")
    scripted_api.script = lambda _: said(b"", 302, {"Location": f"{scripted_api.url}/plain"})
    tls = {"ca_file": str(certificates / "ca.pem")}
    config = gauges.config(auth={"query": "key"}, secret_env="GAUGES_KEY", base_url=base_url, symbols=["a"], tls=tls)
    with pytest.raises(SourceError, match=r"redirected to 'http://.*, another server"):
        gauges.run(config, gauges.poll)
    assert [asked.path for asked in scripted_api.asked] == ["/v1/a"]
