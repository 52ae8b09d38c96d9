#!/usr/bin/env python3
"""Golden vectors of multiple choice, by lm-evaluation-harness itself.

usage: python tools/golden_choice.py OUT [MODEL QUESTIONS.jsonl DELIMITER]

Writes OUT/choice-questions.jsonl, questions made from data/test.txt, from
tests/golden/tokenizer-text.txt and from a seed, and OUT/choice.jsonl: after a
line that names the versions, one line for each of TASKS, or for the model,
questions and delimiter given:

  model            checkpoint; questions: file; ask: its lines that are asked
  refused          its lines that the harness' assertions end at
  post_processor   of tokenizer.json, as a text, in place of its own; null: own
  tokenizer_config that file as a text; null: its own
  bos, delimiter, positions   add_bos_token (null: left to the tokenizer),
                   target_delimiter, max_length (null: the model's)
  context, tokens, likelihood   of each ending asked: tokens of the context, of
                   the ending, their ln p
  accuracy, error  acc, acc_norm and acc_bytes, and their standard errors

The harness runs as it comes: HFLM on the CPU in float32, one pair at a time, a
task of output_type multiple_choice through simple_evaluate.
SPDX-License-Identifier: GPL-3.0-or-later
"""
import json
import os
import random
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
import lm_eval                                              # noqa: E402
import torch                                                # noqa: E402
import transformers                                         # noqa: E402
from lm_eval.api.instance import Instance                   # noqa: E402
from lm_eval.models.huggingface import HFLM                 # noqa: E402

LLAMA, QWEN2, QWEN3 = "data/tiny-llama", "data/tiny-qwen2", "data/tiny-qwen3"
SPACES = [" ", "\n", "\t", "\u00a0", " \n ", "\u3000", "\u2028", "\x1f", "\r\n"]


# ------------------------------------------------------------------ questions

def make_questions(rng):
    lines = open("data/test.txt", encoding="utf-8").read().splitlines()
    lines = [x.split() for x in lines if len(x.split()) > 16]
    world = open("tests/golden/tokenizer-text.txt", encoding="utf-8").read()
    world = [x for x in world.splitlines() if len(x) > 60]

    def ending():
        words = rng.choice(lines)
        at = rng.randrange(len(words) - 4)
        return " ".join(words[at:at + rng.randint(1, 4)])

    def cut():
        words = rng.choice(lines)
        at = rng.randint(4, 10)
        return (" ".join(words[:at]),
                " ".join(words[at:at + rng.randint(1, 4)]))

    def plain():
        context, right = cut()
        return context, [right, ending(), ending()]

    def empty():
        return "", [ending() for _ in range(rng.randint(2, 4))]

    def shared():                       # endings that begin alike
        context, right = cut()
        return context, [right, right + " " + ending(), right + "s", right[:2]]

    def inside():                       # cut within a word
        context, right = plain()
        n = rng.randint(1, 3)
        return context[:-n], [context[-n:] + " " + right[0], context[-n:],
                              right[1]]

    def spaced():
        context, right = plain()
        return context + rng.choice(SPACES), right

    def around():
        context, right = plain()
        return (rng.choice(SPACES) + context,
                [rng.choice(SPACES) + right[0], right[1] + rng.choice(SPACES),
                 right[2].replace(" ", rng.choice(SPACES))])

    def foreign():
        text = rng.choice(world)
        at = rng.randrange(8, 24)
        other = rng.choice(world)
        return text[:at], [text[at:at + 9], other[20:26], "e\u0301, \U0001f600"]

    def special():                      # written out: the prefix token's text
        context, right = plain()
        token = rng.choice(["<|endoftext|>", "<|end_of_text|>"])
        return token + context, [right[0], token + right[1], right[2]]

    def begun():
        token = rng.choice(["<|endoftext|>", "<|end_of_text|>"])
        return "", [token + ending(), ending()]

    def blank():
        return rng.choice(["  ", "\n", "\u00a0"]), [ending(), ending()]

    def long():
        words = sum((rng.choice(lines) for _ in range(2)), [])
        return " ".join(words[:40]), [ending(), ending()]

    kinds = [plain, empty, shared, inside, spaced, around, foreign, special,
             begun, blank, long]
    out = []
    for i in range(6 * len(kinds)):
        context, choices = kinds[i % len(kinds)]()
        out.append((context, choices))
    # beyond 512 positions
    words = sum((rng.choice(lines) for _ in range(14)), [])
    out.append((" ".join(words), [ending(), ending()]))
    for context, choices in out:
        right = choices[0]
        rng.shuffle(choices)
        yield {"context": context, "choices": choices,
               "answer": choices.index(right)}


