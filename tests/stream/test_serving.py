from __future__ import annotations

import base64
import hashlib
import io
import json
import pickle
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from contract.windows import Steps, Windows, windows_at
from stream.errors import ModelError
from stream.serving import Catalogue, Package, ServedModel, read_package

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from contract.manifest import View


@pytest.fixture(scope="module")
def forecast(tmp_path_factory: pytest.TempPathFactory, write_package: Callable[..., Path]) -> ServedModel:
    return ServedModel.load(read_package(write_package(tmp_path_factory.mktemp("f"), "forecast")))


@pytest.fixture(scope="module")
def anomaly(tmp_path_factory: pytest.TempPathFactory, write_package: Callable[..., Path]) -> ServedModel:
    return ServedModel.load(read_package(write_package(tmp_path_factory.mktemp("a"), "anomaly")))


def windows(view: View, count: int = 20) -> Windows:
    """Of random values, of which those of two steps are missing."""
    values = np.random.default_rng(3).normal(5, 2, size=(count + 10, 2))
    values[12:14] = np.nan
    at_ms = np.arange(len(values), dtype=np.int64) * 1000
    return windows_at(view, Steps(at_ms, values, np.isnan(values)), at_ms[10:])


def test_a_forecast_is_the_models_own_in_the_targets_units(forecast: ServedModel, model_files: dict[str, Path]) -> None:
    from stream.serving.tensorflow import keras  # noqa: PLC0415 - as in the fixtures

    seen = windows(forecast.manifest)
    assert 5 < seen.is_whole.sum() < 20
    told = forecast.forecast(seen)
    direct = keras.models.load_model(model_files["forecast"], compile=False)
    expected = direct.predict_on_batch(seen.features[seen.is_whole].astype(np.float32)).astype(float)
    expected[:, 0] += seen.last[seen.is_whole, 0][:, None, None]
    np.testing.assert_allclose(told[seen.is_whole], np.sort(expected, axis=-1), rtol=1e-5, atol=1e-5)
    assert np.isnan(told[~seen.is_whole]).all()


def test_a_score_is_the_mean_square_of_the_scaled_difference(
    anomaly: ServedModel, model_files: dict[str, Path]
) -> None:
    from stream.serving.tensorflow import keras  # noqa: PLC0415 - as above

    seen = windows(anomaly.manifest)
    scores, shares = anomaly.score(seen)
    features = seen.features[seen.is_whole].astype(np.float32)
    direct = keras.models.load_model(model_files["anomaly"], compile=False).predict_on_batch(features)
    squares = ((direct - features) / np.asarray([2, 0.5])) ** 2
    np.testing.assert_allclose(scores[seen.is_whole], squares.mean(axis=(1, 2)), rtol=1e-4)
    by_feature = squares.mean(axis=1)
    np.testing.assert_allclose(shares[seen.is_whole], by_feature / by_feature.sum(axis=1, keepdims=True), rtol=1e-4)
    assert np.isnan(scores[~seen.is_whole]).all()
    assert np.isnan(shares[~seen.is_whole]).all()


def test_many_windows_are_as_few(forecast: ServedModel) -> None:
    seen = windows(forecast.manifest, 5000)
    told = forecast.forecast(seen)
    few = Windows(seen.end_ms[-3:], seen.features[-3:], seen.last[-3:], seen.is_whole[-3:])
    np.testing.assert_allclose(told[-3:], forecast.forecast(few), rtol=1e-6)
    none = Windows(seen.end_ms[:0], seen.features[:0], seen.last[:0], seen.is_whole[:0])
    assert forecast.forecast(none).shape == (0, 2, 2, 3)


def test_a_model_is_asked_for_what_it_is_for(forecast: ServedModel, anomaly: ServedModel) -> None:
    with pytest.raises(ModelError, match="tank 3: is for anomaly"):
        anomaly.forecast(windows(anomaly.manifest))
    with pytest.raises(ModelError, match="tank 3: is for forecast"):
        forecast.score(windows(forecast.manifest))


def test_a_package_is_carried_as_a_whole(tmp_path: Path, write_package: Callable[..., Path]) -> None:
    package = read_package(write_package(tmp_path, "forecast"))
    again: Package = pickle.loads(pickle.dumps(package))
    assert (again, again.content, again.manifest) == (package, package.content, package.manifest)
    assert package.digest == hashlib.sha256((tmp_path / "manifest.json").read_bytes()).hexdigest()
    assert package != read_package(write_package(tmp_path, "forecast", version="4"))


def test_what_is_not_the_manifests_is_refused(tmp_path: Path, write_package: Callable[..., Path]) -> None:
    model = write_package(tmp_path, "forecast") / "model.keras"
    content = model.read_bytes()
    model.write_bytes(content[:-1])
    with pytest.raises(ModelError, match=f"has {len(content) - 1} bytes: the manifest says {len(content)}"):
        read_package(tmp_path)
    model.write_bytes(content + b"x")
    with pytest.raises(ModelError, match="has more bytes"):
        read_package(tmp_path)
    model.write_bytes(content[:-1] + b"x")
    with pytest.raises(ModelError, match=r"model\.keras: its SHA-256 is .*: the manifest says"):
        read_package(tmp_path)
    model.unlink()
    with pytest.raises(ModelError, match=r"model\.keras: cannot be read: No such file"):
        read_package(tmp_path)


