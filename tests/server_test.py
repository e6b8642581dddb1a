"""venturi serve: OpenAI's API over real sockets; what it answers is what `run` gives; nothing bad stops it."""
import concurrent.futures
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import support
from support import MODEL, VENTURI, venturi

PROMPT = "It was the best of times, and the old gentleman"


class Server:
    def __init__(self, *flags, model=MODEL, context=256, scheme="http", host="127.0.0.1"):
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([str(VENTURI), "serve", "-m", str(model), "--port", "0", "-c", str(context), "-t", "2", *map(str, flags)],
                                        stdout=subprocess.PIPE, stderr=self.errors, text=True, env=support.clean_environment())
        line = self.process.stdout.readline()
        found = re.fullmatch(rf"listening on {scheme}://{re.escape(host)}:(\d+)\n", line)
        if not found:
            self.errors.seek(0)
            raise AssertionError(f"{line!r}: {self.errors.read()}")
        self.port = int(found.group(1))

    def connect(self, timeout=60):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(self, method, path, body=None, headers=None):
        """(status, parsed body or text, headers)"""
        connection = self.connect()
        try:
            data = json.dumps(body) if isinstance(body, (dict, list)) else body
            connection.request(method, path, data, headers or {})
            response = connection.getresponse()
            text = response.read().decode()
            kind = response.headers.get("Content-Type", "")
            return response.status, json.loads(text) if kind.startswith("application/json") else text, response.headers
        finally:
            connection.close()

    def events(self, path, body):
        """The data of every event of a stream."""
        connection = self.connect()
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            assert response.status == 200, response.read()
            assert response.headers["Content-Type"].startswith("text/event-stream")
            text = response.read().decode()
        finally:
            connection.close()
        return [block[len("data: "):] for block in text.split("\n\n") if block.startswith("data: ")]

    def metric(self, name, headers=None):
        text = self.ask("GET", "/metrics", headers=headers)[1]
        return float(re.search(rf"^{re.escape(name)}\{{.*\}} (\S+)$", text, re.M).group(1))

    def bucket(self, name, bound):
        """How many a histogram counted up to the bound."""
        text = self.ask("GET", "/metrics")[1]
        return float(re.search(rf'^{re.escape(name)}_bucket\{{.*le="{bound}".*\}} (\S+)$', text, re.M).group(1))

    def settles(self, seconds=20, headers=None):
        """Whether nothing runs or waits after a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.metric("vllm:num_requests_running", headers) == self.metric("vllm:num_requests_waiting", headers) == 0:
                return True
            time.sleep(0.05)
        return False

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        if code != 0:  # a sanitizer's report, perhaps
            self.errors.seek(0)
            sys.stderr.write(self.errors.read()[-20000:])
        self.process.stdout.close()
        self.errors.close()
        return code


class Serving(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.server = Server("--streams", 4, "--alias", "tiny")

    @classmethod
    def tearDownClass(cls):
        cls.code = cls.server.stop()
        assert cls.code == 0, cls.code

    def post(self, path, body, status=200):
        got, answer, headers = self.server.ask("POST", path, body, {"Content-Type": "application/json"})
        self.assertEqual(got, status, answer)
        return answer

    def completion(self, **more):
        return self.post("/v1/completions", {"model": "tiny", "prompt": PROMPT, "temperature": 0, "max_tokens": 12, "ignore_eos": True, **more})


class Answers(Serving):
    def test_a_completion_is_what_run_gives(self):
        run = venturi("run", "-m", MODEL, "-p", PROMPT, "-n", 12, "--temp", 0, "--ignore-eos", "-q", "-c", 256)
        self.assertEqual(run.code, 0, run)
        answer = self.completion(echo=True)
        self.assertEqual(answer["choices"][0]["text"] + "\n", run.out)
        self.assertEqual(answer["choices"][0]["finish_reason"], "length")
        self.assertEqual(answer["object"], "text_completion")
        self.assertEqual(answer["usage"]["completion_tokens"], 12)
        ids = self.post("/tokenize", {"content": PROMPT})["tokens"]
        self.assertEqual(answer["usage"]["prompt_tokens"], len(ids))
        self.assertEqual(self.completion(prompt=ids)["choices"][0]["text"], answer["choices"][0]["text"][len(PROMPT):])

    def test_tokenize_and_detokenize_are_inverse(self):
        ids = self.post("/tokenize", {"content": "déjà vu 🙂", "add_special": False})["tokens"]
        self.assertEqual(self.post("/detokenize", {"tokens": ids})["content"], "déjà vu 🙂")

    def test_neighbours_change_no_byte(self):
        alone = [self.completion(seed=s, temperature=1, prompt=PROMPT * (1 + s % 3))["choices"][0]["text"] for s in range(8)]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            together = list(pool.map(
                lambda s: self.completion(seed=s, temperature=1, prompt=PROMPT * (1 + s % 3))["choices"][0]["text"], range(8)))
        self.assertEqual(alone, together)

    def test_a_stream_says_what_the_whole_says(self):
        body = {"model": "tiny", "messages": [{"role": "user", "content": "Who came in?"}], "max_tokens": 20, "seed": 3}
        whole = self.post("/v1/chat/completions", body)
        events = self.server.events("/v1/chat/completions", {**body, "stream": True, "stream_options": {"include_usage": True}})
        self.assertEqual(events[-1], "[DONE]")
        chunks = [json.loads(e) for e in events[:-1]]
        self.assertTrue(all(c["object"] == "chat.completion.chunk" and c["id"] == chunks[0]["id"] for c in chunks))
        self.assertEqual(chunks[0]["choices"][0]["delta"], {"role": "assistant", "content": ""})
        self.assertEqual(chunks[-1]["choices"], [])
        self.assertEqual({c["usage"] for c in chunks[:-1]}, {None})
        self.assertFalse(any("usage" in json.loads(e) for e in self.server.events("/v1/chat/completions", {**body, "stream": True})[:-1]))
        # The second time, the prompt but for its last token is known.
        usage = chunks[-1]["usage"]
        self.assertEqual(usage.pop("prompt_tokens_details")["cached_tokens"], usage["prompt_tokens"] - 1)
        whole["usage"].pop("prompt_tokens_details")
        self.assertEqual(usage, whole["usage"])
        self.assertEqual([c["choices"][0]["finish_reason"] for c in chunks[:-1] if c["choices"][0]["finish_reason"]],
                         [whole["choices"][0]["finish_reason"]])
        self.assertEqual("".join(c["choices"][0]["delta"].get("content", "") for c in chunks[:-1]),
                         whole["choices"][0]["message"]["content"])

    def test_what_a_prompt_begins_with_is_found_again(self):
        body = {"model": "tiny", "max_tokens": 12, "temperature": 1, "seed": 5,
                "prompt": "A tale of a house by the river that nobody else tells, " * 6}
        first = self.post("/v1/completions", body)
        cached = first["usage"]["prompt_tokens_details"]["cached_tokens"]
        self.assertLess(cached, 16)
        again = self.post("/v1/completions", body)
        self.assertEqual(again["choices"][0]["text"], first["choices"][0]["text"])
        self.assertEqual(again["usage"]["prompt_tokens_details"]["cached_tokens"], first["usage"]["prompt_tokens"] - 1)
        message = {"max_tokens": 4, "messages": [{"role": "user", "content": "Of whom does nobody else tell? " * 5}]}
        self.post("/v1/messages", message)
        usage = self.post("/v1/messages", message)["usage"]
        self.assertGreater(usage["cache_read_input_tokens"], 20)
        self.assertEqual(usage["input_tokens"], 1)
        metrics = self.server.ask("GET", "/metrics")[1]
        counted = {name: float(value) for name, value in re.findall(r"^(vllm:prefix_cache_\w+)\{.*\} (\S+)$", metrics, re.M)}
        self.assertGreater(counted["vllm:prefix_cache_hits_total"], 0)
        self.assertGreaterEqual(counted["vllm:prefix_cache_queries_total"], counted["vllm:prefix_cache_hits_total"])

    def test_stop_texts_across_tokens(self):
        text = self.completion(max_tokens=40)["choices"][0]["text"]
        for begin in (3, 9, 14):
            stop = text[begin:begin + 7]
            answer = self.completion(max_tokens=40, stop=["@@@@", stop])["choices"][0]
            self.assertEqual(answer["text"], text[:text.index(stop)])
            self.assertEqual(answer["finish_reason"], "stop")
            streamed = [json.loads(e) for e in self.server.events("/v1/completions", {
                "prompt": PROMPT, "temperature": 0, "max_tokens": 40, "ignore_eos": True, "stop": stop, "stream": True})[:-1]]
            self.assertEqual("".join(c["choices"][0]["text"] for c in streamed), text[:text.index(stop)])

    def test_several_answers_and_several_prompts(self):
        answer = self.completion(prompt=[PROMPT, "The road"], n=2, temperature=1, seed=5, max_tokens=6)
        self.assertEqual([c["index"] for c in answer["choices"]], [0, 1, 2, 3])
        single = self.completion(prompt="The road", n=1, temperature=1, seed=6, max_tokens=6)
        self.assertEqual(answer["choices"][3]["text"], single["choices"][0]["text"])

    def test_logprobs(self):
        entries = self.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hm"}], "max_tokens": 4, "temperature": 0,
                                                     "logprobs": True, "top_logprobs": 3})["choices"][0]["logprobs"]["content"]
        self.assertTrue(entries)
        for entry in entries:
            self.assertEqual(len(entry["top_logprobs"]), 3)
            self.assertEqual(entry["top_logprobs"][0]["logprob"], entry["logprob"])
            self.assertLessEqual(entry["logprob"], 0)
            self.assertEqual(bytes(entry["bytes"]).decode(errors="replace"), entry["token"])
        old = self.completion(logprobs=2)["choices"][0]["logprobs"]
        self.assertEqual(len(old["tokens"]), 12)
        self.assertEqual(len(old["text_offset"]), 12)

    def test_logprobs_are_of_what_is_said(self):
        text = self.completion(max_tokens=40)["choices"][0]["text"]
        for begin in (0, 3, 9, 14):
            for length in (1, 7):
                stop = text[begin:begin + length]
                ask = {"max_tokens": 40, "stop": ["@@@@", stop], "logprobs": 1}
                answer = self.completion(**ask)["choices"][0]
                said, tokens = answer["text"], answer["logprobs"]["tokens"]
                with self.subTest(stop=stop, said=said, tokens=tokens):
                    # All tokens that something was said of, the last one perhaps in part.
                    self.assertTrue("".join(tokens).startswith(said))
                    self.assertTrue(not tokens or len("".join(tokens[:-1])) < len(said))
                    events = [json.loads(e)["choices"][0] for e in self.server.events("/v1/completions", {
                        "prompt": PROMPT, "temperature": 0, "ignore_eos": True, **ask, "stream": True})[:-1]]
                    self.assertEqual([t for e in events for t in e["logprobs"]["tokens"]], tokens)
                    self.assertEqual("".join(e["text"] for e in events), said)

    def test_logprobs_of_the_prompt(self):
        text = (PROMPT + " said. ") * 12
        ids = self.post("/tokenize", {"content": text})["tokens"][:96]
        # As `venturi eval` has it, whose score is of a window's second half.
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write(text)
            file.flush()
            scored = json.loads(venturi("eval", "-m", MODEL, "-f", file.name, "-c", 96, "--windows", 1, "--json").out)
        answer = self.completion(prompt=ids, echo=True, logprobs=3, max_tokens=1)["choices"][0]
        logprobs = answer["logprobs"]
        self.assertEqual({name: len(of) for name, of in logprobs.items()}, dict.fromkeys(logprobs, 97))
        self.assertIsNone(logprobs["token_logprobs"][0])
        self.assertIsNone(logprobs["top_logprobs"][0])
        nll = -sum(logprobs["token_logprobs"][49:96]) / 47
        self.assertAlmostEqual(nll, scored["nll"], places=9)
        for token, logprob, top in list(zip(logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"]))[1:]:
            self.assertEqual(top[token], logprob)
            self.assertIn(len(top), (3, 4))
        for i, offset in enumerate(logprobs["text_offset"][:-1]):
            if i > 1:
                self.assertEqual(answer["text"][offset:logprobs["text_offset"][i + 1]], logprobs["tokens"][i])
        # Nothing of an answer with max_tokens 0; a stream says the same; batches are as each alone.
        none = self.post("/v1/completions", {"prompt": [ids, ids[:9]], "echo": True, "logprobs": 3, "max_tokens": 0})
        self.assertEqual(none["usage"]["completion_tokens"], 0)
        self.assertEqual(none["choices"][0]["logprobs"], {name: of[:96] for name, of in logprobs.items()})
        self.assertEqual(none["choices"][1]["logprobs"], {name: of[:9] for name, of in logprobs.items()})
        self.assertEqual(none["choices"][0]["finish_reason"], "length")
        events = [json.loads(e)["choices"][0] for e in self.server.events("/v1/completions", {
            "prompt": ids, "echo": True, "logprobs": 3, "max_tokens": 1, "temperature": 0, "ignore_eos": True, "stream": True})[:-1]]
        for name, of in logprobs.items():
            self.assertEqual([x for e in events for x in e["logprobs"][name]], of)
        self.assertEqual("".join(e["text"] for e in events), answer["text"])
        self.post("/v1/completions", {"prompt": "a", "max_tokens": 0}, 400)

    def test_bias_bans_and_forces(self):
        first = self.completion(max_tokens=1)["choices"][0]["text"]
        token = self.post("/tokenize", {"content": PROMPT + first, "add_special": True})["tokens"][-1]
        self.assertNotEqual(self.completion(max_tokens=1, logit_bias={str(token): -100})["choices"][0]["text"], first)
        self.assertEqual(self.completion(max_tokens=3, logit_bias={str(token): 100})["choices"][0]["text"], first * 3)

    def test_presence_and_frequency_count_what_was_sampled_alone(self):
        prompt = "the door of the house and the"

        def completion(n, **more):
            return self.completion(prompt=prompt, max_tokens=n, **more)["choices"][0]["text"]

        def ollama(n, **more):
            options = {"temperature": 0, "repeat_penalty": 1, "num_predict": n, **more}
            return self.post("/api/generate", {"prompt": prompt, "raw": True, "stream": False, "options": options})["response"]

        for text in (completion, ollama):
            for name in ("presence_penalty", "frequency_penalty"):
                with self.subTest(text=text.__name__, name=name):
                    self.assertEqual(text(1, **{name: 2}), text(1))
                    self.assertNotEqual(text(40, **{name: 2}), text(40))
        # Repetition counts the prompt.
        self.assertNotEqual(completion(1, repetition_penalty=10), completion(1))

    def test_seeds_are_64_bits(self):
        texts = [self.completion(seed=seed, temperature=1, max_tokens=20)["choices"][0]["text"] for seed in (2**63 - 1, -2**63, 2**62 + 1, 2**63 - 1)]
        self.assertEqual(texts[0], texts[3])
        self.assertEqual(len(set(texts)), 3)
        for seed in (2**63, -2**63 - 1, 2**64, 1.5, 1e30):
            self.post("/v1/completions", {"prompt": "a", "seed": seed}, 400)

    def test_structured_output(self):
        schema = {"type": "object", "properties": {"name": {"enum": ["Ann", "Bob"]}, "old": {"type": "boolean"}},
                  "required": ["name", "old"], "additionalProperties": False}
        answer = self.post("/v1/chat/completions", {
            "messages": [{"role": "user", "content": "Who?"}], "max_tokens": 100, "seed": 1,
            "response_format": {"type": "json_schema", "json_schema": {"name": "person", "schema": schema}}})["choices"][0]
        value = json.loads(answer["message"]["content"])
        self.assertIn(value["name"], ["Ann", "Bob"])
        self.assertIsInstance(value["old"], bool)
        self.assertEqual(answer["finish_reason"], "stop")
        grammar = self.completion(grammar='root ::= "left" | "right"', max_tokens=20)["choices"][0]
        self.assertIn(grammar["text"], ["left", "right"])

    def test_models_and_health(self):
        self.assertEqual(self.server.ask("GET", "/health")[0], 200)
        listed = self.server.ask("GET", "/v1/models")[1]["data"][0]
        self.assertEqual(listed["id"], "tiny")
        for path in ("/v1/models/tiny", "/v1/models/%74iny", "/v1/models/tiny?x=y"):
            self.assertEqual(self.server.ask("GET", path)[:2], (200, listed))
        for path in ("/v1/models/other", "/v1/models/tiny/", "/v1/models/%zz", "/v1/models/%"):
            status, answer, _ = self.server.ask("GET", path)
            self.assertEqual((status, answer["error"]["code"]), (404, "model_not_found"))
        self.assertEqual(self.server.ask("GET", "/v1/models/")[1]["error"]["code"], "not_found")
        self.assertEqual(self.server.ask("DELETE", "/v1/models/tiny")[0], 405)


class Ollama(Serving):
    def lines(self, path, body):
        connection = self.server.connect()
        try:
            connection.request("POST", path, json.dumps(body))
            response = connection.getresponse()
            self.assertEqual(response.headers["Content-Type"], "application/x-ndjson")
            return [json.loads(line) for line in response.read().decode().splitlines()]
        finally:
            connection.close()

    def test_chat_and_generate_stream_unless_told_not_to(self):
        options = {"temperature": 0, "num_predict": 12, "repeat_penalty": 1}
        for path, body, text in (("/api/chat", {"messages": [{"role": "user", "content": "Hm"}]}, lambda j: j["message"]["content"]),
                                 ("/api/generate", {"prompt": "Hm"}, lambda j: j["response"]),
                                 ("/api/generate", {"prompt": PROMPT, "raw": True}, lambda j: j["response"])):
            with self.subTest(path=path, body=body):
                whole = self.post(path, {"model": "tiny", **body, "options": options, "stream": False})
                lines = self.lines(path, {"model": "tiny", **body, "options": options})
                self.assertEqual("".join(map(text, lines)), text(whole))
                self.assertEqual([line["done"] for line in lines], [False] * (len(lines) - 1) + [True])
                self.assertEqual(lines[-1]["eval_count"], whole["eval_count"])
                self.assertGreater(whole["prompt_eval_count"], 0)
                self.assertIn(whole["done_reason"], ("stop", "length"))

    def test_formats_tags_and_errors(self):
        answer = self.post("/api/generate", {"prompt": "Who?", "stream": False, "options": {"num_predict": 60},
                                             "format": {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}})
        self.assertIsInstance(json.loads(answer["response"])["a"], bool)
        self.assertEqual(self.server.ask("GET", "/api/tags")[1]["models"][0]["name"], "tiny")
        for body, expected in (({"options": {"top_p": 3}}, 400), ({"options": {"num_ctx": 1 << 20}}, 400), ({"images": ["x"]}, 400),
                               ({"model": "other"}, 404), ({"model": "other:latest"}, 404), ({"model": "tiny:latest:latest"}, 404)):
            status, wrong, _ = self.server.ask("POST", "/api/generate", {"prompt": "a", **body})
            self.assertEqual((status, list(wrong)), (expected, ["error"]), wrong)

    def test_the_tag_that_clients_append_is_none(self):
        for path, body in (("/api/chat", {"messages": [{"role": "user", "content": "Hm"}]}), ("/api/generate", {"prompt": "Hm"})):
            answer = self.post(path, {"model": "tiny:latest", "stream": False, "options": {"num_predict": 2}, **body})
            self.assertEqual(answer["model"], "tiny")
        self.post("/v1/completions", {"model": "tiny:latest", "prompt": "Hm"}, 404)


class Refusals(Serving):
    def refused(self, path, body, status, says, headers=None):
        got, answer, _ = self.server.ask("POST", path, body, headers)
        self.assertEqual(got, status, answer)
        self.assertIn(says, answer["error"]["message"])
        self.assertEqual(set(answer["error"]), {"message", "type", "param", "code"})
        return answer["error"]

    def test_wrong_fields_are_named(self):
        chat = {"messages": [{"role": "user", "content": "Hm"}], "max_tokens": 2}
        for body, param in (({"temperature": "hot"}, "temperature"), ({"temperature": -1}, "temperature"), ({"top_p": 2}, "top_p"),
                            ({"n": 0}, "n"), ({"n": 1.5}, "n"), ({"max_tokens": 0}, "max_tokens"), ({"stop": [1]}, "stop"),
                            ({"stop": [""]}, "stop"), ({"logit_bias": {"x": 1}}, "logit_bias"), ({"stream": "yes"}, "stream"),
                            ({"top_logprobs": 2}, "top_logprobs"), ({"messages": []}, "messages"), ({"messages": "Hm"}, "messages"),
                            ({"messages": [{"content": "a"}]}, "messages[0]"), ({"messages": [{"role": "foo", "content": "a"}]}, "messages[0].role"),
                            ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].tool_call_id"),
                            ({"stream_options": {}}, "stream_options"),
                            ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
                            ({"tools": [{"type": "function"}]}, "tools"), ({"response_format": {"type": "xml"}}, "response_format"),
                            ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "nonsense"}}}},
                             "response_format.json_schema.schema")):
            with self.subTest(body=body):
                error = self.refused("/v1/chat/completions", {**chat, **body}, 400, "")
                self.assertEqual(error["param"], param)
                # The same before the first byte of a stream.
                if "stream" not in body and "stream_options" not in body:
                    self.assertEqual(self.refused("/v1/chat/completions", {**chat, **body, "stream": True}, 400, "")["param"], param)

    def test_an_unknown_model_is_not_found(self):
        for model in ("other", "tiny:adapter", "tiny:", "TINY"):
            for path, body in (("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hm"}]}), ("/v1/completions", {"prompt": "Hm"}),
                               ("/v1/responses", {"input": "Hm"}), ("/tokenize", {"content": "a"}), ("/models/unload", {})):
                error = self.refused(path, {"model": model, **body}, 404, model)
                self.assertEqual((error["param"], error["code"]), ("model", "model_not_found"))
        status, answer, _ = self.server.ask("POST", "/v1/messages", {"model": "other", "max_tokens": 2, "messages": [{"role": "user", "content": "Hm"}]})
        self.assertEqual((status, answer["error"]["type"]), (404, "not_found_error"))

    def test_unknown_fields_are_passed_over(self):
        self.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hm"}], "max_tokens": 2, "frobnicate": 3})

    def test_a_context_too_long_says_what_fits(self):
        ids = self.post("/tokenize", {"content": PROMPT})["tokens"]
        error = self.refused("/v1/completions", {"prompt": ids, "max_tokens": 1000}, 400, f"ask for at most {256 - len(ids) + 1}")
        self.assertEqual(error["code"], "context_length_exceeded")
        self.refused("/v1/completions", {"prompt": ids * 100, "max_tokens": 1}, 400, "the context holds 256")

    def test_bodies_that_are_not_json(self):
        for body in ("", "{", "[1", "nul", "{\"a\":1}}", "\xff".encode("latin-1"), "[" * 5000, "3", "[]", '"x"', '{"prompt": "\\ud800"}'):
            with self.subTest(body=body[:20]):
                status, answer, _ = self.server.ask("POST", "/v1/completions", body)
                self.assertEqual(status, 400, answer)

    def test_paths_and_methods(self):
        self.assertEqual(self.server.ask("GET", "/nothing")[0], 404)
        status, _, headers = self.server.ask("GET", "/v1/completions")
        self.assertEqual(status, 405)
        self.assertEqual(headers["Allow"], "POST")

    def test_sizes(self):
        connection = self.server.connect()
        connection.putrequest("POST", "/v1/completions")
        connection.putheader("Content-Length", str(1 << 40))
        connection.endheaders()
        self.assertEqual(connection.getresponse().status, 413)
        connection.close()
        self.assertEqual(self.server.ask("GET", "/health", headers={"X-Long": "a" * 60000})[0], 431)

    def test_not_http(self):
        for sent in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"\0" * 100, b"POST /v1/completions HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
                     b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"):
            with self.subTest(sent=sent), socket.create_connection(("127.0.0.1", self.server.port), 20) as s:
                s.sendall(sent)
                s.shutdown(socket.SHUT_WR)
                got = s.recv(1 << 16)
                self.assertTrue(got == b"" or got.startswith(b"HTTP/1.1 4"), got)
        self.assertEqual(self.server.ask("GET", "/health")[0], 200)


class Disconnects(Serving):
    def request_bytes(self, stream, tokens=200):
        body = json.dumps({"prompt": PROMPT, "max_tokens": tokens, "ignore_eos": True, "stream": stream}).encode()
        return b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    def test_whoever_goes_is_cancelled_and_the_rest_go_on(self):
        beside = concurrent.futures.ThreadPoolExecutor(1)
        running = beside.submit(self.completion, max_tokens=120)
        before = self.server.metric("venturi_requests_cancelled_total")
        sent = self.request_bytes(True)
        gone = 0
        for cut in [*range(0, len(sent), 37), *[len(sent)] * 12]:  # within the request, and after it
            with socket.create_connection(("127.0.0.1", self.server.port), 20) as s:
                s.sendall(sent[:cut])
                if cut == len(sent):
                    gone += 1
                    if gone % 2:
                        s.recv(100)
        for _ in range(6):
            with socket.create_connection(("127.0.0.1", self.server.port), 20) as s:
                s.sendall(self.request_bytes(False))
                time.sleep(0.02)
        self.assertEqual(running.result()["usage"]["completion_tokens"], 120)
        self.assertTrue(self.server.settles())
        self.assertGreater(self.server.metric("venturi_requests_cancelled_total"), before)
        self.assertEqual(self.server.metric("vllm:kv_cache_usage_perc"), 0)
        beside.shutdown()

    def test_requests_sent_ahead_are_answered_in_order(self):
        with socket.create_connection(("127.0.0.1", self.server.port), 20) as s:
            s.sendall(self.request_bytes(False, 3) + b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            got = b""
            while chunk := s.recv(1 << 16):
                got += chunk
        self.assertEqual(got.count(b"HTTP/1.1 200"), 2, got)
        self.assertLess(got.index(b"text_completion"), got.index(b'"ok"'))

    def test_slow_requests_hold_nobody_up(self):
        with socket.create_connection(("127.0.0.1", self.server.port), 60) as slow:
            slow.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nX: ")
            self.completion(max_tokens=3)
            slow.sendall(b"y")
            slow.settimeout(30)
            self.assertTrue(slow.recv(1 << 16).startswith(b"HTTP/1.1 408"))


class Keys(unittest.TestCase):
    def test_keys(self):
        with tempfile.NamedTemporaryFile("w", suffix=".keys") as file:
            file.write("# keys\nalpha-secret\n\nbeta-secret\n")
            file.flush()
            server = Server("--api-key-file", file.name)
            try:
                body = {"prompt": "a", "max_tokens": 1}
                for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer "}, {"Authorization": "Bearer alpha"},
                                {"Authorization": "Basic alpha-secret"}, {"x-api-key": "alpha-secretalpha-secret"}):
                    status, answer, got = server.ask("POST", "/v1/completions", body, headers)
                    self.assertEqual((status, answer["error"]["code"]), (401, "invalid_api_key"), headers)
                    self.assertEqual(got["WWW-Authenticate"], "Bearer")
                self.assertEqual(server.ask("GET", "/metrics")[0], 401)
                self.assertEqual(server.ask("GET", "/health")[0], 200)
                for headers in ({"Authorization": "Bearer alpha-secret"}, {"authorization": "bearer beta-secret"}, {"x-api-key": "beta-secret"}):
                    self.assertEqual(server.ask("POST", "/v1/completions", body, headers)[0], 200)
            finally:
                self.assertEqual(server.stop(), 0)

    def test_an_open_door_must_be_asked_for(self):
        refused = venturi("serve", "-m", MODEL, "--host", "0.0.0.0", "--port", 0)
        self.assertEqual(refused.code, 2, refused)
        self.assertIn("--api-key-file", refused.err)
        wrong = venturi("serve", "-m", MODEL, "--host", "nowhere", "--port", 0, "--insecure")
        self.assertEqual(wrong.code, 2, wrong)


class Ends(unittest.TestCase):
    def test_a_full_queue_is_a_429(self):
        server = Server("--streams", 1, "--max-queued", 2)
        try:
            body = {"prompt": PROMPT, "max_tokens": 200, "ignore_eos": True}
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                got = list(pool.map(lambda _: server.ask("POST", "/v1/completions", body), range(8)))
            statuses = [status for status, _, _ in got]
            self.assertIn(429, statuses)
            self.assertIn(200, statuses)
            for status, answer, headers in got:
                if status == 429:
                    self.assertGreaterEqual(int(headers["Retry-After"]), 1)
                    self.assertEqual(answer["error"]["type"], "rate_limit_error")
        finally:
            self.assertEqual(server.stop(), 0)

    def test_sigterm_lets_what_runs_end(self):
        server = Server("--streams", 2)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            running = pool.submit(server.ask, "POST", "/v1/completions", {"prompt": PROMPT, "max_tokens": 200, "ignore_eos": True})
            time.sleep(0.15)
            self.assertEqual(server.stop(), 0)
            self.assertEqual(running.result()[1]["usage"]["completion_tokens"], 200)

    def test_sigterm_has_a_deadline(self):
        server = Server("--streams", 1, "--drain-seconds", 0.2)
        connections = []
        for _ in range(30):
            c = server.connect()
            c.request("POST", "/v1/completions", json.dumps({"prompt": PROMPT, "max_tokens": 240, "ignore_eos": True}))
            connections.append(c)
        begin = time.monotonic()
        self.assertEqual(server.stop(), 0)
        self.assertLess(time.monotonic() - begin, 10)
        for c in connections:
            c.close()


if __name__ == "__main__":
    support.main()
