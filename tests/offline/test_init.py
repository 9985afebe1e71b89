import os
import subprocess
import sys


def test_nothing_is_reported_to_the_maker_of_a_library() -> None:
    said = "import os, offline; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    bare = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    found = subprocess.run([sys.executable, "-c", said], env=bare, check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "1"
