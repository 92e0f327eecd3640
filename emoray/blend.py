"""What an ensemble method returns: how the members' probabilities become one prediction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from emoray import metrics

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Blend:
    """A weighted mean of the members, or for `stacking` a linear map of their log-probabilities.

    `weights` (members,) are at least 0 and sum to 1; for a stack they are empty, and `coefficients` (members, classes,
    classes; row = class of the member, column = class of the blend) and `intercept` (classes,) stand instead.
    """

    method: str
    weights: tuple[float, ...] = ()
    coefficients: tuple[tuple[tuple[float, ...], ...], ...] = ()
    intercept: tuple[float, ...] = ()

    @property
    def used(self) -> tuple[int, ...]:
        """The members that the prediction depends on: no other needs to be computed or shipped."""
        matrices = np.asarray(self.coefficients) if self.coefficients else np.asarray(self.weights)
        return tuple(int(m) for m, part in enumerate(matrices) if np.any(part != 0))

    def predict(self, probabilities: Floats) -> NDArray[np.float32]:
        """(members, n, classes) to (n, classes), float32, rows that sum to 1; members that are not used may be NaN."""
        members = len(self.coefficients) or len(self.weights)
        if len(probabilities) != members:
            raise ValueError(f"the blend was fitted to {members} members, but got {len(probabilities)}")
        result = np.zeros(probabilities.shape[1:], np.float32)
        if self.coefficients:
            for m in self.used:
                result += log_ratios(probabilities[m]) @ np.asarray(self.coefficients[m], np.float32)
            return softmax(result + np.asarray(self.intercept, np.float32))
        for m in self.used:
            result += np.float32(self.weights[m]) * probabilities[m]
        return result

    def to_json(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, ready for `json.dump`; `from_json` takes them back."""
        if not self.coefficients:
            return {"method": self.method, "weights": list(self.weights)}
        matrices = [[list(row) for row in matrix] for matrix in self.coefficients]
        return {"method": self.method, "coefficients": matrices, "intercept": list(self.intercept)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The blend that `to_json` wrote."""
        matrices = tuple(tuple(tuple(row) for row in matrix) for matrix in value.get("coefficients", ()))
        return cls(value["method"], tuple(value.get("weights", ())), matrices, tuple(value.get("intercept", ())))


def log_ratios(probabilities: Floats) -> NDArray[np.float32]:
    """Log-probabilities less their mean over classes (Aitchison 1982), (..., classes): what a stack sees."""
    logs = np.log(np.maximum(probabilities, np.float32(metrics.FLOOR)), dtype=np.float32)
    logs -= logs.mean(axis=-1, keepdims=True)
    return logs


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of logits (..., classes)."""
    result = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result /= result.sum(axis=-1, keepdims=True)
    return result
