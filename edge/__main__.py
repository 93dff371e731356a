"""The command `ibms-edge`, which will run on a vehicle's gateway."""

import sys


def main() -> int:
    """Say that there is nothing to run yet; exit code 2, so that no supervisor takes it for protection."""
    print("ibms-edge: the edge flow is not part of this release yet", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
