"""Decoding: greedy as transformers does it, and unable to leave the label set."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
import torch

from evalsuite.llm.answers.generation import AnswerGrammar, decode
from evalsuite.llm.loading.backbone import Backbone, load_causal_lm
from evalsuite.llm.options import ModelOptions
from evalsuite.prompts import PromptEncoder, load_prompts

LABELS = ("Sport", "Sports", "World", "Sci")


def load(folder: Path) -> Backbone:
    return load_causal_lm(ModelOptions(model=str(folder)), "cpu")


def grammar_of(encoder: PromptEncoder, multilabel: bool = True) -> AnswerGrammar:
    return AnswerGrammar(encoder.first, encoder.later, encoder.none, encoder.end, multilabel)


def encoder_of(backbone: Backbone, multilabel: bool = True) -> PromptEncoder:
    prompts = load_prompts("plain", task="t", labels=LABELS, multilabel=multilabel, descriptions={}, search=[])
    return PromptEncoder(backbone.tokenizer, prompts)


def sequences(grammar: AnswerGrammar) -> set[tuple[int, ...]]:
    """Everything the grammar can write."""
    found, open_paths = set(), [((), grammar.start)]
    while open_paths:
        ids, state = open_paths.pop()
        for token, after in grammar.options(state).items():
            if after:
                open_paths.append(((*ids, token), after))
            else:
                found.add((*ids, token))
    return found


@pytest.mark.parametrize("multilabel", [False, True])
def test_the_grammar_writes_every_answer_and_nothing_else(tiny_llama: Path, multilabel: bool) -> None:
    encoder = encoder_of(load(tiny_llama), multilabel)
    sizes = range(5) if multilabel else [1]
    answers = {tuple(encoder.answer_ids(labels)): labels for size in sizes for labels in combinations(range(4), size)}
    grammar = grammar_of(encoder, multilabel)
    assert sequences(grammar) == set(answers)
    assert all(grammar.read(ids) == labels for ids, labels in answers.items())


def test_a_label_that_begins_the_next_segment_is_written_both_ways() -> None:
    # After segment (1,) both "go on to (1, 2)" and "later segment (2, 3)" begin with token 2.
    grammar = AnswerGrammar([(1,), (1, 2)], [(2, 3), (2, 4)], (7,), 9, multilabel=True)
    assert sequences(grammar) == {(1, 9), (1, 2, 9), (1, 2, 4, 9), (7, 9)}
    assert grammar.read((1, 2, 4, 9)) == (0, 1)
    with pytest.raises(ValueError, match="are no answer"):
        grammar.read((1, 3, 9))


@pytest.mark.parametrize("fixture", ["tiny_llama", "tiny_mistral", "tiny_gemma3", "tiny_qwen", "tiny_hybrid"])
def test_free_decoding_is_greedy_generation(request: pytest.FixtureRequest, fixture: str) -> None:
    backbone = load(request.getfixturevalue(fixture))
    generator = torch.Generator().manual_seed(1)
    prompts = [torch.randint(5, 390, (length,), generator=generator).tolist() for length in (20, 4, 11)]
    end = backbone.tokenizer.eos_token_id
    made = decode(backbone, prompts, end, max_new_tokens=6)
    for prompt, ids in zip(prompts, made, strict=True):
        whole = prompt.copy()
        for _ in ids:
            with torch.no_grad():
                whole.append(int(backbone.model(torch.tensor([whole])).logits[0, -1].argmax()))
        assert whole[len(prompt) :] == ids
        assert len(ids) == 6 or ids[-1] == end


@pytest.mark.parametrize("fixture", ["tiny_llama", "tiny_gemma3", "tiny_hybrid"])
def test_constrained_decoding_takes_the_likeliest_allowed_token(request: pytest.FixtureRequest, fixture: str) -> None:
    backbone = load(request.getfixturevalue(fixture))
    encoder = encoder_of(backbone)
    grammar = grammar_of(encoder)
    texts = ["world news", "the team won the match in the final minute", "", "shares fell"]
    prompts = [encoder.prompt_ids(text, max_length=200)[0] for text in texts]
    counted: list[int] = []
    made = decode(backbone, prompts, encoder.end, grammar=grammar, max_new_tokens=64, done=counted.append)
    assert sum(counted) == len(texts)
    for prompt, ids in zip(prompts, made, strict=True):
        state, whole = grammar.start, list(prompt)
        for token in ids:
            with torch.no_grad():
                logits = backbone.model(torch.tensor([whole])).logits[0, -1]
            options = grammar.options(state)
            assert token == max(options, key=lambda choice: float(logits[choice]))
            state = options[token]
            whole.append(token)
        assert encoder.answer_ids(grammar.read(ids)) == ids


def test_decoding_does_not_depend_on_the_batch(tiny_qwen: Path) -> None:
    backbone = load(tiny_qwen)
    encoder = encoder_of(backbone)
    prompts = [encoder.prompt_ids(text, max_length=200)[0] for text in ("a", "the quick brown fox", "b c d")]
    together = decode(backbone, prompts, encoder.end, grammar=grammar_of(encoder), max_new_tokens=9)
    alone = decode(backbone, prompts, encoder.end, grammar=grammar_of(encoder), max_new_tokens=9, token_budget=1)
    assert together == alone


def test_an_answer_ends_where_the_next_label_might_not_fit() -> None:
    # labels 0 to 3 take 2, 3, 4 and 2 tokens where they go on; 9 is the end mark
    segments = [(10, 1), (20, 1, 1), (30, 1, 1, 1), (40, 1)]
    grammar = AnswerGrammar(segments, segments, (7,), 9, multilabel=True)

    def written(*tokens: int, room: int) -> list[int]:
        state = grammar.start
        for token in tokens:
            state = grammar.options(state)[token]
        return sorted(grammar.allowed(state, room))

    assert written(10, 1, room=5) == [9, 20, 30, 40]
    assert written(10, 1, room=4) == [9]  # label 2 and the end mark take 5
    assert written(30, 1, 1, 1, room=3) == [9, 40]  # after label 2 there is a short one only
    assert written(40, 1, room=1) == [9]
    assert written(10, room=1) == [1]  # a label that was begun is written to its end
    assert written(room=1) == [7, 10, 20, 30, 40]  # and so is the first
    assert written(40, 1, 9, room=0) == [9]


def test_room_for_all_labels_lets_all_be_written(tiny_llama: Path) -> None:
    encoder = encoder_of(load(tiny_llama))
    grammar, ids = grammar_of(encoder), encoder.answer_ids(range(4))
    state = grammar.start
    for position, token in enumerate(ids):
        assert token in grammar.allowed(state, len(ids) - position)
        state = grammar.options(state)[token]
