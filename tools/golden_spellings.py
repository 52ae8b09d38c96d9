#!/usr/bin/env python3
# golden_spellings.py OUT.tsv: how transformers loads checkpoints that are
# spelled in the ways that lie on people's disks.
#
# Each case is one of tests/golden/tiny-* with some members of config.json
# written anew and its tensors stored in another way; the table has the whole
# config.json, so that tests/test_spellings.c makes the same directory, and the
# nll in nats of 64 tokens (token i is 7 i i + 3 i mod 64) under float32 and
# eager attention, or the first line of what transformers raises; and, where
# gamma refuses, a part of its message.  It refuses what transformers fills with
# random numbers or leaves out with a warning, what is not supported, and NaN.
# SPDX-License-Identifier: GPL-3.0-or-later
import json
import os
import sys
import tempfile
import warnings

import torch
import transformers
from safetensors.torch import load_file, save_file

transformers.logging.set_verbosity_error()
warnings.simplefilter("ignore")
GOLDEN = os.path.join(os.path.dirname(__file__), "..", "tests", "golden")
GONE = object()
IDS = [(7 * i * i + 3 * i) % 64 for i in range(64)]
HEAD, EMBED = "lm_head.weight", "model.embed_tokens.weight"


# ---------------------------------------------------------- ways to store it
def alone(t):                           # a tied model's one matrix, as head
    return {HEAD if n == EMBED else n: x for n, x in t.items() if n != HEAD}


def twice(t):
    return t | {HEAD: t[EMBED].clone()}


def differ(t):
    return t | {HEAD: t[EMBED] * 2}


def bare(t):
    return {n.removeprefix("model."): x for n, x in t.items()}


def bare_alone(t):
    return bare(alone(t))


def both(t):                            # each tensor under both names
    return t | {n: x.clone() for n, x in bare(t).items()}


def double(t):
    return {n: x.double() for n, x in t.items()}


def mixed(t):                           # every type in turn
    kinds = [torch.float64, torch.float32]
    return {n: x.to(kinds[i % 2]) for i, (n, x) in enumerate(sorted(t.items()))}


def extra(t):                           # tensors that no model needs
    return t | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(6),
                "a.mask": torch.tensor([True, False, True]),
                "a.minus": torch.tensor([-torch.inf, torch.nan]),
                "a.short": torch.ones(3, dtype=torch.int16),
                "a.f8": torch.ones(5).to(torch.float8_e4m3fn),
                "a.complex": torch.ones(2, dtype=torch.complex64)}


def plain(t):
    return t


R = "rope_parameters"
OLD = {R: GONE, "rope_theta": 1e4}
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}
L3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
      "high_freq_factor": 4.0, "rope_theta": 1e4}
