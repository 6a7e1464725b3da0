"""OnnxVocoder: what Vocoder does, without torch; and what is no model of ours."""

import copy
import json
import multiprocessing
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import vocoders.onnx.export
import vocoders.onnx.vocoder
from tests.support import ROOT, models
from tests.support.commands import HELLO, refused
from tests.support.exported import Exported
from vocoders import MelMismatch, Vocoder, VocoderError, load
from vocoders.checkpoint import Checkpoint
from vocoders.cli.vocode import vocode
from vocoders.cli.vocoders import vocoders as vocoders_command
from vocoders.errors import CheckpointError, MelWarning
from vocoders.inference.stream import Stream
from vocoders.onnx.export import export_onnx
from vocoders.onnx.vocoder import OnnxVocoder
from vocoders.pretrained import MODELS


@pytest.fixture
def voc(exported: Exported) -> OnnxVocoder:
    return exported("hnmask")


def test_shapes_and_kinds(voc: OnnxVocoder) -> None:
    mel = models.mel(9, 2).numpy()
    audio = voc(mel)
    assert audio.shape == (2, 9 * 32)
    assert audio.dtype == np.float32
    assert voc(mel[0]).shape == (9 * 32,)
    first, second = voc([mel[0], mel[1, :, :4]], seed=2)
    assert (first.shape, second.shape) == ((9 * 32,), (4 * 32,))
    np.testing.assert_allclose(voc(mel.astype(">f8")), audio, atol=1e-6)
    np.testing.assert_allclose(voc(mel[..., ::-1]), voc(mel[..., ::-1].copy()), atol=1e-6)
    assert voc.sample_rate == 8000
    assert voc.training == {"data": "none"}


def test_audio_is_of_the_kind_of_the_mel(voc: OnnxVocoder) -> None:
    mel = models.mel(60)[0]
    tensor, array = voc(mel.bfloat16()), voc(mel.bfloat16().float().numpy())
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(tensor.numpy(), array)
    mixed: list[Any] = [mel, mel.numpy()]
    assert [type(audio) for audio in voc(mixed)] == [torch.Tensor, np.ndarray]
    assert all(isinstance(audio, torch.Tensor) for audio in voc.stream([mel]))


def test_batches_and_pieces(voc: OnnxVocoder) -> None:
    mels, seeds = [models.mel(frames, seed=frames)[0].numpy() for frames in (40, 30, 40)], [1, 2, 3]
    f0s = [None, np.full(30, 200.0), None]
    for mel, f0, seed, audio in zip(mels, f0s, seeds, voc.synthesize_batch(mels, f0s, seeds), strict=True):
        np.testing.assert_array_equal(audio, voc(mel, f0, seed))
    long = models.mel(300)[0].numpy()
    pieces = list(voc.synthesize(long, seed=5))
    assert len(pieces) == 3
    np.testing.assert_array_equal(np.concatenate(pieces), voc(long, seed=5))


def test_the_facts_of_a_model_are_those_of_its_checkpoint(exported: Exported) -> None:
    for name in models.NAMES:
        result, reference = exported(name), Vocoder(models.checkpoint(name))
        for fact in ("facts", "sample_rate", "lookahead", "lag", "precision", "batching_pays"):
            assert getattr(result, fact) == getattr(reference, fact), (name, fact)


def test_the_seed_and_the_f0_matter_as_they_do_to_torch(voc: OnnxVocoder) -> None:
    reference, mel = Vocoder(models.checkpoint("hnmask")), models.mel(30).numpy()
    f0 = np.linspace(90, 300, 30)
    for seed in (None, 0, 7):
        np.testing.assert_allclose(voc(mel, seed=seed), reference(mel, seed=seed), atol=1e-5)
        np.testing.assert_allclose(voc(mel, f0, seed), reference(mel, f0, seed), atol=1e-5)
    assert not np.array_equal(voc(mel, seed=0), voc(mel, seed=7))
    assert not np.array_equal(voc(mel), voc(mel, f0))


@pytest.mark.parametrize("name", models.NAMES)
def test_an_item_of_a_batch_equals_it_alone(name: str, exported: Exported) -> None:
    voc, mel = exported(name), models.mel(120, 3).numpy()
    for item, audio in zip(mel, voc(mel), strict=True):
        np.testing.assert_allclose(audio, voc(item), atol=1e-5)


