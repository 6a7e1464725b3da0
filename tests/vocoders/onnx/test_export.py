"""Exported models: the graph equals torch, says what it is, and is written whole or not at all."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnxruntime.quantization import quantize_dynamic

import vocoders.onnx.export
from tests.support import models
from tests.support.commands import HELLO
from tests.support.exported import Exported
from vocoders import MelConfig, Vocoder, VocoderError
from vocoders.checkpoint import Checkpoint, save_checkpoint
from vocoders.cli.vocoders import vocoders as vocoders_command
from vocoders.generators import GENERATORS
from vocoders.onnx.export import OPSET, export_onnx
from vocoders.onnx.graph import in_float64
from vocoders.onnx.operators import PlainELU, TabulatedGELU
from vocoders.onnx.vocoder import OnnxVocoder
from vocoders.pretrained import load

every_generator = pytest.mark.parametrize("name", models.NAMES)


def difference(result: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the peak of the expected audio."""
    assert result.shape == expected.shape
    assert result.dtype == expected.dtype == np.float32
    return float(np.abs(result - expected).max() / np.abs(expected).max())


@every_generator
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("frames", [1, 2, 7, 131])
def test_the_graph_equals_torch(name: str, batch: int, frames: int, exported: Exported) -> None:
    model, mel = models.generator(name), models.mel(frames, batch)
    values = models.inputs(model, frames, batch)
    with torch.inference_mode():
        expected = model(mel, **values).numpy()
    result, used = exported(name).run(mel.numpy(), {key: value.numpy() for key, value in values.items()})
    assert difference(result, expected) < 1e-5
    for key, value in used.items():
        np.testing.assert_array_equal(value, values[key].numpy())


@every_generator
def test_it_equals_torch_from_the_mel_alone_after_a_minute(name: str, exported: Exported) -> None:
    """What is rounded in F0 or in its running sum adds up in the phase; in float32 alone it would be seen here."""
    mel = models.mel(60 * 8000 // 32).numpy()
    assert difference(exported(name)(mel), Vocoder(models.checkpoint(name))(mel)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hifigan", "bigvgan", "nsf-hifigan"])
def test_quantize_dynamic_takes_it(name: str, exported: Exported, tmp_path: Path) -> None:
    """Weights are where that tool of ONNX Runtime looks for them, and the metadata stays."""
    exact = exported(name)
    quantize_dynamic(Path(exact.name), tmp_path / "small.onnx")
    small = OnnxVocoder(tmp_path / "small.onnx")
    mel = models.mel(40).numpy()
    expected = exact(mel)
    assert 0 < difference(small(mel), expected) < 0.5
    kinds = {node.op_type for node in onnx.load(tmp_path / "small.onnx").graph.node}
    assert kinds & {"ConvInteger", "MatMulInteger"}


@pytest.mark.slow
def test_the_built_in_voice_equals_torch() -> None:
    result, expected = load(), load(backend="torch")
    mel = np.load(HELLO)["mel"]
    assert difference(result(mel, seed=3), expected(mel, seed=3)) < 1e-4
    minute = np.tile(mel, 12)  # the projection can raise what was rounded where a draft is nearly silent
    assert difference(result(minute), expected(minute)) < 2e-4


def test_f0_is_estimated_where_it_is_negative_and_taken_where_it_is_given(exported: Exported) -> None:
    frames = 40
    mel, f0 = models.mel(frames).numpy(), models.f0(frames).numpy()
    f0[..., 25:] = -1
    noise, phase = np.zeros((1, 1, frames * 32), np.float32), np.zeros((1, 1, 1))
    used = exported("hnmask").run(mel, {"f0": f0, "noise": noise, "phase": phase})[1]["f0"]
    np.testing.assert_array_equal(used[..., :25], f0[..., :25])
    estimate = models.f0_estimator().double().estimate(torch.from_numpy(mel)).detach().numpy()
    assert (estimate[..., 25:] > 0).any()
    np.testing.assert_allclose(used[..., 25:], estimate[..., 25:], rtol=1e-6)


def test_the_estimator_in_what_onnx_runtime_has_in_float64() -> None:
    x = torch.linspace(-12, 12, 10_001, dtype=torch.float64)
    torch.testing.assert_close(TabulatedGELU()(x), torch.nn.functional.gelu(x), atol=1e-10, rtol=0)
    estimator, mel = models.f0_estimator().double(), models.mel(50, 2).double()
    for result, expected in zip(in_float64(models.f0_estimator())(mel), estimator(mel), strict=True):
        torch.testing.assert_close(result, expected, atol=1e-9, rtol=0)
    torch.testing.assert_close(PlainELU()(x), torch.nn.functional.elu(x), atol=1e-15, rtol=0)
    other = models.conv_f0_estimator()
    torch.testing.assert_close(in_float64(other).estimate(mel), other.double().estimate(mel), atol=1e-5, rtol=0)


@every_generator
def test_the_file_is_plain_onnx_in_real_numbers(name: str, exported: Exported) -> None:
    kind = GENERATORS[name]
    model = onnx.load(exported(name).name)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert not model.functions
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    kinds = {onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type) for value in inferred.graph.value_info}
    assert kinds <= {"FLOAT", "DOUBLE", "INT64", "BOOL"}
    assert not {"DFT", "STFT", "Loop", "If"} & {node.op_type for node in model.graph.node}
    inputs = {value.name: value.type.tensor_type.shape.dim for value in model.graph.input}
    assert [axis.dim_param or axis.dim_value for axis in inputs["mel"]] == ["batch", 20, "frames"]
    needed = [item.name for item in kind.inputs]
    state = {"state", "last"} if name in models.STREAMING else set()
    state |= {"state_f64"} if "f0" in needed else set()
    assert set(inputs) == {"mel", *needed} | state
    defaults = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name in inputs}
    assert set(defaults) == state  # so a program that wants whole utterances gives the others only
    assert all(onnx.numpy_helper.to_array(defaults[name]).shape == (1, 0) for name in state - {"last"})
    assert str(Path.home()) not in str(model.graph.node)  # nothing of the machine it was made on
    assert str(Path(vocoders.onnx.export.__file__).parent) not in str(model)


