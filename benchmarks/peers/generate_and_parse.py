"""Row 4, transformers: ``generate`` in batches, and a parser that knows the labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.worker import Outputs, Work, arithmetic, serve

INVALID = -1


def setup(job: Path, settings: dict[str, Any]) -> Work:
    """Settings: ``batch_size``; device and dtype. An adapter in the job's folder is left unmerged."""
    device, dtype = arithmetic(settings)
    found = json.loads((job / "prompts.json").read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(job / "model", padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(job / "model", dtype=dtype).eval()
    if (job / "adapter").exists():
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, job / "adapter").eval()
    model = model.to(device)
    texts, size = found["texts"], settings["batch_size"]
    room = max(map(len, found["answer_ids"]))
    labels = {answer.strip(): index for index, answer in enumerate(found["answers"])}

    @torch.inference_mode()
    def work() -> Outputs:
        order = sorted(range(len(texts)), key=lambda at: -len(texts[at]))  # of like length, little padding
        answers = np.full(len(texts), INVALID)
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            inputs = tokenizer([texts[at] for at in batch], return_tensors="pt", padding=True).to(device)
            inputs.pop("token_type_ids", None)
            written = model.generate(
                **inputs, do_sample=False, max_new_tokens=room, pad_token_id=tokenizer.pad_token_id
            )
            answered = tokenizer.batch_decode(written[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            answers[batch] = [labels.get(text.strip(), INVALID) for text in answered]
        return {"labels": answers}

    return work


if __name__ == "__main__":
    serve(setup)
