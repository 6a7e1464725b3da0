"""The page of examples/browser, in Chromium: the built-in model by ONNX Runtime Web."""

import base64
import contextlib
import functools
import http.server
import io
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from examples.browser import prepare
from tests.support import DATA, ROOT
from tests.support.browser import Tab, browsing, chromium
from vocoders import MelConfig, load
from vocoders.dsp.adaptation import adapter
from vocoders.dsp.noise import white_noise
from vocoders.io.mels import encode_mel

SOURCE = ROOT / "examples" / "browser"
RATE, HOP = 22050, 256

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="no Chromium here; on Debian: apt-get install chromium"),
    pytest.mark.skipif(shutil.which("npm") is None, reason="no npm here; on Debian: apt-get install npm"),
]

# The page's own modules, as its script has them.
MODULES = """window.modules = Promise.all([import('./vocoder.js'), import('./mels.js')]).then(async ([vocoder, mels]) =>
  ({...vocoder, ...mels, ...await vocoder.openVocoder(new URL('built', location).href, () => {})}))"""
ENCODE = """async (parts) => new Promise((resolve) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result.split(',')[1]);
  reader.readAsDataURL(new Blob(parts));
})"""
# How often a timer runs until the next piece is done.
TICKS = """new Promise((resolve) => {
  const bar = document.querySelector('#progress'), begin = bar.value;
  let ticks = 0;
  const tick = () => bar.value === begin ? (ticks++, setTimeout(tick, 1)) : resolve(ticks);
  tick();
})"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder as ``python -m http.server`` does, and yield the address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example after npm install and prepare.py, as its README tells."""
    folder = tmp_path_factory.mktemp("browser") / "page"
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("node_modules", "built"))
    command = ["npm", "install", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-timeout=60000"]
    installed = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    missing = re.search(r"ENOTFOUND|EAI_AGAIN|ECONN\w+|E\w*TIMEDOUT|ENETUNREACH|E40[134]|E5\d\d", installed.stderr)
    if installed.returncode and missing:
        pytest.skip(f"the npm registry does not give onnxruntime-web here ({missing[0]})")
    assert installed.returncode == 0, installed.stderr
    assert not (folder / "package-lock.json").exists()
    prepare.main(folder)
    shutil.rmtree(folder / "node_modules")  # the page runs without it
    return folder


@pytest.fixture(scope="module")
def tab(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """The page, with its model loaded."""
    with served(folder) as address, browsing(tmp_path_factory.mktemp("profile")) as tab:
        tab.call("Page.navigate", url=address)
        tab.wait_for("document.querySelector('#status').innerText.startsWith('ready')")
        tab.evaluate(f"{MODULES}, null")
        yield tab
        assert tab.errors() == []
        assert not [event for event in tab.events if event["method"] == "Runtime.consoleAPICalled"]
        asked = {url for url in tab.requests() if not url.startswith(("data:", "blob:"))}
        assert all(url.startswith(address) for url in asked)


@pytest.fixture(scope="module")
def mel() -> np.ndarray:
    with np.load(DATA / "hello.npz") as file:
        return file["mel"]


def decoded(tab: Tab, expression: str) -> bytes:
    """The bytes of an array of BlobParts in the page, which an expression may await."""
    return base64.b64decode(tab.evaluate(f"(async () => await ({ENCODE})({expression}))()"))


def synthesized(tab: Tab, mel: np.ndarray, noise: np.ndarray, frames: int) -> np.ndarray:
    """What the page's ``synthesize`` makes of a mel, in pieces of some frames."""
    sent = {name: base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode()
            for name, array in (("mel", mel), ("noise", noise))}  # fmt: skip
    return np.frombuffer(decoded(tab, f"""await (async () => {{
        const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
        const noise = floats('{sent["noise"]}'), pieces = [];
        const mel = {{bands: 80, frames: {mel.shape[1]}, values: floats('{sent["mel"]}')}};
        const {{synthesize}} = await modules;
        const audio = synthesize(mel, (start, stop) => noise.slice(start, stop), {frames});
        for await (const piece of audio) pieces.push(piece);
        return pieces;
    }})()"""), "<f4")  # fmt: skip


def drop(tab: Tab, file: Path) -> None:
    """Drop a file on the page and wait for what becomes of it."""
    tab.evaluate("delete document.body.dataset.done, document.querySelector('#status').className = ''")
    tab.drop("#drop", file)
    tab.wait_for("document.body.dataset.done || document.querySelector('#status.wrong')", 120)


def test_a_dropped_mel_is_heard_and_seen(
    tab: Tab, mel: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for compressed in (False, True):
        (np.savez_compressed if compressed else np.savez)(tmp_path / "mel.npz", mel=mel)
        for file in (DATA / "hello.npz", tmp_path / "mel.npz"):
            drop(tab, file)
            tab.wait_for("document.querySelector('#player').duration > 0")
    status = tab.evaluate("document.querySelector('#status').innerText")
    assert re.fullmatch(r"5\.06 s of audio in [\d.]+ s: [\d.]+ x real time", status), status
    assert "mel.npz, 80 bands" in tab.evaluate("document.querySelector('#input').innerText")
    assert tab.evaluate("document.querySelector('#save').download") == "mel.wav"
    sound = decoded(tab, "[await (await fetch(document.querySelector('#player').src)).blob()]")
    audio, rate = soundfile.read(io.BytesIO(sound), dtype="float32")
    assert (rate, audio.shape) == (RATE, (436 * HOP,))

    noise = np.frombuffer(decoded(tab, f"[(await modules).normalNoise(0, {436 * HOP})]"), "<f4")
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    assert np.abs(np.fft.rfft(noise)).max() ** 2 / len(noise) < 25  # white: the spectrum of 56,000 lines has no peak
    monkeypatch.setattr("vocoders.inputs.white_noise", lambda start, stop, seed: noise[start:stop])
    expected = load()(mel)
    assert np.abs(audio - expected).max() < 1e-3 * np.abs(expected).max()

    for canvas in ("mel", "wave"):  # something is drawn
        assert tab.evaluate(f"new Set(document.querySelector('#{canvas}').getContext('2d')"
                            ".getImageData(0, 0, 400, 80).data).size") > 4  # fmt: skip


def test_pieces_equal_the_whole_and_python(tab: Tab, mel: np.ndarray) -> None:
    mel = np.concatenate([mel, mel[:, ::-1], mel], 1)  # longer than two pieces
    noise = white_noise(0, mel.shape[1] * HOP, 0)
    whole = synthesized(tab, mel, noise, mel.shape[1])
    expected = load()(mel)  # in pieces itself: it is long
    peak = np.abs(expected).max()
    assert whole.shape == expected.shape
    assert np.abs(whole - expected).max() < 1e-3 * peak
    assert np.abs(synthesized(tab, mel, noise, 512) - whole).max() < 1e-4 * peak
    expected = load()(mel[:, :200])
    for frames in (97, 30):
        assert np.abs(synthesized(tab, mel[:, :200], noise, frames) - expected).max() < 1e-3 * peak


@pytest.mark.parametrize("name", ["hifigan-22k:log=log10", "vocos-24k", "espnet-24k", "cleanmel-16k", "openvpi-44k"])
def test_mels_of_other_mel_configs(tab: Tab, mel: np.ndarray, tmp_path: Path, name: str) -> None:
    """The page adapts them as Python does, says what is approximated, and speaks."""
    source, target = MelConfig.parse(name), load().mel_config
    other = load().analyze(load()(mel), RATE, source)[:, :100]
    sent = base64.b64encode(np.ascontiguousarray(other, "<f4").tobytes()).decode()
    adapted = np.frombuffer(decoded(tab, f"""await (async () => {{
        const values = new Float32Array(Uint8Array.from(atob('{sent}'), (c) => c.charCodeAt(0)).buffer);
        const mel = {{bands: {len(other)}, frames: 100, values}};
        const {{adaptMel}} = await import('./adapt.js');
        return [adaptMel(mel, {source.model_dump_json()}, {target.model_dump_json()}).values];
    }})()"""), "<f4").reshape(80, -1)  # fmt: skip
    np.testing.assert_allclose(adapted, adapter(source, target)(other), atol=1e-4)
    (tmp_path / "other.npz").write_bytes(encode_mel(other, source, "npz"))
    drop(tab, tmp_path / "other.npz")
    tab.wait_for("document.querySelector('#player').duration > 0")
    seconds = tab.evaluate("document.querySelector('#player').duration")
    assert seconds == pytest.approx(adapted.shape[1] * HOP / RATE, abs=0.01)
    status = tab.evaluate("document.querySelector('#status').innerText")
    assert ("the mel is approximated for the model: sample_rate" in status) is ("log10" not in name)


def test_the_example_and_the_newest_of_several_files(tab: Tab, mel: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "first.npy", np.tile(mel, 6))
    np.save(tmp_path / "short.npy", np.asfortranarray(mel[:, :20]))
    tab.evaluate("delete document.body.dataset.done")
    tab.drop("#drop", tmp_path / "first.npy")
    tab.wait_for("!document.querySelector('#progress').hidden")  # the first piece of it is done
    assert tab.evaluate(TICKS) > 20  # the page responds while it computes the next one
    tab.evaluate("document.querySelector('#example').click()")
    drop(tab, tmp_path / "short.npy")
    tab.wait_for("document.querySelector('#player').duration > 0")
    assert tab.evaluate("document.querySelector('#player').duration") == pytest.approx(20 * HOP / RATE, abs=0.01)
    assert "short.npy" in tab.evaluate("document.querySelector('#input').innerText")

    tab.evaluate("delete document.body.dataset.done, document.querySelector('#example').click()")
    tab.wait_for("document.body.dataset.done")
    assert "hello.npz, 80 bands" in tab.evaluate("document.querySelector('#input').innerText")


def test_a_bad_file_gets_one_sentence(tab: Tab, mel: np.ndarray, tmp_path: Path) -> None:
    holes = mel.copy()
    holes[3, 5:7] = np.nan
    arrays = {
        "bands.npy": (mel[:64], "has 64 bands, the model expects 80: its shape is (64, 436); use the mel config"),
        "turned.npy": (mel.T, "has 436 bands, the model expects 80: its shape is (436, 80); it looks transposed"),
        "batch.npy": (mel[None], "has shape (1, 80, 436), a mel has (80, frames)"),
        "flat.npy": (mel[0], "has shape (436,), a mel has (80, frames)"),
        "empty.npy": (mel[:, :0], "is empty: its shape is (80, 0)"),
        "double.npy": (mel.astype("f8"), "holds values of type '<f8', the model takes float32"),
        "objects.npy": (mel.astype("f8").astype(object), "holds pickled Python objects, which are never loaded"),
        "holes.npy": (holes, "holds 2 NaN or infinite values of 34880"),
    }  # fmt: skip
    cases = {name: sentence for name, (_, sentence) in arrays.items()}
    for name, (array, _) in arrays.items():
        np.save(tmp_path / name, array, allow_pickle=True)

    hello = (DATA / "hello.npz").read_bytes()
    np.savez(tmp_path / "other.npz", audio=mel, f0=mel)
    np.savez(tmp_path / "text.npz", mel=mel, mel_config=np.array("none"))
    np.savez_compressed(tmp_path / "deflated.npz", mel=mel)
    deflated = bytearray((tmp_path / "deflated.npz").read_bytes())
    deflated[1000:1100] = bytes(100)
    np.save(tmp_path / "mel.npy", mel)
    for name, content, sentence in [
        ("truncated.npz", hello[:100000], "is damaged or cut off: its 100000 bytes are no whole .npz file"),
        ("end.npz", hello[-1000:], "is neither .npy nor .npz"),
        ("broken.npz", bytes(deflated), "is damaged or cut off"),
        ("truncated.npy", (tmp_path / "mel.npy").read_bytes()[:5000], "139520 bytes of data, it holds 4872"),
        ("pickle.npy", b"\x80\x04K\x01.", "holds pickled Python objects"),
        ("nothing.npy", b"", "is neither .npy nor .npz"),
        ("text.npy", b"<b>mel</b> " * 9, "is neither .npy nor .npz"),
    ]:
        (tmp_path / name).write_bytes(content)
        cases[name] = sentence
    cases |= {
        "other.npz": "holds no array named 'mel', only: audio, f0",
        "text.npz": "the mel config stored in text.npz is not JSON",
    }
    for name, sentence in cases.items():
        drop(tab, tmp_path / name)
        status = tab.evaluate("document.querySelector('#status.wrong').innerText")
        assert name in status
        assert sentence in status
        assert "\n" not in status
        assert tab.evaluate("document.querySelector('#output').hidden && document.querySelector('#input').hidden")

    drop(tab, DATA / "hello.npz")  # and the page is as good as before
    assert tab.evaluate("document.querySelector('#status').className") == ""


def test_without_prepare_it_says_what_to_run(tmp_path: Path) -> None:
    shutil.copytree(SOURCE, tmp_path / "page", ignore=shutil.ignore_patterns("node_modules", "built"))
    with pytest.raises(SystemExit, match="npm install"):
        prepare.main(tmp_path / "page")
    with served(tmp_path / "page") as address, browsing(tmp_path / "profile") as tab:
        tab.call("Page.navigate", url=address)
        tab.wait_for("document.querySelector('#status.wrong')")
        assert "model.json: status 404; run prepare.py" in tab.evaluate("document.querySelector('#status').innerText")


def test_the_page_is_self_contained() -> None:
    for file in (*SOURCE.glob("*.html"), *SOURCE.glob("*.js")):
        text = file.read_text()
        assert not re.findall(r"https?:|@import|url\(|innerHTML", text), file
        assert max(map(len, text.splitlines())) <= 120, file
