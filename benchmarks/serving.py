#!/usr/bin/env python3
"""How the server does under load, beside llama.cpp's server: the rows of docs/performance.md#serving.

    benchmarks/serving.py ROW --model FILE [--peer LLAMA_SERVER] [--threads 2] [--out FILE]

Rows, each a bounded run that starts the servers it needs, ours and the peer's in alternation:
  arrival      8 streams decode and a 1,500-token prompt arrives: longest gap, time to its first token
  saturation   the peer's rate when all of the trace arrives at once, and what it gives unloaded (`burst` begins with it unless told)
  burst        a bursty trace at 80 % of that rate: goodput under targets of three times unloaded
  flood        one key floods, another sends now and then (ours alone)
  turn         the second turn of a 1,500-token conversation
  turn_disk    likewise after another conversation has taken its pages and it went to the spill file in --folder, --turns times (ours alone)
  overhead     what is not the model's of a decode step at batch 8, and CPU time of the HTTP thread beside it (ours alone)
  same         one request alone, in a batch of 32, again: the same bytes (ours alone)
  speculation  1, 4 and 8 streams that repeat themselves (greedy) or do not (sampled): tokens a second with --lookup, and with
               --draft FILE, over without, and the share of guesses that held (ours alone; --ways draft leaves --lookup out). Where
               weights are random, benchmarks/draft_pair.py makes a model and a draft that agree

Prints JSON, and appends it to --out. Ratios are within a run; times are this machine's, today.
"""
import argparse
import asyncio
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORDS = ("the of and to in that was he it his is with as for had you not be her on at by which have or from this him but all she they were my "
         "are me one their so an said them we who would been will no when there if more out up into any your what has man could other").split()


def text_of(n, seed=1):
    """n words, about a token each for common vocabularies."""
    out, state = [], seed * 2654435761 % 2**32 or 1
    for _ in range(n):
        state = (state * 1664525 + 1013904223) % 2**32
        out.append(WORDS[(state >> 16) % len(WORDS)])
    return " ".join(out)


class Server:
    """One of the two, started and stopped."""

    def __init__(self, ours, options, *flags, context=2048, streams=9, key=None):
        self.ours, self.log = ours, tempfile.TemporaryFile("w+")
        if ours:
            command = [options.venturi, "serve", "-m", options.model, "--port", "0", "-t", options.threads, "-c", context, "--streams", streams, *flags]
            self.process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=self.log, text=True)
            found = re.search(r":(\d+)$", self.process.stdout.readline().strip())
            if not found:
                self.log.seek(0)
                sys.exit(f"venturi serve did not start: {self.log.read()}")
            self.port = int(found.group(1))
        else:
            self.port = 18080 + int(time.time() * 10) % 900
            command = [options.peer, "-m", options.model, "--host", "127.0.0.1", "--port", self.port, "-t", options.threads, "-tb", options.threads,
                       "-c", context * streams, "-np", streams, *flags]
            self.process = subprocess.Popen([str(c) for c in command], stdout=self.log, stderr=self.log, text=True)
            for _ in range(600):
                try:
                    if urllib.request.urlopen(f"{self.url}/health", timeout=5).status == 200:
                        break
                except OSError:
                    time.sleep(0.1)
            else:
                sys.exit("the peer did not start")
        self.json("/v1/completions", {"prompt": text_of(8), "max_tokens": 4}, key)  # pages touched, caches warm

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def json(self, path, body=None, key=None):
        request = urllib.request.Request(self.url + path, json.dumps(body).encode() if body else None,
                                         {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})})
        with urllib.request.urlopen(request, timeout=300) as response:
            return json.load(response)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        self.log.close()


