"""`python -m fleet rollout` as an operator types it: a fleet's own directory, its broker with certificates, a kill."""

from __future__ import annotations

import json
import re
import signal
import ssl
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from contract.update import opened
from fleet.__main__ import main
from fleet.broker import keep_files, reload
from fleet.cli import rollout as command
from fleet.files import write_file
from fleet.home import Home
from stack import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[3]
DOCS = (ROOT / "docs" / "fleet.md").read_text(encoding="utf-8")
NODES = ("n1", "n2", "n3")


@pytest.fixture
def home(fleet: Any, group: str) -> Home:
    """A fleet of three nodes, whose broker runs; of a group that no other test has in the database."""
    settings = fleet.home.settings.model_copy(update={"groups": (group,)})
    write_file(fleet.home.path / "fleet.yaml", settings.to_yaml().encode())
    made = Home.open(fleet.home.path)
    for node in NODES:
        made.add_node(node, group)
    keep_files(made)
    reload(made)
    return made


@pytest.fixture
def nodes(home: Home, fleet_database: str, group: str, site_class: Any) -> Iterator[Any]:
    """Its nodes, heard by an operator's identity; the second one never answers."""
    with home.operator() as operator:
        made = site_class((operator.host, operator.port), fleet_database, group, home.update_key(), NODES)
        made.tls, made.client_id, made.behaviour = operator.tls(), operator.name, {"n2": "never"}
        made.start()
        yield made
        made.stop()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/manifest.json").write_text('{"version": "2"}')
    return tmp_path / "model"


