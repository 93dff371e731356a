"""Where the peers live: an environment of its own each, outside the repository; `just peers-setup` makes them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ibms" / "peers"
_COMMON = ("numba==0.68.1", "orjson==3.13.0")
PEERS: dict[str, tuple[str, ...]] = {
    "quixstreams": ("quixstreams==3.28.1",),
    "pathway": ("pathway==0.33.0",),
    "faust": ("faust-streaming==0.15.3", "cramjam==2.14.0"),
    "pyflink": ("apache-flink==2.3.0",),
}
_POM = Path(__file__).with_name("pom.xml")
_READY = "ready"  # a file: what stands in it is installed


def python(peer: str) -> Path:
    """Give a peer's interpreter."""
    return ROOT / peer / "bin" / "python"


def missing(peer: str) -> str:
    """Say why a peer cannot run here; "" where it can."""
    ready = ROOT / peer / _READY
    if not ready.exists() or ready.read_text() != _wanted(peer):
        return f"no environment in {ROOT / peer}: `just peers-setup` makes it"
    if peer == "pyflink" and shutil.which("java") is None:
        return "java is not installed (Debian: openjdk-17-jre-headless)"
    return ""


def make(peer: str) -> None:
    """Install a peer from wheels; Flink's connector to Kafka comes through Maven."""
    folder = ROOT / peer
    if not python(peer).exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    install = [str(python(peer)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, *PEERS[peer], *_COMMON], check=True)
    if peer == "pyflink":
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", "-DexcludeTransitive=true"]
        goal.append(f"-DoutputDirectory={folder / 'jars'}")
        subprocess.run(["mvn", "-B", "-q", "-f", str(_POM), *goal], check=True)
    (folder / _READY).write_text(_wanted(peer))


def _wanted(peer: str) -> str:
    return "\n".join((*PEERS[peer], *_COMMON, _POM.read_text() if peer == "pyflink" else ""))


if __name__ == "__main__":
    for name in sys.argv[1:] or PEERS:
        if name not in PEERS:
            sys.exit(f"a peer must be one of {', '.join(PEERS)}; got {name}")
        if missing(name):
            print(f"{name} → {ROOT / name}", flush=True)
            make(name)