def test_complex_numbers_are_pairs_of_tensors(exported: Exported) -> None:
    """ONNX Runtime is slow along an axis of 2, which the exporter of torch puts at the end of a complex tensor."""
    model = onnx.shape_inference.infer_shapes(onnx.load(exported("hnmask").name))
    shapes = [value.type.tensor_type.shape.dim for value in model.graph.value_info if is_float32(value)]
    assert sum(len(shape) >= 3 for shape in shapes) > 100
    assert not [shape for shape in shapes if len(shape) >= 3 and shape[-1].dim_value == 2]


def is_float32(value: onnx.ValueInfoProto) -> bool:
    return value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_the_metadata(exported: Exported) -> None:
    properties = {entry.key: entry.value for entry in onnx.load(exported("hnmask").name).metadata_props}
    checkpoint = models.checkpoint("hnmask")
    generator, f0_estimator = models.generator_of(checkpoint), models.f0_estimator_of(checkpoint)
    assert (properties["format"], properties["version"], properties["opset"]) == ("vocoders", "2", str(OPSET))
    assert MelConfig.model_validate_json(properties["mel_config"]) == models.MEL_CONFIG
    assert properties["sample_rate"] == "8000"
    assert int(properties["lookahead"]) == generator.lookahead
    assert int(properties["context"]) == generator.context
    assert int(properties["estimator_lookahead"]) == f0_estimator.lookahead
    config = generator.config.model_dump(mode="json")
    assert json.loads(properties["generator"]) == {"name": "hnmask", "config": config}
    assert json.loads(properties["training"]) == {"data": "none"}
    assert [item["name"] for item in json.loads(properties["inputs"])] == ["f0", "noise", "phase"]
    assert json.loads(properties["estimated"]) == ["f0"]


def test_the_command(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(Checkpoint(models.MEL_CONFIG, models.generator("hifigan")), work / "hifigan.safetensors")
    assert vocoders_command(["export", "hifigan.safetensors", "-o", "hifigan.onnx"]) == 0
    text = capsys.readouterr()
    assert "wrote hifigan.onnx: 0.1 MB, opset 20, audio within" in text.out
    assert text.err == ""
    assert OnnxVocoder(Path("hifigan.onnx")).facts.generator.name == "hifigan"


@pytest.mark.slow
def test_what_cannot_be_exported(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: str) -> str:
        before = set(work.iterdir())
        assert vocoders_command(["export", *arguments]) == 2
        text = capsys.readouterr()
        assert text.out == ""
        assert text.err.count("\n") == 1
        assert set(work.iterdir()) == before
        return text.err

    save_checkpoint(Checkpoint(models.MEL_CONFIG, f0_estimator=models.f0_estimator()), work / "pitch.safetensors")
    save_checkpoint(Checkpoint(models.MEL_CONFIG, models.generator("hifigan")), work / "hifigan.safetensors")
    assert "no generator to export, only an F0 estimator" in refused("pitch.safetensors", "-o", "x.onnx")
    assert "'x.bin' must end in .onnx" in refused("model.safetensors", "-o", "x.bin")
    assert "unknown model 'nobody'" in refused("nobody", "-o", "x.onnx")
    assert "cannot write gone/x.onnx" in refused("hifigan.safetensors", "-o", "gone/x.onnx")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnxscript", None)
        message = refused("hifigan.safetensors", "-o", "x.onnx")
        assert "export needs onnxscript, which is not installed: pip install '.[export]' in the clone" in message
    monkeypatch.setattr("vocoders.onnx.export.LARGEST_DIFFERENCE", 0.0)
    assert "audio differs from torch's by" in refused("hifigan.safetensors", "-o", "x.onnx")


@pytest.mark.slow
def test_a_generator_of_whole_utterances_that_is_given_its_f0(tmp_path: Path) -> None:
    generator = models.generator("wavehax", framewise_norm=False)
    checkpoint = Checkpoint(models.MEL_CONFIG, generator)
    export_onnx(checkpoint, tmp_path / "model.onnx")
    voc = OnnxVocoder(tmp_path / "model.onnx")
    assert voc.lookahead is None
    mel, f0 = models.mel(15_000).numpy(), models.f0(15_000).numpy()  # a minute
    assert difference(voc(mel, f0), Vocoder(checkpoint)(mel, f0)) < 1e-5
    with pytest.raises(VocoderError, match="needs f0 and has no estimator"):
        voc(mel)
    with pytest.raises(VocoderError, match="cannot stream: it normalises over the whole utterance"):
        voc.stream([mel[0]])
