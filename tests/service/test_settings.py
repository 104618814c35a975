"""Settings come from the environment, all at once or not at all."""

from pathlib import Path

import pytest

from service.settings import Settings, SettingsError, from_environment, variable


def test_defaults_and_values() -> None:
    assert from_environment({"PATH": "/bin", "HORNPIPE_REVISION": "abc"}) == Settings()
    given = from_environment({"HORNPIPE_PORT": "9000", "HORNPIPE_MODELS_DIR": "/m", "HORNPIPE_RUNTIME": "litert"})

    assert (given.port, given.models_dir, given.runtime) == (9000, Path("/m"), "litert")


def test_every_wrong_variable_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        from_environment({"HORNPIPE_PORT": "http", "HORNPIPE_MAX_ROW": "5", "HORNPIPE_DEVICE": "tpu"})
    lines = sorted(str(caught.value).splitlines())

    assert lines == [
        "HORNPIPE_DEVICE: input should be 'auto', 'cpu' or 'gpu', got 'tpu'",
        "HORNPIPE_MAX_ROW: unknown; did you mean HORNPIPE_MAX_ROWS?",
        "HORNPIPE_PORT: input should be a valid integer, unable to parse string as an integer, got 'http'",
    ]


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())
    assert variable("models_dir") == "HORNPIPE_MODELS_DIR"
