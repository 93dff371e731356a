"""A gateway's sender as a process of its own, to be killed.

It keeps one record every few milliseconds, numbered on from what the run before kept, and sends at the same time:
`python -m tests.support.sender_process FOLDER BOOTSTRAP TOPICS RECORDS`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from edge.outbox import JSON
from edge.retention import INCIDENT
from edge.sender import Sender
from edge.uplink import KafkaUplink
from tests.support.edge_kafka import keep, open_outbox
from tests.support.frames import frames


def main() -> None:
    """Run until killed, or until `records` have been kept and everything is delivered."""
    folder, bootstrap, topics, records = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
    box = open_outbox(folder / "box", live_age_s=0.5)
    sender = Sender(box, KafkaUplink({"bootstrap.servers": bootstrap}, topics, "V1"))
    kept = folder / "kept"
    n = len(kept.read_text().splitlines()) if kept.exists() else 0
    with kept.open("a") as told:
        while n < records or any(box.waiting.values()):
            now_ns = time.time_ns()
            if n < records:
                if n % 10 == 9:
                    name = f"incident-{n}"
                    box.append(INCIDENT, name, now_ns, now_ns, b"{}", content_type=JSON, now_ns=now_ns, subject="test")
                else:
                    name = keep(box, frames([n], seq=[n]), now_ns)
                told.write(f"{name}\n")  # after it was kept: what is listed here must arrive
                told.flush()
                n += 1
            sender.step(now_ns)
            time.sleep(0.002)
    sender.close()
    box.close()


if __name__ == "__main__":
    main()
