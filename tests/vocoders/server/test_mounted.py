"""The server mounted in another application, as docs/serving.md shows it."""

import re

import pytest
from fastapi.testclient import TestClient

from tests.support import ROOT
from tests.support.server import mel, npy, small_model
from vocoders.pretrained import DEFAULT_MODEL, load

DOCS = (ROOT / "docs" / "serving.md").read_text()


def test_the_example_of_the_documentation(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model()
    monkeypatch.setattr("vocoders.server.registry.load_models", lambda _: {model.name: model})
    (block,) = re.findall(r"^```py\n(.*?)^```$", DOCS, re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {}
    exec(compile(block, "serving.md", "exec"), names)
    with TestClient(names["app"], base_url="http://127.0.0.1") as client:  # type: ignore[arg-type]
        answer = client.post("/vocoder/synthesize?format=raw", content=npy(mel(12)))
        assert (answer.status_code, len(answer.content)) == (200, 2 * 12 * 32)
        assert client.post("/vocoder/synthesize?fromat=raw", content=npy(mel(12))).status_code == 422
        metrics = client.get("/vocoder/metrics").text
    table = DOCS.partition("## Metrics")[2].partition("\n## ")[0]
    for name in re.findall(r"`(vocoders_\w+)`", table):
        assert re.search(rf"^{name}[_{{ ]", metrics, re.MULTILINE), name
    served = set(re.findall(r"^# TYPE (vocoders_\w+) ", metrics, re.MULTILINE))
    assert {name for name in served if not name.endswith("_created")} == set(re.findall(r"`(vocoders_\w+)`", table))


def test_the_frames_of_one_step_are_those_of_the_built_in_model() -> None:
    stated = re.search(r"up to (\d+) frames, three\s+seconds .* in steps of (\d+) frames", DOCS, re.DOTALL)
    voc = load(DEFAULT_MODEL)
    assert stated is not None
    assert [int(number) for number in stated.groups()] == [voc.frames_at_once, voc.chunk_frames]
