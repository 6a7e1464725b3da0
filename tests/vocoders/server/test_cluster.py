"""The server on a Ray cluster: it answers as the plain one, and outlives a replica."""

import contextlib
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.support import ROOT
from tests.support.server import SMALL, ServerClient, eventually, mel, npy, process, serving
from vocoders import VocoderError
from vocoders.cli.vocoders import vocoders
from vocoders.config import bind
from vocoders.onnx.vocoder import OnnxVocoder
from vocoders.server.registry import ServedModel

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="no Ray here"),
    pytest.mark.skipif(sys.platform == "win32", reason="no ps and no SIGKILL"),
]

TOKEN = "a-secret"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
MAX_REQUESTS = 6
GONE = "the replica that worked on this request has ended; try again in 5 s"


@dataclass
class Servers:
    """The server on the cluster, its process, and the plain server beside it."""

    cluster: httpx.Client
    plain: ServerClient
    running: subprocess.Popen[str]

    @property
    def stream(self) -> str:
        return str(self.cluster.base_url).replace("http", "ws") + "/stream"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a cluster of two CPUs."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RAY_worker_niceness", "0")  # else replicas starve beside other tests
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        yield ray.get_runtime_context().gcs_address
        ray.shutdown()


@pytest.fixture(scope="module")
def servers(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "token").write_text(TOKEN)
    (folder / "small.onnx").write_bytes(SMALL.read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    arguments = ["small.onnx", "--ray", address, "--replicas", "2", "--port", port, "--token-file", "token"]
    model = ServedModel("small", OnnxVocoder(SMALL))
    with (
        serving(model, token=TOKEN, max_requests=MAX_REQUESTS) as plain,
        process(*arguments, "--max-requests", str(MAX_REQUESTS), cwd=folder) as (running, base),
        httpx.Client(base_url=base, headers=HEADERS, timeout=60) as cluster,
    ):
        plain.headers.update(HEADERS)
        yield Servers(cluster, plain, running)


def replicas() -> dict[str, int]:
    """The process of each replica of this test's cluster, as it says itself, by the name that metrics have."""
    import ray

    names = [actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)]
    actors = {name: ray.get_actor(name, "serve") for name in names if name.startswith("SERVE_REPLICA")}
    processes: dict[str, Any] = {
        name: actor.__ray_call__.remote(lambda _: os.getpid()) for name, actor in actors.items()
    }
    return {name.rpartition("#")[2]: ray.get(number) for name, number in processes.items()}


def active(servers: Servers) -> dict[str, float]:
    """The number of requests that each replica works on."""
    text = servers.cluster.get("/metrics").text
    values = re.findall(r'^vocoders_active_requests\{replica="(\w+)"\} (\S+)', text, re.M)
    return {name: float(value) for name, value in values}


