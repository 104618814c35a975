"""The command line, typed as a person types it."""

import csv
import json
import os
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contract import bundle, routing
from contract.manifest import Manifest
from hornpipe import COMMANDS, main, parser
from tests.conftest import NAME, Trained, add_version


def hornpipe(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hornpipe", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "120"})


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_every_subcommand_has_an_example_that_parses(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    text = capsys.readouterr().out
    example = text.split("example:")[1].strip()

    assert stopped.value.code == 0
    assert example.startswith(f"hornpipe {command}")
    parser().parse_args(example.split()[1:])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian", "x.toml"], "there is no command 'trian'; did you mean 'train'?"),
        (["frobnicate"], "there is no command 'frobnicate'; hornpipe --help lists them all"),
        (["train", "x.toml", "--epochs", "3"], "hornpipe train: error: unknown arguments: --epochs 3"),
        (["shadow", NAME, "none"], "expected the number of a version, or the word off, got 'none'"),
        (["rollback", NAME, "--why", "caf\udce9"], "argument --why: expected UTF-8, got b'caf\\xe9'"),
    ],
)
def test_wrong_usage_says_what_is_meant(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)

    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_without_a_command_it_says_how_to_start(capsys: pytest.CaptureFixture[str]) -> None:
    code = main([])
    told = capsys.readouterr().err

    assert code == 2
    assert "hornpipe init data.csv" in told
    assert {line.split()[0] for line in told.splitlines() if line.startswith("  ")} >= {each.name for each in COMMANDS}


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])

    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"hornpipe {version('hornpipe')}\n"


def test_a_run_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "flights").mkdir()
    code = main(["doctor", "nobody", "--runs", str(tmp_path)])

    assert code == 1
    assert "there is no run 'nobody'" in (told := capsys.readouterr().err)
    assert "runs of: flights" in told


def test_promote_rollback_and_models(models: Path) -> None:
    add_version(models)
    promoted = hornpipe("promote", NAME, 2, "--models", models, "--why", "newer data")
    listed = hornpipe("models", NAME, "--models", models)
    back = hornpipe("rollback", NAME, "--models", models)

    assert promoted.stdout == "flights: production 1 -> 2\n"
    assert routing.history(models, NAME)[1].why == "newer data"
    lines = [line.split() for line in listed.stdout.splitlines()]
    assert [line[:3] for line in lines[1:]] == [["flights", "1", "roc_auc"], ["flights", "2", "production"]]
    assert back.stdout == "flights: production 2 -> 1\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["promote", NAME, "9"], "flights has no version 9; versions: 1"),
        (["promote", "nobody", "1"], "there is no model 'nobody'"),
        (["rollback", NAME], "no earlier production version"),
        (["report", NAME, "9"], "flights has no version 9; versions: 1"),
        (["report", "nobody", "1"], "there is no model 'nobody'"),
        (["compare", NAME, "1", "9"], "flights has no version 9; versions: 1"),
        (["quantize", NAME, "9"], "flights has no version 9; versions: 1"),
        (["models", "nobody"], "there is no model 'nobody'"),
        (["predict", "nobody", "x.csv"], "nobody has no production version"),
        (["predict", NAME, "x.csv"], "No such file"),
        (["predict", NAME, "x.xls"], "expected .csv, .jsonl, .parquet, got .xls"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    models: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([*arguments, "--models", str(models)])

    assert code == 1
    assert message in capsys.readouterr().err


def test_verify_says_what_is_sound_and_what_is_not(models: Path) -> None:
    sound = hornpipe("verify", models / NAME / "1")
    (models / NAME / "1" / "saved_model.pb").write_bytes(b"altered")
    altered = hornpipe("verify", models / NAME / "1")

    assert sound.returncode == 0
    variants = bundle.read_version(models, NAME, 1).manifest.variants
    assert len(sound.stdout.splitlines()) == 1 + len(variants)
    assert (altered.returncode, altered.stdout) == (1, "")
    assert "saved_model.pb: has 7 bytes" in altered.stderr
    assert "Traceback" not in altered.stderr


def rows_of(models: Path) -> list[dict[str, object]]:
    return [dict(example.row) for example in bundle.read_version(models, NAME, 1).manifest.golden]


def write_rows(rows: list[dict[str, object]], path: Path) -> None:
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, [*rows[0], "ignored"])
            writer.writeheader()
            writer.writerows(row | {"ignored": "x"} for row in rows)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        floats = [{k: float(v) if isinstance(v, int) else v for k, v in row.items()} for row in rows]
        pq.write_table(pa.Table.from_pylist(floats), path)


