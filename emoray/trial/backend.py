"""What Ray Train does to a worker group before it trains with Keras 3: each worker learns of the others.

Ray's own TensorFlow backend switches every worker to Keras 2.
"""

import json
import os
import socket
from dataclasses import dataclass
from typing import Any

import ray
from ray.train._internal.base_worker_group import BaseWorkerGroup
from ray.train.backend import Backend, BackendConfig


@dataclass
class KerasConfig(BackendConfig):
    """Sets TF_CONFIG on every worker."""

    @property
    def backend_cls(self) -> type[Backend]:
        return _KerasBackend


class _KerasBackend(Backend):
    def on_start(self, worker_group: BaseWorkerGroup, backend_config: BackendConfig) -> None:
        addresses = worker_group.execute(_free_address)
        told: list[Any] = [
            worker_group.execute_single_async(rank, _introduce, addresses=addresses, index=rank)
            for rank in range(len(addresses))
        ]
        ray.get(told)


def _free_address() -> str:
    host = ray.util.get_node_ip_address()
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.bind(("", 0))
        port = listener.getsockname()[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _introduce(addresses: list[str], index: int) -> None:
    task = {"type": "worker", "index": index}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