class Stream:
    """A streamed completion: when its text came (seconds on this process's clock), and what."""

    def __init__(self, server, prompt, tokens, **more):
        self.server, self.times, self.text, self.usage, self.error = server, [], "", {}, None
        self.body = {"prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "stream": True, "temperature": 0.8,
                     "stream_options": {"include_usage": True}, **more}
        self.started = None
        self.first = asyncio.Event()

    async def run(self):
        self.started = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        data = json.dumps(self.body).encode()
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
        try:
            while line := await reader.readline():
                if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                    continue
                event = json.loads(line[6:])
                self.usage = event.get("usage") or self.usage
                for choice in event.get("choices", []):
                    # With logprobs every token is an event; without, one that ends in the middle of a character waits for the next.
                    if choice.get("text") or (choice.get("logprobs") or {}).get("tokens"):
                        self.times.append(time.perf_counter())
                        self.text += choice.get("text") or ""
                        self.first.set()
        finally:
            self.first.set()
            writer.close()

    @property
    def ttft(self):
        return self.times[0] - self.started


async def streams_running(server, n, tokens=900, **more):
    streams = [Stream(server, text_of(32, i + 1), tokens, seed=i, **more) for i in range(n)]
    tasks = [asyncio.create_task(s.run()) for s in streams]
    await asyncio.wait_for(asyncio.gather(*(s.first.wait() for s in streams)), 120)
    return streams, tasks


def gaps_within(streams, begin, end):
    """Gaps between events of a stream that reach into [begin, end]."""
    return [b - a for s in streams for a, b in zip(s.times, s.times[1:]) if b > begin and a < end]


def percentile(values, p):
    values = sorted(values)
    at = p * (len(values) - 1)
    low = int(at)
    return values[low] + (at - low) * (values[min(low + 1, len(values) - 1)] - values[low])


async def arrival_once(server, undisturbed_s=5):
    streams, tasks = await streams_running(server, 8, **({"logprobs": 0} if server.ours else {}))  # gaps between tokens, not texts
    await asyncio.sleep(1)
    begin = time.perf_counter()
    await asyncio.sleep(undisturbed_s)
    quiet = gaps_within(streams, begin, time.perf_counter())
    newcomer = Stream(server, text_of(1495, 99), 4)
    task = asyncio.create_task(newcomer.run())
    await newcomer.first.wait()
    await asyncio.sleep(0.6)  # the gap that the first token ends
    busy = gaps_within(streams, newcomer.started, newcomer.times[0])
    for t in [*tasks, task]:
        t.cancel()
    await asyncio.gather(*tasks, task, return_exceptions=True)
    def tail(gaps):  # over the undisturbed median; what is beyond it without the prompt is the machine's
        return {f"p{p}": percentile(gaps, p / 100) / statistics.median(quiet) for p in (50, 90, 99)} | {"max": max(gaps) / statistics.median(quiet), "count": len(gaps)}
    return {"median_s": statistics.median(quiet), "longest_s": max(busy), "ttft_s": newcomer.ttft, "undisturbed": tail(quiet), "beside_the_prompt": tail(busy),
            "prompt_tokens": newcomer.usage.get("prompt_tokens")}


def arrival(o):
    with Server(True, o) as s:
        ours = asyncio.run(arrival_once(s, 15))
    with Server(False, o) as s:
        peer = asyncio.run(arrival_once(s))
    return {"ours": ours, "peer": peer, "longest_over_median": ours["longest_s"] / ours["median_s"],
            "peer_longest_over_ours": peer["longest_s"] / ours["longest_s"], "ttft_over_peer": ours["ttft_s"] / peer["ttft_s"]}


SHAPE = ["--length-scale", 0.25, "--prompt-max", 1024, "--output-max", 256, "--burst-shape", 0.5, "--max-connections", 500]


def loadtest(o, server, *flags):
    out = subprocess.run([str(x) for x in (o.venturi, "loadtest", server.url, "--json", *flags)], capture_output=True, text=True)
    if not out.stdout:
        sys.exit(f"loadtest: {out.stderr}")
    return json.loads(out.stdout)


def saturation(o):
    with Server(False, o, streams=o.peer_places) as s:
        alone = loadtest(o, s, *SHAPE[:-4], *SHAPE[-2:], "-n", 4, "--rate", 0.6, "--burst-shape", 1000, "--seed", 3)
        full = loadtest(o, s, *SHAPE, "-n", o.requests, "--rate", 1000, "--seed", o.seed)
    return {"rate": full["requests_per_second"], "ttft_s": alone["ttft_seconds"]["p50"], "tpot_s": alone["tpot_seconds"]["p50"]}


