import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.progress import Progress

from offline import vectors
from offline.data.dataset import Dataset
from offline.errors import ConfigError
from offline.training import processes, search
from tests.offline.conftest import TRAIN

SHORT = TRAIN.model_copy(update={"max_epochs": 1})
ONE_OF_TWO = """
import sys
from pathlib import Path
from rich.progress import Progress
from offline import vectors
from offline.config import Train
from offline.data import dataset
from offline.training import processes, search
coordinator, process, prepared, config, folder = sys.argv[1:]
processes.join(coordinator, 2, int(process))
assert processes.agree(0.1 + int(process)) == 0.1
data, folder = dataset.load(Path(prepared)), Path(folder)
trained = search.train(data, Train.model_validate_json(config), folder / "checkpoints", Progress(disable=True))
if processes.leads():
    vectors.save(trained.vectors, folder / "vectors.safetensors")
print(*trained.records["plain"])
"""


def test_two_processes_give_what_one_gives(prepared: Path, data: Dataset, tmp_path: Path) -> None:
    both = [subprocess.Popen(command(process, prepared, tmp_path), stdout=subprocess.PIPE) for process in "01"]
    said = [process.communicate(timeout=100)[0].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    with Progress(disable=True) as progress:
        trained = search.train(data, SHORT, tmp_path / "alone", progress)
    for record in said:
        assert np.allclose([float(word) for word in record.splitlines()[-1].split()], trained.records["plain"])
    found = vectors.load(tmp_path / "vectors.safetensors")
    assert np.allclose(found.items, trained.vectors.items, atol=1e-4)
    assert np.allclose(found.users, trained.vectors.users, atol=1e-4)
    assert list((tmp_path / "checkpoints" / "search" / "plain" / "last").iterdir())


def command(process: str, prepared: Path, folder: Path) -> list[str]:
    if process == "0":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            (folder / "port").write_text(str(free.getsockname()[1]))
    coordinator = f"127.0.0.1:{(folder / 'port').read_text()}"
    return [sys.executable, "-c", ONE_OF_TWO, coordinator, process, str(prepared), SHORT.model_dump_json(), str(folder)]


def test_processes_are_numbered_from_0() -> None:
    with pytest.raises(ConfigError, match=r"--process 2: 2 processes are numbered 0 to 1"):
        processes.join("127.0.0.1:1", 2, 2)


def test_a_batch_is_cut_into_equal_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jax.device_count", lambda: 3)
    processes.divide(6)
    with pytest.raises(ConfigError, match="visits_per_batch to a multiple"):
        processes.divide(8)


def test_one_process_needs_nobody() -> None:
    assert processes.leads()
    assert processes.agree(0.1) == 0.1
    batch = {"history": np.zeros((4, 2))}
    assert processes.shared(batch) is processes.everywhere(batch) is processes.gathered(batch) is batch
