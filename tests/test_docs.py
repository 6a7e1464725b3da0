"""The pages of docs/ are right: links lead somewhere, blocks of Python run, the site builds without a warning."""

import importlib
import importlib.util
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch

from recipes.training.reference import reference
from tests.support import DATA, ROOT, models
from tests.support.sherpa import write_acoustic_model
from vocoders import MEL_CONFIGS, MelWarning, Vocoder, VocoderError, load
from vocoders.checkpoint import Checkpoint, save_checkpoint
from vocoders.cli.vocode import vocode
from vocoders.cli.vocoders import vocoders
from vocoders.pretrained import MODELS

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


def test_the_keys_of_a_recipe() -> None:
    """python -m recipes.training.reference > docs/recipe-keys.md"""
    assert (DOCS / "recipe-keys.md").read_text() == reference()


def test_the_loss_of_ones_own() -> None:
    loss = run("training.md", 0)["EnvelopeLoss"].for_mel_config(MEL_CONFIGS["bigvgan-44k"])
    quiet, loud = torch.full((2, 640), 0.25), torch.full((2, 640), -0.75)
    (envelope,) = loss.distance(loss.transform(quiet), loss.transform(loud))
    assert float(envelope) == 0.5


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


def test_other_mel_configs(mel: np.ndarray) -> None:
    vocos = load("hnmask-24k").analyze(load()(mel), 22050, "vocos-24k")
    with pytest.warns(MelWarning, match="vocos-24k as bigvgan-24k"):
        names = run("mel-configs.md", 0, log10_mel=mel / np.log(10), vocos_mel=vocos)
    assert names["speaker"].sample_rate == 24000
    assert names["audio"].shape == (256 * vocos.shape[1],)


def test_streaming(mel: np.ndarray) -> None:
    voc = load()
    for number in range(2):
        played: list[np.ndarray] = []
        names = run("streaming.md", number, voc=voc, chunks=np.array_split(mel, 9, axis=1), play=played.append)
        assert len(played) > 5
        np.testing.assert_allclose(np.concatenate(played), voc(mel), atol=1e-5)
    assert names["stream"].lookahead == 49


