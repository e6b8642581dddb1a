"""venturi plan, the profile it predicts from, and predicted beside measured."""
import csv
import http.client
import json
import re
import signal
import struct
import subprocess
import tempfile
import time
import xml.etree.ElementTree
from pathlib import Path

import support
from support import MODEL, ProgramTest, venturi

FIGURES = ("tokens_per_second", "peak_memory_bytes", "disk_bytes_per_token")
STREAMED = "3M"  # the embedded model does not fit this


def write_header(path, layers, d_model, d_ff, heads, kv_heads, vocab):
    """A llama in Q4_0 of which only the header is there; the rest of the file is a hole."""
    def text(s):
        return struct.pack("<Q", len(s)) + s.encode()

    def u32(key, value):
        return text(key) + struct.pack("<II", 4, value)

    def f32(key, value):
        return text(key) + struct.pack("<If", 6, value)

    keys = [text("general.architecture") + struct.pack("<I", 8) + text("llama"),
            u32("llama.context_length", 4096), u32("llama.embedding_length", d_model), u32("llama.block_count", layers),
            u32("llama.feed_forward_length", d_ff), u32("llama.attention.head_count", heads),
            u32("llama.attention.head_count_kv", kv_heads), u32("llama.vocab_size", vocab),
            f32("llama.attention.layer_norm_rms_epsilon", 1e-5), f32("llama.rope.freq_base", 1e4)]
    kv = d_model // heads * kv_heads
    tensors = [("token_embd.weight", (d_model, vocab)), ("output.weight", (d_model, vocab)), ("output_norm.weight", (d_model,))]
    for i in range(layers):
        tensors += [(f"blk.{i}.{name}.weight", dims) for name, dims in (
            ("attn_norm", (d_model,)), ("ffn_norm", (d_model,)), ("attn_q", (d_model, d_model)), ("attn_k", (d_model, kv)),
            ("attn_v", (d_model, kv)), ("attn_output", (d_model, d_model)), ("ffn_gate", (d_model, d_ff)),
            ("ffn_up", (d_model, d_ff)), ("ffn_down", (d_ff, d_model)))]
    out = struct.pack("<IIQQ", 0x46554747, 3, len(tensors), len(keys)) + b"".join(keys)
    at = 0
    for name, dims in tensors:
        count = dims[0] * (dims[1] if len(dims) > 1 else 1)
        size = count // 32 * 18 if len(dims) > 1 else count * 4
        out += text(name) + struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", d) for d in dims)
        out += struct.pack("<IQ", 2 if len(dims) > 1 else 0, at)
        at = (at + size + 31) // 32 * 32
    with open(path, "wb") as f:
        f.write(out)
        f.truncate((len(out) + 31) // 32 * 32 + at)
    return at


class Planned:
    """venturi serve, and what it says on standard error."""
    def __init__(self, *flags):
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([str(support.VENTURI), "serve", "-m", str(MODEL), "--port", "0", *map(str, flags)], stdout=subprocess.PIPE,
                                        stderr=self.errors, text=True, env=support.clean_environment())
        self.port = int(self.process.stdout.readline().rsplit(":", 1)[1])

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, json.dumps(body) if body else None)
        response = connection.getresponse()
        answer = response.status, json.loads(response.read())
        connection.close()
        return answer

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self.process.stdout.close()
        self.errors.seek(0)
        with self.errors:
            return code, self.errors.read()


