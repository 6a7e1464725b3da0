"""Run ``vocode --ray`` from inputs to manifest."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vocoders.cli.common import say
from vocoders.cli.corpus.items import (
    SHARD_SUFFIX,
    Item,
    find_items,
    group_by_size,
    list_outputs,
    resolve_output,
)
from vocoders.cli.corpus.worker import CorpusWorker, Result
from vocoders.cli.execution import Notes, Options
from vocoders.cluster import storage
from vocoders.cluster.connection import check_machines, connected, machines
from vocoders.cluster.pool import Pool
from vocoders.errors import VocoderError
from vocoders.files import make_folder, write_file

MANIFEST = "manifest.jsonl"

# Bytes of input of a group: some seconds of work, lost when a worker dies.
_GROUP_BYTES = {"cpu": 1 << 20, "cuda": 32 << 20}
_GROUPS_EACH = 16  # groups for each worker at least, so that all end together
_MOST_LINES = 10  # notes or failures printed

Entry = dict[str, Any]


def vocode_corpus(
    inputs: Sequence[str],
    output: str,
    format: str,
    *,
    address: str,
    options: Options,
    overwrite: bool = False,
    threads: int = 1,
) -> int:
    """Synthesise, copy or analyse a corpus on a Ray cluster; ``options.device`` "cuda" gives each worker a GPU.

    Returns the exit status, 1 when some inputs failed.
    """
    if options.device not in _GROUP_BYTES:
        raise VocoderError(f"--ray takes --device cpu, or cuda and gives each worker a GPU; got '{options.device}'")
    if options.model and Path(options.model).exists():
        options = replace(options, model=str(Path(options.model).absolute()))
    output = resolve_output(output)
    there = set() if overwrite else list_outputs(output)
    items = find_items(inputs, output, format, there, Notes(options.quiet).say)
    manifest = storage.join(output, MANIFEST)
    known = _known(items, there, output) if manifest in there else {}
    todo = [item for item in items if item.source not in known]
    entries = {entry["input"]: entry for done in known.values() for entry in done}
    if todo:
        with connected(address):
            if not storage.is_url(output):
                make_folder(Path(output))
            local = [todo[0].source, output]
            check_machines([options.model], [path for path in local if not storage.is_url(path)])
            pool = Pool(
                partial(CorpusWorker, options, format, overwrite, threads), threads, int(options.device == "cuda")
            )
            share = sum(item.size for item in todo) // (_GROUPS_EACH * pool.size())
            groups = group_by_size(todo, min(_GROUP_BYTES[options.device], share))
            if pool.waits() and not options.quiet:
                say("vocode: other work takes the whole cluster; waiting for its end")
            with closing(pool.run(groups)) as done:
                for entry in _show(done, groups, options.quiet):
                    entries[entry["input"]] = entry
    lines = [entries[source] for source in sorted(entries)]
    _write_manifest(lines, manifest)
    return _report([entry for entry in lines if "error" in entry], len(lines), manifest)


def _known(items: Sequence[Item], there: Collection[str], output: str) -> dict[str, list[Entry]]:
    """Read the entries of finished items from an earlier manifest: source -> entries, several for a shard."""
    manifest = storage.join(output, MANIFEST)
    text = storage.read(manifest).decode() if storage.is_url(manifest) else Path(manifest).read_text(encoding="utf-8")
    shards = {item.source for item in items if item.is_shard}
    former: dict[str, list[Entry]] = {}
    try:
        for entry in map(json.loads, text.splitlines()):
            source: str = entry["input"]
            shard = source[: source.find(f"{SHARD_SUFFIX}/") + len(SHARD_SUFFIX)]
            former.setdefault(shard if shard in shards else source, []).append(entry)
    except (ValueError, KeyError, TypeError):
        raise VocoderError(f"{manifest} is no manifest that --ray wrote; move it away") from None
    return {
        item.source: former[item.source]
        for item in items
        if item.source in former
        and all(entry["output"] and storage.join(output, entry["output"]) in there for entry in former[item.source])
    }


def _show(done: Iterable[tuple[list[Item], list[Result]]], groups: list[list[Item]], quiet: bool) -> Iterator[Entry]:
    """Yield the entries of finished groups, then of lost ones; show progress."""
    notes, seconds, begin = Notes(quiet), 0.0, time.perf_counter()
    lost = {group[0].source: group for group in groups}
    total = sum(item.size for group in groups for item in group)
    form = "{percentage:3.0f}%|{bar}| {desc} [{elapsed}<{remaining}]"
    with tqdm(total=total, disable=True if quiet else None, bar_format=form) as bar:
        for group, results in done:
            del lost[group[0].source]
            for result in results:
                seconds += result.seconds
                for text, once in result.notes:
                    if len(notes.said) < _MOST_LINES:
                        notes.say(text, once)
                yield result.entry
            bar.set_description_str(_speed(seconds, begin), refresh=False)
            bar.update(sum(item.size for item in group))
    reason = "the worker died, over this input or one beside it; start again to try once more"
    for item in (item for group in lost.values() for item in group):
        yield {"input": item.source, "output": None, "error": f"{item.source}: {reason}"}
    if not quiet:
        say(f"vocode: {_speed(seconds, begin)}, {len(machines())} machine(s)")


def _speed(seconds: float, begin: float) -> str:
    rate = seconds / (time.perf_counter() - begin)
    return f"{seconds / 3600:.3g} h of audio, {rate:.0f} x real time"


def _write_manifest(entries: Sequence[Entry], manifest: str) -> None:
    data = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries).encode()
    if not storage.is_url(manifest):
        write_file(Path(manifest), data)
        return
    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder) / MANIFEST).write_bytes(data)
        storage.upload(path, manifest)


def _report(failed: Sequence[Entry], count: int, manifest: str) -> int:
    """Print failures; return the exit status."""
    if not failed:
        return 0
    say(f"vocode: {len(failed)} of {count} files could not be done, see {manifest}:")
    for entry in failed[:_MOST_LINES]:
        say(f"  {entry['error']}")
    if len(failed) > _MOST_LINES:
        say("  ...")
    return 1
