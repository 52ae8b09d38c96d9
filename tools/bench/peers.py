#!/usr/bin/env python3
# peers.py: the ratios of `make bench`: each operation of ours (build/bench)
# and the same by other libraries, in turns, on the same data.
# Writes only its table and a temporary directory.
# SPDX-License-Identifier: GPL-3.0-or-later
"""bench/peers.py [--model DIR --tokens FILE.npy] [--rounds 5] [--only gptq]
                  [--out build/bench.tsv]

A row is one operation against one peer; a round times ours, then each peer;
ratio = median over the rounds of peer's time / our time (above 1: we are
faster).  Time: of the processor with one thread, so that other work on the
machine counts little; of the clock with more.  `differ`: largest difference
of the two results over the largest value, or, of solve, of the objectives.
A peer that is not here is a row saying so.

Models are random with the true shapes (SmolLM2-135M whole, for blocks also
Qwen3-0.6B, Qwen2.5-1.5B and Llama-3.1-8B); --model: that directory instead of
the first.
"""
import argparse
import contextlib
import functools
import importlib
import os
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))


def have(name):
    try:
        # gptqmodel talks on stdout; the table goes there
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module(name)
    except Exception as why:    # a broken one is as good as none
        if not isinstance(why, ImportError):
            print(f"{name}: {type(why).__name__}: {why}", file=sys.stderr)
        return None


np = have("numpy")
torch = have("torch") if np else None
transformers = have("transformers") if torch else None
scipy = have("scipy") if have("scipy.optimize") and have("scipy.sparse") else None

GROUP, BITS, DAMPING = 128, 4, 0.01
CBC_SECONDS = 60

# goals of issue "fast, small and wide": our speed over the peer's
GOALS = {"forward": 1, "backward": 1, "gptq": 5, "perplexity": 1, "solve": 1,
         "gemm": 1}


class Table:
    """Rows to the terminal and to the file."""

    def __init__(self, path):
        self.file = open(path, "w")

    def line(self, text):
        print(text, flush=True)
        self.file.write(text + "\n")
        self.file.flush()

    def row(self, what, shape, threads, ours, peer, theirs, ratio, differ,
            of_peak=""):
        goal = GOALS.get(what.split()[0], "")
        self.line("\t".join([what, shape, str(threads), ours, peer, theirs,
                             ratio, str(goal), differ, of_peak]))

    def missing(self, what, peer):
        self.row(what, "-", "-", "-", peer, "missing", "-", "-")


def first_line(*command):
    try:
        return subprocess.run(command, capture_output=True,
                              text=True).stdout.split("\n")[0]
    except OSError:
        return "missing"


def header(table, o):
    cpu = "unknown"
    with contextlib.suppress(OSError):
        cpu = re.search(r"model name\s*: (.*)",
                        open("/proc/cpuinfo").read())[1]
    isa = subprocess.run([o.bench + "/gemm", "--model", "none", *o.ours],
                         capture_output=True, text=True).stderr.split("\n")
    table.line(f"# machine\t{cpu}, {os.cpu_count()} processors, "
               f"{platform.system()} {platform.release()}")
    table.line(f"# compiler\t{first_line(o.cc, '--version')}")
    table.line(f"# flags\t{o.flags}")
    table.line("# kernels\t" + ", ".join(filter(None, isa)))
    names = {"numpy": np, "scipy": scipy, "torch": torch,
             "transformers": transformers}
    table.line("# peers\t" + ", ".join(
        f"{n} {m.__version__ if m else 'missing'}" for n, m in names.items()))
    table.line(f"# load\t{os.getloadavg()[0]:.1f} others at the start")
    table.line("what\tshape\tthreads\tours_s\tpeer\tpeer_s\tratio\tgoal\t"
               "differ\tof_peak")


# ------------------------------------------------------------------ ours