class PlanTest(ProgramTest):
    """With a cache folder of its own, where a small profile is stored."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.env = {"XDG_CACHE_HOME": cls.folder.name}
        cls.at = Path(cls.folder.name)
        cls.profile = cls.at / "profile.json"
        spread = {"median": 1e10, "low": 0.9e10, "high": 1.1e10}
        cls.machine = {
            "format": "venturi machine profile", "version": 1, "taken": 0, "brief": False, "threads": 2,
            "instruction_set": "any", "read_bytes_per_second": spread, "int8_macs_per_second": spread,
            "f32_macs_per_second": spread, "region_seconds": 1e-6, "memory": [], "kernels": [],
            "disk": {"path": "x", "backend": "threads", "rates": [
                {"sequential": True, "direct": True, "request_bytes": 1 << 20, "depth": 16,
                 "bytes_per_second": {"median": 1e8, "low": 1e8, "high": 1e8}}]}}
        cls.profile.write_text(json.dumps(cls.machine))

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def plan(self, *flags, model=MODEL):
        return self.json_of("plan", "-m", model, "--json", "--profile", self.profile, *flags, env=self.env)


class Probe(PlanTest):
    def test_the_profile_is_measured_stored_and_used(self):
        shown = self.json_of("probe", "-m", MODEL, "-t", 2, "-r", 2, "--json", env=self.env)
        stored = json.loads((self.at / "venturi" / "profile.json").read_text())
        self.assertEqual(shown, stored)
        patterns = {(d["sequential"], d["direct"], d["depth"]) for d in stored["disk"]["rates"]}
        self.assertEqual(len(patterns), 12)
        self.assertEqual({k["rows"] for k in stored["kernels"]}, {1, 4, 16, 64, 256})
        self.assertIn("Q8_0", {k["codec"] for k in stored["kernels"]})
        self.assertEqual([m["threads"] for m in stored["memory"]], [1, 2])
        self.assertGreater(stored["noise"], 0)
        used = self.json_of("plan", "-m", MODEL, "-t", 2, "--json", env=self.env)["profile"]
        self.assertEqual(used["taken"], stored["taken"])
        self.assertEqual(used["kernels"], stored["kernels"])

    def test_a_file_is_written_for_the_disk_and_removed(self):
        with tempfile.TemporaryDirectory() as folder:
            table = self.succeeds("probe", "--dir", folder, "--size", "8M", "--no-kernels", "-r", 1, env=self.env).out
            self.assertEqual(list(Path(folder).iterdir()), [])
        for part in ("memory read, 1 thread ", "sequential direct, 16 by", "random buffered", "largest spread"):
            self.assertIn(part, table)
        self.fails(1, "probe", "--dir", "/nonexistent", "--no-kernels", env=self.env)


class Plan(PlanTest):
    def test_adapters_have_room(self):
        base, adapters = support.SOURCE / "tests/data/models/llama-plain.gguf", support.SOURCE / "tests/data/adapters"
        both = ("--lora", adapters / "llama-all", "--lora", adapters / "llama-attention")
        plain, adapted = self.plan("-c", 64, model=base), self.plan("-c", 64, *both, model=base)
        of = [p["plans"][0]["footprint"] for p in (plain, adapted)]
        self.assertNotIn("adapters", of[0])
        self.assertGreater(of[1]["adapters"], 10_000)
        self.assertEqual(of[0]["weights"], of[1]["weights"])
        flags = ("-m", base, "-c", 64, "--profile", self.profile)
        self.assertIn(", adapters ", self.succeeds("plan", *flags, *both, env=self.env).out)
        # The budget that is just enough without is not enough with them: weights give way.
        least = of[0]["weights"] + max(of[0]["staging"], of[0]["state"] + of[0]["activations"])
        budget = ("--memory", least + of[1]["adapters"] // 2)
        pinned = [self.plan("-c", 64, *budget, *more, model=base)["plans"][0]["footprint"]["weights"] for more in ((), both)]
        self.assertLess(pinned[1], pinned[0])
        self.assertIn("adapters", self.fails(3, "plan", *flags, *both, "--memory", "100k", env=self.env))
        self.assertIn("no-such", self.fails(1, "plan", *flags, "--lora", "no-such", env=self.env))
        path = self.at / "adapted.json"
        path.write_text(json.dumps(adapted))
        self.assertIn("adapters", self.succeeds("run", "-m", base, "-p", "a", "-n", 3, "--plan", path, *both[:2]).err)

    def test_fixed_form(self):
        for memory, binds in ((STREAMED, "disk"), ("100M", None)):
            plan = self.plan("--memory", memory)
            first = plan["plans"][0]
            for name in FIGURES:
                self.assertGreaterEqual(first["predicted"][name], 0)
            self.assertGreater(first["predicted"]["tokens_per_second"], 0)
            self.assertEqual(first["residency"]["streams"], binds == "disk")
            if binds:
                self.assertEqual(first["binds"], binds)
                # What is not in memory is read for every token, at the profile's rate.
                rate = first["predicted"]["tokens_per_second"] * first["predicted"]["disk_bytes_per_token"]
                self.assertAlmostEqual(rate / 1e8, 1, delta=0.06)
            held = sum(w["pinned_bytes"] for w in first["residency"]["weights"])
            self.assertLessEqual(held, first["footprint"]["weights"])
            self.assertGreater(len(plan["plans"]), 1)

    def test_context_and_streams(self):
        for flag in ("-c", "--context", "--ctx"):
            self.assertEqual(self.plan(flag, "1k")["plans"][0]["options"]["context"], 1024)
        self.fails(2, "plan", "-m", MODEL, "-c", "8q", env=self.env)
        first = self.plan("--streams", 3, "-c", 256)["plans"][0]
        self.assertEqual(first["options"]["streams"], 3)
        self.assertEqual(first["footprint"]["state"], 3 * self.plan("-c", 256)["plans"][0]["footprint"]["state"])

    def test_table_has_every_plan_and_family(self):
        table = self.succeeds("plan", "-m", MODEL, "--profile", self.profile, "--memory", STREAMED, env=self.env).out
        for part in ("default", "binds", "blk.*.ffn_up.weight (Q8_0)", "largest spread"):
            self.assertIn(part, table)
        every = self.succeeds("plan", "-m", MODEL, "--profile", self.profile, "--weights", env=self.env).out
        self.assertIn("blk.0.ffn_up.weight (Q8_0)", every)

    def test_what_would_fit_is_named_and_fits(self):
        message = self.fails(3, "plan", "-m", MODEL, "--memory", "8M", "-c", 65536, "--streams", 2, env=self.env)
        largest = int(re.search(r"\(-c (\d+)\)", message).group(1))
        self.plan("--memory", "8M", "-c", largest, "--streams", 2)
        message = self.fails(3, "plan", "-m", MODEL, "--memory", "14M", "-c", 4096, "--streams", 8, env=self.env)
        streams = int(re.search(r"--streams (\d+)\)", message).group(1))
        self.plan("--memory", "14M", "-c", 4096, "--streams", streams)

    def test_what_is_named_is_the_least_that_runs(self):
        flags = ["-m", MODEL, "-c", 4096, "-b", 512, "-t", 2]
        message = self.fails(3, "plan", *flags, "--memory", "7M", env=self.env)
        context, batch, memory = (int(re.search(form, message).group(1)) for form in (r"\(-c (\d+)\)", r"\(-b (\d+)\)", r"Give --memory (\d+)M"))
        for changed, less in ((["-c", context], ["-c", context + 1]), (["-b", batch], ["-b", batch + 1]),
                              (["--memory", f"{memory}M"], ["--memory", f"{memory - 1}M"])):
            given = {"-c": 4096, "-b": 512, "--memory": "7M"}
            for flag, works in ((changed, True), (less, False)):
                now = {**given, flag[0]: flag[1]}
                run = ["-m", MODEL, "-t", 2, "-p", "a", "-n", 2, *(part for pair in now.items() for part in pair)]
                (self.succeeds if works else lambda *a, **k: self.fails(3, *a, **k))("run", *run, env=self.env)

    def test_too_slow_names_what_would_be_fast_enough(self):
        flags = ["plan", "-m", MODEL, "--profile", self.profile, "-c", 256, "--memory", STREAMED, "--min-tps"]
        rate = self.plan("-c", 256, "--memory", STREAMED)["plans"][0]["predicted"]["tokens_per_second"]
        self.succeeds(*flags, 0.9 * rate, env=self.env)
        message = self.fails(3, *flags, 1.2 * rate, env=self.env)
        memory = re.search(r"--memory (\d+M) would do", message).group(1)
        found = self.plan("-c", 256, "--memory", memory)["plans"][0]
        self.assertGreaterEqual(found["predicted"]["tokens_per_second"], 1.2 * rate)
        self.assertRegex(message, r"as \w+ \([\d.]+ [kM]B\) it would do")

    def test_runs_are_refused_beforehand_where_too_little_is_predicted(self):
        flags = ["-m", MODEL, "-c", 256, "--memory", STREAMED]
        cache = self.at / "cache"
        (cache / "venturi").mkdir(parents=True)
        env = {**self.env, "XDG_CACHE_HOME": str(cache)}
        here = self.json_of("probe", "--dir", self.at, "--size", "8M", "--no-kernels", "-r", 1, "--json", env=env)["instruction_set"]
        (cache / "venturi/profile.json").write_text(json.dumps({**self.machine, "instruction_set": here}))
        plan = self.at / "of_run.json"
        plan.write_text(self.succeeds("plan", *flags, "--json", env=env).out)
        rate = json.loads(plan.read_text())["plans"][0]["predicted"]["tokens_per_second"]
        self.succeeds("run", *flags, "-p", "a", "-n", 1, "--min-tps", 0.5 * rate, env=env)
        self.succeeds("run", "-m", MODEL, "--plan", plan, "-p", "a", "-n", 1, "--min-tps", 0.5 * rate, env=env)
        for command in (["run", *flags, "-p", "a", "-n", 1], ["chat", *flags], ["bench", *flags, "-p", 0, "-n", 1, "-r", 1],
                        ["serve", *flags, "--streams", 1, "--port", 0]):
            self.assertIn("no plan gives", self.fails(3, *command, "--min-tps", 2 * rate, env=env))
        self.assertIn("--min-tps", self.fails(3, "run", "-m", MODEL, "--plan", plan, "-p", "a", "--min-tps", 2 * rate, env=env))

    def test_what_the_cost_model_finds_better_is_offered_by_its_flag(self):
        slow = {"sequential": False, "direct": True, "request_bytes": 65536, "depth": 1,
                "bytes_per_second": {"median": 1e6, "low": 1e6, "high": 1e6}}
        disk = {**self.machine["disk"], "rates": self.machine["disk"]["rates"] + [slow]}
        profile = self.at / "waiting.json"
        profile.write_text(json.dumps({**self.machine, "disk": disk}))

        def plans(*flags):
            found = self.json_of("plan", "-m", MODEL, "-c", 512, "--memory", STREAMED, "--json", "--profile", profile, "-p", 464, *flags, env=self.env)
            return {p["name"]: p for p in found["plans"]}
        offered = plans()
        for start, figure in (("--window ", "tokens_per_second"), ("-b ", "prefill_tokens_per_second")):
            name, = (name for name in offered if name.startswith(start))
            self.assertGreater(offered[name]["predicted"][figure], 1.03 * offered["default"]["predicted"][figure])
            taken = plans(*name.split())["default"]
            self.assertAlmostEqual(taken["predicted"][figure] / offered[name]["predicted"][figure], 1, delta=0.02)

    def test_fast_enough_with_less_context_is_no_answer(self):
        flags = ["-c", 2048, "--memory", "6M"]
        plans = {p["name"]: p for p in self.plan(*flags)["plans"]}
        rates = [plans[name]["predicted"]["tokens_per_second"] for name in ("default", "smaller context")]
        self.assertGreater(rates[1], 1.05 * rates[0])
        self.fails(3, "plan", "-m", MODEL, "--profile", self.profile, *flags, "--min-tps", sum(rates) / 2, env=self.env)

    def test_a_large_model_is_planned_in_a_second_without_memory(self):
        path = self.at / "70b.gguf"
        size = write_header(path, 80, 8192, 28672, 64, 8, 32000)
        self.assertGreater(size, 38e9)
        begin = time.monotonic()
        outcome = self.succeeds("plan", "-m", path, "--memory", "3G", "-t", 2, "--json", "--profile", self.profile, env=self.env)
        seconds = time.monotonic() - begin
        if not support.OPTIONS.sanitized:
            self.assertLess(seconds, 3)  # one on an idle machine
            self.assertLess(outcome.peak_rss, 100e6)
        first = json.loads(outcome.out)["plans"][0]
        self.assertTrue(first["residency"]["streams"])
        self.assertLessEqual(first["predicted"]["peak_memory_bytes"], 3e9 + 64e6)
        self.assertGreater(first["predicted"]["disk_bytes_per_token"], size - 3.2e9)
        path.unlink()


class Sweep(PlanTest):
    def test_table_csv_and_svg(self):
        table, drawing = self.at / "s.csv", self.at / "s.svg"
        out = self.succeeds("plan", "-m", MODEL, "--profile", self.profile, "-c", 256, "--sweep", "memory=100k:8M:9",
                            "--csv", table, "--svg", drawing, env=self.env).out
        self.assertEqual(len(out.splitlines()), 11)
        self.assertIn("does not fit", out)
        rows = list(csv.DictReader(table.read_text().splitlines()))
        self.assertEqual([int(rows[0]["memory_bytes"]), int(rows[-1]["memory_bytes"])], [100000, 8000000])
        rates = [float(r["tokens_per_second"]) for r in rows if r["tokens_per_second"]]
        self.assertGreaterEqual(len(rates), 7)
        for before, after in zip(rates, rates[1:]):
            self.assertLessEqual(before, after * 1.02)
        root = xml.etree.ElementTree.parse(drawing).getroot()
        self.assertEqual(len(root.findall("{http://www.w3.org/2000/svg}circle")), len(rates))
        plans = self.plan("-c", 256, "--sweep", "memory=1M:8M:3")["plans"]
        self.assertEqual(len(plans), 3)

    def test_wrong_forms(self):
        for wrong in ("memory", "memory=1M", "disk=1M:2M", "memory=2M:1M", "memory=1M:2M:x", "memory=1M:2M:1", "memory=a:2M"):
            self.fails(2, "plan", "-m", MODEL, "--sweep", wrong, env=self.env)
        self.fails(2, "plan", "-m", MODEL, "--csv", "x.csv", env=self.env)
        self.fails(3, "plan", "-m", MODEL, "--sweep", "memory=1k:2k", env=self.env)


class PlanFiles(PlanTest):
    def saved(self, *flags):
        path = self.at / "plan.json"
        path.write_text(json.dumps(self.plan(*flags)))
        return path

    def test_run_chat_and_bench_take_one(self):
        plan = self.saved("--memory", STREAMED, "-c", 256)
        wanted = self.succeeds("run", "-m", MODEL, "-p", "The", "-n", 8, "--temp", 0, env=self.env).out
        outcome = self.succeeds("run", "-m", MODEL, "--plan", plan, "-p", "The", "-n", 8, "--temp", 0, env=self.env)
        self.assertEqual(outcome.out, wanted)
        self.assertRegex(outcome.err, r"plan +decode [\d.]+ tok/s predicted, [\d.]+ tok/s \([+-]\d+ %\) measured; disk a step")
        spoken = self.succeeds("chat", "-m", MODEL, "--plan", plan, "-n", 8, "--temp", 0, stdin="Hello\n", env=self.env)
        self.assertIn("predicted", spoken.err)
        test, = self.json_of("bench", "-m", MODEL, "--plan", plan, "-p", 0, "-n", 4, "-r", 1, "--json", env=self.env)
        self.assertAlmostEqual(test["predicted"]["disk_bytes_per_token"] / test["measured"]["disk_bytes_per_token"], 1, delta=0.1)

    def test_what_a_file_must_not_say(self):
        plan = self.saved("--memory", STREAMED, "-c", 256)
        good = json.loads(plan.read_text())
        first = good["plans"][0]
        twice = {**first, "residency": {**first["residency"], "weights": first["residency"]["weights"] + first["residency"]["weights"][-1:]}}
        no_disk = {k: v for k, v in good["profile"].items() if k != "disk"}
        for edit, expected in (({"plans": [twice]}, "is there twice"), ({"profile": no_disk}, "has no rates")):
            plan.write_text(json.dumps({**good, **edit}))
            self.assertIn(expected, self.fails(1, "run", "-m", MODEL, "--plan", plan, "-p", "a", env=self.env))

    def test_serve_runs_a_plan_and_says_how_near_it_came(self):
        for name, flags in (("all", []), ("streamed", ["--memory", STREAMED])):
            plan = self.saved("--streams", 3, "-c", 256, "-t", 2, *flags)
            server = Planned("--plan", plan)
            try:
                body = {"prompt": "It was the best of times", "max_tokens": 20, "temperature": 0, "ignore_eos": True}
                texts = {server.ask("POST", "/v1/completions", body)[1]["choices"][0]["text"] for _ in range(2)}
                self.assertEqual(len(texts), 1)
                self.assertEqual(server.ask("GET", "/v1/models")[1]["data"][0]["max_model_len"], 256)
            finally:
                code, told = server.end()
            self.assertEqual(code, 0, told)
            line, = (line for line in told.splitlines() if line.startswith("plan "))
            self.assertRegex(line, r"decode \S+ tok/s predicted, \S+ tok/s measured \([+-]\d+ %\); steps with prompts \S+ tok/s predicted, ")
            self.assertRegex(line, r"; memory .* predicted, .* held at most; (\d+) of \1 steps$")
            self.assertEqual("disk a step" in line, name == "streamed", line)
        self.fails(2, "serve", "--port", 0, "-m", MODEL, "--plan", plan, "--streams", 4, env=self.env)
        self.fails(2, "serve", "--port", 0, "-m", f"a={MODEL}", "-m", f"b={MODEL}", "--plan", plan, env=self.env)
        self.fails(2, "serve", "--port", 0, "-m", MODEL, "--plan", plan, "-c", 128, env=self.env)

    def test_refusals(self):
        plan = self.saved("--memory", STREAMED, "-c", 256)
        self.fails(2, "run", "-m", MODEL, "--plan", plan, "--memory", "1G", "-p", "a", env=self.env)
        self.fails(2, "bench", "-m", MODEL, "--plan", plan, "--streams", 4, env=self.env)
        good = json.loads(plan.read_text())
        for edit, expected in (({"model": {**good["model"], "fingerprint": "0"}}, "made for another model"),
                               ({"plans": []}, "has no plan"), ({"version": 7}, '"version" is 7'),
                               ({"format": "x"}, '"format" is "x"')):
            plan.write_text(json.dumps({**good, **edit}))
            outcome = venturi("run", "-m", MODEL, "--plan", plan, "-p", "a", env=self.env)
            self.assertIn(outcome.code, (1, 2))
            self.assertIn(expected, outcome.err)
        for text in ("", "{", "[1,2", "\x00", '{"plans":' + "[" * 5000):
            plan.write_text(text)
            self.assertIn("plan.json", self.fails(1, "run", "-m", MODEL, "--plan", plan, "-p", "a", env=self.env))
        self.fails(1, "run", "-m", MODEL, "--plan", self.at / "none.json", "-p", "a", env=self.env)

    def test_state_on_disk_is_planned_and_run(self):
        flags = ["-c", 1536, "-b", 64, "--state-memory", "800k", "--spill", self.at, "-t", 2]
        planned = self.plan(*flags)
        first = planned["plans"][0]
        self.assertEqual(first["options"]["spill"], str(self.at))
        self.assertLessEqual(first["footprint"]["state"], 800_000)
        self.assertEqual(first["options"]["state_memory"], first["footprint"]["state"])
        self.assertGreater(first["footprint"]["state_file"], 0)
        table = self.succeeds("plan", "-m", MODEL, "--profile", self.profile, *flags, env=self.env).out
        self.assertIn(f"in a file ({self.at})", table)
        plan = self.at / "spilled.json"
        plan.write_text(json.dumps(planned))
        text = ["-p", "the quick brown fox " * 60, "-n", 8, "--ids", "--ignore-eos"]
        spilled = self.succeeds("run", "-m", MODEL, "--plan", plan, *text, env=self.env)
        self.assertIn("written to disk", spilled.err)
        self.assertEqual(spilled.out, self.succeeds("run", "-m", MODEL, "-c", 1536, *text, env=self.env).out)
        for flag in (["--spill", self.at], ["--no-sparse"], ["--sidecar", "x"], ["--experts", "lru"], ["--no-guesses"]):
            self.fails(2, "run", "-m", MODEL, "--plan", plan, *flag, "-p", "a", env=self.env)

    def test_a_broken_profile_is_named(self):
        broken = self.at / "broken.json"
        broken.write_text(json.dumps({**self.machine, "threads": -1}))
        message = self.fails(1, "plan", "-m", MODEL, "--profile", broken, env=self.env)
        self.assertIn("broken.json", message)
        self.assertIn('"threads" is -1', message)


class Beside(PlanTest):
    """run and chat with a budget alone, beside the stored profile."""
    RUN = ["-m", MODEL, "-p", "It was the best of times", "-n", 8, "--temp", 0, "--ignore-eos"]

    def store(self, **edit):
        """Of this machine, measured in a hurry."""
        path = self.at / "venturi" / "profile.json"
        if not path.exists():
            measured = self.json_of("plan", "-m", MODEL, "--memory", STREAMED, "-c", 256, "--json", env=self.env)["profile"]
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(measured))
            type(self).measured = measured
        path.write_text(json.dumps({**self.measured, **edit}))
        return path

    def test_speed_first_token_and_memory(self):
        self.store().unlink()
        hint = self.succeeds("run", *self.RUN, "--memory", STREAMED, env=self.env).err
        self.assertIn("no prediction: there is no profile of this machine (venturi probe)", hint)
        self.assertNotIn("no prediction", self.succeeds("run", *self.RUN, env=self.env).err)
        self.store()
        for memory in (STREAMED, "60M"):
            told = self.succeeds("run", *self.RUN, "--memory", memory, env=self.env).err
            self.assertRegex(told, r"plan +decode [\d.]+ tok/s predicted, [\d.]+ tok/s \([+-]\d+ %\) measured")
            self.assertEqual("disk a step" in told, memory == STREAMED)
            self.assertRegex(told, r"plan +prefill of \d+ tokens [\d.]+ tok/s predicted, [\d.]+ tok/s \([+-]\d+ %\) measured; "
                                   r"first token after \S+ s predicted, \S+ s \([+-]\d+ %\) measured")
            held = re.search(r"plan +memory (\S+) MB predicted, (\S+) MB held at most; the process .* (\S+) MB at most", told)
            predicted, ledger, process = (float(n) for n in held.groups())
            self.assertAlmostEqual(ledger / predicted, 1, delta=0.05)
            self.assertGreater(process, ledger)
            self.assertNotIn("assumes", told)
        quiet = self.succeeds("run", *self.RUN, "--memory", STREAMED, "-q", env=self.env).err
        self.assertNotIn("plan", quiet)
        spoken = self.succeeds("chat", "-m", MODEL, "--memory", STREAMED, "-n", 8, "--temp", 0, stdin="Hello\nAgain\n", env=self.env)
        self.assertRegex(spoken.err, r"plan +decode .*disk a step.*\nplan +prefill of \d+ tokens .*, in the mean\nplan +memory ")

    def test_a_profile_of_before_or_of_another_disk_says_so(self):
        path = self.store(taken=int(time.time()) - 40 * 86400)
        self.assertIn("40 days ago", self.succeeds("run", *self.RUN, "--memory", STREAMED, env=self.env).err)
        path = self.store(disk={**self.measured["disk"], "device": "0:99"})
        told = self.succeeds("run", *self.RUN, "--memory", STREAMED, env=self.env).err
        self.assertIn("0:99", told)
        # What does not read the disk does not depend on it.
        self.assertNotIn("0:99", self.succeeds("run", *self.RUN, "--memory", "60M", env=self.env).err)
        planned = self.json_of("plan", "-m", MODEL, "--memory", STREAMED, "-c", 256, "--json", "--profile", path, env=self.env)
        self.assertEqual(len(planned["assumptions"]), 1)
        self.assertIn("0:99", planned["assumptions"][0])
        table = self.succeeds("plan", "-m", MODEL, "--memory", STREAMED, "-c", 256, "--profile", path, env=self.env).out
        self.assertIn("assumes that the model's disk", table)
        self.store(instruction_set="another")
        self.assertIn("is of another machine", self.succeeds("run", *self.RUN, "--memory", STREAMED, env=self.env).err)
        self.store(threads=7)
        self.assertRegex(self.succeeds("run", *self.RUN, "--memory", STREAMED, env=self.env).err, r"that \d+ threads do as the 7 of the profile")


class Flags(PlanTest):
    def test_amounts_that_are_none(self):
        for flag in ("--memory", "--window", "--state-memory", "--pin"):
            for amount in ("", "1.5", "a"):
                self.assertIn("is not an amount of bytes", self.fails(2, "plan", "-m", MODEL, flag, amount, env=self.env))
        self.assertIn("1.5G?", self.fails(2, "run", "-m", MODEL, "-p", "a", "--memory", "1.5", env=self.env))
        first = self.plan("--pin", "0", "-c", 256)["plans"][0]
        self.assertTrue(all(w["pinned_rows"] in (0, w["rows"]) for w in first["residency"]["weights"]))
        self.assertTrue(first["residency"]["streams"])

    def test_what_is_of_no_use_is_told(self):
        run = ["run", "-m", MODEL, "-p", "a", "-n", 2, "-c", 256]
        for flags, expected in ((["--sidecar", self.profile], "--memory all of the model is in memory"),
                                (["--experts", "lru", "--memory", "60M"], "the model has no experts"),
                                (["--window", "5G"], "nothing is streamed"),
                                (["--window", "5G", "--pin", "0"], "taken, all that is streamed")):
            told = self.succeeds(*run, *flags, env=self.env).err
            self.assertRegex(told, f"{flags[0]} .*: .*{expected}")
            self.assertIn(expected, self.succeeds("plan", "-m", MODEL, "-c", 256, "--profile", self.profile, *flags, env=self.env).err)
        flags = ["-c", 256, "--memory", "4M", "--window"]
        largest = re.search(r"the largest is --window (\d+)k", self.fails(3, "run", "-m", MODEL, "-p", "a", *flags, "5G", env=self.env)).group(1)
        self.plan(*flags, largest + "k")

    def test_a_sweep_keeps_to_the_least_speed(self):
        sweep = ["-c", 256, "--sweep", "memory=1M:8M:4"]
        plans = self.plan(*sweep)["plans"]
        rates = [p["predicted"]["tokens_per_second"] for p in plans]
        least = (rates[1] + rates[2]) / 2
        kept = [p["name"] for p in self.plan(*sweep, "--min-tps", least)["plans"]]
        self.assertEqual(kept, [p["name"] for p, rate in zip(plans, rates) if rate >= least])
        table = self.succeeds("plan", "-m", MODEL, "--profile", self.profile, *sweep, "--min-tps", least, env=self.env).out
        self.assertIn(f"of these, {kept[0].removeprefix('memory ')} is the least memory", table)
        self.assertIn("no plan gives", self.fails(3, "plan", "-m", MODEL, "--profile", self.profile, *sweep, "--min-tps", 1e9, env=self.env))


class Bench(PlanTest):
    def test_predicted_and_measured_of_every_test(self):
        for memory in (STREAMED, "60M"):
            tests = self.json_of("bench", "-m", MODEL, "--memory", memory, "-p", 32, "-n", 8, "-r", 2, "--json", env=self.env)
            self.assertEqual(len(tests), 2)
            for test in tests:
                for side in ("predicted", "measured"):
                    for name in FIGURES:
                        self.assertGreaterEqual(test[side][name], 0)
                self.assertEqual(test["measured"]["tokens_per_second"], test["tokens_per_second"])
                ratio = test["predicted"]["peak_memory_bytes"] / test["measured"]["peak_memory_bytes"]
                self.assertAlmostEqual(ratio, 1, delta=0.05)
                read = test["measured"]["disk_bytes_per_token"]
                if memory == STREAMED:
                    # A prompt of one step: as much as the window holds may be read before it or after.
                    delta = 0.1 if test["test"].startswith("tg") else 0.6
                    self.assertAlmostEqual(test["predicted"]["disk_bytes_per_token"] / read, 1, delta=delta)
                else:
                    self.assertEqual(read, 0)

    def test_nothing_is_predicted_without_a_budget(self):
        test, = self.json_of("bench", "-m", MODEL, "-p", 0, "-n", 4, "-r", 1, "--json", env=self.env)
        self.assertNotIn("predicted", test)


if __name__ == "__main__":
    support.main()
