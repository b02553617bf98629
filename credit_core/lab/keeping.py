"""Arrivals kept beside the facts on disk, mapped into memory when they are wanted: the next replay does not read the ledger.

A part is some accounts' arrays, written once. The manifest names the parts, the newest that has an account counts, and an
account with other entries than the facts count by now is read again. Only deployments that keep facts on disk keep these.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]

from credit_core.analytics import queries
from credit_core.analytics.manifest import Lock, sync_file
from credit_core.analytics.sync import Facts
from credit_core.errors import Conflict
from credit_core.lab.batches import Batch, Names, Recorded, World, bounds, fitted
from credit_core.lab.columnar import Ints
from credit_core.lab.compiling import digest_of

FOLDER, _NAME = "arrivals", "arrivals.json"
#: A part of which less than this is still current is read again whole; so are many small ones, to become few.
LEAST_CURRENT, SMALL_ENTRIES, MOST_SMALL = 0.5, 25_000, 16
#: What decides how entries become arrays: arrivals that other sources wrote are not taken.
_SOURCES = (
    "batches.py",
    "columnar.py",
    "indirect.py",
    "keeping.py",
    "linking.py",
    "placing.py",
    "preparing.py",
    "tables.py",
)


@dataclass(frozen=True)
class Part:
    """Some accounts of one folder, and how many entries each of them had."""

    folder: Path
    account_ids: list[str]
    entries: Ints


class Kept:
    """The arrivals kept beside some facts."""

    def __init__(self, facts: Facts, folder: Path) -> None:
        """``folder`` is the facts' own."""
        self.folder = folder / FOLDER
        self._facts = facts

    def batches(
        self, world: World, accounts: pd.DataFrame, read: Callable[[pd.DataFrame], Iterator[Recorded]]
    ) -> Iterator[Batch]:
        """The ``accounts`` part by part; those that are missing or have changed come from ``read``, and are kept."""
        with contextlib.ExitStack() as held:
            lock = _locked(self.folder, held)
            parts = self._parts()
            wanted = pd.Series(accounts["entries"].to_numpy(), index=accounts["account_id"])
            current = _current(parts, wanted)
            if lock:
                fresh = [not old for old in _worn(parts, current)]
                parts, current = list(compress(parts, fresh)), list(compress(current, fresh))
            there: set[str] = set()
            for part, places in zip(parts, current, strict=True):
                found = self._opened(part) if len(places) else None
                if found is not None:
                    whole = len(places) == len(part.account_ids)
                    there.update(part.account_ids[place] for place in places.tolist())
                    yield fitted(found if whole else found.of(places), world)
            missing = accounts[~accounts["account_id"].isin(there)].reset_index(drop=True)
            for recorded in read(missing) if len(missing) else ():
                if lock:
                    try:
                        parts = [*parts, self._write(recorded)]
                        self._publish(parts)
                    except OSError:
                        # A full disk keeps nothing more; the replay goes on.
                        lock = False
                yield fitted(recorded, world)

    def _parts(self) -> list[Part]:
        """What the manifest names, oldest first; nothing where it is of another ledger or of other sources."""
        try:
            told: dict[str, Any] = json.loads((self.folder / _NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        if told.get("sources") != _digest() or queries.entry_hash(self._facts, told["mark"]) != told["hash"]:
            return []
        parts = []
        for name in told["parts"]:
            with contextlib.suppress(OSError, pa.ArrowInvalid):
                rows = _table(self.folder / name / "accounts.arrow")
                parts.append(Part(self.folder / name, rows["account_id"].to_pylist(), rows["entries"].to_numpy()))
        return parts

    def _opened(self, part: Part) -> Recorded | None:
        """A part; None where it is damaged."""
        try:
            return load(part)
        except (OSError, ValueError, pa.ArrowInvalid):
            return None

    def _write(self, recorded: Recorded) -> Part:
        numbers = [int(path.name.split("-")[1]) for path in self.folder.glob("part-*") if "." not in path.name]
        folder = self.folder / f"part-{max(numbers, default=0) + 1:08d}"
        return save(recorded, folder)

    def _publish(self, parts: list[Part]) -> None:
        mark = queries.last_copied(self._facts)
        document = {
            "sources": _digest(), "mark": mark, "hash": queries.entry_hash(self._facts, mark),
            "parts": [part.folder.name for part in parts],
        }  # fmt: skip
        passing = self.folder / f"{_NAME}.part"
        passing.write_text(json.dumps(document), encoding="utf-8")
        sync_file(passing)
        passing.replace(self.folder / _NAME)
        named = {part.folder for part in parts}
        for folder in self.folder.glob("part-*"):
            # Who has mapped one goes on reading it.
            if folder not in named:
                shutil.rmtree(folder, ignore_errors=True)


def _current(parts: list[Part], wanted: pd.Series[Any]) -> list[Ints]:
    """By part, the places of the accounts that are ``wanted``, newest there, and as they are now."""
    if not parts:
        return []
    told = pd.DataFrame(
        {
            "account_id": [name for part in parts for name in part.account_ids],
            "entries": np.concatenate([part.entries for part in parts]),
        }
    )
    newest = ~told["account_id"].duplicated(keep="last")
    good = (newest & (told["account_id"].map(wanted) == told["entries"])).to_numpy()
    ends = np.cumsum([len(part.account_ids) for part in parts])
    return [np.flatnonzero(each).astype(np.int64) for each in np.split(good, ends[:-1])]


def _worn(parts: list[Part], current: list[Ints]) -> list[bool]:
    small = [int(part.entries.sum()) < SMALL_ENTRIES for part in parts]
    return [
        len(places) < LEAST_CURRENT * len(part.account_ids) or (tiny and sum(small) > MOST_SMALL)
        for part, places, tiny in zip(parts, current, small, strict=True)
    ]


def _locked(folder: Path, held: contextlib.ExitStack) -> bool:
    """Whether this process may write; another one that does leaves reading to all."""
    try:
        lock = Lock(folder)
    except (Conflict, OSError):
        return False
    held.callback(lock.release)
    return True


def save(recorded: Recorded, folder: Path) -> Part:
    """Write a part as the new ``folder``, in one step."""
    batch, passing = recorded.batch, folder.with_suffix(f".{os.getpid()}")
    passing.mkdir()
    np.save(passing / "events.npy", np.asarray(batch.events).view(np.ndarray))
    np.save(passing / "lots.npy", np.asarray(batch.lots).view(np.ndarray))
    accounts = {
        "account_id": batch.account_ids, "plan": batch.plan, "segment": batch.segment, "entries": recorded.entries,
        "events": np.diff(batch.event_from), "lots": np.diff(batch.lot_from), "users": np.diff(recorded.user_from),
    }  # fmt: skip
    for name, table in (
        ("accounts", pa.table(accounts).replace_schema_metadata({"names": json.dumps(recorded.names)})),
        ("users", pa.table({"user_id": recorded.user_ids})),
        ("requests", pa.table({"request_id": batch.requests})),
    ):
        with pa.OSFile(str(passing / f"{name}.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    for path in passing.iterdir():
        sync_file(path)
    passing.rename(folder)
    return Part(folder, batch.account_ids, recorded.entries)


def load(part: Part) -> Recorded:
    """A part's arrays, mapped into memory: a change to them stays with whoever made it. Raises where they are damaged."""
    accounts = _table(part.folder / "accounts.arrow")
    names = json.loads(accounts.schema.metadata[b"names"])
    edges = {name: bounds([accounts[name].to_numpy()]) for name in ("events", "lots", "users")}
    batch = Batch(
        account_ids=part.account_ids,
        plan=accounts["plan"].to_pylist(),
        segment=accounts["segment"].to_pylist(),
        event_from=edges["events"],
        lot_from=edges["lots"],
        events=_mapped(part.folder / "events.npy"),
        lots=_mapped(part.folder / "lots.npy"),
        requests=_column(part.folder / "requests.arrow", "request_id"),
        users=int(np.diff(edges["users"]).max(initial=1)),
    )
    known = Names(*(tuple(each) for each in names))
    return Recorded(batch, known, _column(part.folder / "users.arrow", "user_id"), edges["users"], part.entries)


def _mapped(path: Path) -> Any:
    return np.asarray(np.load(path, mmap_mode="c")).view(np.recarray)


def _table(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _column(path: Path, name: str) -> pa.Array:
    return _table(path)[name].combine_chunks()


@lru_cache(maxsize=1)
def _digest() -> str:
    return digest_of(_SOURCES)
