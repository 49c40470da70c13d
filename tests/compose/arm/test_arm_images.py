"""The agent's images for ARM: what is in them runs there. On another processor that is under emulation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

from stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
CONFIGURATIONS = sorted((ROOT / "compose/edge").glob("*.yaml"))
CHILD = ROOT / "models/quantization/child.py"
NAME = "headwater-arm-test"
# Modbus and HTTP; a camera.
AGENTS = ("edge-1", "edge-3")
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
# In the bridge's place, and with its certificate: births are tried again until somebody takes them.
BRIDGE = "/secrets/headwater-bridge.pem"
LISTENER = {
    "image": COMPOSE["services"]["mosquitto"]["image"],
    "entrypoint": ["mosquitto_sub", "--host", "mosquitto", "--port", "8883", "--topic", "spBv1.0/#", "-F", "%t"],
    "command": ["--cafile", "/secrets/mqtt-ca.pem", "--cert", BRIDGE, "--key", BRIDGE],
    "user": "10001:10001",
    "networks": ["core"],
    "volumes": ["secrets-bridge:/secrets:ro"],
    "depends_on": {"mosquitto": {"condition": "service_healthy"}},
}
SAID = {
    *(f"spBv1.0/demo/NBIRTH/{agent}" for agent in AGENTS),
    *(
        f"spBv1.0/demo/D{kind}/{source}"
        for kind in ("BIRTH", "DATA")
        for source in ("edge-1/line-a", "edge-1/weather", "edge-3/gate")
    ),
}
HEALTHY_S = 300.0
READINGS = 50

NATIVE = """
import json, platform
import cv2, numpy, pydantic_core, tflite_runtime, yaml
from cryptography.hazmat.primitives.asymmetric import ec
ec.generate_private_key(ec.SECP256R1())
picture = numpy.arange(96 * 96, dtype=numpy.uint8).reshape(96, 96)
found, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])
again = cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE).astype(int)
print(json.dumps({
    "machine": platform.machine(),
    "python": platform.python_version(),
    "away": float(abs(again - picture).mean()),
    "versions": {each.__name__: each.__version__ for each in (cv2, numpy, pydantic_core, tflite_runtime, yaml)},
}))
"""


def test_the_agent_says_its_commands(image: Any) -> None:
    done = image.run("--help")
    assert done.returncode == 0, done.stderr.decode()
    assert "poll and deliver" in done.stdout.decode()


def test_what_is_compiled_runs(image: Any) -> None:
    done = image.run("-c", NATIVE, program="python")
    assert done.returncode == 0, done.stderr.decode()
    said = json.loads(done.stdout)
    print(f"\n{image.platform}: {said}")
    # A 64-bit kernel says armv8l, or aarch64, to a 32-bit program.
    assert (
        said["machine"] in {"linux/arm64": {"aarch64"}, "linux/arm/v7": {"armv7l", "armv8l", "aarch64"}}[image.platform]
    )
    assert said["away"] < 5


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_a_configuration_is_checked(image: Any, path: Path) -> None:
    done = image.run("check", "--elsewhere", "/etc/headwater/edge.yaml", mounts={path: "/etc/headwater/edge.yaml:ro"})
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A folder with an LSTM in int8 and windows for it; and what this machine's runtime makes of them."""
    from models.quantization.forms import exported  # noqa: PLC0415 - TensorFlow takes seconds, and is for these alone
    from models.quantization.measuring import measure  # noqa: PLC0415 - as above
    from models.training.tensorflow import keras  # noqa: PLC0415 - as above

    keras.utils.set_random_seed(1)
    windows = np.random.default_rng(1).normal(size=(60, 16, 3)).astype(np.float32)
    window = keras.Input((16, 3))
    state = keras.layers.LSTM(40)(window)
    net = keras.Model(window, keras.layers.Dense(30, bias_initializer="random_normal")(state))
    place = tmp_path_factory.mktemp("quantized")
    np.save(place / "windows.npy", windows)
    with exported(net) as converted:
        run, told = measure("tflite-runtime", converted.convert_int8(windows), place / "windows.npy", place)
    assert run.fault is None
    return place, told


def test_a_quantized_model_tells_there_what_it_tells_here(image: Any, quantized: tuple[Path, Any]) -> None:
    place, told = quantized
    place.chmod(0o777)
    request = {"model": "/work/model.tflite", "windows": "/work/windows.npy", "outputs": "/work/there.npy"}
    mounts = {place: "/work", CHILD: "/child.py:ro"}
    done = image.run("/child.py", "tflite-runtime", program="python", mounts=mounts, stdin=json.dumps(request).encode())
    assert done.returncode == 0, done.stderr.decode()
    answer = json.loads(done.stdout)
    assert "fault" not in answer, answer
    there = np.load(place / "there.npy")
    (place / "there.npy").unlink()
    away = np.abs(there - told)
    print(f"\n{image.platform}: {answer}; away: {away.max():.2g} at most, {(away > 0).mean():.1%} of the numbers")
    assert away.max() < 0.05 * told.std()


def test_agents_read_devices_and_deliver(image: Any, project_of: Callable[..., Any], tmp_path: Path) -> None:
    override = tmp_path / "arm.json"
    agents = {name: {"image": image.name, "platform": image.platform} for name in AGENTS}
    override.write_text(json.dumps({"services": {**agents, "listener": LISTENER}}))
    project = project_of(NAME, str(override))

    def page(agent: str) -> Any:
        return json.loads(project.run(agent, "python", "-m", "compose.healthy", "http://127.0.0.1:8081/healthz"))

    def states() -> dict[str, str]:
        return {name: state for name, state in project.states().items() if name.startswith("edge-")}

    def are_healthy() -> bool:
        return set(states().values()) == {"healthy"}

    def is_reading(agent: str) -> bool:
        sources = page(agent)["sources"].values()
        return all(each["readings"] > READINGS * (1 + each["failures"]) for each in sources)

    def is_delivered() -> bool:
        return set(project.docker("logs", f"{NAME}-listener-1").split()) >= SAID

    project.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")
    try:
        project.compose("build", "init", "simulators")
        project.compose("up", "--detach", "--no-build", *AGENTS, "listener")
        for wanted in (are_healthy, lambda: all(map(is_reading, AGENTS)), is_delivered):
            assert wait_until(wanted, timeout_s=HEALTHY_S, poll_s=2.0), project.compose("logs", "--tail", "20", *AGENTS)
        for agent in AGENTS:
            shown = page(agent)
            sources = {name: (each["readings"], each["failures"]) for name, each in shown["sources"].items()}
            print(f"\n{image.platform}: {agent}: readings and failures {sources}, {shown['process']}", end="")
        project.compose("stop", "--timeout", "60", *AGENTS)
        assert set(states().values()) == {"exited 0"}
    finally:
        project.compose("down", "--volumes", "--timeout", "5")
