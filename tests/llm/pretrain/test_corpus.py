"""Cleaning of the pretraining corpus."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from evalsuite.errors import DataError
from evalsuite.llm.pretrain.corpus import (
    UNKNOWN_LICENCE,
    is_prose,
    read_corpus,
    read_dictd,
    read_html,
    read_source,
    read_strings,
    read_text,
    read_wikitext,
    split_held_out,
    undo_wikitext,
)

PROSE = "The harbour was quiet in the morning, and the boats lay still beside the old stone wall."


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("a mass of 0 @.@ 7 kg", "a mass of 0.7 kg"),
        ("1 @,@ 024 red @-@ tipped claws", "1,024 red-tipped claws"),
        ('the " crusher " , which', 'the "crusher", which'),
        ("I don 't know ; it 's his", "I don't know; it's his"),
        ("a length ( 24 in ) of", "a length (24 in) of"),
        ("the 1888 – 89 season", "the 1888-89 season"),
        ("the <unk> of it", "the of it"),
    ],
)
def test_wikitext_tokenisation_is_undone(tokens: str, text: str) -> None:
    assert undo_wikitext(tokens) == text


def test_wikitext_splits_at_titles_not_at_headings() -> None:
    raw = (
        " \n = Lobster = \n \n It is blue . \n \n = = Life cycle = = \n It moults . \n \n = Crab = \n \n It walks . \n"
    )
    assert list(read_wikitext(raw)) == ["Lobster\nIt is blue.\nLife cycle\nIt moults.", "Crab\nIt walks."]


def test_dictd_entries_lose_markup_and_pronunciation() -> None:
    raw = (
        'Coagulate \\Co*ag"u*late\\, v. i.\n   To undergo {coagulation}.\n   [1913 Webster]\n\nCoagulum\n'
        "   A coagulated\n   mass, as curd of {milk}.\n"
    )
    assert list(read_dictd(raw)) == [
        "Coagulate, v. i. To undergo coagulation.",
        "Coagulum A coagulated mass, as curd of milk.",
    ]


def test_html_keeps_running_text_and_drops_code() -> None:
    page = f"<head><title>t</title></head><p>The <em>harbour</em>{PROSE[11:]}</p><pre>{PROSE}</pre><p>Next</p>"
    assert list(read_html(page)) == [PROSE]


def test_text_is_unwrapped_and_code_left_out() -> None:
    raw = (
        PROSE.replace("morning, ", "morning,\n  ")
        + "\n\n  for (i = 0; i < n; i++) { total[i] += weights[i] * values[i]; }\n"
    )
    assert list(read_text(raw)) == [PROSE]


def test_game_strings_are_found() -> None:
    assert list(read_strings(f'message= _ "{PROSE}"\nname=x\n\t`{PROSE}`\n')) == [f"{PROSE}\n{PROSE}"]


def test_prose_needs_letters_and_words() -> None:
    assert is_prose(PROSE)
    assert not is_prose("0x1f 0x2e 17:23:05 [####] 99.5% 1024/4096 == {} ;; ++ -- 0x1f 0x2e 17:23:05")
    assert not is_prose("Too short.")


def test_a_package_is_known_by_name_and_read_by_its_patterns(tmp_path: Path) -> None:
    folder = tmp_path / "dict-jargon_4.4.7-3.1" / "usr" / "share" / "dictd"
    folder.mkdir(parents=True)
    (folder / "jargon.dict.dz").write_bytes(gzip.compress(f"hacker\n   {PROSE}\n".encode()))
    (folder / "notes.txt").write_text(PROSE)
    (tmp_path / "unrelated").mkdir()
    (source,) = read_corpus([tmp_path])
    assert (source.name, source.version, source.licence) == ("dict-jargon", "4.4.7-3.1", "public domain")
    assert source.documents == (f"hacker {PROSE}",)


def test_reading_is_deterministic_and_the_hash_follows_the_text(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text(PROSE)
    first, again = read_source(file), read_source(file)
    assert first == again
    assert first.licence == UNKNOWN_LICENCE
    file.write_text(PROSE.replace("quiet", "noisy"))
    assert read_source(file).sha256 != first.sha256


def test_held_out_articles_come_from_wikitext_alone(tmp_path: Path) -> None:
    articles = "".join(f" = Title {i} = \n \n Text number {i} . \n" for i in range(20))
    (tmp_path / "wiki.test.tokens").write_text(articles)
    (tmp_path / "notes.txt").write_text(PROSE)
    train, held_out = split_held_out(read_corpus([tmp_path]))
    assert [d.splitlines()[0] for d in held_out] == ["Title 9", "Title 19"]
    assert not set(held_out) & {document for document, _ in train}
    assert (PROSE, 1) in train


def test_missing_and_empty_corpora_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_corpus([tmp_path / "absent"])
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(DataError, match="no English text"):
        read_corpus([tmp_path])


def test_a_corpus_too_small_to_measure_on_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text(PROSE)
    with pytest.raises(DataError, match="too few"):
        split_held_out(read_corpus([tmp_path]))
