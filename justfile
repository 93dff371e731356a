# Every action of the project. `just` alone lists the recipes.
# On a fresh machine the README's first command makes .venv, where `just` itself lives.

set positional-arguments

python := env("IBMS_PYTHON", "python3")
venv := env("IBMS_VENV", ".venv")
bin := venv / "bin"

# where the recorded traces are; tests and recipes read it
export IBMS_DATA := env("IBMS_DATA", "../shared/data")

# matrices here are small: threads of a linear-algebra library only wait for each other
export OPENBLAS_NUM_THREADS := env("OPENBLAS_NUM_THREADS", "1")

[private]
default:
    @'{{ just_executable() }}' --list --unsorted

# Make the environment: all dependencies by version and hash, the project editable
setup:
    @[ -x '{{ bin }}/python' ] || '{{ python }}' -m venv '{{ venv }}'
    '{{ bin }}/python' -m pip install --quiet --require-hashes -r constraints.txt
    '{{ bin }}/python' -m pip install --quiet --no-deps --no-build-isolation -e .
    @touch '{{ venv }}/.ready'

# set up only where pins or project data changed since the last time
[private]
ready:
    @[ '{{ venv }}/.ready' -nt constraints.txt ] && [ '{{ venv }}/.ready' -nt pyproject.toml ] || \
        IBMS_VENV='{{ venv }}' '{{ just_executable() }}' setup

# Simulate a fleet with faults, run the fleet flow into a lake, and report
demo *args: ready
    '{{ bin }}/ibms' demo "$@"

# Compile the kernels of these sources, or processes that start together would each do it
warm: ready
    @'{{ bin }}/python' -m flows.warm

# Run all tests in two processes; arguments go to pytest: `just test tests/schemas -k frames`
test *args: warm
    '{{ bin }}/pytest' -n 2 --dist worksteal "$@" # or one process waits minutes for the other's share

# Check style, format, types and import rules; change nothing
lint: ready
    '{{ bin }}/ruff' check
    '{{ bin }}/ruff' format --check
    '{{ bin }}/mypy'
    '{{ bin }}/lint-imports' --no-logo

# Apply the formatter and the fixes that are safe
fmt: ready
    '{{ bin }}/ruff' check --fix --exit-zero --quiet
    '{{ bin }}/ruff' format

# Prove the safety core: whole recordings, many sequences, branch coverage, mutants (again only where their hash changed)
safety *args: ready
    '{{ bin }}/pytest' -q -n 2 tests/safety --thorough
    @'{{ bin }}/python' -m tests.safety.mutation "$@"

# Faults on recordings and when protection decides, as Markdown tables: `just faults recordings`
faults *args: ready
    @'{{ bin }}/python' -m tests.safety.table "$@"

# Everything that must pass before a change lands: lint, then test
ci: lint test

# Measure speed and estimation quality: `just bench --json`
bench *args: ready
    '{{ bin }}/ibms' bench "$@"

# The same job in other stream processors and in ours, side by side on one broker; arguments name peers
peers *args: ready
    @'{{ bin }}/python' -m tests.bench.peers.run "$@"

# Make the environments of the peers, in ~/.cache/ibms/peers: 4 GB; PyFlink needs Java 17 and Maven
peers-setup *args: ready
    @'{{ bin }}/python' -m tests.bench.peers.environments "$@"

# How right the estimates are on recordings, beside what they should be: `just accuracy --json`
accuracy *args: ready
    '{{ bin }}/ibms' bench accuracy --data "$IBMS_DATA" "$@"

# How soon simulated faults are found, and how often healthy packs are blamed: `just diagnosis --vehicles 10 --healthy 10`
diagnosis *args: ready
    '{{ bin }}/ibms' bench diagnosis "$@"

# What online anomaly models add where no detector has a name for what is wrong: `just anomaly --vehicles 12`
anomaly *args: ready
    '{{ bin }}/ibms' bench anomaly "$@"

# Lives that a lake has seen to their end: learned, gated, promoted, and told to younger packs, as a person types it (half a minute)
lives *args: ready
    '{{ bin }}/pytest' -q tests/flows/prognosis/test_lives_of_a_lake.py --thorough "$@"

# The heavy form of the kill test: 60 × kill -9, nothing lost and nothing repeated; a gateway's uplink too, also over TLS
kill-test *args: ready
    '{{ bin }}/pytest' tests/e2e/test_kill.py tests/e2e/test_kafka_kill.py tests/e2e/test_uplink_kafka.py \
        tests/e2e/test_uplink_tls.py --thorough --kills 60 "$@"

# Befall a cluster under load with all that can go wrong, on three brokers, and account for every frame; `--short`, `--kills 15`
chaos *args: warm
    @'{{ bin }}/python' -m tests.chaos "$@"

# Start a Kafka broker that stays, on 127.0.0.1:9092, and print its address; `--brokers 3 --port 9092`
kafka-up *args: ready
    @'{{ bin }}/python' -m tests.support.kafka up "$@"

# End it and remove what it holds
kafka-down: ready
    @'{{ bin }}/python' -m tests.support.kafka down

# Derive again, from the recordings, the numbers in schemas/packs that come from data
fit-packs *args: ready
    '{{ bin }}/python' -m replay.fit_packs --data "$IBMS_DATA" "$@"

# Resolve constraints.txt again after a change in pyproject.toml; `just lock --upgrade` takes newer versions
lock *args: ready
    '{{ bin }}/uv' pip compile --quiet --universal --python-version 3.11 --all-extras --generate-hashes \
        --fork-strategy fewest --no-header --no-annotate --output-file constraints.txt pyproject.toml "$@"
