"""venturi loadtest against venturi serve, and against servers that misbehave."""
import http.server
import json
import re
import tempfile
import threading
import unittest
import xml.etree.ElementTree
from pathlib import Path

import support
from server_test import Server

SMALL = ("--prompt-tokens", 12, "--output-tokens", 8)


class Misbehaving(http.server.BaseHTTPRequestHandler):
    """Says how many tokens a prompt has, then does as the server's `mood` says."""
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def whole(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.whole(200, {"data": [{"id": "toy"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append((self.headers.get("Authorization"), body))
        if not body.get("stream"):
            words = body["prompt"] if "prompt" in body else body["messages"][0]["content"]
            return self.whole(200, {"usage": {"prompt_tokens": 3 + 2 * len(words.split())}})
        mood = self.server.mood(len(self.server.bodies))
        if mood == "refuse":
            return self.whole(429, {"error": {"message": "too many", "type": "x", "param": None, "code": None}})
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        chunk = json.dumps({"choices": [{"index": 0, "text": "a"}]})
        text = {"good": f"data: {chunk}\n\ndata: {chunk}\n\ndata: [DONE]\n\n", "cut": f"data: {chunk}\n\n", "nonsense": "data: {nope\n\n",
                "error": 'data: {"error": {"message": "it broke"}}\n\n', "silent": "data: [DONE]\n\n", "stall": ""}[mood]
        self.wfile.write(text.encode())
        self.wfile.flush()
        if mood == "stall":
            self.server.release.wait(20)
        self.close_connection = True


class Toy:
    def __init__(self, mood):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Misbehaving)
        self.server.mood, self.server.bodies, self.server.release = mood, [], threading.Event()
        self.thread = threading.Thread(target=self.server.serve_forever)

    def __enter__(self):
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        return self

    def __exit__(self, *_):
        self.server.release.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def streamed(self):
        return [(key, body) for key, body in self.server.bodies if body.get("stream")]


class AgainstServe(support.ProgramTest):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.keys = Path(cls.folder.name) / "keys"
        cls.keys.write_text("first-secret\nsecond-secret\n")
        cls.server = Server("--api-key-file", cls.keys, "--alias", "tiny")
        cls.url = f"http://127.0.0.1:{cls.server.port}"

    @classmethod
    def tearDownClass(cls):
        code = cls.server.stop()
        cls.folder.cleanup()
        assert code == 0, code

    def load(self, *flags):
        return self.json_of("loadtest", self.url, "--api-key-file", self.keys, "--json", *flags)

    def test_everything_is_answered_and_counted(self):
        for api in ("completions", "chat"):
            with self.subTest(api=api):
                report = self.load("--api", api, "-n", 30, "--rate", 40, *SMALL, "--ttft-target", 30, "--tpot-target", 30)
                self.assertEqual((report["requests"], report["answered"], report["errors"]), (30, 30, {}), report)
                self.assertEqual(report["output_tokens"], 30 * 8)
                self.assertEqual(report["within_targets"], 30)
                self.assertEqual(report["model"], "tiny")
                self.assertEqual(sum(k["requests"] for k in report["keys"]), 30)
                self.assertTrue(all(k["requests"] for k in report["keys"]))
                self.assertGreater(report["jain_share"], 0.9)
                for name in ("ttft_seconds", "tpot_seconds", "inter_token_seconds", "request_seconds"):
                    s = report[name]
                    self.assertTrue(0 <= s["p50"] <= s["p90"] <= s["p99"] <= s["max"], (name, s))
                self.assertGreater(report["ttft_seconds"]["p50"], 0)
                self.assertLess(report["ttft_seconds"]["max"], report["request_seconds"]["max"] + 1e-9)

    def test_prompts_have_the_length_asked_for(self):
        log = Path(self.folder.name) / "log"
        for api, length in (("completions", 60), ("chat", 60), ("completions", 150)):
            self.load("--api", api, "-n", 12, "--rate", 100, "--prompt-tokens", length, "--output-tokens", 2, "--log", log)
            lengths = [json.loads(line)["prompt_tokens"] for line in log.read_text().splitlines()]
            self.assertEqual(len(lengths), 12)
            # Words differ in their tokens; on average they come to what was asked for.
            self.assertAlmostEqual(sum(lengths) / 12 / length, 1, delta=0.15)

    def test_a_seed_is_a_workload(self):
        log = Path(self.folder.name) / "log"

        def sent(seed):
            self.load("-n", 15, "--rate", 200, "--seed", seed, "--length-scale", 0.05, "--turns", 3, "--turn-gap", 0.1, "--history", 150, "--log", log)
            return [(r["at"], r["key"], r["conversation"], r["turn"]) for r in map(json.loads, log.read_text().splitlines())]
        first = sent(1)
        self.assertEqual(first, sent(1))
        self.assertNotEqual(first, sent(2))
        self.assertGreater(max(turn for *_, turn in first), 0)

    def test_a_trace_is_replayed(self):
        trace = Path(self.folder.name) / "trace.csv"
        trace.write_text("Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
                         "10,s1,1,ChatGPT,20,5,25,Conversation log\n40,s2,1,ChatGPT,30,7,37,Conversation log\n"
                         "41,s3,1,ChatGPT,30,0,30,API log\n70,s1,1,GPT-4,10,9,19,Conversation log\n")
        report = self.load("--trace", trace, "--speed", 100)
        self.assertEqual((report["requests"], report["answered"], report["output_tokens"]), (3, 3, 21))
        self.assertGreater(report["seconds"], 0.6)

    def test_a_picture_and_a_table(self):
        svg = Path(self.folder.name) / "run.svg"
        text = self.succeeds("loadtest", self.url, "--api-key-file", self.keys, "-n", 10, "--rate", 50, *SMALL, "--svg", svg).out
        self.assertIn("10 of 10 requests answered", text)
        self.assertRegex(text, r"\| time to first token \|")
        root = xml.etree.ElementTree.fromstring(svg.read_text())
        self.assertEqual(len(root.findall("{http://www.w3.org/2000/svg}circle")), 10)

    def test_without_a_key_it_says_so(self):
        self.assertIn("401", self.fails(1, "loadtest", self.url, "-n", 1))


class AgainstOthers(support.ProgramTest):
    def report(self, toy, *flags):
        return self.json_of("loadtest", toy.url, "--json", "--rate", 200, *SMALL, *flags)

    def test_errors_are_counted_by_kind(self):
        moods = ["good", "refuse", "cut", "nonsense", "error", "silent"]
        with Toy(lambda n: moods[n % 6]) as toy:
            report = self.report(toy, "-n", 30)
        self.assertEqual(report["answered"], 5)
        self.assertEqual(report["errors"], {"http 429": 5, "cut": 5, "bad event": 5, "error event": 5, "no text": 5})
        self.assertTrue(report["first_error"] in ("too many", "it broke", ""), report)

    def test_arrivals_never_wait(self):
        with Toy(lambda n: "stall") as toy:
            out = support.venturi("loadtest", toy.url, "--json", "--rate", 500, *SMALL, "-n", 40, "--max-connections", 5, "--timeout", 2)
        report = json.loads(out.out)
        self.assertEqual(out.code, 1)
        self.assertEqual(report["errors"], {"connections full": 35, "timeout": 5})
        self.assertLess(report["late_seconds"]["max"], 1)

    def test_what_is_sent(self):
        with Toy(lambda n: "good") as toy:
            self.report(toy, "-n", 40, "--api-key", "a", "--api-key", "b", "--key-shares", "3,1", "--temperature", 0.5)
            sent = toy.streamed()
        keys = [key for key, _ in sent]
        self.assertEqual(set(keys), {"Bearer a", "Bearer b"})
        self.assertGreater(keys.count("Bearer a"), keys.count("Bearer b"))
        body = sent[0][1]
        self.assertEqual({k: body[k] for k in ("model", "max_tokens", "stream", "ignore_eos", "temperature")},
                         {"model": "toy", "max_tokens": 8, "stream": True, "ignore_eos": True, "temperature": 0.5})
        self.assertEqual(body["stream_options"], {"include_usage": True})
        # 3 tokens of frame and 2 a word, as the toy says.
        self.assertTrue(all(abs(3 + 2 * len(b["prompt"].split()) - 12) <= 1 for _, b in sent))

    def test_turns_carry_what_was_said(self):
        with Toy(lambda n: "good") as toy:
            self.report(toy, "--api", "chat", "-n", 30, "--turns", 5, "--turn-gap", 0.2, "--history", 1000)
            longest = max((b["messages"] for _, b in toy.streamed()), key=len)
        self.assertGreater(len(longest), 2)
        self.assertEqual([m["role"] for m in longest[:3]], ["user", "assistant", "user"])

    def test_nonsense_is_refused(self):
        for flags in (["ftp://x"], ["http://"], ["http://127.0.0.1:9", "--burst-shape", "0"], ["http://127.0.0.1:9", "--burst-shape", "2:1"],
                      ["http://127.0.0.1:9", "--key-shares", "1,2"], ["http://127.0.0.1:9", "--warm-up", "1e5"]):
            with self.subTest(flags=flags):
                self.fails(2, "loadtest", *flags)
        for flags in (["--rate", 0], ["--rate", "nan"], ["-n", 0], ["--api", "x"], ["--turns", 0], ["--speed", 0], ["--trace", "/nowhere"]):
            with self.subTest(flags=flags):
                self.assertEqual(support.venturi("loadtest", *flags).code, 2)
        self.assertIn("127.0.0.1:9", self.fails(1, "loadtest", "http://127.0.0.1:9"))


if __name__ == "__main__":
    support.main()