@pytest.fixture(scope="module")
def export_page(mel: np.ndarray, voice_for_sherpa: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which docs/export.md was followed: its commands, beside the built-in model."""
    folder = tmp_path_factory.mktemp("export")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        mel_config = MEL_CONFIGS["hifigan-22k"]
        save_checkpoint(Checkpoint(mel_config, models.generator("hifigan", mel_config)), Path("my.safetensors"))
        shutil.copy(MODELS / "hnmask-22k.onnx", folder)
        shutil.copy(voice_for_sherpa, "sherpa.onnx")
        commands = "".join(blocks("export.md", "sh")).splitlines()
        commands.remove("vocoders export --target sherpa-onnx -o sherpa.onnx")  # what that fixture did
        for command in commands:
            program, *arguments = command.replace("tests/data", str(DATA)).split()
            assert {"vocode": vocode, "vocoders": vocoders}[program](arguments) == 0, command
        yield folder


@pytest.mark.slow
def test_the_commands_of_export(mel: np.ndarray, export_page: Path) -> None:
    audio, sample_rate = soundfile.read("out.wav", dtype="float32")
    assert sample_rate == 22050
    np.testing.assert_allclose(audio, load("my.onnx")(mel).clip(-1, 1), atol=1e-4)
    assert load("half.onnx").name == "half.onnx"


@pytest.mark.slow
def test_the_graph_from_python(mel: np.ndarray, export_page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run("export.md", 0, mel=mel)
    assert names["used_f0"].shape == (1, 1, mel.shape[1])
    # With the same noise it is what load gives, and chunks join to it.
    noise = names["inputs"]["noise"][0, 0]
    monkeypatch.setattr("vocoders.inputs.white_noise", lambda start, stop, seed: noise[start:stop])
    np.testing.assert_allclose(names["audio"][0, 0], load()(mel), atol=1e-5)
    chunks = np.split(mel, [1, 30, 90, 91, 200], axis=1)
    streamed = list(run("export.md", 1, np=np)["stream"](chunks, names["session"]))
    assert len(streamed) > 2
    np.testing.assert_allclose(np.concatenate(streamed), names["audio"][0, 0], atol=1e-5)


@pytest.mark.slow
def test_weights_in_float16(export_page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = blocks("export.md", "python")[2].replace("tests/data", str(DATA))
    exec(compile(text, "export.md", "exec"), {})
    ratio, share = re.findall(r"[\d.]+", capsys.readouterr().out)
    assert float(ratio) == pytest.approx(57.9, abs=1)
    assert float(share) == pytest.approx(0.43, abs=0.2)
    sizes = re.findall(r"takes ([\d.]+) instead of ([\d.]+) MB", (DOCS / "export.md").read_text())
    files = ("half.onnx", "hnmask-22k.onnx")
    assert sizes == [tuple(f"{Path(name).stat().st_size / 1e6:.1f}" for name in files)]


@pytest.mark.slow
def test_sherpa_onnx(mel: np.ndarray, export_page: Path) -> None:
    write_acoustic_model(Path(), mel, 22050)
    text = blocks("export.md", "python")[3]
    for name in ("matcha-icefall-zh-baker/model-steps-3.onnx", "lexicon.txt", "tokens.txt"):
        assert name in text
    text = text.replace("model-steps-3", "acoustic").replace("matcha-icefall-zh-baker/", "")
    names: dict[str, Any] = {"text": "a"}
    exec(compile(text, "export.md", "exec"), names)
    assert names["audio"].sample_rate == 22050
    np.testing.assert_allclose(names["audio"].samples, load()(mel), atol=1e-3)


@pytest.mark.slow
def test_the_tables_of_the_exported_graph(export_page: Path) -> None:
    page = (DOCS / "export.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (float\d\d) \| \((.*?)\) \|", page, re.MULTILINE)
    types = {"tensor(float)": "float32", "tensor(double)": "float64"}
    session = onnxruntime.InferenceSession("hnmask-22k.onnx")
    outputs = [value for value in session.get_outputs() if not value.name.startswith("next_")]
    values = [*session.get_inputs(), *outputs]
    assert [row[:2] for row in rows] == [(value.name, types[value.type]) for value in values]
    states = re.findall(r"^\| `(\w+)` \|(?: `\w+`)? \| \w+ \|", page, re.MULTILINE)
    assert states == [value.name for value in session.get_overridable_initializers()]
    sizes = {"batch": 2, "frames": 4, "256 * frames": 1024}
    inputs = {name: np.zeros(shape_of(shape, sizes), kind) for name, kind, shape in rows[:4]}
    results = session.run([value.name for value in outputs], inputs)
    assert [result.shape for result in results] == [shape_of(shape, sizes) for _, _, shape in rows[4:]]

    keys = {key for names in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|[^|]*\|$", page, re.MULTILINE)
            for key in re.findall(r"\w+", names)}  # fmt: skip
    metadata = onnxruntime.InferenceSession("sherpa.onnx").get_modelmeta().custom_metadata_map
    assert keys == set(metadata)
    assert set(session.get_modelmeta().custom_metadata_map) == keys - {"target", "model_type"}


def shape_of(text: str, sizes: dict[str, int]) -> tuple[int, ...]:
    """A shape as the page writes it, in numbers."""
    return tuple(sizes.get(axis) or int(axis) for axis in text.split(", "))


def test_the_generator_of_the_contributing_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds what the guide promises without further code: sizes, and streams that equal the whole."""
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    (block,) = re.findall(r"^    ```python\n(.*?)^    ```$", guide, re.DOTALL | re.MULTILINE)
    (tmp_path / "generator_of_the_guide.py").write_text(textwrap.dedent(block))
    monkeypatch.syspath_prepend(str(tmp_path))
    names = vars(importlib.import_module("generator_of_the_guide"))
    mel_config = MEL_CONFIGS["hifigan-22k"]
    torch.manual_seed(0)
    generator = names["Name"](names["Name"].configs["small"], mel_config)
    voc = Vocoder(Checkpoint(mel_config, generator))
    with pytest.raises(VocoderError, match='add "name": Name to it'):
        save_checkpoint(Checkpoint(mel_config, generator), tmp_path / "model.safetensors")
    mel = np.random.default_rng(0).normal(-5, 1, (80, 50)).astype(np.float32)
    streamed = list(voc.stream(np.array_split(mel, 7, axis=1)))
    assert len(streamed) > 5
    np.testing.assert_allclose(np.concatenate(streamed), voc(mel), atol=1e-5)


def test_losses_in_your_own_loop() -> None:
    names = run("training.md", 1)
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