def test_what_keeps_it_from_starting(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, sentence in {
        ("--ray", "127.0.0.1:1"): "no Ray cluster answers at 127.0.0.1:1 (Connection refused)",
        ("--ray", "somewhere"): "the address of a Ray cluster is HOST:PORT, auto or local, got 'somewhere'",
        ("--replicas", "2"): "--replicas needs --ray",
    }.items():
        assert vocoders(["serve", *arguments]) == 2
        assert sentence in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ray", None)
    assert vocoders(["serve", "--ray"]) == 2
    assert "serve --ray needs ray, which" in capsys.readouterr().err


def test_answers_are_those_of_the_plain_server(servers: Servers) -> None:
    good, long = npy(mel(40)), npy(np.tile(mel(1000), 3))
    requests: list[tuple[str, str, bytes]] = [
        ("POST", "/synthesize", good),
        ("POST", "/synthesize?format=flac&seed=3", good),
        ("POST", "/synthesize?format=raw&stream=true", long),
        ("POST", "/synthesize", good[:-4]),
        ("POST", "/synthesize?model=none", good),
        ("POST", "/synthesize?fromat=wav", good),
        ("POST", "/mel", good),
        ("GET", "/models", b""),
        ("GET", "/mel-config", b""),
        ("GET", "/healthz", b""),
        ("GET", "/none", b""),
        ("GET", "/", b""),
    ]
    for method, route, content in requests:
        expected, got = (client.request(method, route, content=content) for client in (servers.plain, servers.cluster))
        assert (got.status_code, got.content) == (expected.status_code, expected.content), route
    bare = httpx.get(f"{servers.cluster.base_url}/models")
    assert (bare.status_code, bare.headers["WWW-Authenticate"]) == (401, "Bearer")


def test_audio_streams_before_it_is_complete(servers: Servers) -> None:
    with servers.cluster.stream(
        "POST", "/synthesize?format=raw&stream=true", content=npy(np.tile(mel(1000), 20))
    ) as got:
        pieces = [len(piece) for piece in got.iter_raw()]
    assert sum(pieces) == 2 * 20_000 * 32
    assert pieces[0] < sum(pieces) / 4


def begin(servers: Servers, stack: contextlib.ExitStack) -> ClientConnection:
    """A session that has sent its first half; it ends with the stack."""
    session = stack.enter_context(connect(servers.stream, additional_headers=HEADERS))
    session.recv()
    session.send(mel(100).T.astype("<f4").tobytes())
    return session


def finish(session: ClientConnection) -> bytes | str:
    """The audio of a session, or the reason that the server gives instead."""
    audio = b""
    try:
        session.send(mel(100).T.astype("<f4").tobytes())
        session.send("end")
    except ConnectionClosed:
        pass  # the reason is still to be read
    for piece in session:
        if isinstance(piece, str):
            return piece
        audio += piece
    return audio


def test_sessions_stay_on_their_replica_up_to_the_limit(servers: Servers) -> None:
    expected = servers.plain.post("/synthesize?format=raw", content=npy(np.tile(mel(100), 2))).content
    with contextlib.ExitStack() as stack:
        sessions = [begin(servers, stack) for _ in range(MAX_REQUESTS)]
        refused = None
        while refused is None and len(sessions) <= 2 * MAX_REQUESTS:
            try:
                sessions.append(begin(servers, stack))
            except InvalidStatus as error:
                refused = error.response
        assert refused is not None
        assert refused.status_code == 503
        assert f"the server has {MAX_REQUESTS} requests, its limit" in (refused.body or b"").decode()
        for session in sessions:
            audio = finish(session)
            assert isinstance(audio, bytes)
            np.testing.assert_allclose(np.frombuffer(audio, "<i2"), np.frombuffer(expected, "<i2"), atol=1)


def test_messages_have_the_limit_of_the_plain_server(servers: Servers) -> None:
    with connect(servers.stream, additional_headers=HEADERS) as session:
        session.recv()
        session.send(bytes(2**20 + 80))
        assert "the message has more than 1048576 bytes" in str(session.recv())
        with pytest.raises(ConnectionClosed):
            session.recv()
        assert session.protocol.close_code == 1009


def test_metrics_have_all_replicas(servers: Servers) -> None:
    text, counts = "", set[str]()
    for _ in range(100):  # which replica a request gets is chance
        servers.cluster.post("/synthesize", content=npy(mel(12)))
        text = servers.cluster.get("/metrics").text
        pattern = r'^vocoders_requests_total\{replica="(\w+)",route="/synthesize",status="200"\}'
        if len(counts := set(re.findall(pattern, text, re.M))) == 2:
            break
    assert counts == set(replicas())
    assert text.count("# TYPE vocoders_requests_total") == 1


def test_a_replica_is_killed(servers: Servers) -> None:
    """Requests on it get 503 with a sentence; all others, and those that come then, their own audio."""
    content = npy(np.tile(mel(1000), 60))
    expected = servers.plain.post("/synthesize?format=raw", content=content).content
    victim, process_id = next(iter(replicas().items()))
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(3) as pool:
        sessions = [begin(servers, stack)]
        while len(busy := active(servers)) < 2 or not all(busy.values()):
            sessions.append(begin(servers, stack))
        whole: list[Future[httpx.Response]] = []
        while active(servers).get(victim, 0) <= busy[victim]:  # until it works on one of these too
            if sum(not request.done() for request in whole) < 3:
                whole.append(pool.submit(servers.cluster.post, "/synthesize?format=raw", content=content))
            assert len(whole) < 100  # which replica gets one is chance
        os.kill(process_id, signal.SIGKILL)
        answers = [request.result() for request in whole]
        ends = [finish(session) for session in sessions]
    lost = [answer.json() for answer in answers if answer.status_code == 503]
    assert lost
    assert all(answer == {"detail": GONE} for answer in lost)
    assert all(answer.content == expected for answer in answers if answer.status_code != 503)
    codes = {session.protocol.close_code for session in sessions}
    assert codes == {1000, 1011}
    assert all(GONE in end if isinstance(end, str) else len(end) == 2 * 200 * 32 for end in ends)
    assert servers.cluster.post("/synthesize?format=raw", content=content).content == expected


def test_clusters_that_cannot_serve(address: str, servers: Servers, capsys: pytest.CaptureFixture[str]) -> None:
    from vocoders.server.cluster import check_room
    from vocoders.server.settings import Settings

    with pytest.raises(VocoderError, match=r"^--replicas 9-12 with 2 CPUs each need 18, and \d are free"):
        check_room(Settings(replicas="9-12", threads=2))
    for arguments, sentence in {
        ("none.safetensors",): r"there is no file none\.safetensors",
        ("--port", "0"): "--port 0 finds a free port on this machine alone; name one that is free on the cluster",
        ("--port", "8001"): "this cluster serves already; end its application first, or take another cluster",
    }.items():
        assert vocoders(["serve", "--ray", address, *arguments]) == 2
        assert re.fullmatch(f"vocoders: {sentence}\n", capsys.readouterr().err)


def test_sigterm_ends_the_application(servers: Servers) -> None:
    from ray import serve

    answers: list[httpx.Response] = []
    content = npy(np.tile(mel(1000), 60))
    request = threading.Thread(
        target=lambda: answers.append(servers.cluster.post("/synthesize?format=raw", content=content))
    )
    request.start()
    eventually(lambda: sum(active(servers).values()) >= 1)
    servers.running.send_signal(signal.SIGTERM)
    eventually(lambda: servers.cluster.get("/healthz").status_code == 503)
    refused = servers.cluster.post("/synthesize", content=npy(mel(12)))
    assert (refused.status_code, refused.json()) == (503, {"detail": "nothing is served here now; try again in 5 s"})
    request.join()
    assert (answers[0].status_code, len(answers[0].content)) == (200, 2 * 60_000 * 32)
    assert servers.running.wait(60) == 0
    assert not serve.status().applications


def test_the_config_of_the_documentation() -> None:
    from ray.serve.schema import ServeDeploySchema

    from vocoders.server.settings import Settings

    (block,) = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / "docs" / "scaling.md").read_text(), re.DOTALL | re.MULTILINE)
    config = ServeDeploySchema.model_validate(yaml.safe_load(yaml.safe_load(block)["spec"]["serveConfigV2"]))
    (application,) = config.applications
    assert application.import_path == "vocoders.server.deployment:app"
    settings = bind(Settings, application.args, "args")
    assert config.http_options.request_timeout_s == settings.limits.session_timeout


def test_arguments_of_the_application() -> None:
    from vocoders.server.deployment import app
    from vocoders.server.settings import Settings

    settings = bind(Settings, {"models": "a.onnx", "replicas": 2, "threads": "3"}, "arguments")
    assert (settings.models, settings.scaling) == (["a.onnx"], {"num_replicas": 2})
    assert (settings.threads, settings.gpus) == (3, 0)
    scaled = Settings(replicas="1-4", device="cuda").scaling["autoscaling_config"]
    assert (scaled["min_replicas"], scaled["max_replicas"], scaled["target_ongoing_requests"]) == (1, 4, 16)
    wrong: dict[str, Any]
    for wrong, sentence in (
        ({"replica": 2}, "unknown key 'replica' (did you mean 'replicas'?)"),
        ({"replicas": "4-2"}, "'replicas' = '4-2': must be a number, such as 2, or a range, such as 1-4"),
        ({"token_file": "none"}, "none"),
    ):
        with pytest.raises(VocoderError, match=re.escape(sentence)):
            app(wrong)