def read_late(path: Path) -> list[float]:
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return [float(row["probability_late"]) for row in csv.DictReader(file)]
    if path.suffix == ".jsonl":
        return [json.loads(line)["probabilities"]["late"] for line in path.read_text().splitlines()]
    return pq.read_table(path)["probability_late"].to_pylist()


@pytest.mark.parametrize("source", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("target", [".csv", ".jsonl", ".parquet"])
def test_a_file_is_scored_as_the_golden_examples_say(models: Path, tmp_path: Path, source: str, target: str) -> None:
    manifest: Manifest = bundle.read_version(models, NAME, 1).manifest
    write_rows(rows_of(models), tmp_path / f"rows{source}")
    code = main(
        [
            "predict",
            NAME,
            str(tmp_path / f"rows{source}"),
            "-o",
            str(tmp_path / f"out{target}"),
            "--models",
            str(models),
        ]
    )
    golden = [example.outputs["probability"] for example in manifest.golden]

    assert code == 0
    np.testing.assert_allclose(
        read_late(tmp_path / f"out{target}"), golden, atol=manifest.variant(manifest.chosen.variant).tolerance
    )


def test_a_bad_row_in_a_file_leaves_no_output(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of(models)
    write_rows([*rows, rows[0] | {"month": "May"}], tmp_path / "rows.csv")
    code = main(["predict", NAME, str(tmp_path / "rows.csv"), "-o", str(tmp_path / "out.csv"), "--models", str(models)])

    assert code == 1
    assert 'instances[16].month: wrong type, expected a number, got "May"' in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models", "rows.csv"]


def in_other_words(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    return [{"Airline, as IATA has it" if k == "carrier" else k: v for k, v in row.items()} for row in rows]


@pytest.mark.parametrize("source", [".csv", ".parquet"])
def test_a_file_may_call_a_feature_as_the_data_of_training_did(models: Path, tmp_path: Path, source: str) -> None:
    manifest = models / NAME / "1" / "manifest.json"
    told = json.loads(manifest.read_text())
    told["config"]["features"]["carrier"]["column"] = "Airline, as IATA has it"
    manifest.write_text(json.dumps(told))
    write_rows(rows_of(models), tmp_path / f"own{source}")
    write_rows(in_other_words(rows_of(models)), tmp_path / f"other{source}")

    for name in ("own", "other"):
        file, out = tmp_path / f"{name}{source}", tmp_path / f"{name}-out.csv"
        assert main(["predict", NAME, str(file), "-o", str(out), "--models", str(models)]) == 0
    assert (tmp_path / "own-out.csv").read_text() == (tmp_path / "other-out.csv").read_text()


@pytest.mark.parametrize("source", [".csv", ".parquet"])
def test_a_column_that_is_not_there_is_said_once(
    models: Path, tmp_path: Path, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{k: v for k, v in row.items() if k not in ("carrier", "month")} for row in rows_of(models)]
    write_rows(rows, tmp_path / f"rows{source}")
    code = main(["predict", NAME, str(tmp_path / f"rows{source}"), "--models", str(models)])

    assert code == 1
    assert f"rows{source}: has no column carrier, no month; its columns: origin" in capsys.readouterr().err


def test_training_needs_models_that_can_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "models").touch()
    code = main(["train", "examples/flights/train.toml", "--models", str(tmp_path / "models" / "here")])

    assert code == 1
    assert f"{tmp_path / 'models'} is no folder" in capsys.readouterr().err


def test_what_the_system_refuses_is_one_sentence(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(rows_of(models), tmp_path / "rows.csv")
    out = tmp_path / "nowhere" / "out.csv"
    code = main(["predict", NAME, str(tmp_path / "rows.csv"), "-o", str(out), "--models", str(models)])

    assert code == 1
    assert f"{out.parent}" in (told := capsys.readouterr().err)
    assert "No such file or directory" in told


def test_a_port_that_is_taken(models: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        served = hornpipe("serve", "--port", taken.getsockname()[1], "--models", models)

    assert served.returncode == 3
    assert "--port PORT takes another port" in served.stderr


@pytest.mark.slow
def test_train_promotes_what_it_made_and_a_wrong_config_starts_nothing(some_flights: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    folders = ["--models", models, "--runs", tmp_path / "runs"]
    small = ["model.hidden=[8]", "model.number_bins=4", "training.epochs=1", "training.batch_size=64"]
    small += ["split.validation_from=2013-08-01", "evaluation.resamples=20", "quantization.variants=[]"]
    small += ["evaluation.importance=false", "evaluation.robustness=false"]
    sets = [each for one in [f"data.path={some_flights}", *small] for each in ("--set", one)]
    made = hornpipe("train", "examples/flights/train.toml", *folders, "--name", "tiny", *sets, "--promote")
    wrong = hornpipe("train", "examples/flights/train.toml", *folders, "--set", "training.epoch=1")

    assert made.returncode == 0, made.stderr
    assert "gradient boosting" in made.stdout
    assert "roc_auc" in made.stdout
    assert "tiny/1 is production" in made.stdout.replace("\n", "")
    assert routing.read(models, "tiny").production == 1
    bundle.verify(bundle.read_version(models, "tiny", 1))
    assert not list((models / "tiny").glob(f"{bundle.STAGING_PREFIX}*"))
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "training.epoch: unknown key; did you mean 'epochs'?" in wrong.stderr


def test_the_manifest_says_what_was_trained_on(trained: Trained) -> None:
    manifest = trained.bundle.manifest

    assert (manifest.data.train_rows, manifest.data.validation_rows, manifest.data.test_rows) == (420, 60, 240)
    assert manifest.config["training"]["batch_size"] == 64
    assert manifest.drift.rows == 420
    assert manifest.metrics["roc_auc"].low <= manifest.metrics["roc_auc"].value <= manifest.metrics["roc_auc"].high


@pytest.mark.slow
def test_a_first_config_trains_and_the_run_can_be_looked_at(tmp_path: Path) -> None:
    """init, train, doctor, report, compare: what a person types on the first day."""
    random = np.random.default_rng(0)
    x, color = random.normal(size=400), random.choice(["red", "blue"], 400)
    sold = np.where((x > 0) ^ (color == "red"), "yes", "no")
    pq.write_table(pa.table({"x": x, "color": color, "sold": sold}), tmp_path / "shop.parquet")
    config, models, runs = tmp_path / "shop.toml", tmp_path / "models", tmp_path / "runs"
    quick = ["--set", "training.epochs=2", "--set", "evaluation.resamples=20", "--set", "quantization.variants=[]"]
    folders = ["--models", models, "--runs", runs]

    made = hornpipe("init", tmp_path / "shop.parquet", "--target", "sold", "-o", config)
    twice = hornpipe("init", tmp_path / "shop.parquet", "--target", "sold", "-o", config)
    trained = hornpipe("train", config, *folders, *quick, "--promote")
    doctor = hornpipe("doctor", "shop", "--runs", runs)
    report = hornpipe("report", "shop", 1, "--models", models)
    compared = hornpipe("compare", "shop", 1, 1, "--models", models, "-o", tmp_path / "both.html")

    assert made.returncode == 0, made.stderr
    assert (twice.returncode, "exists" in twice.stderr) == (1, True)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert "is production" in trained.stdout
    assert "published" in doctor.stdout
    assert Path(report.stdout.strip()).read_text().startswith("<!doctype html>")
    assert (compared.returncode, (tmp_path / "both.html").exists()) == (0, True)
    assert [event.action for event in routing.history(models, "shop")] == ["passed", "promote"]