@pytest.fixture
def rollout(
    home: Home, operator_dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs `python -m fleet rollout ...`: exit status, output, errors."""
    monkeypatch.setenv("HEADWATER_DSN", operator_dsn)
    monkeypatch.setenv("HEADWATER_FLEET", str(home.path))
    monkeypatch.setattr(command, "LOOK_EVERY_S", 0.05)

    def run(*words: object) -> tuple[int, str, str]:
        try:
            code = main(["rollout", *map(str, words)])
        except SystemExit as exc:
            code = int(exc.code or 0)
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


@contextmanager
def alone(*words: object) -> Iterator[subprocess.Popen[str]]:
    """The same in a process of its own, which is killed if it is there in the end."""
    arguments = [sys.executable, "-m", "fleet", "rollout", *map(str, words)]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def as_node(home: Home, name: str, group: str) -> Iterator[dict[str, bytes]]:
    """What a node hears with its own certificate, whatever it subscribes to."""
    (home.path / "node.pem").write_bytes(home.issue(name).pem)
    context = ssl.create_default_context(cafile=home.path / "root/ca.pem")
    context.load_cert_chain(home.path / "node.pem")
    heard: dict[str, bytes] = {}
    client = paho.Client(CallbackAPIVersion.VERSION2, name, protocol=paho.MQTTv5)
    client.tls_set_context(context)
    client.on_message = lambda _client, _userdata, message: heard.update({message.topic: message.payload})
    client.connect(home.settings.broker.host, home.settings.broker.port)
    client.subscribe(f"headwater/{group}/#", qos=1)
    client.loop_start()
    try:
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()
        client._reset_sockets()


def given(model: Path, *words: str) -> tuple[object, ...]:
    """What begins one."""
    return "start", "model", "tank", model, "--version", "2", "--stages", "canary:1,100%", "--soak", "0s", *words


def test_a_dry_run_tells_the_stages_and_writes_nothing(
    nodes: Any, home: Home, model: Path, rollout: Callable[..., tuple[int, str, str]], ask: Any
) -> None:
    code, told, _ = rollout(*given(model, "--dry-run", "--json"))
    assert code == 0
    assert [stage["nodes"] for stage in json.loads(told)["stages"]] == [["n1"], ["n2", "n3"]]
    assert ask("select count(*) from rollout where group_id = %s", nodes.group) == [(0,)]
    assert not (home.path / "artifacts").exists()


def test_a_roll_out_that_is_killed_goes_on(
    home: Home, nodes: Any, model: Path, rollout: Callable[..., tuple[int, str, str]], ask: Any, wait: Any
) -> None:
    group = nodes.group
    with as_node(home, "n1", group) as heard, alone(*given(model)) as process:
        wait(lambda: "n2" in nodes.asked and "n3" in nodes.asked)
        process.send_signal(signal.SIGKILL)
        wait(lambda: len(heard) == 2)
    ((number,),) = ask("select rollout_id from rollout where group_id = %s", group)
    keys = [home.update_key().public_key()]
    desired = opened(nodes.got["n1"][0], keys, "n1")
    assert set(heard) == {f"headwater/{group}/desired/n1/model/tank", f"headwater/{group}/blob/{desired.sha256}/0"}

    is_open = f"roll-out {number} of model tank in group {group} is running and not over: resume or abort it first"
    assert rollout(*given(model))[::2] == (1, f"fleet: {is_open}\n")
    told = rollout("pause", number, "--dry-run")[1]
    assert told == f"would pause roll-out {number}, model tank 2 in group {group}, which is running\n"
    assert rollout("pause", number)[0] == 0
    code, told, _ = rollout("status", number, "--json")
    assert (code, json.loads(told)["state"]) == (0, "paused")
    assert json.loads(told)["reason"].startswith("by ")

    nodes.behaviour["n2"] = "well"
    nodes.present("n2", online=True)
    code, told, error = rollout("resume", number)
    assert (code, error) == (0, "")
    assert told.splitlines()[-1] == f"roll-out {number}, model tank 2 in group {group}: done"
    wait(lambda: not nodes.retained)
    assert {opened(got, keys, "n").counter for each in nodes.got.values() for got in each} == {desired.counter}


def test_one_that_is_done_is_shown_and_not_gone_on_with(
    nodes: Any, model: Path, rollout: Callable[..., tuple[int, str, str]]
) -> None:
    code, told, _ = rollout(*given(model, "--nodes", "n1,n3", "--json"))
    number = json.loads(told.splitlines()[-1])["rollout_id"]
    assert (code, sorted(nodes.asked)) == (0, ["n1", "n3"])
    told = rollout("show", number)[1]
    assert [line.split()[:3] for line in told.splitlines()[2:]] == [
        ["n1", "canary", "confirmed"],
        ["n3", "100%", "confirmed"],
    ]
    (listed,) = [each for each in json.loads(rollout("list", "--json")[1]) if each["rollout_id"] == number]
    assert (listed["counts"], listed["is_driven"]) == ({"confirmed": 2}, False)
    assert rollout("watch", number)[0] == 0
    assert rollout("resume", number)[2] == f"fleet: roll-out {number} is done: there is nothing to go on with\n"


def test_one_that_stops_says_why_and_goes_on_only_when_more_may_fail(
    nodes: Any, model: Path, rollout: Callable[..., tuple[int, str, str]], group: str, wait: Any
) -> None:
    nodes.behaviour |= {"n2": "rolls back", "n3": "rolls back"}
    given = ("start", "model", "tank", model, "--version", "2", "--stages", "canary:1,2,100%", "--soak", "0s")
    code, told, _ = rollout(*given, "--max-failed", "0", "--nodes", "n1,n2,n3", "--json")
    last = json.loads(told.splitlines()[-1])
    number = last["rollout_id"]
    assert (code, last["state"], last["reason"]) == (1, "stopped", "1 of 3 nodes failed: allowed were 0")
    assert rollout("status", number)[0] == 1
    code, _, error = rollout("resume", number)
    assert (code, error) == (2, f"--max-failed: 1 nodes of roll-out {number} have failed: allow as many\n")
    assert "n3" not in nodes.asked
    code, told, _ = rollout("abort", number)
    assert (code, told.splitlines()[-1].partition(": ")[2].partition(" by ")[0]) == (0, "aborted:")
    wait(lambda: not nodes.retained)
    assert rollout("abort", number)[2].startswith(
        f"fleet: roll-out {number} is aborted: that can be done to one that is"
    )
    assert group in told


def test_what_cannot_be_is_told_before_anything_is_written(
    nodes: Any, model: Path, rollout: Callable[..., tuple[int, str, str]], group: str, home: Home
) -> None:
    def start(*words: object, kind: str = "model", name: str = "tank", file: Path = model) -> tuple[int, str]:
        code, told, error = rollout("start", kind, name, file, "--version", "2", *words)
        assert (told, list(home.path.glob("artifacts/*"))) == ("", [])
        return code, error

    assert nodes.group == group
    assert start("--nodes", "n1,n9") == (2, f"--nodes: n9: no nodes of group {group}, or revoked\n")
    assert start("--stages", "50%") == (2, "--stages: '50%' ends with 2 of 3 nodes: let the last one be 100%\n")
    assert start("--group", "other") == (2, f"--group: found 'other', allowed: {group}\n")
    assert start(name="../x")[0] == 2
    assert start(kind="agent") == (2, "NAME: found 'tank', allowed for kind agent: agent\n")
    assert start("--url", "ftp://x")[0] == 2
    assert start(file=model / "none") == (1, f"fleet: {model / 'none'}: No such file or directory\n")
    assert (
        rollout("show", 999_999)[2] == "fleet: there is no roll-out 999999: `rollout list` shows those that there are\n"
    )


CONFIG = """
group: {group}
node: {node}
state_dir: /var/lib/headwater
mqtt: {{host: broker.example}}
sources:
- {{type: rest, name: weather, {interval}: 300, preset: open-meteo, latitude: 48.14, longitude: 11.58}}
"""


def test_a_configuration_that_its_node_would_refuse_is_refused_here(
    home: Home, rollout: Callable[..., tuple[int, str, str]], group: str, tmp_path: Path
) -> None:
    def start(*words: str, group: str = group, node: str = "n1", interval: str = "interval_s") -> tuple[int, str]:
        file = tmp_path / "edge.yaml"
        file.write_text(CONFIG.format(group=group, node=node, interval=interval))
        code, _, error = rollout("start", "config", "config", file, "--version", "2", "--dry-run", *words)
        return code, error

    assert [node.name for node in home.registry.nodes()] == list(NODES)
    assert start("--nodes", "n1") == (0, "")
    code, error = start("--nodes", "n1", interval="intervall_s")
    assert (code, "intervall_s" in error) == (2, True)
    code, error = start("--nodes", "n2")
    assert (code, "node is 'n1'" in error) == (2, True)
    code, error = start("--nodes", "n1", group="other")
    assert (code, "group is 'other'" in error) == (2, True)
    for words in ((), ("--nodes", "n1,n2")):
        code, error = start(*words)
        assert (code, "a configuration names the node it is for" in error) == (2, True)


def test_who_leaves_it_is_seen_to_have_left(
    nodes: Any, model: Path, rollout: Callable[..., tuple[int, str, str]], ask: Any, group: str, wait: Any
) -> None:
    with alone(*given(model)) as process:
        wait(lambda: "n2" in nodes.asked)
        ((number,),) = ask("select rollout_id from rollout where group_id = %s", group)
        assert rollout("status", number)[0] == 0
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    code, told, _ = rollout("status", number)
    assert (code, told.endswith(f", stage 100%; nobody drives it: `rollout resume {number}` does\n")) == (1, True)
    assert f"nobody drives it: `rollout resume {number}` does" in rollout("show", number)[1]
    code, told, _ = rollout("pause", number)
    assert (code, "waits for" in told) == (0, False), "nobody waits any more"
    assert rollout("abort", number)[0] == 0


def test_it_needs_a_database_that_is_there(
    rollout: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    monkeypatch.setenv("HEADWATER_DSN", f"host=127.0.0.1 port={free_port()} dbname=x user=x")
    code, _, error = rollout("list")
    assert (code, error.startswith("fleet: the database cannot be reached: ")) == (1, True)
    assert error.count("\n") == 1
    monkeypatch.setenv("HEADWATER_DSN", database)
    assert "run `python -m db migrate` first" in rollout("list")[2]
    monkeypatch.delenv("HEADWATER_DSN")
    code, _, error = rollout("list")
    assert (code, error.startswith("the environment variable HEADWATER_DSN is not set")) == (2, True)


@pytest.mark.parametrize("what", ["start", "list", "show", "watch", "status", "pause", "resume", "abort"])
def test_each_command_and_option_is_told(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["rollout", what, "--help"])
    options = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert f"fleet rollout {what}" in DOCS
    assert {option for option in options if option not in DOCS} == set()


def test_another_driver_is_left_alone(
    nodes: Any, model: Path, rollout: Callable[..., tuple[int, str, str]], ask: Any, group: str, wait: Any
) -> None:
    given = ("start", "model", "tank", model, "--version", "2", "--stages", "100%", "--soak", "0s")
    with alone(*given) as process:
        wait(lambda: len(nodes.asked) == 3, 60)
        ((number,),) = ask("select rollout_id from rollout where group_id = %s", group)
        elsewhere = f"roll-out {number}: who drives it, in another terminal, sees to that"
        code, told, _ = rollout("resume", number)
        result = f"roll-out {number}, model tank 2 in group {group}: running, stage 100%"
        assert (code, told.splitlines()) == (0, [result, elsewhere])
        code, told, _ = rollout("abort", number)
        assert (code, ": aborted: by " in told.splitlines()[0], told.splitlines()[1:]) == (0, True, [elsewhere])
        assert process.wait(30) == 1
        assert process.stdout is not None
        assert "aborted: by " in process.stdout.read()
    wait(lambda: not nodes.retained)
