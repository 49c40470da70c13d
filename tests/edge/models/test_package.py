"""Models as they lie in directories: what is read, what changes, what is copied."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from contract.config import parse_config
from contract.datatypes import DataType
from edge.errors import ModelError
from edge.models.config import ModelConfig
from edge.models.package import check_inputs, read_package, settings_of, stamp_of
from edge.models.store import Store
from edge.reading import MetricInfo

if TYPE_CHECKING:
    from collections.abc import Callable

METRICS = {"plant": [MetricInfo("level", DataType.FLOAT, "m"), MetricInfo("flow", DataType.FLOAT)]}


def config(**more: Any) -> ModelConfig:
    document = {"name": "m", "directory": "d", "inputs": {"a": "plant/level", "b": "plant/flow"}} | more
    return parse_config(document, ModelConfig, "c")


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"a": "plant/level"}, "inputs says nothing of b, which echo 1.0.0 needs"),
        ({"a": "plant/level", "b": "plant/flow", "c": "plant/flow"}, "inputs has c: echo takes a, b"),
        ({"a": "plant/level", "b": "plant/none"}, "input b: there is no plant/none in this agent"),
        ({"a": "plant/level", "b": "other/flow"}, "input b: there is no other/flow in this agent"),
    ],
)
def test_inputs_have_to_fit(inputs: dict[str, str], said: str, put_model: Callable[..., Path], tmp_path: Path) -> None:
    manifest = read_package(put_model(tmp_path / "m"), ()).manifest
    check_inputs(manifest, config(), METRICS.get)
    with pytest.raises(ModelError, match=said):
        check_inputs(manifest, config(inputs=inputs), METRICS.get)


def test_an_input_in_another_unit_is_refused(put_model: Callable[..., Path], tmp_path: Path) -> None:
    put_model(tmp_path / "m")
    manifest = read_package(tmp_path / "m", ()).manifest
    level, flow = manifest.inputs
    in_cm = manifest.model_copy(update={"inputs": (level.model_copy(update={"unit": "cm"}), flow)})
    with pytest.raises(ModelError, match="input a: plant/level is in m, the model takes cm"):
        check_inputs(in_cm, config(), METRICS.get)
    unknown = manifest.model_copy(update={"inputs": (level, flow.model_copy(update={"unit": "l/s"}))})
    check_inputs(unknown, config(), METRICS.get)


def test_inputs_of_one_metric_are_mapped_by_it_and_each_has_its_unit(
    put_model: Callable[..., Path], tmp_path: Path
) -> None:
    inputs = [
        {"name": "least", "metric": "level", "resample": "min", "unit": "m"},
        {"name": "greatest", "metric": "level", "resample": "max", "unit": "m"},
    ]
    features = [{"name": "span", "transform": "log_ratio", "of": ["greatest", "least"]}]
    more = {"features": features, "output": {"kind": "anomaly", "score": "reconstruction", "threshold": 1}}
    manifest = read_package(put_model(tmp_path / "m", inputs=inputs, **more), ()).manifest
    mapped = config(inputs={"level": "plant/level"})
    check_inputs(manifest, mapped, METRICS.get)
    with pytest.raises(ModelError, match="inputs says nothing of level"):
        check_inputs(manifest, config(inputs={"least": "plant/level", "greatest": "plant/level"}), METRICS.get)
    with pytest.raises(ModelError, match=r"inputs has least: echo takes level"):
        check_inputs(manifest, config(inputs={"level": "plant/level", "least": "plant/level"}), METRICS.get)
    inputs[1]["unit"] = "cm"
    manifest = read_package(put_model(tmp_path / "m", inputs=inputs, **more), ()).manifest
    with pytest.raises(ModelError, match="input greatest: plant/level is in m, the model takes cm"):
        check_inputs(manifest, mapped, METRICS.get)


def test_what_features_look_back_at_and_what_holds_is_sent_with_the_window(
    put_model: Callable[..., Path], tmp_path: Path
) -> None:
    inputs = [{"name": "a", "hold_s": 0.3}, {"name": "b", "hold_s": 0.1}]
    features = [{"name": name, "transform": "change", "of": [name], "mean": 1, "scale": 2} for name in "ba"]
    put_model(tmp_path / "m", inputs=inputs, features=features)
    told = settings_of(read_package(tmp_path / "m", ()), config())
    assert (told.length, told.reach, told.rows, told.step_ms, told.hold_steps) == (4, 1, 4 + 1 + 3, 100, (3, 1))
    assert [(each.name, each.transform, each.of) for each in told.features] == [
        ("b", "change", (1,)),
        ("a", "change", (0,)),
    ]


def test_a_file_for_another_runtime_is_left_alone(put_model: Callable[..., Path], tmp_path: Path) -> None:
    put_model(tmp_path / "m")
    (tmp_path / "m" / "model.keras").write_bytes(b"keras")
    both = put_model(tmp_path / "m", files=files(tmp_path / "m", "tflite", "tensorflow"))
    (both / "model.keras").write_bytes(b"keras")
    package = read_package(both, ())
    assert [form.file for form in settings_of(package, config()).forms] == ["echo.tflite"]
    kept = Store(tmp_path / "state", ()).keep(package)
    assert sorted(place.name for place in kept.directory.iterdir()) == ["echo.tflite", "manifest.json"]
    put_model(tmp_path / "m", files=files(both, "tensorflow"))
    with pytest.raises(
        ModelError, match=r"echo 1\.0\.0 has no file of runtime tflite, .*: model\.keras is for tensorflow"
    ):
        read_package(tmp_path / "m", ())


def files(directory: Path, *runtimes: str) -> list[dict[str, Any]]:
    digest = hashlib.sha256((directory / "echo.tflite").read_bytes()).hexdigest()
    tflite = {"form": "float32", "file": "echo.tflite", "sha256": digest, "size_bytes": 928}
    keras = {"form": "float32", "file": "model.keras", "sha256": "0" * 64, "size_bytes": 5, "runtime": "tensorflow"}
    return [{"tflite": tflite, "tensorflow": keras}[runtime] for runtime in runtimes]


def test_steps_of_a_market_are_not_for_a_device(put_model: Callable[..., Path], tmp_path: Path) -> None:
    put_model(tmp_path / "m", window={"length": 4, "step_s": 60, "steps": "present"})
    with pytest.raises(ModelError, match=r"echo 1\.0\.0 has window\.steps: present, allowed on a device: clock"):
        read_package(tmp_path / "m", ())


def test_a_manifest_of_another_format_says_only_that(put_model: Callable[..., Path], tmp_path: Path) -> None:
    put_model(tmp_path / "m", format=2, tensors=[], window={"steps": "odd"})
    with pytest.raises(ModelError) as caught:
        read_package(tmp_path / "m", ())
    (said,) = str(caught.value).split(": format: ")[1:]
    assert said == "found 2, allowed: 1: it is written for another version of the agent"


def test_a_form_that_is_asked_for_has_to_be_there(put_model: Callable[..., Path], tmp_path: Path) -> None:
    package = read_package(put_model(tmp_path / "m"), ())
    with pytest.raises(ModelError, match=r"echo 1\.0\.0 has no form int8"):
        settings_of(package, config(form="int8"))


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none/manifest\.json: cannot be read: No such file"):
        read_package(tmp_path / "none", ())
    os.mkfifo(tmp_path / "manifest.json")  # which would be waited for, for ever
    with pytest.raises(ModelError, match="is not a file"):
        read_package(tmp_path, ())
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ModelError, match=r"manifest\.json: format: is missing; it is required; .*name: is missing"):
        read_package(tmp_path, ())


def test_every_change_of_a_directory_is_seen(put_model: Callable[..., Path], tmp_path: Path) -> None:
    put_model(tmp_path / "v1")
    put_model(tmp_path / "v2", version="2.0.0")
    link = tmp_path / "current"
    stamps = [stamp_of(link)]
    link.symlink_to("v1")
    stamps.append(stamp_of(link))
    assert stamp_of(link) == stamps[-1]
    link.unlink()
    link.symlink_to("v2")
    stamps.append(stamp_of(link))
    (tmp_path / "v2" / "echo.tflite").write_bytes(b"")
    stamps.append(stamp_of(link))
    (tmp_path / "v2" / "echo.tflite").unlink()
    stamps.append(stamp_of(link))
    link.unlink()
    link.symlink_to("current")
    stamps.append(stamp_of(link))
    assert len(set(stamps)) == len(stamps)


def test_a_store_keeps_copies_and_knows_which_were_good(put_model: Callable[..., Path], tmp_path: Path) -> None:
    store = Store(tmp_path / "state", ())
    first, second, third = (
        store.keep(read_package(put_model(tmp_path / f"v{number}", version=f"{number}.0.0"), ()))
        for number in (1, 2, 3)
    )
    shutil.rmtree(tmp_path / "v1")
    assert first.directory.is_relative_to(tmp_path / "state")
    assert (first.directory / "echo.tflite").stat().st_size == 928
    assert store.keep(first) == first
    assert store.proven() == []
    store.prove(first)
    os.utime(first.directory / "proven", ns=(1, 1))
    store.prove(second)
    assert [package.manifest.version for package in store.proven()] == ["2.0.0", "1.0.0"]
    store.prune(first, third)
    assert store.proven() == [first]
    (first.directory / "manifest.json").write_text("garbled")
    assert store.proven() == []
    store.discard(third)
    assert [place.name for place in (tmp_path / "state").iterdir()] == [first.directory.name]


def test_a_store_by_a_relative_path_knows_its_own(
    put_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store(Path("state"), ())
    kept = store.keep(read_package(put_model(tmp_path / "m"), ()))
    store.prove(kept)
    assert store.proven() == [kept]
    assert store.keep(kept) is kept


def test_a_store_takes_no_more_of_a_file_than_the_manifest_says(put_model: Callable[..., Path], tmp_path: Path) -> None:
    package = read_package(put_model(tmp_path / "m"), ())
    with (tmp_path / "m" / "echo.tflite").open("ab") as file:
        file.truncate(1 << 40)
    kept = Store(tmp_path / "state", ()).keep(package)
    assert (kept.directory / "echo.tflite").stat().st_size == package.manifest.files[0].size_bytes


def test_a_manifest_of_nothing_but_faults_is_told_in_short(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{" + ",".join(f'"k{n}": 0' for n in range(5000)) + "}")
    with pytest.raises(ModelError, match=r"is missing; it is required") as caught:
        read_package(tmp_path, ())
    assert len(str(caught.value)) == 1000


def test_a_store_without_a_disk_says_so(put_model: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no directory")
    store = Store(tmp_path / "state", ())
    with pytest.raises(ModelError, match=r"cannot be kept in .*state: Not a directory"):
        store.keep(read_package(put_model(tmp_path / "m"), ()))
    store.prune()
    assert store.proven() == []
