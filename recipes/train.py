"""Train a model on some recordings: python -m recipes.train MODEL DATA [--set KEY=VALUE ...]"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

from vocoders.cli.common import Parser, prepare_streams, say
from vocoders.errors import VocoderError, printable


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = Parser(
        prog="python -m recipes.train",
        description="Train a model, such as vocos, on a corpus or a folder; resumes a run that was stopped.",
    )
    parser.add_argument("model", metavar="MODEL", help="a name in recipes/models, or the YAML file of a recipe")
    parser.add_argument("data", metavar="DATA", nargs="?", help="a name in recipes/corpora, or a folder of sound files")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of the recipe, such as train.batch_size=8",
    )
    parser.add_argument(
        "--mel-config", metavar="NAME", help="mel config; default: the model's for the rate of the recordings"
    )
    parser.add_argument("--print", action="store_true", help="print the complete recipe, and do not train")
    parser.add_argument("--mels", metavar="DIR", help="fine-tune on the predicted mels in DIR, as --set data.mels=DIR")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the run; default: runs/NAME")
    parser.add_argument("--minutes", type=float, help="stop after this many minutes; the same command resumes")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; default: a GPU where there is one")
    options = parser.parse_args(arguments)
    threading.excepthook = _print_unless_raised_again
    # Imported late: --help and wrong options need not wait for torch.
    from torch import distributed as dist

    from recipes.training.distributed import DistributedContext, init_distributed
    from recipes.training.history import STATE_KEPT
    from recipes.training.loop import run_training
    from recipes.training.recipe import check_prepared, load_recipe, write_recipe

    prepare_streams()
    overrides = options.set + ([f"data.mels={json.dumps(options.mels)}"] if options.mels else [])
    distributed = DistributedContext()
    try:
        recipe = load_recipe(options.model, overrides, options.data, options.mel_config)
        if options.print:
            print(write_recipe(recipe), end="")
            return 0
        check_prepared(recipe.data, options.data)
        distributed = init_distributed(options.device)
        path = run_training(recipe, options.out or Path("runs") / recipe.name, distributed, options.minutes)
    except VocoderError as error:
        say(f"recipes.train: {error}")
        return 2
    except OSError as error:  # such as a full disk
        say(f"recipes.train: cannot write: {error}; {STATE_KEPT}")
        return 2
    except KeyboardInterrupt as stop:  # its message says where the run was saved
        distributed.note(str(stop) or f"stopped; {STATE_KEPT}, and the same command resumes from there")
        return 130
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    if distributed.is_main:
        print(printable(f"wrote {path}"))
    return 0


def _print_unless_raised_again(error: threading.ExceptHookArgs) -> None:
    """Print a thread's traceback, except TensorBoard's for a full disk, which its next call raises again."""
    if not isinstance(error.exc_value, OSError):
        threading.__excepthook__(error)


if __name__ == "__main__":
    if os.environ.get("RANK", "0") == "0":
        print("loading torch, which takes some seconds", file=sys.stderr, flush=True)
    sys.exit(main())
