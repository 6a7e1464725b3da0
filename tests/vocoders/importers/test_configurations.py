"""Configurations of other projects: a key is read, known to be harmless, or refused by name."""

import copy
import json
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.models import generator_of
from tests.support.published import PARTS, golden, write
from vocoders import VocoderError
from vocoders.dsp.analysis import analyze
from vocoders.dsp.mel import MelConfig
from vocoders.importers import IMPORTERS, import_checkpoint
from vocoders.importers.base import Imported
from vocoders.importers.files import read_config
from vocoders.importers.parallel_wavegan import PARALLEL_WAVEGAN
from vocoders.importers.recognition import recognize_folder
from vocoders.io.audio import resample

CONFIGURED = [part for part in PARTS if part != "gpt-sovits"]
PWG, PWG_HIFIGAN, PARAMS = "parallel-wavegan-3", "parallel-wavegan-hifigan-1", "generator_params."
UNREAD = {"llm", "modules", "pretrainer"}  # sections of the golden configurations that describe something else


@cache
def stored(part: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The configuration and the weights of a golden checkpoint."""
    path = Path("config.yml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vocoders.importers.files.read_file", lambda _: str(golden(part)["config"]).encode())
        config = read_config(path)
    return config, {
        k.removeprefix("weights/"): torch.from_numpy(v) for k, v in golden(part).items() if k.startswith("weights/")
    }


def read(part: str, config: dict[str, Any]) -> Imported:
    family, _, mel_config = PARTS[part]
    stated = MelConfig.parse(mel_config) if mel_config else None
    return IMPORTERS[family].read(config, stored(part)[1], stated, Path(part))


def sections(config: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The mappings in a configuration that describe a generator or its mel, by path, the whole at ""."""
    yield "", config
    for key, value in config.items():
        if isinstance(value, dict) and key not in UNREAD:
            yield from ((f"{key}.{path}", section) for path, section in sections(value))


@pytest.mark.parametrize("part", CONFIGURED)
def test_a_key_that_is_not_known_is_refused_by_name(part: str) -> None:
    """At the top and in every section; the configuration without it is taken."""
    config = stored(part)[0]
    read(part, config)
    for path, _ in sections(config):
        if not path and PARTS[part][0] == "ltx2-single-file":  # its metadata describe much else
            continue
        changed = copy.deepcopy(config)
        dict(sections(changed))[path]["surprise"] = 1
        with pytest.raises(
            VocoderError, match=rf"^the configuration has {path}surprise, which the importer of \S+ does"
        ):
            read(part, changed)


def test_upsamplings_of_auffusion_multiply_the_length() -> None:
    """Its vocoder.pt, unlike a generator of jik876/hifi-gan, has no samples more where kernel and rate differ oddly."""
    config = stored("hifi-gan-1")[0]
    config = config | {"upsample_kernel_sizes": [size + 1 for size in config["upsample_kernel_sizes"]]}
    plain, auffusion = (
        IMPORTERS["hifi-gan"].read(config, {}, None, Path(name)).config for name in ("generator", "vocoder.pt")
    )
    assert plain == auffusion | {"odd_upsampling": "longer"}


def test_of_many_unknown_keys_the_first_are_named() -> None:
    config = stored("hifi-gan-1")[0] | {f"key{i}": 1 for i in range(10, 30)}
    with pytest.raises(VocoderError, match=r"has key10, key11, key12, key13, key14 and 15 more, which the importer"):
        read("hifi-gan-1", config)


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        (PWG, {"": {"window": "hamming"}}, "a mel with window hamming is not supported, only hann"),
        (
            PWG,
            {"": {"log_base": 3}},
            "a mel with log_base 3 is not supported, only 10.0",
        ),
        (PWG, {"": {"use_global_condition": True}}, "with use_global_condition True is not supported"),
        (PWG, {"": {"sampling_rate_for_feats": 3001}}, "3001 divides a hop_size of"),
        (PWG, {PARAMS: {"use_causal_conv": True}}, "use_causal_conv True is not"),
        (
            PWG,
            {PARAMS: {"upsample_net": "UpsampleNetwork"}},
            "upsample_net UpsampleNetwork",
        ),
        (
            PWG,
            {PARAMS + "upsample_params.": {"interpolate_mode": "bilinear"}},
            "with interpolate_mode bilinear is not supported, only nearest",
        ),
        (
            PWG,
            {PARAMS + "upsample_params.": {"nonlinear_activation": "ReLU"}},
            "with nonlinear_activation ReLU is not supported, only None",
        ),
        (
            PWG_HIFIGAN,
            {PARAMS: {"nonlinear_activation_params": {"negative_slope": 0.2}}},
            "with negative_slope 0.2 is not supported, only 0.1",
        ),
        (
            PWG_HIFIGAN,
            {PARAMS: {"nonlinear_activation_params": {}}},
            "negative_slope 0.01",
        ),
        (
            PWG_HIFIGAN,
            {PARAMS: {"nonlinear_activation": "ELU"}},
            "nonlinear_activation ELU",
        ),
        (
            PWG_HIFIGAN,
            {PARAMS: {"kernel_size": 5}},
            "kernel_size 5 is not supported, only 7",
        ),
        (PWG_HIFIGAN, {PARAMS: {"use_causal_conv": True}}, "use_causal_conv True is not"),
        # unsupported generators, before their mels
        (
            PWG,
            {"": {"generator_type": "VQVAE", "fft_size": "?"}},
            "^VQVAE is not supported",
        ),
        (
            "vocos-same",
            {"backbone.": {"class_path": "x.Other"}, "feature_extractor.init_args.": {"n_fft": "?"}},
            "Other",
        ),
        (
            "amphion",
            {"": {"preprocess": None}, "model.": {"generator": "apnet"}},
            "^the generator apnet of",
        ),
        (
            "coqui-1",
            {"": {"generator_model": "melgan", "audio": None}},
            "^the generator_model melgan of Coqui",
        ),
        (
            "nemo",
            {"": {"preprocessor": None}, "generator.": {"_target_": "univnet_modules.Generator"}},
            "univnet_modules",
        ),
        (
            "wavehax-0",
            {"generator.": {"_target_": "x.OtherGenerator"}},
            "^the generator OtherGenerator is",
        ),
        # no mappings
        (
            "wavehax-0",
            {"": {"generator": "wavehax"}},
            "lacks 'sample_rate', which wavehax has$",
        ),
        (
            "speechbrain-1",
            {"": {"generator": 3}},
            "^'generator' of .* keys and values, it is 3$",
        ),
        ("coqui-1", {"": {"audio": [1] * 9999}}, r"^'audio' of .* keys and values, it is \[1, 1, 1[1, ]{1,40}$"),
    ],
)
def test_what_is_refused(part: str, changes: dict[str, dict[str, Any]], message: str) -> None:
    config = copy.deepcopy(stored(part)[0])
    for path, values in sorted(changes.items(), reverse=True):
        dict(sections(config))[path] |= values
    with pytest.raises(VocoderError, match=message) as caught:
        read(part, config)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.yaml", "generator: wavehax.v1\nmodel: some name\n"),
        ("config.yaml", "model:\n  class_path: x.Model\n  init_args: [1, 2]\n"),
        ("config.json", '{"generator": ["a"], "model": {"init_args": 3}, "preprocess": 1}'),
        ("hyperparams.yaml", "hift: 3\nbackbone: 3\n"),
    ],
)
def test_configurations_of_other_things_are_of_no_family(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(VocoderError, match=r"is of none of the known families|holds no model|is no checkpoint"):
        recognize_folder(tmp_path)


@pytest.mark.parametrize(
    ("changes", "mel_config", "unit"),
    [
        ({}, "speecht5-16k:fmax=7600", 1),
        ({"log_base": 10.0}, "speecht5-16k:fmax=7600", 1),
        ({"log_base": None}, "speecht5-16k:log=ln", 1),
        ({"log_base": 2.0}, "speecht5-16k:log=ln", 0.6931472),
        (
            {"sampling_rate": 24000, "sampling_rate_for_feats": 16000, "hop_size": 384},
            "speecht5-16k",
            1,
        ),
        (
            {"sampling_rate": 24000, "sampling_rate_for_feats": 16000, "hop_size": 384, "log_base": 2.0, "fmax": None},
            "speecht5-16k:fmax=8000,log=ln",
            0.6931472,
        ),
    ],
)
def test_the_mels_of_parallel_wavegan(changes: dict[str, Any], mel_config: str, unit: float) -> None:
    config = stored(PWG_HIFIGAN)[0] | {
        "sampling_rate": 16000,
        "fft_size": 1024,
        "hop_size": 256,
        "num_mels": 80,
        "fmax": 7600,
    }
    imported = PARALLEL_WAVEGAN.read(config | changes, {}, None, Path("x"))
    assert imported.mel_config == MelConfig.parse(mel_config)
    assert imported.unit == pytest.approx(unit, abs=1e-6)
    assert imported.config["sample_rate"] == (config | changes)["sampling_rate"]


@pytest.mark.parametrize("log_base", [10.0, 2.0, None])
def test_mels_of_another_rate_and_logarithm_become_those_of_the_training(
    log_base: float | None, tmp_path: Path
) -> None:
    """As the public bin/preprocess.py computes them: of the audio at 16 kHz, a frame every 384 samples of 24 kHz."""
    rng = np.random.default_rng(0)
    audio = resample(resample(rng.standard_normal(24000).astype(np.float32) / 4, 24000, 15000), 15000, 24000)
    audio = resample(audio, 24000, 16000)
    theirs = analyze(audio, MelConfig.parse("speecht5-16k:fmax=7000"))
    theirs = theirs / (1.0 if log_base == 10 else np.log10(log_base or np.e))
    arguments = write(tmp_path, PWG_HIFIGAN)
    config = stored(PWG_HIFIGAN)[0] | {
        "sampling_rate": 24000,
        "sampling_rate_for_feats": 16000,
        "fft_size": 1024,
        "hop_size": 384,
        "fmax": 7000,
    }
    config |= {"log_base": log_base, "num_mels": 80}
    imported = PARALLEL_WAVEGAN.read(config, {}, None, Path("x"))
    ours = analyze(audio, imported.mel_config) / imported.unit
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    # and with statistics, which are those of theirs
    (tmp_path / "config.yml").write_text(json.dumps(stored(PWG_HIFIGAN)[0] | {"log_base": log_base}))
    mean, scale = np.load(tmp_path / "stats.npy")
    state = generator_of(import_checkpoint(**arguments)).state_dict()
    log = {10.0: 1.0, 2.0: np.log(2), None: 1.0}[log_base]
    np.testing.assert_allclose(state["standardize.mean"][:, 0], mean * log, rtol=1e-6)
    np.testing.assert_allclose(state["standardize.scale"][:, 0], scale * log, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("aliases.yaml", "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else 1}]\n" for i in range(12))),
        (
            "merged.yaml",
            "".join(
                f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" if i else "a0: &a0 {b: 1}\n"
                for i in range(12)
            ),
        ),
        ("recursive.yaml", "a: &a [*a, *a]\n"),
        ("long.yaml", "a: 1\n" * (1 << 18)),
        ("deep.yaml", "a: " + "[" * 5000),
        ("quotes.json", '{"a": ' + '\\"' * 100_000),
        ("open.json", '{"a": ' + '"\\' * 100_000),
        ("commas.json", '{"a": [' + ", " * 100_000),
        ("comments.json", "{" + "/*" * 100_000),
        ("deep.json", '{"a": ' + "[" * 100_000),
        ("digits.json", '{"a": ' + "9" * 100_000 + "}"),
    ],
)
def test_configurations_that_grow_or_hang_are_refused(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    begin = time.monotonic()
    with pytest.raises(VocoderError, match=r"is not a readable configuration") as caught:
        read_config(tmp_path / name)
    assert time.monotonic() - begin < 30
    assert len(str(caught.value)) < 500


def test_aliases_and_comments_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: &a {b: 1}\nc: *a\nd: {<<: *a, e: 2}\n")
    assert read_config(tmp_path / "a.yaml") == {"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1, "e": 2}}
    (tmp_path / "a.json").write_text('{"url": "http://x/*y*/", // a comment, "b": 1\n"c": [1, /* two, */ 3, // 4\n],}')
    assert read_config(tmp_path / "a.json") == {"url": "http://x/*y*/", "c": [1, 3]}
