"""``vocoders``: its commands but for import and bench, its help and its version."""

import json
import subprocess
import sys
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
from vocoders.pretrained import list_voices


def test_info(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert vocoders(["info"]) == 0
    text = capsys.readouterr().out
    assert "hnmask" in text
    assert "hifigan-22k" in text
    assert vocoders(["info", "model.safetensors", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["generator"] == "hnmask"
    assert facts["mel_config"]["hop_length"] == 32
    assert facts["training"] == {"data": "none"}
    save_checkpoint(Checkpoint(models.MEL_CONFIG, f0_estimator=models.f0_estimator()), work / "f0.safetensors")
    assert vocoders(["info", "f0.safetensors"]) == 0
    assert "f0 estimator parameters" in capsys.readouterr().out
    assert vocoders(["info", "nobody"]) == 2
    assert "unknown model" in capsys.readouterr().err


def test_the_list_names_everything_that_has_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert vocoders(["list"]) == 0
    names = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    assert names == {*GENERATORS, *MEL_CONFIGS, *list_voices(), *IMPORTERS}


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    for program, name in ((vocode, "vocode"), (vocoders, "vocoders")):
        with pytest.raises(SystemExit) as stopped:
            program(["--version"])
        assert stopped.value.code == 0
        assert capsys.readouterr().out == f"{name} {version('vocoders')}\n"


def test_python_dash_m() -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, timeout=60)

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
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_unknown_commands_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["design"], ["info", "--none"], ["config"]):
        with pytest.raises(SystemExit) as stopped:
            vocoders(arguments)
        assert stopped.value.code == 2
        assert "usage: vocoders" in capsys.readouterr().err


def test_config_for_a_named_mel_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert vocoders(["config", "--generator", "hifigan", "--mel-config", "vocos-24k"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert MelConfig(
        **{k: float(v) if k in ("floor", "epsilon") else v for k, v in printed["mel"].items()}
    ) == MelConfig.parse("vocos-24k")
    assert vocoders(["config", "--generator", "hifigan", "--mel-config", "vocos-24k", "--hop", "256"]) == 2
    assert "leave the others out" in capsys.readouterr().err
    assert vocoders(["config", "--generator", "hifigan"]) == 2
    assert "needs --sample-rate and --hop, or --mel-config" in capsys.readouterr().err
