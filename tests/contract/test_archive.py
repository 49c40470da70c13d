"""Archives: what is packed is unpacked, and nothing else is."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.archive import ArchiveError, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = st.lists(
    st.text("abc. -_", min_size=1, max_size=5).filter(lambda part: part.strip(".")), min_size=1, max_size=4
)


@settings(max_examples=30)
@given(st.dictionaries(NAMES.map("/".join), st.binary(max_size=2000), max_size=6))
def test_what_is_packed_is_unpacked(files: dict[str, bytes]) -> None:
    with TemporaryDirectory() as scratch:
        source, target = Path(scratch, "source"), Path(scratch, "target")
        source.mkdir()
        target.mkdir()
        written = {}
        for name, content in files.items():
            path = source / name
            if any(parent.is_file() for parent in [path, *path.parents]) or path.is_dir():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o755 if len(content) % 2 else 0o600)
            written[path.relative_to(source)] = content
        first, second = io.BytesIO(), io.BytesIO()
        assert pack(source, first) == pack(source, second) == sum(map(len, written.values()))
        assert first.getvalue() == second.getvalue()
        first.seek(0)
        unpack(first, target, sum(map(len, written.values())))
        found = {path.relative_to(target): path.read_bytes() for path in target.rglob("*") if path.is_file()}
        assert found == written
        for name, content in written.items():
            assert (target / name).stat().st_mode & 0o777 == (0o755 if len(content) % 2 else 0o644)


def archive(*members: tuple[str, bytes | None], **more: object) -> bytes:
    """A member each: its name and content, None for a directory; `more` is set on every one of them."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content or b"")
            member.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            for key, value in more.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(content or b""))
    return file.getvalue()


def pax(name: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo(name))
    return file.getvalue()


def raw(tar: bytes) -> bytes:
    return gzip.compress(tar)


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as found:
        found.writestr("../evil", "x")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (archive(("../evil", b"x")), "no path inside"),
        (archive(("a/../../evil", b"x")), "no path inside"),
        (archive(("/etc/evil", b"x")), "no path inside"),
        (archive(("a//b", b"x")), "no path inside"),
        (archive(("./a", b"x")), "no path inside"),
        (archive((".", None)), "no path inside"),
        (archive(("a\\b", b"x")), "no path inside"),
        (archive(("a\nb", b"x")), "no path inside"),
        (archive(("a/" * 40 + "b", b"x")), "no path inside"),
        (archive(("link", b""), type=tarfile.SYMTYPE, linkname="/etc"), "allowed are directories and plain files"),
        (archive(("link", b""), type=tarfile.LNKTYPE, linkname="../x"), "allowed are directories and plain files"),
        (archive(("pipe", b""), type=tarfile.FIFOTYPE), "allowed are directories and plain files"),
        (archive(("device", b""), type=tarfile.BLKTYPE), "allowed are directories and plain files"),
        (archive(("s", b""), type=tarfile.GNUTYPE_SPARSE), "allowed are directories and plain files"),
        (pax("ä" * 50), "allowed are directories and plain files"),
        (archive(("a", b"x"), ("a", b"y")), "is there twice"),
        (archive(("a", b"x"), ("a/b", b"y")), "is a file and a directory"),
        (archive(("a/b", b"x"), ("a", b"y")), "is a file and a directory"),
        (archive(("a", b"x" * 101)), "more than the 100 bytes declared"),
        (archive(*[(str(number), b"") for number in range(6)]), "more than 5 members"),
        (archive(("a/b/c/d/e/f/g", b"")), "more than 5 directories"),
        (archive(("a", b"x"))[:-30], "no whole gzip"),
        (raw(gzip.decompress(archive(("a", b"x")))[:600]), "ends too early"),
        (raw(gzip.decompress(archive(("a", b"x" * 99))) + b"more"), "behind its end"),
        (raw(b"x" * 512), "cannot be read"),
        (b"", "no whole gzip|ends too early"),
        (zipped(), "no whole gzip"),
        (raw(b""), "ends too early"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,  # gzip tells the time
)
def test_whatever_else_is_refused(content: bytes, why: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(ArchiveError, match=why):
        unpack(io.BytesIO(content), target, 100, max_members=5)
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


@pytest.mark.parametrize(
    "bomb",
    [
        lambda: archive(("a", bytes(50 << 20))),
        lambda: raw(gzip.decompress(archive(("a", b"x"))) + bytes(50 << 20)),
        lambda: gzip.compress(bytes(50 << 20)),
        # A header that says that its own text is of 50 MB.
        lambda: archive(("a", bytes(50 << 20)), type=tarfile.XHDTYPE),
    ],
)
def test_a_bomb_does_not_go_off(bomb: Callable[[], bytes], tmp_path: Path) -> None:
    content = bomb()
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveError):
            unpack(io.BytesIO(content), tmp_path, 1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert sum(path.stat().st_size for path in tmp_path.rglob("*")) <= 1 << 20


def test_a_directory_with_a_link_is_not_packed(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("/etc")
    with pytest.raises(ArchiveError, match="neither a directory nor a plain file"):
        pack(tmp_path, io.BytesIO())


def test_a_name_that_no_archive_holds_is_not_packed(tmp_path: Path) -> None:
    (tmp_path / "ä").touch()
    with pytest.raises(ArchiveError, match="printable ASCII"):
        pack(tmp_path, io.BytesIO())