class Ours:
    """build/bench/ops as a server."""

    def __init__(self, o, model, work, S, T):
        self.work = work
        self.process = subprocess.Popen(
            [o.bench + "/ops", model, work, str(S), str(T)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if o.isa:
            self.ask(f"isa {o.isa}")

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return tuple(map(float, self.process.stdout.readline().split()))

    def read(self, name, dtype):
        return np.fromfile(os.path.join(self.work, name), dtype)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def timed(run):
    """Seconds of clock and processor, and the result."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    return (time.perf_counter() - wall, time.process_time() - cpu), result


def distance(a, b):
    a, b = np.asarray(a).ravel(), np.asarray(b).ravel()
    return float(np.abs(a - b).max() / np.abs(b).max())


def compare(o, table, what, shape, ours, command, result, peers, counts=None):
    """peers: name -> (prepare, run, result); prepare gives run's argument."""
    for threads in counts or o.threads:
        torch.set_num_threads(threads)
        ours.ask(f"threads {threads}")
        which = 0 if threads > 1 else 1
        pause = 0.3 if threads > 1 else 0
        us, them = [], {name: [] for name in peers}
        differ = {}
        for r in range(o.rounds + 1):       # the first is not counted
            time.sleep(pause)               # threads that spin go to sleep
            seconds = ours.ask(command)[which]
            if r:
                us.append(seconds)
            for name, (prepare, run, answer) in peers.items():
                argument = prepare()
                time.sleep(pause)
                seconds, out = timed(lambda: run(argument))
                if r:
                    them[name].append(seconds[which])
                else:
                    differ[name] = distance(answer(out), result())
        for name in peers:
            ratio = statistics.median(b / a for a, b in zip(us, them[name]))
            table.row(what, shape, threads, f"{statistics.median(us):.4f}",
                      name, f"{statistics.median(them[name]):.4f}",
                      f"{ratio:.2f}", f"{differ[name]:.1e}")


# --------------------------------------------------------- random models

def configs():
    llama, qwen = transformers.LlamaConfig, transformers.Qwen3Config
    qwen2 = transformers.Qwen2Config
    return {
        "SmolLM2-135M": (llama, dict(
            hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
            num_attention_heads=9, num_key_value_heads=3, vocab_size=49152,
            tie_word_embeddings=True), 2),
        "Qwen3-0.6B": (qwen, dict(
            hidden_size=1024, intermediate_size=3072, num_hidden_layers=1,
            num_attention_heads=16, num_key_value_heads=8, head_dim=128,
            vocab_size=256, tie_word_embeddings=True), 2),
        "Qwen2.5-1.5B": (qwen2, dict(
            hidden_size=1536, intermediate_size=8960, num_hidden_layers=1,
            num_attention_heads=12, num_key_value_heads=2, vocab_size=256,
            tie_word_embeddings=True), 2),
        "Llama-3.1-8B": (llama, dict(
            hidden_size=4096, intermediate_size=14336, num_hidden_layers=1,
            num_attention_heads=32, num_key_value_heads=8, vocab_size=256,
            tie_word_embeddings=True), 1)}


def write_model(folder, kind, settings):
    torch.manual_seed(1)
    config = kind(max_position_embeddings=8192, **settings)
    transformers.AutoModelForCausalLM.from_config(
        config, dtype=torch.float32).save_pretrained(folder)


def load_model(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa").eval()


def write_data(work, d, rows, tokens):
    torch.manual_seed(2)
    h, dy = torch.randn(rows, d), torch.randn(rows, d)
    h.numpy().tofile(os.path.join(work, "h.f32"))
    dy.numpy().tofile(os.path.join(work, "dy.f32"))
    np.save(os.path.join(work, "tokens.npy"), tokens.astype(np.int32))
    return h, dy


# ----------------------------------------------------------- operations

def nothing():
    return None


def rope_of(model, h, T):
    return model.model.rotary_emb(h, torch.arange(T)[None])


def linears(layer):
    from rtn import LINEARS
    return [layer.get_submodule(n).weight for n in LINEARS]


def blocks(o, table, name, ours, model, h, dy, S, T):
    layer = model.model.layers[0]
    x, g = h.view(S, T, -1), dy.view(S, T, -1)
    rope = rope_of(model, x, T)

    def run(_):
        out = layer(x, attention_mask=None, position_embeddings=rope)
        return out[0] if isinstance(out, tuple) else out

    def forward(_):
        with torch.inference_mode():
            return run(None)

    def gradients(y):
        for w in linears(layer):
            w.grad = None
        y.backward(g)
        return np.concatenate([w.grad.numpy().ravel() for w in linears(layer)])

    shape = f"{name}, {S} x {T} tokens"
    compare(o, table, "forward", shape, ours, "forward",
            lambda: ours.read("y.f32", np.float32),
            {"torch float32": (nothing, forward, lambda y: y.numpy())})
    model.requires_grad_(False)
    for w in linears(layer):
        w.requires_grad_(True)
    compare(o, table, "backward", shape, ours, "backward",
            lambda: ours.read("grad.f32", np.float32),
            {"torch float32": (lambda: run(None), gradients, lambda a: a)})
    model.requires_grad_(False)


def matrices(o, table, name, ours, h):
    R, d = h.shape
    double, array = h.double(), h.numpy().astype(np.float64)
    lower = lambda: np.tril(ours.read("H.f64", np.float64).reshape(d, d))
    compare(o, table, "hessian", f"{name}, {R} x {d}", ours, "gram", lower, {
        "torch float64": (nothing, lambda _: h.double().T @ h.double(),
                          lambda a: np.tril(a.numpy())),
        "torch float32": (nothing, lambda _: h.T @ h,
                          lambda a: np.tril(a.numpy())),
        "numpy float64": (nothing, lambda _: array.T @ array, np.tril)},
        None)
    H = double.T @ double
    damped = H + DAMPING * H.diag().mean() * torch.eye(d, dtype=H.dtype)
    lower = lambda: np.tril(ours.read("L.f64", np.float64).reshape(d, d))
    compare(o, table, "cholesky", f"{name}, {d}", ours, "cholesky", lower, {
        "torch float64": (nothing, lambda _: torch.linalg.cholesky(damped),
                          lambda a: a.numpy()),
        "numpy float64": (nothing,
                          lambda _: np.linalg.cholesky(damped.numpy()),
                          lambda a: a)})
    return H


def gptq_torch(W, H):
    """The published algorithm (Frantar et al. 2022, its code's order of
    work: float32, blocks of 128 columns)."""
    W, n, block = W.clone(), W.shape[1], 128
    damped = H.float() + DAMPING * H.diag().mean().float() * torch.eye(n)
    U = torch.linalg.cholesky(torch.cholesky_inverse(
        torch.linalg.cholesky(damped)), upper=True)
    Q, top = torch.zeros_like(W), 2 ** BITS - 1
    for first in range(0, n, block):
        end = min(first + block, n)
        W1, E1 = W[:, first:end].clone(), torch.zeros(W.shape[0], end - first)
        for i in range(end - first):
            if (first + i) % GROUP == 0:
                part = W[:, first + i:first + i + GROUP]
                lo, hi = part.amin(1).clamp(max=0), part.amax(1).clamp(min=0)
                scale = ((hi - lo) / top).half().float()
                zero = torch.round(-lo / scale)
            w, d = W1[:, i], U[first + i, first + i]
            q = scale * ((torch.round(w / scale) + zero).clamp(0, top) - zero)
            Q[:, first + i] = q
            e = (w - q) / d
            W1[:, i:] -= e[:, None] * U[first + i, first + i:end][None]
            E1[:, i] = e
        W[:, end:] -= E1 @ U[first:end, end:]
    return Q


def gptq_peers(W, H, x):
    peers = {"torch, published loop": (nothing, lambda _: gptq_torch(W, H),
                                       lambda q: q.numpy())}
    if not have("gptqmodel.quantization.gptq"):
        return peers
    from gptqmodel.quantization.config import QuantizeConfig
    from gptqmodel.quantization.gptq import GPTQ

    def prepare():
        module = torch.nn.Linear(W.shape[1], W.shape[0], bias=False)
        module.weight.data = W.clone()
        with contextlib.redirect_stdout(sys.stderr):
            gptq = GPTQ(module, QuantizeConfig(
                bits=BITS, group_size=GROUP, desc_act=False, sym=False))
        gptq.quantizer.configure(perchannel=True)
        gptq.add_batch(x[None], module(x)[None])
        return gptq

    def run(gptq):
        with contextlib.redirect_stdout(sys.stderr):
            return gptq.quantize()[0]

    peers["GPTQModel"] = (prepare, run, lambda q: q.float().numpy())
    return peers


def gptq(o, table, name, ours, model, H, h):
    W = model.model.layers[0].mlp.gate_proj.weight.detach()
    peers = gptq_peers(W, H, h)
    compare(o, table, "gptq", f"{name}, gate {tuple(W.shape)}", ours, "gptq",
            lambda: ours.read("q.f32", np.float32), peers)
    if "GPTQModel" not in peers:
        table.missing("gptq", "GPTQModel")


def stage1_torch(model, h0, S, T, bits):
    """One step's losses and gradients g_mk by autograd, theta = 0."""
    from rtn import LINEARS, rtn
    from torch.func import functional_call
    layers = model.model.layers
    Q = [[torch.stack([rtn(layer.get_submodule(n).weight, b, GROUP)
                       for b in bits]) for n in LINEARS] for layer in layers]
    rope = rope_of(model, h0, T)

    def block(layer, weights, h):
        out = functional_call(layer, weights, (h,), dict(
            attention_mask=None, position_embeddings=rope))
        return out[0] if isinstance(out, tuple) else out

    def run(_):
        h, total, ps = h0, 0.0, []
        for layer, candidates in zip(layers, Q):
            with torch.no_grad():
                y = block(layer, {}, h)
            p = torch.full((len(LINEARS), len(bits)), 1 / len(bits),
                           requires_grad=True)
            weights = {n + ".weight": torch.einsum("k,koi->oi", p[j], q)
                       for j, (n, q) in enumerate(zip(LINEARS, candidates))}
            error = (block(layer, weights, h) - y).square().sum(-1)
            E = (error / y.square().sum(-1)).mean()
            E.backward()
            total, h = total + E.item(), y
            ps.append(p)
        return torch.cat([p.grad for p in ps]) / total

    return run


def stage1(o, table, ours, model, tokens, S, T):
    with torch.no_grad():
        h0 = model.model.embed_tokens(tokens[:S * T].long()).view(S, T, -1)
    model.requires_grad_(False)
    run = stage1_torch(model, h0, S, T, [2, 3, 4])
    compare(o, table, "stage I step",
            f"{len(model.model.layers)} blocks, {S} x {T} tokens, K = 3",
            ours, "step", lambda: ours.read("g.f64", np.float64),
            {"torch float32": (nothing, run, lambda g: g.numpy())})


def perplexity(o, table, ours, model, tokens, T):
    windows = tokens[:len(tokens) // T * T].view(-1, T).long()

    @torch.inference_mode()
    def run(_):
        nll = 0.0
        for w in windows:
            logits = model(w[None]).logits[0, :-1]
            nll += torch.nn.functional.cross_entropy(
                logits, w[1:], reduction="sum").item()
        return nll / (len(windows) * (T - 1))

    compare(o, table, "perplexity", f"{len(windows)} windows of {T}", ours,
            "perplexity", lambda: ours.read("nll.f64", np.float64),
            {"transformers": (nothing, run, lambda nll: [nll])})


# ------------------------------------------------------------------- solve

def textbook(path, size, score, budget):
    """The program as one writes it down, CPLEX LP format."""
    M, K = size.shape
    name = [[f"x{m}_{k}" for k in range(K)] for m in range(M)]
    with open(path, "w") as f:
        add = lambda c: " + ".join(f"{c[m, k]:.0f} {name[m][k]}\n"
                                   for m in range(M) for k in range(K))
        f.write(f"minimize\n{add(score)}subject to\n{add(size)}"
                f"<= {budget}\n")
        for row in name:
            f.write(" + ".join(row) + " = 1\n")
        f.write("binary\n" + "\n".join(" ".join(r) for r in name) + "\nend\n")


def child(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    out = subprocess.run(command, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(getattr(after, n) - getattr(before, n)
               for n in ("ru_utime", "ru_stime")), out.stdout + out.stderr


def by_cbc(path, size, score, budget):
    textbook(path, size, score, budget)
    seconds, out = child(["cbc", path, "-ratioGap", "0", "-allowableGap", "0",
                          "-seconds", str(CBC_SECONDS), "-solve", "-quit"])
    found = re.search(r"Objective value:\s+(\S+)", out)
    if "Optimal solution found" not in out:
        return seconds, None
    return seconds, float(found[1])


def by_highs(path, size, score, budget):
    M, K = size.shape
    one = scipy.sparse.kron(scipy.sparse.eye(M), np.ones((1, K)))
    cpu = time.process_time()
    answer = scipy.optimize.milp(
        score.ravel(), integrality=np.ones(M * K),
        bounds=scipy.optimize.Bounds(0, 1),
        constraints=[scipy.optimize.LinearConstraint(one, 1, 1),
                     scipy.optimize.LinearConstraint(size.reshape(1, -1),
                                                     -np.inf, budget)],
        options={"mip_rel_gap": 0, "time_limit": CBC_SECONDS})
    return (time.process_time() - cpu,
            answer.fun if answer.status == 0 else None)


def read(path):
    """Sizes and scores of scores.tsv, [M, K]."""
    rows = [line.rstrip("\n").split("\t") for line in open(path)
            if not line.startswith("#")]
    return [np.array([[float(c) for h, c in zip(rows[0], row)
                       if h.endswith(end)] for row in rows[1:]])
            for end in (".bytes", ".score")]


def solve(o, table):
    """`gamma solve`, both solvers and certificate, against a peer's process."""
    peers = {"CBC": by_cbc if shutil.which("cbc") else None,
             "HiGHS": by_highs if scipy else None}
    for odd in ("0", "100000"):
        scores = os.path.join(o.work, f"scores{odd}.tsv")
        subprocess.run([o.bench + "/solve", "1", odd, scores],
                       capture_output=True)
        size, score = read(scores)
        low, high = size.min(1).sum(), size.max(1).sum()
        rows = {name: ([], [], [], 0) for name in peers}
        shape = f"448 x 7, sizes {'odd' if odd != '0' else 'of 4 shapes'}"
        for i in range(o.rounds):
            budget = int(low + (high - low) * (i + 0.5) / o.rounds)
            certificate = os.path.join(o.work, "alloc.tsv")
            us, out = child([o.gamma, "solve", scores, "--bytes", str(budget),
                             "--out", certificate])
            value = float(re.search(r"# objective (\d+)",
                                    open(certificate).read())[1])
            for name, run in peers.items():
                if not run:
                    continue
                them, found = run(os.path.join(o.work, "m.lp"), size, score,
                                  budget)
                a, b, d, failed = rows[name]
                a.append(us)
                b.append(them)
                if found is not None:
                    d.append(abs(found - value) / value)
                rows[name] = a, b, d, failed + (found is None)
        for name, run in peers.items():
            if not run:
                table.missing("solve", name)
                continue
            a, b, d, failed = rows[name]
            ratio = statistics.median(y / x for x, y in zip(a, b))
            table.row("solve", shape, 1, f"{statistics.median(a):.4f}", name,
                      f"{statistics.median(b):.4f}", f"{ratio:.2f}",
                      (f"{max(d):.1e}" if d else "-") +
                      (f"; no proof in {failed} of {len(a)}" if failed
                       else ""))


# -------------------------------------------------------------------- hash

def hashes(o, table):
    """SHA-256 of a file of 256 MiB; time of the processor, as processes."""
    path, mib = os.path.join(o.work, "file"), 256
    with open(path, "wb") as f:
        for i in range(mib):
            f.write(bytes([i]) * 2 ** 20)
    ours = [o.bench + "/hash", path]
    for name, peer in (("openssl", ["openssl", "dgst", "-sha256", "-r", path]),
                       ("sha256sum", ["sha256sum", path]),
                       ("ours, scalar", [*ours, "scalar"])):
        if not shutil.which(peer[0]):
            table.missing("hash", name)
            continue
        turns = [(child(ours), child(peer)) for _ in range(o.rounds)]
        a, b = ([turn[i][0] for turn in turns] for i in (0, 1))
        same = len({turn[i][1][:64] for turn in turns for i in (0, 1)}) == 1
        table.row("hash", f"{mib} MiB", 1, f"{statistics.median(a):.4f}", name,
                  f"{statistics.median(b):.4f}",
                  f"{statistics.median(y / x for x, y in zip(a, b)):.2f}",
                  "0" if same else "ANOTHER HASH")
    os.remove(path)


# -------------------------------------------------------------------- gemm

def gemm(o, table):
    for threads in o.threads:
        out = subprocess.run(
            [o.bench + "/gemm", "--threads", str(threads), "--rounds",
             str(o.rounds), *o.ours], capture_output=True, text=True)
        for line in out.stdout.splitlines()[1:]:
            c = line.split("\t")
            if c[1] == "geometric mean":
                table.row("gemm mean", "all", threads, "-", "OpenBLAS", "-",
                          c[-1], "-")
                continue
            flops = 2 * int(c[2]) * int(c[3]) * int(c[4])
            ours, ratio = flops / float(c[6]) / 1e9, float(c[8])
            if ratio == 0:
                table.missing("gemm", "OpenBLAS")
                break
            table.row("gemm " + c[1], f"{c[0]}, {c[2]} x {c[3]} x {c[4]}",
                      threads, f"{ours:.5f}", "OpenBLAS",
                      f"{ours * ratio:.5f}", f"{ratio:.2f}", "-", c[7])


# -------------------------------------------------------------------- main

def model_rows(o, table):
    wanted = lambda what: o.only in what
    for name, (kind, settings, S) in configs().items():
        if settings["hidden_size"] == 4096 and not wanted(
                "forward backward hessian cholesky"):
            continue
        T, folder = 512, os.path.join(o.work, name)
        first = name == "SmolLM2-135M"
        real = first and o.model
        if real:
            folder = o.model
        else:
            write_model(folder, kind, settings)
        tokens = (np.load(o.tokens)[:S * T] if real else
                  np.random.default_rng(3).integers(
                      0, settings["vocab_size"], S * T))
        model = load_model(folder)
        h, dy = write_data(o.work, model.config.hidden_size, S * T, tokens)
        ours = Ours(o, folder, o.work, S, T)
        if wanted("forward backward"):
            blocks(o, table, name, ours, model, h, dy, S, T)
        if wanted("hessian cholesky"):
            matrices(o, table, name, ours, h)
        if wanted("gptq") and settings["hidden_size"] < 4096:
            gptq(o, table, name, ours, model, h.double().T @ h.double(), h)
        if first and wanted("perplexity"):
            perplexity(o, table, ours, model, torch.from_numpy(tokens), T)
        ours.close()
        if first and wanted("step"):
            few = os.path.join(o.work, "few")
            write_model(few, kind, {**settings, "num_hidden_layers": 3})
            ours = Ours(o, few, o.work, S, T)
            stage1(o, table, ours, load_model(few), torch.from_numpy(tokens),
                   S, T)
            ours.close()
        if not real:
            shutil.rmtree(folder)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--tokens")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--isa", help="our kernels': scalar, avx2 or avx512")
    parser.add_argument("--only", default="", help="one operation's name")
    parser.add_argument("--out", default="build/bench.tsv")
    parser.add_argument("--bench", default="build/bench")
    parser.add_argument("--gamma", default="./gamma")
    parser.add_argument("--cc", default="cc")
    parser.add_argument("--flags", default="unknown")
    o = parser.parse_args()
    o.threads = [int(t) for t in o.threads.split(",")]
    o.ours = ["--isa", o.isa] if o.isa else []
    table = Table(o.out)
    header(table, o)
    failed = False
    with tempfile.TemporaryDirectory() as o.work:
        for what, run, needs in (("hash", hashes, {}), ("gemm", gemm, {}),
                                 ("solve", solve, {"numpy": np}),
                                 ("models", model_rows, {
                                     "numpy": np, "torch": torch,
                                     "transformers": transformers})):
            alone = o.only in ("hash", "gemm", "solve")
            if o.only and o.only != what and (alone or what != "models"):
                continue
            lacking = [name for name, there in needs.items() if not there]
            for name in lacking:
                table.missing(what, name)
            try:
                if not lacking:
                    run(o, table)
            except Exception as why:        # the other rows are made
                traceback.print_exc()
                table.missing(what, f"{type(why).__name__}: {why}".split("\n")[0])
                failed = True
    sys.exit(failed)


if __name__ == "__main__":
    main()