@pytest.mark.parametrize("name", models.STREAMING)
@settings(max_examples=15, deadline=None)
@given(data=st.data(), frames=st.integers(1, 90), given_f0=st.booleans())
def test_chunked_equals_whole(name: str, exported: Exported, data: st.DataObject, frames: int, given_f0: bool) -> None:
    voc, mel = exported(name), models.mel(frames, 2).numpy()
    f0 = models.f0(frames, 2).numpy() if given_f0 else None
    whole = voc(mel, f0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocoders.onnx.vocoder, "_CHUNK_FRAMES", data.draw(st.integers(1, 60), "chunk"))
        np.testing.assert_allclose(voc(mel, f0), whole, atol=1e-5)
    cuts = sorted(data.draw(st.sets(st.integers(1, frames), max_size=6), "cuts") - {frames})
    tracks = None if f0 is None else np.split(f0[0, 0], cuts)
    pieces = list(voc.stream(np.split(mel[0], cuts, axis=1), tracks))
    assert all(len(piece) for piece in pieces)
    np.testing.assert_allclose(np.concatenate(pieces), whole[0], atol=1e-5)


@pytest.fixture(scope="module")
def without_state(tmp_path_factory: pytest.TempPathFactory) -> OnnxVocoder:
    """A model as earlier releases wrote it, and as is written where a graph cannot keep state."""

    def refuse(checkpoint: Checkpoint) -> None:
        raise VocoderError("no state")

    path = tmp_path_factory.mktemp("without-state") / "model.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocoders.onnx.export, "StatefulGraph", refuse)
        export_onnx(models.checkpoint("hnmask"), path)
    return OnnxVocoder(path)