def test_a_directory_without_a_model_that_is_served_here(tmp_path: Path, write_package: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match="nowhere: cannot be read"):
        read_package(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"manifest\.json: cannot be read"):
        read_package(tmp_path)
    write_package(tmp_path, "forecast", windows=1)
    with pytest.raises(ModelError, match="windows: is not a known key"):
        read_package(tmp_path)
    file = {"form": "int8", "file": "model.tflite", "sha256": "0" * 64, "size_bytes": 1}
    with pytest.raises(ModelError, match="has no file of runtime tensorflow"):
        read_package(write_package(tmp_path, "forecast", files=[file]))


def test_a_manifest_that_lies_about_its_model_is_refused(tmp_path: Path, write_package: Callable[..., Path]) -> None:
    longer = write_package(tmp_path, "forecast", window={"length": 7, "step_s": 1})
    with pytest.raises(ModelError, match=r"tank 3: takes \(None, 6, 2\): the manifest says \(None, 7, 2\)"):
        ServedModel.load(read_package(longer))
    output = json.loads((tmp_path / "manifest.json").read_text())["output"] | {"horizons": [1, 2, 3]}
    with pytest.raises(ModelError, match=r"gives \(2, 2, 2, 3\) for 2 windows: the manifest says \(2, 2, 3, 3\)"):
        ServedModel.load(read_package(write_package(tmp_path, "forecast", output=output)))
    other = write_package(tmp_path, "forecast", output={"kind": "anomaly", "score": "direct", "threshold": 1})
    with pytest.raises(ModelError, match=r"the manifest says \(2, 1\)"):
        ServedModel.load(read_package(other))


def test_what_keras_cannot_load_is_refused(
    tmp_path: Path, write_package: Callable[..., Path], model_files: dict[str, Path]
) -> None:
    for content, fault in (
        (b"no archive", "is no Keras file"),
        (_repacked(model_files["forecast"], {"extra.py": b"1"}), r"it holds config\.json, extra\.py"),
        (_repacked(model_files["forecast"], {"config.json": b"[" * 100_000}), "is no Keras file"),
        (_repacked(model_files["forecast"], {"config.json": b" " * (1 << 21)}), "config.json in it has 2097152 bytes"),
        (_repacked(model_files["forecast"], {}, zipfile.ZIP_LZMA), "packed by another method than deflate"),
        (_garbled(_repacked(model_files["forecast"], {}, zipfile.ZIP_DEFLATED)), "is no Keras file"),
    ):
        with pytest.raises(ModelError, match=fault):
            read_package(write_package(tmp_path, "forecast", content))
    broken = _repacked(model_files["forecast"], {"model.weights.h5": b"no weights"})
    with pytest.raises(ModelError, match="tank 3: cannot be loaded"):
        ServedModel.load(read_package(write_package(tmp_path, "forecast", broken)))


@pytest.mark.parametrize(
    "part",
    [
        {"module": "os", "class_name": "system"},
        {"module": "builtins", "class_name": "function", "config": "exec"},
        {"module": "keras.layers", "class_name": "Lambda"},
        {"module": "keras.layers", "class_name": "StringLookup"},
        {"module": "tf_keras.src.layers.core.tf_op_layer", "class_name": "TFOpLambda"},
        {"class_name": "Anything"},
    ],
)
def test_a_file_that_does_more_than_compute_is_never_loaded(
    tmp_path: Path, write_package: Callable[..., Path], model_files: dict[str, Path], part: dict[str, Any]
) -> None:
    with zipfile.ZipFile(model_files["forecast"]) as archive:
        config = json.loads(archive.read("config.json"))
    config["config"]["layers"][1]["config"]["activation"] = part
    hostile = _repacked(model_files["forecast"], {"config.json": json.dumps(config).encode()})
    with pytest.raises(ModelError, match=f"{part['class_name']} in it is none of the layers that are served"):
        read_package(write_package(tmp_path, "forecast", hostile))


