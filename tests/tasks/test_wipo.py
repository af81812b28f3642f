from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from evalsuite.contracts import Splits
from evalsuite.data.validate import validate
from evalsuite.errors import DataError
from evalsuite.tasks.wipo import WipoOptions, evalsuite_register_tasks, load

QUIRKS = {
    "not well-formed XML",
    "unclosed abstract",
    "unclosed description",
    "empty abstract",
    "empty description",
    "bare ampersand",
    "tag-like text",
    "undeclared entity",
    "control characters",
    "line breaks joined",
    "glued words",
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared, so that the sample is made and parsed once."""
    return tmp_path_factory.mktemp("cache")


def _load(cache: Path, **options: Any) -> Splits:
    return load(WipoOptions(**options), cache)


def _tree(root: Path, codes: list[list[str]], tests: list[list[str]] | None = None) -> Path:
    """One record a list of codes, the main one first; text and date follow the number of the record."""
    for split, rows in (("train", codes), ("test", tests or codes)):
        (root / split).mkdir(parents=True)
        for number, (main, *secondary) in enumerate(rows):
            others = "".join(f'<ipc ic="{code}"/>' for code in secondary)
            name = f"US{split[:2]}{number:04d}"
            (root / split / f"{name}_{1 + number % 28:02d}{1 + number // 28:02d}2000.xml").write_text(
                f'<record an="{name}"><ipcs mc="{main}">{others}</ipcs><abs><ab>{split} {number}</ab></abs></record>'
            )
    return root


def _labels(splits: Splits, split: str = "test") -> list[tuple[str, ...]]:
    return [tuple(splits.labels[label] for label in example.labels) for example in getattr(splits, split)]


def test_the_sample_has_every_quirk_and_loses_no_document(cache: Path) -> None:
    start = time.process_time()
    splits = _load(cache, level="section")
    assert time.process_time() - start < 3
    assert splits.synthetic
    assert splits.multilabel
    assert len(splits.train) + len(splits.validation) == 900
    assert len(splits.test) == 165
    assert set(splits.findings) >= QUIRKS
    assert all(len(rows) >= 5 for rows in splits.findings.values())
    assert splits.descriptions["H"] == "electricity"


def test_the_default_is_fourteen_classes_and_counts_who_has_none(cache: Path) -> None:
    splits = _load(cache)
    assert len(splits.labels) == 14
    assert all(len(label) == 3 for label in splits.labels)
    assert all(example.labels for example in splits.train)
    dropped = [len(splits.findings[f"no class among the chosen ({split})"]) for split in ("train", "test")]
    assert len(splits.train) + len(splits.validation) + dropped[0] == 900
    assert len(splits.test) + dropped[1] == 165
    assert not [finding for finding in validate(splits) if finding.severity == "error"]


def test_unmatched_documents_may_be_kept_without_a_label(cache: Path) -> None:
    splits = _load(cache, unmatched="empty")
    assert len(splits.test) == 165
    assert len([example for example in splits.test if not example.labels]) == len(
        splits.findings["no class among the chosen (test)"]
    )
    with pytest.raises(ValidationError, match="unmatched=empty needs multilabel=true"):
        WipoOptions(unmatched="empty", multilabel=False)


def test_the_test_split_of_the_sample_is_later_in_time(cache: Path) -> None:
    _load(cache)
    years = {
        split: {path.stem[-4:] for path in (cache / "samples" / "wipo-2" / split).rglob("*.xml")}
        for split in ("train", "test")
    }
    assert max(years["train"]) < min(years["test"])
    folders = {path.name for path in (cache / "samples" / "wipo-2" / "train").iterdir()}
    assert {"d", "e"} <= folders
    assert not {"D", "E"} & folders
    assert [path.name for path in (cache / "samples" / "wipo-2" / "test").iterdir()] == ["alphatest"]


CODES = [["A01B00100", "B60K00500"], ["A01B00300"], ["A61K00900", "A01C00100"], ["H04L00100"]] * 10


@pytest.mark.parametrize(
    ("level", "labels", "first"),
    [
        ("section", ("A", "B", "H"), ("A", "B")),
        ("class", ("A01", "A61", "B60", "H04"), ("A01", "B60")),
        ("subclass", ("A01B", "A01C", "A61K", "B60K", "H04L"), ("A01B", "B60K")),
        ("group", ("A01B001", "A01B003", "A01C001", "A61K009", "B60K005", "H04L001"), ("A01B001", "B60K005")),
    ],
)
def test_levels_cut_the_codes(level: str, labels: tuple[str, ...], first: tuple[str, ...], tmp_path: Path) -> None:
    splits = _load(tmp_path / "cache", data=str(_tree(tmp_path / "tree", CODES)), level=level)
    assert splits.labels == labels
    assert _labels(splits)[0] == first


def test_top_counts_main_and_secondary_codes_of_train_with_ties_by_code(tmp_path: Path) -> None:
    tree = str(_tree(tmp_path / "tree", CODES, [["H04L00100"]] * 99 + [["A01B00100"]]))
    # A01 stands in three of four documents, A61, B60 and H04 in one each.
    assert _load(tmp_path / "cache", data=tree, top=2).labels == ("A01", "A61")
    assert _load(tmp_path / "cache", data=tree, top=3).labels == ("A01", "A61", "B60")
    assert _load(tmp_path / "cache", data=tree, top="all").labels == ("A01", "A61", "B60", "H04")
    assert _load(tmp_path / "cache", data=tree, top=0, multilabel=False).labels == ("A01", "A61", "B60", "H04")


def test_main_code_alone(tmp_path: Path) -> None:
    splits = _load(tmp_path / "cache", data=str(_tree(tmp_path / "tree", CODES)), multilabel=False, top=3)
    assert not splits.multilabel
    assert _labels(splits)[:3] == [("A01",), ("A01",), ("A61",)]
    assert len(splits.findings["no class among the chosen (test)"]) == 10


def test_451_subclasses_are_as_good_as_14(tmp_path: Path) -> None:
    names = [f"{section}{number:02d}{letter}" for section in "ABCDEFGH" for number in range(1, 20) for letter in "BCK"]
    codes = [[f"{name}00100"] for name in names[:451]] * 2
    splits = _load(tmp_path / "cache", data=str(_tree(tmp_path / "tree", codes)), level="subclass", top=0)
    assert len(splits.labels) == 451
    assert len(splits.train) + len(splits.validation) == len(splits.test) == 902


def test_a_label_map_makes_the_categories_by_longest_prefix(tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text("A: life\nA61K: drugs\nB60: cars\n")
    tree = str(_tree(tmp_path / "tree", CODES))
    splits = _load(tmp_path / "cache", data=tree, label_map=str(tmp_path / "map.yaml"), level="section", top=1)
    assert splits.labels == ("life", "drugs", "cars")
    assert _labels(splits)[:3] == [("life", "cars"), ("life",), ("life", "drugs")]
    assert len(splits.findings["no class among the chosen (train)"]) == 10
    (tmp_path / "map.yaml").write_text("C: one\nD: two\n")
    with pytest.raises(DataError, match="no document has a code among C, D"):
        _load(tmp_path / "cache", data=tree, label_map=str(tmp_path / "map.yaml"))


def test_validation_may_be_the_latest_tenth(tmp_path: Path) -> None:
    splits = _load(
        tmp_path / "cache", data=str(_tree(tmp_path / "tree", CODES * 5)), validation="latest", level="section"
    )
    ends = {name: max(int(example.id[4:]) for example in splits.split(name)) for name in ("train", "validation")}
    assert ends["validation"] == 199
    assert all(int(example.id[4:]) < 180 for example in splits.train)


def test_one_folder_by_itself_is_split_by_hash(tmp_path: Path) -> None:
    tree = _tree(tmp_path / "tree", CODES * 5)
    splits = _load(tmp_path / "cache", data=str(tree / "train"))
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 200
    assert splits.test


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fields": "abstract,titel"}, "unknown field 'titel': did you mean title"),
        ({"level": "klass"}, "'section', 'class', 'subclass' or 'group'"),
        ({"top": -1}, "greater than or equal to 0"),
        ({"tops": 1}, "Extra inputs are not permitted"),
    ],
)
def test_a_bad_option_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        WipoOptions(**options)


def test_later_reads_come_from_the_cache_and_are_much_faster(tmp_path: Path) -> None:
    tree = _tree(tmp_path / "tree", CODES * 20)  # enough for the reading to outweigh what every load costs
    for path in tree.rglob("*.xml"):  # 40 KB, as in the corpus
        body = "<txts><txt>" + "A line of a long description of a device.\n" * 950 + "</txt></txts></record>"
        path.write_text(path.read_text().replace("</record>", body))
    _load(tmp_path / "other")  # imports are not part of the reading
    seconds = []
    for _ in range(6):
        start = time.process_time()
        splits = _load(tmp_path / "cache", data=str(tree))
        seconds.append(time.process_time() - start)
    assert len(splits.test) == 800
    # documents/s: a third of what was measured, as the machine may be busy
    assert 1600 / seconds[0] > 1500
    assert 1600 / min(seconds[1:]) > 15_000


def test_the_task_states_where_it_comes_from() -> None:
    (task,) = evalsuite_register_tasks()
    assert task.multilabel
    assert task.split_sizes == {"train": 46_324, "test": 28_926}
    assert task.source
    assert task.revision
    assert task.licence
    assert task.citation
