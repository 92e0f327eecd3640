"""Drains a machine's Ray node before the machine goes: `python -m emoray.drain --address HEAD:6379 --ip 10.0.0.7`.

What `ray drain-node` asks of Ray's head (its GCS), for a node that is named by its address. Ray's private client stands
here alone.
"""

import argparse
import os
import sys
import time

os.environ.setdefault("RAY_AUTH_MODE", "token")  # before Ray is imported, which reads it then

from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.core.generated import autoscaler_pb2, gcs_pb2
from ray.exceptions import RpcError

from emoray.errors import UserError

TIMEOUT_SECONDS = 10


def nodes_at(client: GcsClient, ip: str) -> list[str]:
    """The identifiers of the live nodes at an address."""
    found = client.get_all_node_info(timeout=TIMEOUT_SECONDS)
    alive = gcs_pb2.GcsNodeInfo.GcsNodeState.ALIVE  # type: ignore[attr-defined]
    return [key.hex() for key, node in found.items() if node.state == alive and node.node_manager_address == ip]


def drain(address: str, ip: str, why: str, seconds: float | None = None) -> list[str]:
    """Drain the nodes at `ip`, which end in so many seconds where that is known; returns their identifiers.

    A node that is being drained may be drained again, with another end. Raises UserError where there is none at that
    address, or Ray refuses.
    """
    client = GcsClient(address=address)
    nodes = nodes_at(client, ip)
    if not nodes:
        raise UserError(f"there is no live Ray node at {ip}")
    deadline = 0 if seconds is None else int((time.time() + seconds) * 1000)
    preempted = autoscaler_pb2.DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION  # type: ignore[attr-defined]
    for node in nodes:
        accepted, reason = client.drain_node(node, preempted, why, deadline)
        if not accepted:
            raise UserError(f"Ray does not drain the node at {ip}: {reason}")
    return nodes


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m emoray.drain", allow_abbrev=False, description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--address", required=True, help="the cluster's head, such as 10.0.0.5:6379")
    parser.add_argument("--ip", required=True, help="the address of the machine to drain")
    parser.add_argument("--why", default="the machine goes", help="is told in Ray's dashboard")
    parser.add_argument("--seconds", type=float, help="until the machine's end (default: not known)")
    told = parser.parse_args()
    try:
        drained = drain(told.address, told.ip, told.why, told.seconds)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RpcError as error:
        print(f"failed: {told.address} does not answer: {error}", file=sys.stderr)
        return 1
    print(f"drained {', '.join(drained)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
