"""Dockerfile, .dockerignore, docker-compose.yml and pyproject.toml agree. No engine needed: `make image` builds."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

from service.settings import from_environment
from training.child import PATIENCE_SECONDS

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = (ROOT / "docker-compose.yml").read_text()
COMPOSED = yaml.safe_load(COMPOSE)["services"]
FINAL = {"service", "service-tf", "trainer", "tensorboard"}
COPIED = {source for line in re.findall(r"^COPY (?!--)(.+)$", DOCKERFILE, re.M) for source in line.split()[:-1]}


def test_every_package_is_copied_into_the_build():
    find = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    assert {pattern.removesuffix("*") for pattern in find["include"]} <= COPIED


def test_what_is_copied_is_not_ignored_and_nothing_else_is_sent():
    ignore = (ROOT / ".dockerignore").read_text().split("\n")
    assert "*" in ignore
    assert {line[1:] for line in ignore if line.startswith("!")} == COPIED


def test_the_service_takes_the_settings_that_images_and_compose_give_it():
    given = dict(re.findall(r"(HORNPIPE_\w+)[=:] *\"?([^ \"\n]*)", DOCKERFILE + COMPOSE))
    assert given.keys() >= {"HORNPIPE_HOST", "HORNPIPE_RUNS_DIR", "HORNPIPE_INSECURE"}
    assert from_environment(given).host == "0.0.0.0"


def test_every_image_runs_as_a_number_that_is_not_root():
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.M)[1:]
    final = {name: stage for stage in stages if (name := stage.split()[2]) in FINAL}
    assert final.keys() == FINAL
    for stage in final.values():
        assert re.findall(r"^USER (.+)$", stage, re.M) == ["10001:10001"]


def test_only_one_base_image_and_it_is_pinned():
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.M)
    names = {name for _, name in stages}
    assert {image for image, _ in stages if image not in names} == {"python:3.11-slim-bookworm"}


def test_ports_are_open_to_this_machine_only():
    ports = re.findall(r'^ +- "([\d.:]+)"$', COMPOSE, re.M)
    assert ports
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)


def test_prometheus_scrapes_the_port_that_the_image_exposes():
    exposed = exposed_by("serving")
    assert f'["service:{exposed}"]' in (ROOT / "deploy/prometheus/prometheus.yml").read_text()


def exposed_by(stage: str) -> str:
    (port,) = re.findall(rf"^FROM \S+ AS {stage}$(?:\n(?!FROM ).*)*?\nEXPOSE (\d+)$", DOCKERFILE, re.M)
    return port


def service(name: str) -> str:
    """The lines of one service of docker-compose.yml."""
    (lines,) = re.findall(rf"^  {name}:\n((?:    .*\n)+)", COMPOSE, re.M)
    return lines


def test_the_first_model_makes_itself_and_a_worker_waits_for_jobs():
    first, trainer = COMPOSED["first-model"], COMPOSED["trainer"]

    assert first["command"] == ["python", "-m", "examples.flights", "first-model"]
    assert trainer["command"] == ["hornpipe", "worker"]
    assert trainer["restart"] == "unless-stopped"
    assert {first["image"], trainer["image"]} == {"hornpipe-trainer"}
    # It may go on where the other was stopped: the same data, in the same places.
    assert set(first["volumes"]) <= set(trainer["volumes"])


def test_any_number_of_workers_may_run():
    assert COMPOSED["trainer"].keys().isdisjoint({"container_name", "ports", "hostname"})


def test_a_worker_that_is_stopped_has_time_to_save():
    (seconds,) = re.findall(r"^(\d+)s$", COMPOSED["trainer"]["stop_grace_period"])
    assert int(seconds) > PATIENCE_SECONDS


def test_workers_and_the_service_share_jobs_and_models():
    both = [COMPOSED[name] for name in ("trainer", "service")]
    (table,) = {each["environment"]["HORNPIPE_JOBS_FILE"] for each in both}
    ours = re.findall(r"install --directory .*? (/.*)$", DOCKERFILE, re.M)[0].split()

    for each in both:
        mounted = dict(volume.split(":", 1) for volume in each["volumes"])
        assert mounted["jobs"] == str(Path(table).parent)
        assert mounted["models"] == "/models"  # to write: who serves, and why
        assert set(mounted.values()) <= set(ours)


def test_what_is_commented_out_fits_too():
    """People will uncomment it: the prediction log, which the service writes and workers learn from."""
    text = re.sub(r"^( +)# (HORNPIPE_PREDICTIONS_DIR:.*|- predictions:.*|predictions:)$", r"\1\2", COMPOSE, flags=re.M)
    whole = yaml.safe_load(text)

    assert "predictions" in whole["volumes"]
    for name in ("trainer", "service"):
        each = whole["services"][name]
        assert f"predictions:{each['environment']['HORNPIPE_PREDICTIONS_DIR']}" in each["volumes"]


def test_containers_have_no_rights_that_they_do_not_need():
    for name, each in COMPOSED.items():
        assert (name, each["read_only"], each["cap_drop"]) == (name, True, ["ALL"])
        assert each["security_opt"] == ["no-new-privileges:true"]


def test_compose_builds_targets_that_there_are():
    assert set(re.findall(r"^      target: (\S+)", COMPOSE, re.M)) <= FINAL


def test_tensorboard_reads_the_volume_that_runs_are_written_to():
    (folder,) = re.findall(r"HORNPIPE_RUNS_DIR=(\S+)$", DOCKERFILE, re.M)
    (command,) = re.findall(r'^CMD \["tensorboard", (.*)\]$', DOCKERFILE, re.M)

    assert f'"--logdir", "{folder}"' in command
    assert f"- runs:{folder} " in service("trainer")
    assert f"- runs:{folder}:ro\n" in service("tensorboard")
    assert f'"127.0.0.1:6006:{exposed_by("tensorboard")}"' in service("tensorboard")
    assert f'"--port", "{exposed_by("tensorboard")}"' in command
    assert folder in re.findall(r"install --directory .*? (/.*)$", DOCKERFILE, re.M)[0].split()  # the user's own


def test_hadolint_finds_nothing():
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint is not None, "the extra dev brings it"
    found = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "")