OUTSIDE = "original_max_position_embeddings"
INSIDE = {OUTSIDE: 256}
Q = "quantization_config"
NOT = "is there, but not in the model that config.json describes"
ALREADY = "this checkpoint is quantized already"
#   model, members of config.json, raw text put at its end, how it is stored,
#   what gamma says instead of loading it
CASES = [
    ("llama", {}, "", plain),
    ("qwen2", {}, "", plain),
    ("qwen3", {}, "", plain),
    ("bias", {}, "", plain),
    # architectures
    ("llama", {"architectures": ["LLaMAForCausalLM"]}, "", plain),
    ("llama", {"architectures": ["LlamaModel"]}, "", plain),
    ("llama", {"architectures": []}, "", plain),
    ("llama", {"architectures": None}, "", plain),
    ("llama", {"architectures": GONE}, "", plain),
    ("llama", {"architectures": "LlamaForCausalLM"}, "", plain),
    ("llama", {"architectures": ["LlamaForSequenceClassification"]}, "", plain),
    ("llama", {"architectures": ["MistralForCausalLM", "x"]}, "", plain),
    ("llama", {"model_type": "LLaMA"}, "", plain, 'found "LLaMA"'),
    ("llama", {"model_type": GONE}, "", plain, "found nothing"),
    # activation
    ("llama", {"hidden_act": "swish"}, "", plain),
    ("llama", {"hidden_act": "SiLU"}, "", plain, 'found "SiLU"'),
    ("qwen3", {"hidden_act": "swish"}, "", plain),
    # rotary
    ("llama", {R: {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
     "", plain),
    ("llama", OLD | {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "",
     plain),
    ("llama", OLD | {"rope_scaling": {"type": "dynamic", "factor": 2.0},
                     "max_position_embeddings": 64}, "", plain),
    ("llama", OLD | {"rope_scaling": {"type": "dynamic", "factor": 2.0},
                     "max_position_embeddings": 40}, "", plain),
    ("llama", OLD | {"rope_scaling": {"type": "dynamic", "factor": 2.0},
                     "max_position_embeddings": 2048, OUTSIDE: 32}, "", plain),
    ("qwen2", OLD | {"rope_scaling": {"rope_type": "dynamic", "factor": 8.0},
                     "max_position_embeddings": 33}, "", plain),
    ("llama", {R: {"rope_type": "dynamic", "rope_theta": 1e4}}, "", plain,
     "rope_parameters.factor: expected a number"),
    ("llama", OLD | {"rope_scaling": {"type": "longrope"}}, "", plain,
     "rope_scaling.long_factor: expected a list"),
    ("llama", {R: L3 | INSIDE}, "", plain),
    ("llama", {R: L3, OUTSIDE: 256}, "", plain),
    ("llama", {R: L3 | {OUTSIDE: 64}, OUTSIDE: 256}, "", plain),
    ("llama", {R: L3, OUTSIDE: None}, "", plain, OUTSIDE + ": expected an integer"),
    ("llama", {R: L3}, "", plain),
    ("llama", OLD | {"rope_scaling": L3 | INSIDE, OUTSIDE: 512}, "", plain),
    ("llama", {R: YARN | INSIDE}, "", plain),
    ("llama", {R: YARN, OUTSIDE: 256}, "", plain),
    ("llama", {R: YARN | {OUTSIDE: 64}, OUTSIDE: 256}, "", plain),
    ("llama", {R: YARN}, "", plain),
    ("llama", {R: YARN | INSIDE | {"truncate": None}}, "", plain),
    ("llama", {R: YARN | INSIDE | {"factor": None}}, "", plain,
     "rope_parameters.factor: expected a number"),
    ("llama", OLD | {OUTSIDE: 256}, "", plain),
    ("llama", OLD | {"rope_scaling": {"type": "linear", "factor": 2.0},
                     OUTSIDE: 256}, "", plain),
    ("llama", OLD | {"rope_scaling": None}, "", plain),
    ("llama", OLD | {"rope_scaling": {}}, "", plain),
    # what changes the model in transformers 5 alone
    ("llama", {"per_layer_config": {"1": {"rms_norm_eps": 0.5}}}, "", plain,
     "per_layer_config: expected none (not supported), found an object"),
    ("llama", {"transformers_weights": "other.safetensors"}, "", plain,
     "transformers_weights: expected none (not supported), found \"other."),
    ("llama", {"is_causal": True}, "", plain),
    ("llama", {"is_causal": False}, "", plain,
     "is_causal: expected true, found false"),
    ("llama", {"is_causal": None}, "", plain, "is_causal: expected true"),
    # biases and windows
    ("qwen2", {"attention_bias": False}, "", plain),
    ("qwen2", {"attention_bias": True}, "", plain),
    ("bias", {"attention_bias": None}, "", plain, NOT),
    ("qwen2", {"mlp_bias": True}, "", plain),
    ("qwen3", {"mlp_bias": True}, "", plain),
    ("bias", {"attention_bias": False}, "", plain, NOT),
    ("qwen2", {"max_window_layers": 0}, "", plain),
    ("qwen2", {"max_window_layers": 0, "layer_types": GONE}, "", plain),
    ("qwen2", {"max_window_layers": 1 << 40, "layer_types": GONE,
               "use_sliding_window": True, "sliding_window": 4}, "", plain),
    ("qwen2", {"max_window_layers": 0, "layer_types": GONE,
               "use_sliding_window": True, "sliding_window": 4}, "", plain,
     "use_sliding_window: expected false"),
    ("qwen2", {"max_window_layers": 0, "layer_types": GONE,
               "use_sliding_window": True, "sliding_window": None}, "", plain),
    ("qwen3", {"max_window_layers": 0, "layer_types": GONE}, "", plain),
    # Python's JSON
    ("llama", {}, '"a": Infinity, "b": -Infinity, "c": NaN, "d": 1e999', plain),
    ("llama", {}, '"hidden_act": "swish", "bos_token_id": 1', plain),
    ("llama", {}, '"rms_norm_eps": 0.5, "rms_norm_eps": 1e-5', plain),
    ("llama", {}, '"rope_parameters": {"rope_type": "default"}', plain),
    ("llama", {}, '"rms_norm_eps": NaN', plain, "found nan"),
    ("llama", {}, '"rms_norm_eps": Infinity', plain, "found inf"),
    ("llama", {}, '"rope_theta": Infinity', plain),
    ("llama", {}, '"num_hidden_layers": NaN', plain, "found nan"),
    ("llama", {}, '"a": nan', plain, "expected a value, found 'n'"),
    ("llama", {}, '"a": 01', plain, "expected ',' or '}'"),
    # tensors
    ("bias", {}, "", alone),
    ("bias", {}, "", twice),
    ("bias", {}, "", differ),
    ("bias", {"tie_word_embeddings": False}, "", alone,
     "tensor model.embed_tokens.weight is missing"),
    ("bias", {"tie_word_embeddings": False}, "", plain,
     "tensor lm_head.weight is missing"),
    ("llama", {"tie_word_embeddings": True}, "", plain),
    ("llama", {"tie_word_embeddings": True}, "", alone),
    ("llama", {}, "", bare),
    ("qwen2", {}, "", bare),
    ("qwen3", {}, "", bare),
    ("qwen3", {"architectures": ["Qwen3Model"]}, "", bare),
    ("bias", {}, "", bare),
    ("bias", {}, "", bare_alone),
    ("llama", {}, "", both),
    ("llama", {}, "", double),
    ("bias", {}, "", double),
    ("qwen3", {}, "", mixed),
    ("llama", {}, "", extra),
    ("qwen2", {}, "", extra),
    # quantized
    ("llama", {Q: {}}, "", plain, ALREADY),
    ("llama", {Q: None}, "", plain),
    ("llama", {Q: {"quant_method": "gptq", "bits": 4}}, "", plain,
     'found "gptq": ' + ALREADY),
    ("llama", {Q: {"quant_method": "unheard"}}, "", plain,
     'found "unheard": ' + ALREADY),
]


def config_text(model, change, raw):
    with open(f"{GOLDEN}/tiny-{model}/config.json") as f:
        config = json.load(f) | change
    text = json.dumps({k: v for k, v in config.items() if v is not GONE})
    return text[:-1] + (", " + raw if raw else "") + "}"


def nll(directory):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.inference_mode():
        p = model(torch.tensor([IDS])).logits[0, :-1].double().log_softmax(-1)
    return -p.gather(1, torch.tensor(IDS[1:])[:, None]).mean().item()


def stored(model):
    directory = f"{GOLDEN}/tiny-{model}"
    return {n: x for f in sorted(os.listdir(directory))
            if f.endswith(".safetensors")
            for n, x in load_file(f"{directory}/{f}").items()}


def main():
    with open(sys.argv[1], "w") as out:
        print("# made by tools/golden_spellings.py with transformers "
              f"{transformers.__version__}, torch {torch.__version__}\n"
              "model\tstored\tnll\traises\tgamma\tconfig", file=out)
        for model, change, raw, store, *gamma in CASES:
            with tempfile.TemporaryDirectory() as d:
                text = config_text(model, change, raw)
                with open(f"{d}/config.json", "w") as f:
                    f.write(text)
                save_file(store(stored(model)), f"{d}/model.safetensors",
                          {"format": "pt"})
                value, says = "-", "-"
                try:
                    value = f"{nll(d):.7f}"
                except Exception as e:
                    says = f"{type(e).__name__}: {e}".split("\n")[0]
                    says = says.replace(d, "DIR").replace("\t", " ")[:150]
            print(model, store.__name__, value, says, *(gamma or ["-"]), text,
                  sep="\t", file=out, flush=True)


main()