# ---------------------------------------------------------------------- tasks

def template(*names):
    """TemplateProcessing: names around "A"."""
    single = [{"Sequence": {"id": "A", "type_id": 0}} if n == "A" else
              {"SpecialToken": {"id": n, "type_id": 0}} for n, _ in names]
    pair = single + [{"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": single, "pair": pair,
            "special_tokens": {n: {"id": n, "ids": [i], "tokens": [n]}
                               for n, i in names if n != "A"}}


A = ("A", 0)
TILDE = ("~", 93)                       # of the vocabulary of all three
BYTES = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False,
         "use_regex": True}


def config(**tokens):
    return {"backend": "tokenizers", "tokenizer_class": "TokenizersBackend",
            "clean_up_tokenization_spaces": False, **tokens}


def task(model, delimiter=" ", every=1, questions=None, post=None, own=None,
         bos=None, positions=None):
    return {"model": model, "delimiter": delimiter, "every": every,
            "questions": questions or "tests/golden/choice-questions.jsonl",
            "post_processor": post, "tokenizer_config": own,
            "bos": bos, "positions": positions}


LLAMA_END, QWEN_END = ("<|end_of_text|>", 767), ("<|endoftext|>", 1023)
BOTH = config(bos_token="~", eos_token=LLAMA_END[0])
ADDED = config(bos_token={"__type": "AddedToken", "content": "~",
                          "lstrip": False, "normalized": False,
                          "rstrip": False, "single_word": False,
                          "special": True}, eos_token=LLAMA_END[0],
               add_bos_token=False)     # of no effect beside tokenizer.json
TASKS = [
    task(LLAMA, questions="data/choices.jsonl"),
    task(LLAMA), task(QWEN2, "\n"), task(QWEN3, ""),
    task(LLAMA, "", 3), task(QWEN2, ":\t", 4), task(QWEN3, " \u00e9", 4),
    task(LLAMA, " ", 2, post=template(TILDE, A), own=ADDED),
    task(LLAMA, "\n", 3, own=BOTH,
         post={"type": "Sequence", "processors": [BYTES, template(TILDE, A)]}),
    task(LLAMA, " ", 5, own=BOTH),
    task(LLAMA, " ", 5, post=template(LLAMA_END, A),
         own=config(bos_token=LLAMA_END[0], eos_token=LLAMA_END[0])),
    task(LLAMA, " ", 5, bos=True, own=BOTH),
    task(LLAMA, " ", 5, bos=False, own=BOTH, post=template(TILDE, A)),
    task(LLAMA, " ", 5, own=config(bos_token=None, eos_token="~")),
    task(QWEN2, " ", 3, post=template(QWEN_END, A, TILDE),
         own=config(bos_token=QWEN_END[0], eos_token="~")),
    task(LLAMA, " ", 3, positions=12),
    task(LLAMA, " ", 3, positions=12, post=template(TILDE, A), own=BOTH),
]


# ------------------------------------------------------------------ harness

def tokenizer_of(t, place):
    """The model's tokenizer with what the task changes, in a directory."""
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        with open(os.path.join(t["model"], name), encoding="utf-8") as f:
            content = json.load(f)
        if name == "tokenizer.json" and t["post_processor"]:
            content["post_processor"] = t["post_processor"]
        if name == "tokenizer_config.json" and t["tokenizer_config"]:
            content = t["tokenizer_config"]
        with open(os.path.join(place, name), "w", encoding="utf-8") as f:
            json.dump(content, f)
    return place