def burst(o):
    if not (o.rate and o.ttft and o.tpot):
        found = saturation(o)
        o.rate, o.ttft, o.tpot = found["rate"], found["ttft_s"], found["tpot_s"]
    flags = [*SHAPE, "-n", o.requests, "--rate", 0.8 * o.rate, "--seed", o.seed, "--ttft-target", 3 * o.ttft, "--tpot-target", 3 * o.tpot]
    result = {"peer_saturation_per_s": o.rate, "peer_unloaded_ttft_s": o.ttft, "peer_unloaded_tpot_s": o.tpot}
    for name in ("ours", "peer"):
        with Server(name == "ours", o, streams=16 if name == "ours" else o.peer_places) as s:
            r = loadtest(o, s, *flags)
        result[name] = {"goodput": r["goodput_per_second"], "within": r["within_targets"], "answered": r["answered"], "of": r["requests"], "seconds": r["seconds"],
                        "ttft": r["ttft_seconds"], "tpot": r["tpot_seconds"], "gap": r["inter_token_seconds"], "errors": r["errors"]}
    result["goodput_over_peer"] = result["ours"]["goodput"] / max(result["peer"]["goodput"], 1e-9)
    result["within_over_peer"] = result["ours"]["within"] / max(result["peer"]["within"], 1)
    return result


def flood(o):
    """Alone and beside the flood in turns, for the machine's speed may change; the same texts at the same times, and no cache."""
    found = {"alone": [], "beside": [], "flood_answered": 0, "errors": {}, "flood_errors": {}}

    def count(into, errors):
        for name, n in errors.items():
            into[name] = into.get(name, 0) + n
    with tempfile.TemporaryDirectory() as folder:
        keys, log = Path(folder) / "keys", Path(folder) / "log"
        keys.write_text("the-flood\nthe-other\n")

        def other_sends(name):
            ran = loadtest(o, s, *other)
            count(found["errors"], ran["errors"])
            found[name] += [r["ttft_seconds"] for r in map(json.loads, log.read_text().splitlines()) if not r["error"]]
        with Server(True, o, "--api-key-file", keys, "--max-wait", 30, "--no-prefix-cache", streams=16, key="the-other") as s:
            for turn in range(o.turns):
                other = ["--api-key", "the-other", "--prompt-tokens", 64, "--output-tokens", 16, "-n", o.sent, "--rate", 0.6, "--burst-shape", 1,
                         "--seed", o.seed + turn, "--log", log]
                other_sends("alone")
                storm = subprocess.Popen([str(x) for x in (o.venturi, "loadtest", s.url, "--json", "--api-key", "the-flood", "--prompt-tokens", 128,
                                                          "--output-tokens", 64, "-n", 600, "--rate", 10, "--timeout", 60)],
                                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
                time.sleep(8)
                other_sends("beside")
                storm.send_signal(signal.SIGINT)
                stormed = json.loads(storm.communicate()[0])
                found["flood_answered"] += stormed["answered"]
                count(found["flood_errors"], stormed["errors"])

    times = {name: {f"p{p}": percentile(found[name], p / 100) for p in (50, 90, 95)} | {"count": len(found[name])} for name in ("alone", "beside")}
    return {"alone_ttft": times["alone"], "beside_ttft": times["beside"], "p95_over_alone": times["beside"]["p95"] / times["alone"]["p95"],
            "p50_over_alone": times["beside"]["p50"] / times["alone"]["p50"],
            "errors": found["errors"], "flood_answered": found["flood_answered"], "flood_errors": found["flood_errors"]}


async def turn_once(server):
    prompt = text_of(1495, 5)
    first = Stream(server, prompt, 24, temperature=0)
    await first.run()
    second = Stream(server, prompt + first.text + text_of(20, 6), 4, temperature=0)
    await second.run()
    return {"first_s": first.ttft, "second_s": second.ttft, "second_over_first": second.ttft / first.ttft,
            "cached": second.usage.get("prompt_tokens_details", {}).get("cached_tokens")}


def turn(o):
    result = {}
    for name in ("ours", "peer"):
        with Server(name == "ours", o) as s:
            result[name] = asyncio.run(turn_once(s))
    return result


async def turn_disk_once(server, turn):
    seed = 10 * turn
    prompt = text_of(1495, seed + 5)
    first = Stream(server, prompt, 24, temperature=0)
    await first.run()
    # Others, until nothing of it can be in memory: pages are taken from who was here longest ago.
    before = counter(server, "venturi_state_written_bytes_total")
    for i in range(2):
        await Stream(server, text_of(1495, seed + 6 + i), 24, temperature=0).run()
    read, written = counter(server, "venturi_state_read_bytes_total"), counter(server, "venturi_state_written_bytes_total") - before
    second = Stream(server, prompt + first.text + text_of(20, seed + 8), 4, temperature=0)
    await second.run()
    cached = second.usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)
    return {"first_s": first.ttft, "second_s": second.ttft, "second_over_first": second.ttft / first.ttft, "first_tokens": first.usage["prompt_tokens"],
            "second_tokens": second.usage["prompt_tokens"], "cached": cached, "written_bytes": written,
            "read_bytes": counter(server, "venturi_state_read_bytes_total") - read}


