"""The README's tables are held equal to the code, and its files to the tree."""

import re
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from hornpipe import COMMANDS
from service.app import create_app
from service.counting.instruments import INSTRUMENTS
from service.errors import ANSWERS, INTERNAL, NOT_FOUND
from service.routes import docs
from service.settings import Settings, variable

README = Path("README.md").read_text()
ROOT = Path()


def table(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without their backticks."""
    section = re.split(r"^## ", README, flags=re.MULTILINE)
    (text,) = [part for part in section if part.startswith(heading)]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip().replace("`", "") for cell in row] for row in rows[2:]]


def test_settings() -> None:
    expected = [
        [variable(name), default(field), (field.description or "").replace("`", "")]
        for name, field in Settings.model_fields.items()
    ]

    assert table("Settings") == expected


def default(field: FieldInfo) -> str:
    """As one would write it into the environment; nothing where there is none, or it depends on the machine."""
    if field.default_factory is not None or field.default in (None, ()):
        return ""
    return str(int(field.default) if isinstance(field.default, bool) else field.default)


def test_metrics() -> None:
    assert table("Metrics") == [[i.name, i.kind, ", ".join(i.labels), i.help] for i in INSTRUMENTS]


def test_errors() -> None:
    answers = {(str(answer.status), answer.code) for answer in (*ANSWERS.values(), NOT_FOUND, INTERNAL)}

    assert {(status, code) for status, code, _ in table("Errors")} == answers
    assert all(when for *_, when in table("Errors"))


def test_endpoints() -> None:
    api = create_app(Settings()).api()
    paths = {*api.openapi()["paths"], api.openapi_url, docs.PATH}

    assert {endpoint.split()[1] for endpoint, _ in table("Endpoints")} == paths


def test_predictions_come_first_in_what_docs_show() -> None:
    assert next(iter(create_app(Settings()).api().openapi()["paths"])) == "/predict"


def test_commands() -> None:
    documented = {row[0].split()[1]: row[1] for row in table("Promote")}

    assert documented == {command.name: command.help for command in COMMANDS}


def test_the_map_names_every_file_and_folder() -> None:
    (text,) = [part for part in README.split("\n## ") if part.startswith("Map")]
    for package in ("contract", "training", "service"):
        files = {path.name for path in (ROOT / package).glob("*.py")} - {"__init__.py", "__main__.py"}
        named = set(re.findall(r"\b(\w+\.py)\b", text))
        support = {"errors.py", "command.py", "state.py", "listing.py"}
        assert files - support <= named, package
        folders = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
        assert folders <= set(re.findall(r"\b(\w+)/", text)), package
    assert all((ROOT / folder).is_dir() for folder in ("examples/flights", "benchmarks", "deploy", "tests"))


def test_the_findings_of_the_doctor_are_those_of_its_rules() -> None:
    from training.doctor import RULES

    text = Path("docs/training.md").read_text().split("## The doctor")[1].split("\n## ")[0]
    told = {line.split("|")[1].strip(" `") for line in text.splitlines() if line.startswith("| `")}
    rules = {rule.judge.__name__ for rule in RULES} - {"exploding_from_the_start"}  # which finds exploding_gradients

    assert told == rules


def test_the_guide_names_every_section_of_the_config() -> None:
    from training.sections import TrainingConfig

    guide = Path("docs/training.md").read_text()
    sections = set(TrainingConfig.model_fields) - {"name", "task", "checks"}

    assert {f"`[{name}]`" for name in sections} | {"`[[checks]]`"} <= set(re.findall(r"`\[+\w+\]+`", guide))


PAGES = [*ROOT.glob("*.md"), *(path for folder in ("docs", "examples") for path in (ROOT / folder).rglob("*.md"))]


@pytest.mark.parametrize("path", sorted(PAGES), ids=str)
def test_links(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if not link.startswith("https://"):
            file, _, anchor = link.partition("#")
            there = path.parent / file if file else path
            assert there.exists(), link
            assert not anchor or anchor in anchors(there.read_text()), link


def anchors(page: str) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def test_the_speed_that_is_claimed_was_measured() -> None:
    """The row of flights, and what is made of it where the README begins."""
    measured = Path("benchmarks/RESULTS.md").read_text().split("\n## flights: one row")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in measured.splitlines() if line.startswith("|")]
    of = {row[0].strip(): row for row in rows if row[1].strip() == "32"}
    ours, *theirs = (of[name] for name in ("hornpipe", "Triton, Python backend", "MLServer", "BentoML"))
    claims = README.split("\n## ")[0]
    times = re.search(r"(\d+) times .* (\d+) times .* (\d+) times ", claims.replace("\n", " "))
    (told,) = [row for row in table("Speed") if row[0].startswith("flights, one row")]

    assert [told[1], told[2], told[3], told[5]] == [row[2].strip() for row in (ours, *theirs)]
    assert times is not None
    assert [int(each) for each in times.groups()] == [int(per_second(ours) / per_second(row)) for row in theirs]
    assert all(f" {round(float(row[4]))}" in claims for row in (ours, *theirs))


def per_second(row: list[str]) -> float:
    return float(row[2].replace(",", ""))


def test_the_config_shown_is_valid() -> None:
    import tomllib

    from training import config

    whole, more = re.findall(r"```toml\n(.*?)```", README, flags=re.DOTALL)
    assert config.parse(tomllib.loads(whole)).serving.on_unseen == "accept"
    assert config.parse(tomllib.loads(whole + more)).promotion.policy == "canary"


def test_the_sections_shown_in_the_guide_to_retraining_are_valid() -> None:
    import tomllib

    from training import config

    (whole, _) = re.findall(r"```toml\n(.*?)```", README, flags=re.DOTALL)
    base = tomllib.loads(whole)
    shown = re.findall(r"```toml\n(.*?)```", Path("docs/retraining.md").read_text(), flags=re.DOTALL)
    assert len(shown) >= 5
    for each in shown:
        sections = tomllib.loads(each)
        of_before = {name: {} if "by" in section else base.get(name, {}) for name, section in sections.items()}
        config.parse(base | {name: of_before[name] | section for name, section in sections.items()})


def test_what_make_is_told_to_do_exists() -> None:
    makefile = Path("Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    promised = {word for line in re.findall(r"make ((?:[a-z]+ ?)+)", README) for word in line.split()}

    assert {"demo", "test", "slow", "bench", "lint", "types", "architecture"} <= promised & targets
    assert Path(".ci/run").read_text().count("make ") == 3
