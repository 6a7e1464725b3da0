"""The page of the server, in Chromium."""

import base64
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support import ROOT, models, signals
from tests.support.browser import browsing, chromium
from tests.support.server import serving, small_model

PAGE = (ROOT / "vocoders" / "server" / "page.html").read_text()

pytestmark = pytest.mark.filterwarnings("ignore::vocoders.errors.MelWarning")
needs_chromium = pytest.mark.skipif(chromium() is None, reason="no Chromium here; on Debian: apt-get install chromium")

# Mean brightness of each row of a canvas, the lowest frequency first.
ROWS = """(id) => {
  const canvas = document.querySelector(`#${id} canvas`);
  const {data, width, height} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const rows = Array(height).fill(0);
  for (let i = 0; i < data.length; i += 4) rows[height - 1 - Math.floor(i / 4 / width)] += data[i] + data[i + 1];
  return {width, rows: rows.map(sum => sum / width)};
}"""

KEEP_BLOBS = "const make = URL.createObjectURL; URL.createObjectURL = (blob) => make((window.blob = blob))"
LAST_BLOB = "blob.arrayBuffer().then(b => btoa(String.fromCharCode(...new Uint8Array(b))))"


def test_the_page_is_self_contained() -> None:
    assert not re.findall(r"https?:|//[\w.]+/|@import|url\(", PAGE)
    assert set(re.findall(r'(?:href|src)="([^"]*)"', PAGE)) == {"openapi.json", "models", "mel-config", "metrics"}
    assert "innerHTML" not in PAGE  # file names are text


@needs_chromium
def test_a_mel_and_a_sound_file_are_dropped(tmp_path: Path) -> None:
    mel = models.mel(50)[0].numpy()
    mel[:4] += 3  # bright below
    np.save(tmp_path / "<b>low.npy", mel)
    soundfile.write(tmp_path / "voice.flac", signals.voice(8000, 1.0), 8000)
    (tmp_path / "wrong.npy").write_bytes(b"none")
    with serving(small_model()) as server, browsing(tmp_path / "profile") as tab:
        address = f"http://127.0.0.1:{server.port}/"
        tab.call("Page.addScriptToEvaluateOnNewDocument", source=KEEP_BLOBS)
        tab.call("Page.navigate", url=address)
        tab.wait_for("document.querySelector('#model option')?.value === 'hnmask'")

        tab.drop("#drop", tmp_path / "<b>low.npy")
        tab.wait_for("document.body.dataset.done === '1' && document.querySelector('#player').duration > 0")
        assert tab.evaluate("document.querySelector('#player').duration") == pytest.approx(50 * 32 / 8000, abs=0.01)
        source, result = (tab.evaluate(f"({ROWS})('{name}')") for name in ("input", "output"))
        assert source["width"] == result["width"] == 50
        assert len(source["rows"]) == len(result["rows"]) == 20
        assert min(source["rows"][:4]) > max(source["rows"][4:]) + 20
        assert np.ptp(result["rows"]) > 5
        assert "<b>low.npy, 20 bands" in tab.evaluate("document.querySelector('#input figcaption').innerText")
        body = (tmp_path / "<b>low.npy").read_bytes()
        assert base64.b64decode(tab.evaluate(LAST_BLOB)) == server.post("/synthesize", content=body).content

        tab.drop("#drop", tmp_path / "voice.flac")
        tab.wait_for("document.body.dataset.done === '2'")
        assert tab.evaluate(f"({ROWS})('input')")["width"] == 250
        assert tab.errors() == []
        asked = [url for url in tab.requests() if url.startswith("http")]
        assert all(url.startswith(address) for url in asked)
        assert (
            len(asked) == 10
        )  # the page, models, and for each file a mel, its mel config, its audio and the mel of that

        tab.drop("#drop", tmp_path / "wrong.npy")
        tab.wait_for("document.querySelector('#status.wrong')")
        assert "not a readable sound file" in tab.evaluate("document.querySelector('#status').innerText")
        assert tab.evaluate("document.querySelector('#output').hidden") is True


@needs_chromium
def test_it_asks_for_the_token_and_sends_the_f0_of_a_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "mel.npz", mel=models.mel(12)[0].numpy(), f0=models.f0(12).numpy().ravel())
    with (
        serving(small_model(f0_estimator=False), token="secret") as server,
        browsing(tmp_path / "profile") as tab,
    ):
        tab.call("Page.navigate", url=f"http://127.0.0.1:{server.port}/")
        tab.wait_for("!document.querySelector('#authorization').hidden")
        tab.evaluate("token.value = 'secret'; token.dispatchEvent(new Event('change'))")
        tab.wait_for("document.querySelector('#model option')")
        tab.drop("#drop", tmp_path / "mel.npz")
        tab.wait_for("document.body.dataset.done === '1'")