def turn_disk(o):
    with Server(True, o, streams=1) as s:
        status = s.json("/status")
        token = next(h["bytes"] for h in status["memory"]["holdings"] if h["holder"] == "sequence state") / status["state"]["capacity"]
    with tempfile.TemporaryDirectory(dir=o.folder) as folder:
        with Server(True, o, "--spill", folder, "--state-memory", int(1.1 * 2048 * token), streams=1) as s:
            turns = [asyncio.run(turn_disk_once(s, i)) for i in range(o.turns)]
    for t in turns:
        # All of the first turn but its last token or two, and all of that from the file.
        if t["cached"] < t["first_tokens"] or t["read_bytes"] < 0.95 * t["cached"] * token:
            sys.exit(f"turn_disk: the second turn did not come from the disk: {t}; a token's state has {token} bytes")
    return {"turns": turns, "second_over_first": statistics.median(t["second_over_first"] for t in turns)}


async def overhead_once(server, temperature, seconds=8):
    streams, tasks = await streams_running(server, 8, temperature=temperature)
    await asyncio.sleep(1)
    before, begin = server.json("/status"), time.perf_counter()
    await asyncio.sleep(seconds)
    after, wall = server.json("/status"), time.perf_counter() - begin
    for t in tasks:
        t.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    engine, steps = after["engine_seconds"] - before["engine_seconds"], after["steps"] - before["steps"]
    step = after["step_seconds"] - before["step_seconds"]
    # The HTTP thread works beside steps; as a share of them it counts as if each had waited for all of it.
    http = after["http_seconds"] - before["http_seconds"]
    return {"steps": steps, "step_ms": 1e3 * step / steps, "in_steps": 1 - engine / step, "of_wall": 1 - engine / wall,
            "http_of_steps": http / step, "all": 1 - engine / step + http / step}


def overhead(o):
    with Server(True, o) as s:
        return {"sampled": asyncio.run(overhead_once(s, 0.8)), "greedy": asyncio.run(overhead_once(s, 0))}


def same(o):
    async def one(server, n):
        wanted = Stream(server, text_of(40, 77), 32, seed=11)
        others = [Stream(server, text_of(20 + 9 * i, i + 1), 40, seed=i) for i in range(n)]
        await asyncio.gather(wanted.run(), *(s.run() for s in others))
        return wanted.text
    with Server(True, o, streams=32, context=512) as s:
        texts = [asyncio.run(one(s, n)) for n in (0, 31, 0)]
    return {"same": len(set(texts)) == 1, "bytes": len(texts[0].encode())}


def counter(server, name):
    text = urllib.request.urlopen(server.url + "/metrics", timeout=60).read().decode()
    found = re.search(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.M)
    return float(found.group(1)) if found else 0.0