class Recorder(HFLM):
    """Keeps what loglikelihood makes of each pair.  dry: runs no model."""
    dry = False

    def _model_call(self, inps, *args, **kwargs):
        if self.dry:
            return torch.zeros(*inps.shape, self.model.config.vocab_size)
        return super()._model_call(inps, *args, **kwargs)

    def _loglikelihood_tokens(self, requests, **kwargs):
        self.seen = {text: (len(c), len(e)) for text, c, e in requests}
        return super()._loglikelihood_tokens(requests, **kwargs)


def accepted(lm, question, delimiter):
    for choice in question["choices"]:
        pair = [Instance(
            request_type="loglikelihood", doc={}, idx=0,
            arguments=(question["context"], delimiter + choice))]
        try:
            lm.loglikelihood(pair, disable_tqdm=True)
        except (AssertionError, IndexError):
            return False
    return True


def run(t, model, place):
    lm = Recorder(pretrained=model, tokenizer=tokenizer_of(t, place),
                  dtype="float32", device="cpu", batch_size=1,
                  max_length=t["positions"], add_bos_token=t["bos"])
    with open(t.pop("from", t["questions"]), encoding="utf-8") as f:
        questions = [json.loads(x) for x in f]
    every = t.pop("every")
    numbers = range(0, len(questions), every)
    lm.dry = True
    t["ask"] = [i for i in numbers
                if accepted(lm, questions[i], t["delimiter"])]
    t["refused"] = [i for i in numbers if i not in t["ask"]]
    lm.dry = False
    asked = [questions[i] for i in t["ask"]]
    with open(os.path.join(place, "asked.jsonl"), "w") as f:
        f.writelines(json.dumps(q) + "\n" for q in asked)
    results = lm_eval.simple_evaluate(
        lm, bootstrap_iters=2, log_samples=True, tasks=[{
            "task": "choice", "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": f.name},
                               "cache_dir": place},
            "test_split": "test", "output_type": "multiple_choice",
            "doc_to_text": "context", "doc_to_choice": "choices",
            "doc_to_target": "answer", "num_fewshot": 0,
            "target_delimiter": t["delimiter"],
            "metric_list": [{"metric": m} for m in
                            ("acc", "acc_norm", "acc_bytes")]}])
    samples = sorted(results["samples"]["choice"], key=lambda s: s["doc_id"])
    t["context"], t["tokens"], t["likelihood"] = [], [], []
    for q, s in zip(asked, samples, strict=True):
        for c, sent, found in zip(q["choices"], s["arguments"],
                                  s["filtered_resps"], strict=True):
            pair = (q["context"], t["delimiter"] + c)
            assert tuple(sent) == pair, (sent, pair)
            t["context"].append(lm.seen[pair][0])
            t["tokens"].append(lm.seen[pair][1])
            t["likelihood"].append(float("%.9g" % found[0]))
    names = ("acc", "acc_norm", "acc_bytes")
    found = results["results"]["choice"]
    t["accuracy"] = [found[m + ",none"] for m in names]
    t["error"] = [found[m + "_stderr,none"] for m in names]
    for name in ("post_processor", "tokenizer_config"):
        t[name] = t[name] and json.dumps(t[name])
    return t


def main():
    out, *own = sys.argv[1:]
    tasks = TASKS
    torch.set_num_threads(1)
    if own:
        tasks = [task(own[0], own[2], questions=own[1])]
    else:
        path = os.path.join(out, "choice-questions.jsonl")
        with open(path, "w", encoding="utf-8") as f:
            for q in make_questions(random.Random(26)):
                f.write(json.dumps(q, ensure_ascii=False) + "\n")
        for t in tasks:
            if t["questions"].endswith("/choice-questions.jsonl"):
                t["from"] = path
    models = {}
    with open(os.path.join(out, "choice.jsonl"), "w") as f:
        versions = [f"{m.__name__} {m.__version__}"
                    for m in (lm_eval, transformers, torch)]
        f.write(json.dumps({"made": "tools/golden_choice.py with "
                            + ", ".join(versions)}) + "\n")
        for t in tasks:
            name = t["model"]
            if name not in models:
                models[name] = transformers.AutoModelForCausalLM \
                    .from_pretrained(name, dtype=torch.float32).eval()
            with tempfile.TemporaryDirectory() as place:
                f.write(json.dumps(run(t, models[name], place)) + "\n")


main()
