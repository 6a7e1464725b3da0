"""``vocoders``: its commands but for import and bench, its help and its version."""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from tests.support import models
from vocoders.checkpoint import Checkpoint, save_checkpoint
from vocoders.cli.commands import COMMANDS
from vocoders.cli.vocode import vocode
from vocoders.cli.vocoders import vocoders
from vocoders.dsp.mel import MEL_CONFIGS, MelConfig
from vocoders.generators import GENERATORS
from vocoders.importers import IMPORTERS
from vocoders.pretrained import list_models


def test_info(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert vocoders(["info"]) == 0
    text = capsys.readouterr().out
    assert "hnmask" in text
    assert "hifigan-22k" in text
    assert vocoders(["info", "model.safetensors", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["generator"]["name"] == "hnmask"
    assert facts["mel_config"]["hop_length"] == 32
    assert facts["training"] == {"data": "none"}
    save_checkpoint(Checkpoint(models.MEL_CONFIG, f0_estimator=models.f0_estimator()), work / "f0.safetensors")
    assert vocoders(["info", "f0.safetensors"]) == 0
    assert "f0_estimator" in capsys.readouterr().out
    assert vocoders(["info", "nobody"]) == 2
    assert "unknown model" in capsys.readouterr().err


def test_the_list_names_everything_that_has_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert vocoders(["list"]) == 0
    names = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    assert names == {*GENERATORS, *MEL_CONFIGS, *list_models(), *IMPORTERS}


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    for program, name in ((vocode, "vocode"), (vocoders, "vocoders")):
        with pytest.raises(SystemExit) as stopped:
            program(["--version"])
        assert stopped.value.code == 0
        assert capsys.readouterr().out == f"{name} {version('vocoders')}\n"


def test_python_dash_m() -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, timeout=300)

    assert run("vocoders", "--version").stdout == f"vocoders {version('vocoders')}\n"
    assert run("vocoders.cli.vocode", "--version").stdout == f"vocode {version('vocoders')}\n"
    done = run("vocoders", "info", "nobody")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    done = run("vocoders", "list")
    assert done.returncode == 0
    assert "hnmask" in done.stdout


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        vocoders(["--help"])
    overview = capsys.readouterr().out
    names = [line.split()[0] for line in overview.splitlines() if line.startswith("    ") and line[4] != " "]
    assert len(names) == len(COMMANDS)
    for name in names:
        with pytest.raises(SystemExit) as stopped:
            vocoders([name, "--help"])
        assert stopped.value.code == 0
        assert f"usage: vocoders {name}" in capsys.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom vocoders.cli.vocode import vocode\nfrom vocoders.cli.vocoders import vocoders\n"
        "for program in (vocode, vocoders):\n"
        "    try:\n        program(['--help'])\n    except SystemExit:\n        pass\n"
        "assert not {'torch', 'numpy', 'pydantic', 'tqdm'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=300)


def test_unknown_commands_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    for program, arguments, name in (
        (vocoders, [], "vocoders"),
        (vocoders, ["design"], "vocoders"),
        (vocoders, ["info", "--none"], "vocoders"),
        (vocoders, ["config"], "vocoders config"),
        (vocode, [], "vocode"),
        (vocode, ["a.npy", "-o"], "vocode"),
        (vocode, ["a.npy", "-o", "a.wav", "--format", "midi"], "vocode"),
    ):
        line = complaint(program, arguments, capsys)
        assert line.startswith(f"{name}: ")
        assert line.endswith(f"; see {name} --help\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench", "--threads", "abc"], "--threads must be a whole number of at least 1, got 'abc'"),
        (["bench", "--runs", "0"], "--runs must be a whole number of at least 1, got '0'"),
        (["bench", "--seconds", "long"], "--seconds must be a number of more than 0, got 'long'"),
        (["bench", "--seconds", "nan"], "--seconds must be a number of more than 0, got 'nan'"),
        (["serve", "--port", "70000"], "--port must be a whole number from 0 to 65535, got '70000'"),
        (["config", "--sample-rate", "0"], "--sample-rate must be a whole number of at least 1, got '0'"),
        (["config", "--hop", "-5"], "--hop must be a whole number of at least 1, got '-5'"),
    ],
)
def test_numbers_that_are_none(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = f"vocoders {arguments[0]}"
    assert complaint(vocoders, arguments, capsys) == f"{command}: {message}; see {command} --help\n"


def test_bad_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    for seed in ("abc", "1.5", "-1", "9223372036854775808"):
        line = complaint(vocode, ["a.npy", "-o", "a.wav", "--seed", seed], capsys)
        assert f"vocode: --seed must be a whole number from 0 to 2^63 - 1, got '{seed}'" in line


def complaint(program: Callable[[list[str]], int], arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line by which a program refuses its arguments, with status 2."""
    with pytest.raises(SystemExit) as stopped:
        program(arguments)
    assert stopped.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_config_for_a_named_mel_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert vocoders(["config", "--generator", "hifigan", "--mel-config", "vocos-24k"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert MelConfig(
        **{k: float(v) if k in ("floor", "epsilon") else v for k, v in printed["mel_config"].items()}
    ) == MelConfig.parse("vocos-24k")
    assert vocoders(["config", "--generator", "hifigan", "--mel-config", "vocos-24k", "--hop", "256"]) == 2
    assert "leave the others out" in capsys.readouterr().err
    assert vocoders(["config", "--generator", "hifigan"]) == 2
    assert "needs --sample-rate and --hop, or --mel-config" in capsys.readouterr().err
