"""A wrong configuration names the file, the path in it, what was found and what is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import Field

from contract.config import Config, ConfigError, Credentials, Tls, parse_config, read_config

if TYPE_CHECKING:
    from pathlib import Path


class Line(Config):
    port: int = Field(gt=0)


class Site(Config):
    name: str
    lines: tuple[Line, ...] = ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lines: []", "site.yaml: name: is missing"),
        ("name: a\nlines: [{port: tcp}]", "site.yaml: lines.0.port: found 'tcp', allowed: "),
        ("name: a\nlines: [{port: 0}]", "lines.0.port: found 0, allowed: "),
        ("name: a\nlines: [{port: 1, prot: 2}]", "lines.0.prot: is not a known key"),
        ("name: [", "site.yaml: is not YAML"),
        ("name: a\nname: b", "the key 'name' stands twice"),
        ("name: 2024-13-45", "site.yaml: is not YAML: month must be in 1..12"),
        ("name: " + "9" * 5000, "site.yaml: is not YAML"),
        ("[" * 5000, "site.yaml: is not YAML"),
        ("", "site.yaml: (top level): found None"),
        ("- a", "(top level)"),
        ("name: !!python/object/apply:os.system ['true']", "is not YAML"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(path, Site)
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("lines: [{port: 0}, {}]")
    with pytest.raises(ConfigError) as caught:
        read_config(path, Site)
    assert len(str(caught.value).splitlines()) == 3


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read: No such file"):
        read_config(tmp_path / "nowhere.yaml", Site)


def test_a_value_without_end_is_shown_short(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    levels = [f"- &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 12)]
    path.write_text("\n".join(["lines:", "- &l0 [a]", *levels, "name: *l11"]))
    with pytest.raises(ConfigError) as caught:
        read_config(path, Site)
    assert all(len(line) < 300 for line in str(caught.value).splitlines())


def test_a_right_configuration_is_frozen(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("name: a\nlines: [{port: 502}]")
    assert read_config(path, Site) == Site(name="a", lines=(Line(port=502),))


@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
def test_a_password_is_the_first_line_of_its_file(tmp_path: Path, ending: str) -> None:
    (tmp_path / "password").write_bytes(b"se cret" + ending.encode() + b"more" * bool(ending))
    assert Credentials(username="u", password_file=tmp_path / "password").password() == "se cret"


def test_no_password_is_named_and_none_is_had() -> None:
    assert Credentials(username="u").password() is None


def test_a_password_that_cannot_be_had_is_told_by_where_it_should_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMPTY", "")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for key, value, says in (
        ("password_env", "NOT_SET_AT_ALL", "password_env: environment variable NOT_SET_AT_ALL is not set or empty"),
        ("password_env", "EMPTY", "EMPTY is not set or empty"),
        ("password_file", tmp_path / "none", "none cannot be read: No such file"),
        ("password_file", tmp_path / "binary", "binary cannot be read"),
    ):
        with pytest.raises(ConfigError) as caught:
            Credentials.model_validate({"username": "u", key: value}).password()
        assert says in str(caught.value)


def test_tls_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for name in ("ca.pem", "none.pem"):
        with pytest.raises(ConfigError, match=f"tls: .*{name}: cannot be used"):
            Tls(ca_file=tmp_path / name).context()
    assert Tls().context().check_hostname


def test_a_password_in_a_url_is_not_repeated() -> None:
    class Camera(Config):
        url: int

    with pytest.raises(ConfigError) as caught:
        parse_config({"url": "http://admin:hunter2@192.0.2.1/"}, Camera, "edge.yaml")
    assert "hunter2" not in str(caught.value)
    assert "192.0.2.1" in str(caught.value)
