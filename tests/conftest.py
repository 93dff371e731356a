"""What every test may use: the recordings, Kafka brokers, and how hard the kill test hits."""

import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from flows.cache import use_kernel_cache
from sinks import ducklake
from tests.support.broker import Cluster, KafkaUnavailableError, classpath, running_cluster

use_kernel_cache()  # before anything imports numba: test processes share what one of them compiled

PROJECT = Path(__file__).parents[1]
_MEMORY_BYTES = 2 << 30

# No deadline: numba compiles at the first call. Under CI the examples are the same in every run.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_collection_finish() -> None:
    """Let no flow look for cycles among the half million objects of ten thousand tests, for 0.3 s each time."""
    gc.collect()
    gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=15, help="how often the kill test sends SIGKILL (default: 15)")
    thorough = "tests/safety: many more sequences, recordings as a whole; tests/e2e: a broker with TLS; lives in a lake"
    parser.addoption("--thorough", action="store_true", help=thorough)


@pytest.fixture(scope="session", autouse=True)
def lake_config() -> Iterator[dict[str, str]]:
    """Let DuckDB check no signature of extensions, 0.2 s for each of 500 connections; gives what is set otherwise."""
    own = ducklake.CONFIG
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ducklake, "CONFIG", own | {"allow_unsigned_extensions": "true"})
        yield own


@pytest.fixture(scope="session")
def kills(request: pytest.FixtureRequest) -> int:
    """How often to kill."""
    return int(request.config.getoption("--kills"))


@pytest.fixture(scope="session")
def thorough(request: pytest.FixtureRequest) -> bool:
    """Whether tests of the safety core may take minutes (`just safety`)."""
    return bool(request.config.getoption("--thorough"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The directory of recorded traces: IBMS_DATA, or ../shared/data beside the project."""
    # joined to the project, so that a relative path does not depend on the working directory
    data = (PROJECT / os.environ.get("IBMS_DATA", "../shared/data")).resolve()
    if not data.is_dir():
        reason = f"no recorded traces: {data} is not a directory; IBMS_DATA names another"
        if os.environ.get("IBMS_REQUIRE_DATA") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return data


@pytest.fixture(scope="session")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Make directories in memory, on disk where there is little: for what is killed, and syncs all the time.

    What was written outlasts a SIGKILL in either; a loss of power no test can bring about.
    """
    in_memory = Path("/dev/shm")  # noqa: S108 - in a directory of its own
    if in_memory.is_dir() and os.access(in_memory, os.W_OK) and shutil.disk_usage(in_memory).free > _MEMORY_BYTES:
        with tempfile.TemporaryDirectory(prefix="ibms-test-", dir=in_memory, ignore_cleanup_errors=True) as root:
            yield lambda name: Path(tempfile.mkdtemp(prefix=f"{name}-", dir=root))
    else:
        yield tmp_path_factory.mktemp


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One real broker for all tests of this process; each makes topics of its own."""
    broker_possible()
    with running_cluster(tmp_path_factory.mktemp("kafka")) as cluster:
        yield cluster


@pytest.fixture
def kafka_of_three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three brokers with replication for one test, which may kill them."""
    broker_possible()
    with running_cluster(tmp_path_factory.mktemp("kafka3"), 3) as cluster:
        yield cluster


def broker_possible() -> None:
    try:
        classpath()
    except KafkaUnavailableError as missing:
        if os.environ.get("IBMS_REQUIRE_KAFKA") == "1":
            pytest.fail(str(missing))
        pytest.skip(str(missing))
