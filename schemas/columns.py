"""How a table of the lake is written down: a column a line, with type and meaning; columns that many tables share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """One column: `type` is text, bool, i8 … i64, u32, u64, f32, f64, f32[], time (UTC, ns) or bytes."""

    name: str
    type: str
    meaning: str


def columns(text: str) -> tuple[Column, ...]:
    """Read one column a line: name, type, meaning."""
    return tuple(Column(*line.split(maxsplit=2)) for line in text.splitlines() if line.strip())


WHO = """
    pack_id text the pack
    vehicle_id text the vehicle that carries it
    model text pack model, schemas/packs/<model>.toml
"""
PROVENANCE = """
    pack_file text hash of the pack file
    code_version text version of the code
    params text hash of the settings
    models text hash of the trained models, empty where none
"""