def _repacked(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(packed, "w", method) as made:
        for name, content in ({each: archive.read(each) for each in archive.namelist()} | entries).items():
            made.writestr(name, content)
    return packed.getvalue()


def _garbled(archive: bytes) -> bytes:
    """With a config.json that cannot be unpacked."""
    with zipfile.ZipFile(io.BytesIO(archive)) as found:
        at = found.getinfo("config.json").header_offset + 30 + len("config.json")
    return archive[:at] + b"\xff" * 20 + archive[at + 20 :]


def test_only_a_trusted_signature_counts(tmp_path: Path, write_package: Callable[..., Path]) -> None:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - of this test alone
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - as above

    keys = [Ed25519PrivateKey.generate() for _ in range(2)]
    paths = [tmp_path / f"{number}.pem" for number in range(2)]
    for path, key in zip(paths, keys, strict=True):
        pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        path.write_bytes(pem)
    directory = write_package(tmp_path / "model", "forecast")
    with pytest.raises(ModelError, match=r"manifest\.sig: is missing"):
        read_package(directory, paths)
    signature = base64.b64encode(keys[1].sign((directory / "manifest.json").read_bytes()))
    (directory / "manifest.sig").write_bytes(signature)
    assert read_package(directory, paths).signed_by == paths[1]
    with pytest.raises(ModelError, match="is no signature of the manifest by a trusted key"):
        read_package(directory, paths[:1])
    with pytest.raises(ModelError, match="is no signature of the manifest"):
        read_package(write_package(directory, "forecast", version="4"), paths)
    (directory / "manifest.sig").write_bytes(b"%%%")
    with pytest.raises(ModelError, match="is no signature"):
        read_package(directory, paths)
    paths[0].write_bytes(b"no key")
    (directory / "manifest.sig").write_bytes(signature)
    with pytest.raises(ModelError, match=r"0\.pem: is no public key in PEM"):
        read_package(directory, paths)


def test_a_catalogue_tells_what_changed(tmp_path: Path, write_package: Callable[..., Path]) -> None:
    catalogue = Catalogue(tmp_path)
    assert not catalogue.look()
    write_package(tmp_path / "a", "forecast")
    write_package(tmp_path / "b", "anomaly")
    (tmp_path / "no model").mkdir()
    (tmp_path / "astray").mkdir()
    (tmp_path / "astray" / "manifest.json").symlink_to("x" * 300)
    news = catalogue.look()
    assert (sorted(news.served), list(news.refused), news.gone) == (["a", "b"], ["astray"], ())
    assert "manifest.json: cannot be read: File name too long" in news.refused["astray"]
    assert not catalogue.look()

    write_package(tmp_path / "a", "forecast", version="4")
    (tmp_path / "b" / "model.keras").write_bytes(b"x")
    news = catalogue.look()
    assert {name: each.title for name, each in news.served.items()} == {"a": "tank 4"}
    assert "has 1 bytes" in news.refused["b"]
    assert catalogue.packages["b"].title == "tank 3"  # what was served goes on
    assert not catalogue.look()

    (tmp_path / "b" / "manifest.json").unlink()
    assert catalogue.look().gone == ("b",)
    assert list(catalogue.packages) == ["a"]
    with pytest.raises(ModelError, match="nowhere: cannot be read"):
        Catalogue(tmp_path / "nowhere").look()


def test_a_catalogue_asks_before_it_serves(tmp_path: Path, write_package: Callable[..., Path]) -> None:
    def only_the_third(package: Package) -> None:
        if package.manifest.version != "3":
            raise ModelError(f"{package.title}: fails on a trial window")

    catalogue = Catalogue(tmp_path, check=only_the_third)
    write_package(tmp_path / "a", "forecast")
    catalogue.look()
    write_package(tmp_path / "a", "forecast", version="4")
    assert catalogue.look().refused == {"a": "tank 4: fails on a trial window"}
    assert catalogue.packages["a"].title == "tank 3"


def test_a_catalogue_that_asks_about_one_at_a_time_leaves_the_others_for_the_next_look(
    tmp_path: Path, write_package: Callable[..., Path]
) -> None:
    asked: list[str] = []
    catalogue = Catalogue(tmp_path, check=lambda package: asked.append(package.title))
    for name, version in (("b", "1"), ("c", "2"), ("d", "3")):
        write_package(tmp_path / name, "forecast", version=version)
    (write_package(tmp_path / "a", "forecast") / "model.keras").write_bytes(b"x")
    news = catalogue.look(most=1)
    assert (list(news.refused), list(news.served), news.waiting) == (["a"], ["b"], ("c", "d"))
    (tmp_path / "c" / "manifest.json").unlink()
    news = catalogue.look(most=1)
    assert (list(news.refused), list(news.served), news.waiting, news.gone) == ([], ["d"], (), ())
    write_package(tmp_path / "b", "forecast", version="4")
    write_package(tmp_path / "d", "forecast", version="5")
    assert catalogue.look(most=1).waiting == ("d",)
    (tmp_path / "d" / "manifest.json").unlink()
    assert catalogue.look(most=1).gone == ("d",), "it was served"
    assert asked == ["tank 1", "tank 3", "tank 4"]


def test_whoever_only_reads_packages_does_not_pay_for_tensorflow(
    tmp_path: Path, write_package: Callable[..., Path]
) -> None:
    script = (
        "import sys, pathlib, stream.serving as serving;"
        "serving.read_package(pathlib.Path(sys.argv[1]));"
        "sys.exit(', '.join({'tensorflow', 'tf_keras', 'cryptography'} & set(sys.modules)) or None)"
    )
    directory = write_package(tmp_path, "forecast")
    done = subprocess.run([sys.executable, "-c", script, directory], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