async def speculation_once(server, n, tokens, temperature):
    """Tokens a second of all streams together, from when all have begun; the share of guesses that held."""
    names = [f"vllm:spec_decode_num_{name}_total" for name in ("draft_tokens", "accepted_tokens", "drafts")]
    before = [counter(server, name) for name in names]
    streams = [Stream(server, text_of(6, i + 1) * 8, tokens, seed=i, temperature=temperature) for i in range(n)]
    await asyncio.gather(*(s.run() for s in streams))
    begin, end = max(s.times[0] for s in streams), max(s.times[-1] for s in streams)
    drawn = sum(1 for s in streams for t in s.times if t > begin)  # tokens without text count for nobody
    while counter(server, "vllm:num_requests_running"):  # the last step is counted when it is over
        await asyncio.sleep(0.05)
    guessed, held, checks = (counter(server, name) - b for name, b in zip(names, before))
    return {"tokens_per_second": drawn / (end - begin), "guessed": guessed, "held": held, "checks": checks, "text": [s.text for s in streams]}


def speculation(o):
    """Each way on a server of its own, and the plain one twice: first and last, for the machine's speed may change."""
    wanted = o.ways or (["lookup", "draft"] if o.draft else ["lookup"])
    if "draft" in wanted and not o.draft:
        sys.exit("speculation: give --draft FILE")
    most = ["--draft-tokens", o.draft_tokens] if o.draft_tokens else []
    guessing = {"lookup": ["--lookup", *most], "draft": ["--draft-model", o.draft, *most]}
    ways = {"none": [], **{way: guessing[way] for way in wanted}, "none again": []}
    found = {}
    for way, flags in ways.items():
        with Server(True, o, *flags, "--no-prefix-cache", context=512, streams=8) as s:
            for kind, temperature in (("repeats", 0), ("sampled", 1)):
                for n in (1, 4, 8):
                    found[way, kind, n] = asyncio.run(speculation_once(s, n, o.tokens, temperature))
    result = {}
    for (way, kind, n), r in found.items():
        plain = [found[name, kind, n] for name in ("none", "none again")]
        row = {"tokens_per_second": r["tokens_per_second"], "same_text": r["text"] == plain[0]["text"]}
        if way not in ("none", "none again"):
            row["over_none"] = r["tokens_per_second"] / statistics.mean(p["tokens_per_second"] for p in plain)
            row |= {"guessed": r["guessed"], "held": r["held"], "held_share": r["held"] / max(r["guessed"], 1), "tokens_per_check": 1 + r["held"] / max(r["checks"], 1)}
        result[f"{way}, {kind}, {n}"] = row
    return result


def main():
    rows = {f.__name__: f for f in (arrival, saturation, burst, flood, turn, turn_disk, overhead, same, speculation)}
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("row", choices=rows)
    p.add_argument("--model", required=True)
    p.add_argument("--venturi", default=ROOT / "build/release/venturi")
    p.add_argument("--peer", default="llama-server")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--requests", type=int, default=80, help="saturation, burst: how many")
    p.add_argument("--sent", type=int, default=12, help="flood: requests of the key that does not flood, alone and beside it")
    p.add_argument("--turns", type=int, default=2, help="flood, turn_disk: how often")
    p.add_argument("--folder", help="turn_disk: where the spill file is (default: where temporary files are)")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--peer-places", type=int, default=8, help="saturation, burst: requests that the peer works at together; ours has 16 places")
    p.add_argument("--rate", type=float, help="burst: the peer's saturation rate")
    p.add_argument("--draft", help="speculation: a smaller model of the same vocabulary")
    p.add_argument("--draft-tokens", type=int, help="speculation: guesses a step at most (default: the server's)")
    p.add_argument("--ways", nargs="+", choices=["lookup", "draft"], help="speculation: which, beside none (default: lookup, and draft with --draft)")
    p.add_argument("--tokens", type=int, default=64, help="speculation: of a stream")
    p.add_argument("--ttft", type=float, help="burst: the peer's time to first token, unloaded")
    p.add_argument("--tpot", type=float, help="burst: the peer's time per output token, unloaded")
    p.add_argument("--out", help="append the JSON to this file")
    o = p.parse_args()
    line = json.dumps({"row": o.row, **rows[o.row](o)})
    print(line)
    if o.out:
        with open(o.out, "a") as f:
            f.write(line + "\n")


if __name__ == "__main__":
    main()
