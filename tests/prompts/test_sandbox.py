"""Templates cannot hang, escape or fill memory, and their mistakes read in one line."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest

from evalsuite.errors import TemplateError, UnknownNameError
from evalsuite.prompts.sandbox import Templates


def render(folder: Path, source: str, **variables: object) -> str:
    target = folder / "mine" / "prompt.j2"
    target.parent.mkdir(exist_ok=True)
    target.write_text(source, encoding="utf-8")
    return Templates([folder]).render("mine/prompt.j2", variables)[0]


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 10**9 }}",
        "{{ 10**9 * 'a' }}",
        "{{ 'a' * 999999999 }}",
        "{{ [0] * 999999999 }}",
        "{{ 10 ** 10 ** 10 }}",
        "{{ 2 ** 0.5 ** -999 }}",
        "{{ '%999999999d' % 1 }}",
        "{{ '{:999999999}'.format(1) }}",
        "{{ 'a'.center(999999999) }}",
        "{{ 'a'.replace('', 'b') }}",
        "{{ text | center(999999999) }}",
        "{{ range(999999999) | list }}",
        "{{ ('a' * 1000) | replace('a', 'b' * 10000) }}",
        "{{ ['a' * 1000] * 1000 | join('a' * 100000) }}",
        "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
        "{% for a in text %}{% for b in text %}{% for c in text %}{{ c }}{% endfor %}{% endfor %}{% endfor %}",
        "{% for a in text %}{% for b in text %}{% endfor %}{% endfor %}",
        "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
        "{% set n = namespace(x=9) %}{% for i in range(60) %}{% set n.x = n.x * n.x %}{% endfor %}",
        "{% for i in range(90000) %}{{ text }}{% endfor %}",
        "{% set big %}{% for i in range(90000) %}{{ text }}{% endfor %}{% endset %}",
        "{% macro f(n) %}{{ f(n - 1) if n }}{{ f(n - 1) if n }}{% endmacro %}{{ f(60) }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% extends 'mine/prompt.j2' %}",
        "{% include 'mine/prompt.j2' %}",
        "{{ lipsum(n=100000) }}",
    ],
)
def test_a_template_that_explodes_fails_fast(tmp_path: Path, source: str) -> None:
    start = time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises(TemplateError):
            render(tmp_path, source, text="x" * 2000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Jinja's own sandbox takes half a minute and a gigabyte.
    assert time.perf_counter() - start < 10
    assert peak < 100 * 2**20


@pytest.mark.parametrize(
    "source",
    [
        "{{ os.getpid() }}",
        "{{ text.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ range.__globals__ }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ labels.append('x') }}",
        "{{ text | attr('__class__') }}",
        "{% include '../../../../etc/hostname' %}",
    ],
)
def test_a_template_cannot_reach_python(tmp_path: Path, source: str) -> None:
    with pytest.raises(TemplateError):
        render(tmp_path, source, text="x", labels=["a"])


def test_documents_are_text_not_templates(tmp_path: Path) -> None:
    text = "{{7*7}} {% raw %} <b>&amp;</b> {{ os.getpid() }}"
    assert render(tmp_path, "{{ text }}", text=text) == text


def test_ordinary_templates_work(tmp_path: Path) -> None:
    source = (
        "{% macro item(x) %}- {{ x | replace('_', ' ') | title }}\n{% endmacro %}"
        "{% for label in labels if label != 'b' %}{{ loop.index }}/{{ loop.length }} {{ item(label) }}{% endfor %}"
        "{{ text.strip().upper() ~ '!' * 3 }} {{ labels | map('upper') | join(', ') }} {{ 7 % 4 + 2 ** 3 }}"
    )
    made = render(tmp_path, source, text=" hi ", labels=["a_x", "b", "c"])
    assert made == "1/2 - A X\n2/2 - C\nHI!!! A_X, B, C 11"


def test_block_ends_keep_their_line_break(tmp_path: Path) -> None:
    assert render(tmp_path, "{% if true %}a{% endif %}\nb") == "a\nb"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("one\n{{ txet }}", "template mine/prompt.j2, line 2: unknown variable 'txet', did you mean text?"),
        (
            "{{ text\n",
            "template mine/prompt.j2, line 1: unexpected end of template, expected 'end of print statement'.",
        ),
        ("{{ text | shout }}", "template mine/prompt.j2, line 1: No filter named 'shout'."),
        ("\n\n{{ 1 // 0 }}", "template mine/prompt.j2, line 3: integer division or modulo by zero"),
        (
            "{% extends 'builtin:plane/prompt.j2' %}",
            "template mine/prompt.j2, line 1: cannot find 'builtin:plane/prompt.j2': "
            "template set 'plane', did you mean plain?",
        ),
    ],
)
def test_mistakes_name_template_line_and_nearest_name(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render(tmp_path, source, text="x", labels=["a"])
    assert str(caught.value) == message


def test_a_mistake_in_an_extended_template_names_that_template(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "prompt.j2").write_text("a\n{% block b %}{% endblock %}\n{{ lable }}")
    with pytest.raises(TemplateError, match=r"^template base/prompt.j2, line 3: unknown variable 'lable'"):
        render(tmp_path, "{% extends 'base/prompt.j2' %}", label="x")


def test_the_hash_follows_the_sources_not_their_folder(tmp_path: Path) -> None:
    hashes = []
    for folder, base in (("a", "one"), ("b", "one"), ("c", "two")):
        (tmp_path / folder / "base").mkdir(parents=True)
        (tmp_path / folder / "base" / "prompt.j2").write_text(base)
        templates = Templates([tmp_path / folder])
        (tmp_path / folder / "mine").mkdir()
        (tmp_path / folder / "mine" / "prompt.j2").write_text("{% extends 'base/prompt.j2' %}")
        templates.render("mine/prompt.j2", {})
        hashes.append(templates.hash())
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_first_folder_wins_and_a_task_folder_wins_inside_it(tmp_path: Path) -> None:
    for name in ("first/s/prompt.j2", "second/s/prompt.j2", "second/s/news/prompt.j2", "second/t/news/prompt.j2"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    templates = Templates([tmp_path / "first", tmp_path / "second"])
    assert templates.render(templates.find("s", "news", "prompt.j2"), {})[0] == "first/s/prompt.j2"
    assert templates.render(templates.find("t", "news", "prompt.j2"), {})[0] == "second/t/news/prompt.j2"
    only_second = Templates([tmp_path / "second"])
    assert only_second.find("s", "news", "prompt.j2") == "s/news/prompt.j2"
    assert only_second.find("s", "other", "prompt.j2") == "s/prompt.j2"


def test_missing_folders_sets_and_files_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match=r"no folder '.*absent' to look for templates in"):
        Templates([tmp_path / "absent"])
    with pytest.raises(UnknownNameError, match=r"unknown template 'plane'. did you mean plain\?"):
        Templates([]).find("plane", "task", "prompt.j2")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "prompt.j2").write_text("x")
    with pytest.raises(TemplateError, match=r"'half' has no answer.j2: add one"):
        Templates([tmp_path]).find("half", "task", "answer.j2")
