#!/usr/bin/env python3
"""Scores the events of a file by Arrow Flight: prints how many decisions there are of each action, and the first of those that are not `allow`.

    score_flight.py EVENTS --url grpc://HOST:PORT --key KEY [--ca FILE] [--batch ROWS] [--show ROWS]

EVENTS is Parquet, CSV, or NDJSON, with the columns of the schema; others are passed over. It needs pyarrow. `grpc+tls://` is encrypted; `--ca` names the certificates to trust.
"""

import argparse
import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.flight as flight
import pyarrow.json
import pyarrow.parquet


def read(path: Path) -> pa.Table:
    """The events of a file, by its ending."""
    readers = {".parquet": pyarrow.parquet.read_table, ".csv": pyarrow.csv.read_csv, ".ndjson": pyarrow.json.read_json}
    if path.suffix not in readers:
        raise SystemExit(f"{path}: the ending is one of {', '.join(readers)}")
    return readers[path.suffix](path)


def score(client: flight.FlightClient, key: str, events: pa.Table, rows: int) -> Iterator[tuple[pa.RecordBatch, dict]]:
    """The decisions about batches of events, in their order: a row for each event, and what is said of the batch."""
    options = flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {key}".encode())])
    writer, reader = client.do_exchange(flight.FlightDescriptor.for_path("score"), options)

    def send() -> None:
        try:
            writer.begin(events.schema)
            for batch in events.to_batches(max_chunksize=rows):
                writer.write_batch(batch)
            writer.done_writing()
        except (pa.ArrowException, OSError):
            pass  # The exchange has ended; the reader is told why.

    # Answers are taken while events are sent: the process reads no further ahead than a few batches.
    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    for chunk in reader:
        yield chunk.data, json.loads(chunk.app_metadata.to_pybytes())
    sending.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("events", type=Path)
    parser.add_argument("--url", default="grpc://127.0.0.1:8815")
    parser.add_argument("--key", required=True)
    parser.add_argument("--ca", type=Path)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--show", type=int, default=5)
    given = parser.parse_args()
    client = flight.FlightClient(given.url, **({"tls_root_certs": given.ca.read_bytes()} if given.ca else {}))
    actions: Counter[str] = Counter()
    shown = 0
    for batch, _ in score(client, given.key, read(given.events), given.batch):
        for row in batch.to_pylist():
            actions[row["action"] or "rejected"] += 1
            if row["action"] != "allow" and shown < given.show:
                shown += 1
                print(row["error"] or f"{row.get('id')}  {row['score']}  {row['action']}  {', '.join(row['rules'])}")
    for action, count in actions.most_common():
        print(f"{action}: {count}")


if __name__ == "__main__":
    main()
