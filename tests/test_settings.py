import pytest

from strokelib import settings
from strokelib.errors import ParameterError


def test_an_explicit_value_wins_over_the_environment_and_the_default(monkeypatch):
    assert settings.resolve().profile == "demo"
    monkeypatch.setenv("STROKELIB_PROFILE", "smoke")
    assert settings.resolve().profile == "smoke"
    assert settings.resolve("paper").profile == "paper"


@pytest.mark.parametrize(
    "wrong",
    [
        {"profile": "quick"},
        {"profile": "Demo"},
        {"cohort": "aids"},
        {"cohort": "../../etc"},
        {"seed": -1},
        {"seed": True},
        {"seed": "0"},
        {"seed": 1.0},
        {"data": "/no/such/folder"},
    ],
)
def test_a_wrong_value_is_refused_with_what_was_found_and_wanted(wrong):
    with pytest.raises(ParameterError, match=r"found .*; wanted .*Next step"):
        settings.resolve(**wrong)


def test_a_wrong_environment_variable_is_refused_like_a_wrong_argument(monkeypatch):
    monkeypatch.setenv("STROKELIB_PROFILE", "everything")
    with pytest.raises(ParameterError, match="everything"):
        settings.resolve()


def test_runs_on_different_profiles_cohorts_and_data_never_share_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    chosen = [
        settings.resolve("smoke"),
        settings.resolve("demo"),
        settings.resolve("demo", "xwhd"),
        settings.resolve("demo", data=tmp_path / "a"),
        settings.resolve("demo", data=tmp_path / "b"),
    ]
    assert len({s.work for s in chosen}) == len(chosen)


def test_a_cohort_beside_the_users_own_scans_is_an_embedded_one(tmp_path):
    own = settings.resolve("smoke", "aisd", data=tmp_path)
    assert own.source == "given by the user"
    assert own.beside("aisd") is own
    assert (own.beside("xwhd").cohort, own.beside("xwhd").source) == ("xwhd", "embedded")
    with pytest.raises(ParameterError, match="cohort"):
        own.beside("nobody")


def test_the_description_holds_no_path(tmp_path):
    assert str(tmp_path) not in settings.resolve(data=tmp_path).describe()


def test_a_notebook_about_one_cohort_stands_on_its_embedded_one_unless_the_run_is_about_it():
    assert settings.resolve("smoke", "aisd").embedded_unless("isles2018") == "isles2018"
    assert settings.resolve("smoke", "isles2018").embedded_unless("isles2018") == ""
    with pytest.raises(ParameterError, match="give one of these"):
        settings.resolve("smoke", "aisd").embedded_unless("nowhere")