def sizes_of_runs(patch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Record frames that come in and values of state that come out of each run of a graph."""
    runs: list[tuple[int, int]] = []
    genuine = OnnxVocoder._run

    def run(self: OnnxVocoder, inputs: dict[str, Any], outputs: list[str]) -> list[np.ndarray]:
        results = genuine(self, inputs, outputs)
        state = sum(x.size for name, x in zip(outputs, results, strict=True) if name.startswith("next_"))
        runs.append((inputs["mel"].shape[2], state))
        return results

    patch.setattr(OnnxVocoder, "_run", run)
    return runs


@pytest.mark.parametrize("name", models.STREAMING)
def test_a_stream_computes_nothing_twice_and_keeps_the_same_amount(
    name: str, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    voc, runs = exported(name), sizes_of_runs(monkeypatch)
    stream = voc.open_stream()
    mel = models.mel(stream.lookahead + 12)[0].numpy()
    silent = [len(stream.push(mel[:, i : i + 1])) for i in range(stream.lookahead - 1)]
    assert not any(silent)
    assert runs == []  # no audio is final, so nothing is computed
    for i in range(stream.lookahead - 1, mel.shape[1]):
        stream.push(mel[:, i : i + 1])
    frames, states = zip(*runs, strict=True)
    assert frames == (stream.lookahead + 1, *[1] * 11)
    assert len(set(states)) == 1
    stream.finish()
    assert len(runs) == 13


def test_no_run_of_the_graph_grows_with_the_length(
    voc: OnnxVocoder, without_state: OnnxVocoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = sizes_of_runs(monkeypatch)
    voc(models.mel(3000).numpy())
    assert sum(frames for frames, _ in runs) == 3000
    assert max(frames for frames, _ in runs) <= vocoders.onnx.vocoder._CHUNK_FRAMES
    runs.clear()
    without_state(models.mel(3000).numpy())
    assert len(runs) == 6
    context = without_state.lookahead or 0
    assert max(frames for frames, _ in runs) <= vocoders.onnx.vocoder._CHUNK_FRAMES_WITHOUT_STATE + 2 * context


@settings(max_examples=15, deadline=None)
@given(data=st.data(), frames=st.integers(1, 90), given_f0=st.booleans())
def test_a_model_without_state_gives_the_same(
    exported: Exported, without_state: OnnxVocoder, data: st.DataObject, frames: int, given_f0: bool
) -> None:
    voc = exported("hnmask")
    mel = models.mel(frames)[0].numpy()
    f0 = models.f0(frames)[0, 0].numpy() if given_f0 else None
    cuts = sorted(data.draw(st.sets(st.integers(1, frames), max_size=6), "cuts") - {frames})
    tracks = None if f0 is None else np.split(f0, cuts)
    pieces = list(without_state.stream(np.split(mel, cuts, axis=1), tracks))
    np.testing.assert_allclose(np.concatenate(pieces), voc(mel, f0), atol=1e-5)


def test_more_projections_and_batches(tmp_path: Path) -> None:
    checkpoint = models.checkpoint("hnmask")
    checkpoint.generator = models.generator("hnmask", projections=4)
    export_onnx(checkpoint, tmp_path / "model.onnx")
    voc, mel = OnnxVocoder(tmp_path / "model.onnx"), models.mel(90, 2).numpy()
    expected = Vocoder(checkpoint)(mel)
    np.testing.assert_allclose(voc(mel), expected, atol=1e-5)
    for size in (7, 90):
        synthesis = voc.start([0, 0])
        ends = range(size, 91, size)
        audio = [synthesis.advance(mel[..., end - size : end], last=end == ends[-1]) for end in ends]
        whole = Vocoder(checkpoint)(mel[..., : ends[-1]])
        np.testing.assert_allclose(np.concatenate(audio, 1), whole, atol=1e-5)


def test_a_stream(voc: OnnxVocoder) -> None:
    stream = Stream(voc, seed=5)
    mel = models.mel(stream.lookahead + 2)[0].numpy()
    assert len(stream.push(mel[:, : stream.lookahead])) == 0
    first = stream.push(mel[:, stream.lookahead : -1])
    assert 32 <= len(first) < 64
    with pytest.raises(VocoderError, match="expects 20 bands"):
        stream.push(np.zeros((21, 4), np.float32))
    with pytest.raises(VocoderError, match="a stream takes mels of"):
        stream.push(np.zeros((1, 20, 4), np.float32))
    rest = [stream.push(mel[:, -1:]), stream.finish()]
    np.testing.assert_allclose(np.concatenate([first, *rest]), voc(mel, seed=5), atol=1e-5)
    for over in (stream.finish, lambda: stream.push(mel)):
        with pytest.raises(VocoderError, match="this stream is over"):
            over()
    with pytest.raises(VocoderError, match="ended before its first frame"):
        Stream(voc).finish()


@pytest.mark.parametrize(
    "arguments",
    [
        (np.zeros(20, np.float32),),
        (np.zeros((20, 0), np.float32),),
        (np.zeros((20, 4), np.int16),),
        (np.zeros((20, 4), np.complex64),),
        (np.array([[{}, None]], dtype=object),),
        (np.zeros((5, 20), np.float32),),
        (np.full((20, 4), np.nan, np.float32),),
        (np.full((20, 4), -5, np.float32), np.zeros(5)),
        (np.full((20, 4), -5, np.float32), np.full(4, -1.0)),
        (np.full((20, 4), -5, np.float32), np.full(4, np.nan)),
        ([np.full((20, 4), -5, np.float32)], []),
        (np.full((20, 4), -5, np.float32), None, -1),
        (np.full((20, 4), -5, np.float32), None, 1.5),
    ],
)
def test_bad_input_is_refused_as_by_vocoder(voc: OnnxVocoder, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(VocoderError) as expected:
        Vocoder(models.checkpoint("hnmask"))(*arguments)
    with pytest.raises(VocoderError) as result:
        voc(*arguments)
    assert str(result.value) == str(expected.value)


def test_what_is_unusual_and_what_is_not_finite(exported: Exported) -> None:
    voc = exported("istftnet")
    with pytest.warns(MelWarning, match="looks like a linear mel"):
        voc(np.exp(models.mel(9)[0].numpy()))
    with pytest.warns(MelWarning), pytest.raises(VocoderError, match="output is not finite"):
        voc(np.full((20, 4), 1e30, np.float32))


def test_analysis_and_conversion(voc: OnnxVocoder) -> None:
    audio = np.random.default_rng(0).standard_normal(960).astype(np.float32) * 0.1
    np.testing.assert_array_equal(voc.analyze(audio, 8000), Vocoder(models.checkpoint("hnmask")).analyze(audio, 8000))
    mel, decimal = models.mel(4)[0].numpy(), models.MEL_CONFIG.model_copy(update={"log": "log10"})
    np.testing.assert_allclose(voc.convert(mel / np.log(10), decimal), mel.clip(np.log(1e-5)), atol=1e-5)
    with pytest.raises(MelMismatch, match="hop_length 64 against 32"):
        voc.convert(mel, models.MEL_CONFIG.model_copy(update={"hop_length": 64}))


def changed(voc: OnnxVocoder, path: Path, **metadata: str | None) -> Path:
    """The model with other metadata; None leaves an entry out."""
    model = onnx.load(voc.name)
    properties = {entry.key: entry.value for entry in model.metadata_props} | metadata
    onnx.helper.set_model_props(model, {key: value for key, value in properties.items() if value is not None})
    onnx.save(model, path)
    return path


def test_what_is_no_exported_model(voc: OnnxVocoder, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(CheckpointError, match=r"there is no model .*model\.onnx"):
        load(path)
    path.write_text("hello")
    with pytest.raises(CheckpointError, match="is not a readable ONNX model") as caught:
        load(path)
    assert "\n" not in str(caught.value)
    data = Path(voc.name).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="is not a readable ONNX model"):
        load(path)
    with pytest.raises(CheckpointError, match="none that 'vocoders export' wrote"):
        load(changed(voc, path, format=None))
    with pytest.raises(CheckpointError, match="was exported for sherpa-onnx; export it without --target"):
        load(changed(voc, path, target="sherpa-onnx"))
    with pytest.raises(CheckpointError, match="has format version 9, this release reads version 2"):
        load(changed(voc, path, version="9"))
    damaged: tuple[tuple[str, str | None], ...] = (
        *(("mel_config", value) for value in ("{", "{}", "[1]", None)),
        *(("lookahead", value) for value in ("x", '"many"', "[1]", "-1", "1e9", "1" + "0" * 5000, None)),
        *(("generator", value) for value in ("3", "{}", '{"name": 3, "config": {}}', '{"name": "x", "config": 3}')),
        *(("parameters", value) for value in ("3", '{"generator": "many"}')),
        *(("opset", "[]"), ("training", "3"), ("next_f0_share", "NaN"), ("estimator_context", "-3")),
    )
    for key, value in damaged:
        with pytest.raises(CheckpointError, match=r"the metadata of .* is damaged") as caught:
            load(changed(voc, path, **{key: value}))
        assert "\n" not in str(caught.value)


def test_a_graph_of_other_inputs_is_refused(voc: OnnxVocoder, tmp_path: Path) -> None:
    path, model = tmp_path / "model.onnx", onnx.load(voc.name)
    model.graph.output[0].name = "sound"
    for node in model.graph.node:
        node.output[:] = ["sound" if name == "audio" else name for name in node.output]
    onnx.save(model, path)
    with pytest.raises(CheckpointError, match="its graph has no 'audio'"):
        load(path)


def endless(inside: str) -> onnx.ModelProto:
    """A model with a loop that never ends: at the top, in a branch, or in a function."""
    h = onnx.helper
    true = h.make_tensor("true", onnx.TensorProto.BOOL, (), [True])
    flags = [h.make_tensor_value_info(name, onnx.TensorProto.BOOL, []) for name in ("condition", "again")]
    body = h.make_graph(
        [h.make_node("Identity", ["condition"], ["again"])],
        "body",
        [h.make_tensor_value_info("i", onnx.TensorProto.INT64, []), flags[0]],
        [flags[1]],
    )
    nodes = [h.make_node("Constant", [], ["yes"], value=true), h.make_node("Loop", ["", "yes"], [], body=body)]
    functions, opsets = [], [h.make_opsetid("", 20), h.make_opsetid("own", 1)]
    if inside == "branch":
        branch = h.make_graph(nodes, "branch", [], [])
        nodes = [nodes[0], h.make_node("If", ["yes"], [], then_branch=branch, else_branch=branch)]
    elif inside == "function":
        functions = [h.make_function("own", "F", [], [], nodes, opsets)]
        nodes = [h.make_node("F", [], [], domain="own")]
    nodes.append(h.make_node("Identity", ["mel"], ["audio"]))
    mel, audio = ([h.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1])] for name in ("mel", "audio"))
    return h.make_model(h.make_graph(nodes, "graph", mel, audio), functions=functions, opset_imports=opsets)


@pytest.mark.parametrize("inside", ["nothing", "branch", "function"])
def test_a_loop_without_end_is_refused_before_it_runs(inside: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(endless(inside), path)
    with pytest.raises(CheckpointError, match="holds loops, branches or functions, which no exported model has"):
        load(path)
    data = path.read_bytes().replace(b"\x04Loop", b"\x84\x00Loop")  # the same length in two bytes: unread by the search
    for length in range(1, len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError):
            load(path)


def test_copies_and_pickles_in_another_process(voc: OnnxVocoder) -> None:
    mel = models.mel(30)[0].numpy()
    copied = copy.deepcopy(voc)
    assert copied is not voc
    assert (copied.name, copied.device, copied.training) == (voc.name, voc.device, voc.training)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (there,) = pool.map(voc, [mel])
    for audio in (copied(mel), there):
        np.testing.assert_array_equal(audio, voc(mel))


def test_onnx_runtime_reports_nothing(tmp_path: Path) -> None:
    """Since 1.32 it keeps a device id and a database of events in the home folder, unless it is told not to."""
    code = """
import builtins, os
real, seen = builtins.__import__, []
def watch(name, *rest):
    if name == "onnxruntime" and not seen:
        seen.append(os.environ.get("ORT_DISABLE_TELEMETRY"))
    return real(name, *rest)
builtins.__import__ = watch
import vocoders
vocoders.load()
print(seen)
"""
    hidden = {"ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden} | {"HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout == b"['1']\n"
    assert list(tmp_path.iterdir()) == []
    for path in (*ROOT.glob("vocoders/**/*.py"), *ROOT.glob("recipes/**/*.py"), *ROOT.glob("examples/**/*.py")):
        if path.name != "session.py":
            imports = re.findall(r"^ *(?:import|from) onnxruntime\b.*", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert imports == [], f"{path} imports it directly, not by session.runtime"


def test_devices(voc: OnnxVocoder) -> None:
    import onnxruntime

    for device in ("mps", "cuda:x", "gpu"):
        with pytest.raises(VocoderError, match=f"device '{device}' cannot be used here for an exported model"):
            load(voc.name, device)
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(VocoderError, match=r"device 'cuda' cannot be used here .*'cuda' needs onnxruntime-gpu"):
            load(voc.name, "cuda")


def test_the_commands(voc: OnnxVocoder, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "model.onnx").write_bytes(Path(voc.name).read_bytes())
    for model in ("model.onnx", "model.safetensors"):
        assert vocode(["mel40.npy", "-o", f"{model}.wav", "-m", model]) == 0
        assert "mel40.npy carries no mel config" in capsys.readouterr().err
    result, expected = (soundfile.read(f"{model}.wav")[0] for model in ("model.onnx", "model.safetensors"))
    np.testing.assert_allclose(result, expected, atol=1e-4)
    assert vocode(["voice.wav", "-o", "copy.wav", "-m", "model.onnx", "-q"]) == 0
    assert vocode(["mel*.npy", "voice.wav", "-o", "out", "-m", "model.onnx", "-q"]) == 0
    assert len(list((work / "out").iterdir())) == 4
    capsys.readouterr()
    mel = ("mel40.npy", "-o", "x.wav", "-m")
    assert "device 'mps' cannot be used" in refused(work, capsys, *mel, "model.onnx", "--device", "mps")
    assert "there is no model gone.onnx" in refused(work, capsys, *mel, "gone.onnx")
    assert vocoders_command(["info", "model.safetensors", "--json"]) == 0
    checkpoint = json.loads(capsys.readouterr().out)
    assert vocoders_command(["info", "model.onnx", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts.pop("opset") == 20
    assert facts == checkpoint | {"model": "model.onnx"}
    assert vocoders_command(["info", "model.onnx"]) == 0
    assert "hnmask" in capsys.readouterr().out


# Importing torch fails; and where it would not, it is not done.
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from vocoders.cli.vocode import vocode; sys.exit(vocode())"
TORCH_UNUSED = (
    "import sys; from vocoders.cli.vocode import vocode; assert vocode() == 0; assert 'torch' not in sys.modules"
)


def run(code: str, *arguments: str) -> tuple[int, str]:
    """Exit status and standard error of ``vocode`` in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code, *arguments, "-q"], capture_output=True, text=True, timeout=300)
    return done.returncode, done.stderr


def test_without_torch(voc: OnnxVocoder, work: Path) -> None:
    for code in (WITHOUT_TORCH, TORCH_UNUSED):
        assert run(code, "mel12.npy", "mel40.npy", "-o", "out/", "--overwrite", "-m", voc.name) == (0, "")
        assert len(soundfile.read("out/mel40.wav")[0]) == 40 * 32
        assert run(code, "voice.wav", "-o", "mel.npz", "-m", voc.name) == (0, "")
        assert np.load("mel.npz")["mel"].shape == (20, 4000 // 32)


def test_the_built_in_voice_runs_without_torch(work: Path) -> None:
    assert run(TORCH_UNUSED, str(HELLO), "-o", "out.wav", "-m", str(MODELS / "hnmask-22k.onnx")) == (0, "")
    assert vocode([str(HELLO), "-o", "expected.wav", "-q"]) == 0
    np.testing.assert_allclose(soundfile.read("out.wav")[0], soundfile.read("expected.wav")[0], atol=1e-4)
