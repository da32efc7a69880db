"""All rows by name, in the order of the table."""

from tests.faults import (
    coordinator_rows,
    edge_rows,
    etcd_rows,
    machine_rows,
    many_rows,
    notice_rows,
)
from tests.faults.row import Row

_PARTS = (coordinator_rows, etcd_rows, edge_rows, notice_rows, machine_rows, many_rows)
ROWS: dict[str, type[Row]] = {one.name: one for part in _PARTS for one in part.ROWS}
