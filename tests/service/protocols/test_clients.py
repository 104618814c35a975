"""The real clients: tritonclient over HTTP, and kserve."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.protocols.conftest import serving

HERE = Path(__file__).parent
PINS = HERE / "clients.txt"
FOLDER = Path("build/clients/rest")


@pytest.fixture(scope="session")
def python() -> Path:
    """Of an environment with the clients, which is made once for each list of them."""
    made, wanted = FOLDER / "made", hashlib.sha256(PINS.read_bytes()).hexdigest()
    python = FOLDER / "bin" / "python"
    if not made.exists() or made.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", FOLDER], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", PINS], check=True)
        made.write_text(wanted)
    return python


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_tritonclient_and_kserve(all_models: Path, python: Path) -> None:
    with serving(all_models) as client:
        address = f"{client.base_url.host}:{client.base_url.port}"
        asked = subprocess.run([python, HERE / "clients.py", address], capture_output=True, text=True, check=False)

    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.endswith("are content\n")
