"""Imported by the process that test flows are forked from: what each of them would import and load for itself."""

from __future__ import annotations

import gc
import importlib
from contextlib import suppress

from flows import fleet
from flows.settings import FleetSettings
from schemas.arrow import to_arrow
from schemas.events import Item
from schemas.frames import FrameBlock
from tests.support import fleet_flow, kafka_kill_flow, kill_flow  # noqa: F401
from tests.support.fleet import MODEL, SETTINGS, drive


def _load(settings: FleetSettings, model: str, block: FrameBlock) -> None:
    """Take a block through every step, so that kernels are loaded."""
    items: list[Item] = [block]
    for logic in fleet.logics(settings).values():
        items = [*logic.on_batch(items)[0], *logic.on_eof()[0]]
    to_arrow(fleet.outward(items), fleet.provenance(settings, (model,)))


with suppress(ModuleNotFoundError):
    importlib.import_module("pandas")  # DuckDB looks for it at a query's first parameter
_load(SETTINGS, MODEL, drive(3, 0.1, 1.0))
_load(kill_flow.SETTINGS, kill_flow.MODEL, kill_flow.block(0, 0))
gc.collect()
gc.freeze()  # pages that are not looked at stay shared
