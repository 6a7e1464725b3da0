"""The pages of docs/ are right: links lead somewhere, blocks of Python run, the site builds without a warning."""

import importlib
import importlib.util
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from tests.support import DATA, ROOT
from vocoders import MEL_CONFIGS, MelMismatch, Vocoder, load
from vocoders.checkpoint import Checkpoint
from vocoders.cli.vocode import vocode
from vocoders.cli.vocoders import vocoders

DOCS = ROOT / "docs"
PAGES = sorted({*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *ROOT.glob("recipes/**/*.md"), *ROOT.glob("losses/**/*.md"),
                *ROOT.glob("vocoders/**/*.md"), *ROOT.glob("examples/*/*.md"),
                *ROOT.glob("tests/**/*.md")})  # fmt: skip


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page of docs/ in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)


def run(page: str, number: int, **names: Any) -> dict[str, Any]:
    """Run one of the blocks of Python; the names after it."""
    exec(compile(blocks(page, "python")[number], page, "exec"), names)
    return names


def anchors(path: Path) -> set[str]:
    """What the headings of a page can be linked by."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture(scope="module")
def mel() -> np.ndarray:
    with np.load(DATA / "hello.npz") as file:
        return file["mel"]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        place = page.parent / file if file else page
        assert place.exists(), f"{page}: {target}"
        if anchor and place.suffix == ".md":
            assert anchor in anchors(place), f"{page}: {target}"


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="no mkdocs here")
@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr, built.stderr
    pages = list((tmp_path / "site" / "api").rglob("index.html"))
    assert pages
    for page in pages:
        for paragraph in re.findall(r"<p>(.*?)</p>", page.read_text(), re.DOTALL):
            # A heading that was not recognised: a blank line before it is missing, or it has text on its own line.
            assert not re.search(r"^(Args|Returns|Raises|Attributes):", paragraph, re.MULTILINE), f"{page}: {paragraph}"
    architecture = (tmp_path / "site" / "architecture" / "index.html").read_text()
    assert "../../" not in re.sub(r'(href|src)="\.\./', "", architecture)  # no link out of the site


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text()))
    assert listed == {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}


def test_files_and_functions_that_the_architecture_names_exist() -> None:
    text = (DOCS / "architecture.md").read_text()
    for name in re.findall(r"`((?:vocoders|losses|recipes)/[\w/]+\.py)`", text):
        assert (ROOT / name).is_file(), name
    rows = re.findall(r"^\| ([^|]+) \| (`[^|]+) \| (`[^|]+) \|$", text, re.MULTILINE)
    assert len(rows) > 30
    for step, files, functions in rows:
        code = "".join((ROOT / name).read_text() for name in re.findall(r"`([\w/]+\.py)`", files))
        names = re.findall(r"`(?:\w+\.)?(\w+)`", functions)
        assert names, step
        for name in names:
            assert re.search(rf"\b(def|class) {name}\b", code), f"{step}: {name} in {files}"


def test_the_table_of_mel_configs() -> None:
    rows = re.findall(
        r"^\| `([\w-]+)` \| (\d+) \| (\d+) / (\d+) / (\d+) \| (\d+) \| (\d+)-(\d+) \|",
        (DOCS / "mel-configs.md").read_text(),
        re.MULTILINE,
    )
    assert {row[0] for row in rows} == set(MEL_CONFIGS)
    fields = ("sample_rate", "n_fft", "hop_length", "win_length", "n_mels", "fmin", "fmax")
    for name, *figures in rows:
        assert [int(figure) for figure in figures] == [getattr(MEL_CONFIGS[name], field) for field in fields]


def test_conversion(mel: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    names = run("mel-configs.md", 0, log10_mel=mel / np.log(10))
    np.testing.assert_allclose(names["mel"], mel, atol=1e-5)
    printed = capsys.readouterr().out
    assert all(field in printed for field in ("sample_rate", "n_mels", "fmax"))
    with pytest.raises(MelMismatch):
        names["source"].check_convertible(MEL_CONFIGS["bigvgan-24k"])


def test_streaming(mel: np.ndarray) -> None:
    voc = load()
    for number in range(2):
        played: list[np.ndarray] = []
        names = run("streaming.md", number, voc=voc, chunks=np.array_split(mel, 9, axis=1), play=played.append)
        assert len(played) > 5
        np.testing.assert_allclose(np.concatenate(played), voc(mel), atol=1e-5)
    assert names["stream"].lookahead == 51


def test_export(mel: np.ndarray, voice_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = blocks("export.md", "sh")[0].splitlines()
    assert commands[0] == "vocoders export -o voice.onnx"  # which is what made voice_onnx
    monkeypatch.chdir(tmp_path)
    shutil.copy(voice_onnx, "voice.onnx")
    synthesis = commands[1].replace("tests/data", str(DATA)).split()
    assert (synthesis[0], vocode(synthesis[1:])) == ("vocode", 0)
    assert soundfile.info("out.wav").duration > 5
    names = run("export.md", 0, mel=mel)
    assert names["used_f0"].shape == (1, 1, mel.shape[1])
    # With the same noise it is what load gives.
    noise = names["inputs"]["noise"][0, 0]
    monkeypatch.setattr("vocoders.inference.synthesis.white_noise", lambda start, stop, seed: noise[start:stop])
    np.testing.assert_allclose(names["audio"][0, 0], load("voice.onnx")(mel), atol=1e-5)


def test_the_generator_of_the_contributing_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds what the guide promises without further code: sizes, and streams that equal the whole."""
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    (block,) = re.findall(r"^    ```python\n(.*?)^    ```$", guide, re.DOTALL | re.MULTILINE)
    (tmp_path / "generator_of_the_guide.py").write_text(textwrap.dedent(block))
    monkeypatch.syspath_prepend(str(tmp_path))
    names = vars(importlib.import_module("generator_of_the_guide"))
    mel_config = MEL_CONFIGS["hifigan-22k"]
    torch.manual_seed(0)
    generator = names["Name"](names["Name"].small_config(mel_config), mel_config)
    voc = Vocoder(Checkpoint(mel_config, generator))
    mel = np.random.default_rng(0).normal(-5, 1, (80, 50)).astype(np.float32)
    streamed = list(voc.stream(np.array_split(mel, 7, axis=1)))
    assert len(streamed) > 5
    np.testing.assert_allclose(np.concatenate(streamed), voc(mel), atol=1e-5)


def test_losses_in_your_own_loop() -> None:
    names = run("training.md", 0)
    assert names["adversarial"].requires_grad is names["for_the_discriminator"].requires_grad is True
    assert float(names["mel_loss"]) > 0


def test_options_that_the_command_line_names_exist(capsys: pytest.CaptureFixture[str]) -> None:
    page = (DOCS / "command-line.md").read_text()
    for program, section in ((vocode, page.partition("## vocoders")[0]), (vocoders, page.partition("## vocoders")[2])):
        help_text = ""
        commands = re.findall(r"^\| `vocoders (\w+)", section, re.MULTILINE)
        for arguments in [["--help"], *([command, "--help"] for command in commands)]:
            with pytest.raises(SystemExit) as stopped:
                program(arguments)
            assert stopped.value.code == 0
            help_text += capsys.readouterr().out
        options = set(re.findall(r"--[a-z][\w-]+", section))
        assert len(options) >= 4
        for option in options:
            assert option in help_text, option
