"""The ranker: orders a request's best candidates anew by all that is known of the user, with the bundle's networks.

Whose history: the user's newest rewarded items, as Redis keeps them, and then what the bundle knows of a known user.
Somebody without any is ranked by what is known of the candidates and of the user otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
import structlog
from numpy.typing import NDArray

from bandit.bundle import Bundle, BundleError
from bandit.models import FEATURES, HISTORY_LENGTH, RANKER_ITEM, RANKER_USER
from service.settings import Settings, Switched

if TYPE_CHECKING:
    import onnxruntime

logger = structlog.get_logger(__name__)
FILES = (RANKER_USER, RANKER_ITEM, FEATURES)


def files(settings: Settings) -> Sequence[str]:
    """What is loaded of a bundle for the ranker."""
    return FILES if settings.ranker is Switched.ON else ()


def of(settings: Settings, bundle: Bundle) -> tuple[Ranker | None, str | None]:
    """A bundle's ranker if one is asked for, and why there is none though one is.

    Raises:
        BundleError: it has one that cannot be read.
    """
    if settings.ranker is Switched.OFF:
        return None, None
    if not set(FILES) <= set(bundle.models):
        version = bundle.manifest.version
        why = f"RANKER=on, but {version} has no ranker: train one with `python -m offline run --ranker`"
        logger.warning("serving without a ranker", version=version, error=why)
        return None, why
    return Ranker(bundle), None


class Ranker:
    """A bundle's ranker; used by one thread.

    Raises:
        BundleError: the networks cannot be read.
    """

    def __init__(self, bundle: Bundle) -> None:
        try:
            self._user, self._item = (_session(bundle.models[name]) for name in (RANKER_USER, RANKER_ITEM))
            arrays = safetensors.numpy.load(bundle.models[FEATURES])
            vectors = arrays["items/embedding"]
        except Exception as error:
            raise BundleError(f"{bundle.manifest.version}: the ranker cannot be read: {error}") from error
        # The last row stands for no item: -1 finds it.
        self._vectors = np.concatenate([vectors, np.zeros((1, vectors.shape[1]), dtype=np.float32)])
        self._ids = np.append(arrays["items/ids"], np.int32(0))
        self._items = _features(arrays, "items/")
        self._users = _features(arrays, "users/")
        self._histories = arrays["users/history"]
        self._half = [output.name for output in self._user.get_outputs()]
        self._length = int(self._user.get_modelmeta().custom_metadata_map[HISTORY_LENGTH])

    def logits(self, user: int | None, recent: NDArray[np.int32], candidates: NDArray[np.int32]) -> NDArray[np.float32]:
        """What the ranker says of candidates.

        Args:
            user: the row of a user whom the bundle knows, or None.
            recent: int32[m], item numbers that the user answered, the latest first.
            candidates: int32[n], item numbers.

        Returns:
            float32[n].
        """
        history = self._history(user, recent)
        past = {"history_ids": self._ids[history], "history_vectors": self._vectors[history]}
        half = self._user.run(None, past | self._of_user(user))
        told = {name: array[candidates] for name, array in self._items.items()}
        shown = {"ids": self._ids[candidates], "vectors": self._vectors[candidates]}
        (found,) = self._item.run(None, {**dict(zip(self._half, half, strict=True)), **past, **shown, **told})
        return np.asarray(found, dtype=np.float32)

    def _history(self, user: int | None, recent: NDArray[np.int32]) -> NDArray[np.int32]:
        known = recent[:0] if user is None else self._histories[user]
        history = np.concatenate([recent, known[known >= 0]])[: self._length]
        return history if len(history) else np.array([-1], dtype=np.int32)

    def _of_user(self, user: int | None) -> dict[str, NDArray[Any]]:
        if user is None:
            return {name: np.zeros_like(array[:1]) for name, array in self._users.items()}
        return {name: array[user : user + 1] for name, array in self._users.items()}


def _session(model: bytes) -> onnxruntime.InferenceSession:
    import onnxruntime  # noqa: PLC0415  who serves without a ranker need not load it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # it warns of what the export left in the models
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _features(arrays: dict[str, NDArray[Any]], kind: str) -> dict[str, NDArray[Any]]:
    """Items' or users' features by the names of the networks' inputs."""
    others = {"ids", "embedding", "history"}
    return {
        name.removeprefix(kind): array
        for name, array in arrays.items()
        if name.startswith(kind) and name.removeprefix(kind) not in others
    }
