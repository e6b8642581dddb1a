"""What clients cannot make the server do: hold more memory than its budget allows, read a body without a key, wait for
one that does not come."""
import concurrent.futures
import json
import re
import signal
import socket
import time
import unittest

import support
from disk_failure_test import SHIM, WithSlowDisk, serve
from server_test import PROMPT, Server
from serving_test import StalledReader, request_bytes, resident
from support import MODEL

SLACK = 64 << 20
BODY = {"prompt": PROMPT, "max_tokens": 3, "temperature": 0}


def begun(port, length, sent=0, key="", chunked=False):
    """A request whose body does not come to its end."""
    s = socket.create_connection(("127.0.0.1", port), 20)
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {key}\r\n" if key else ""
    head += "Transfer-Encoding: chunked\r\n\r\n" if chunked else f"Content-Length: {length}\r\n\r\n"
    s.sendall(head.encode())
    if sent and not chunked:
        push(s, b'{"prompt":"' + b"a" * (sent - 11))
    for _ in range(sent >> 16 if chunked else 0):
        if not push(s, b"10000\r\n" + b" " * 65536 + b"\r\n"):
            break
    return s


def begun_for(port, model, **more):
    """A request for a model, whose answer is not waited for."""
    s = socket.create_connection(("127.0.0.1", port), 20)
    s.sendall(request_bytes({**BODY, "model": model, **more}))
    return s


def push(s, data):
    """Whether all of it was taken."""
    s.settimeout(3)
    try:
        s.sendall(data)
        return True
    except OSError:  # refused
        return False


def whole_answer(port, request):
    with socket.create_connection(("127.0.0.1", port), 120) as s:
        s.sendall(request)
        pieces = []
        while piece := s.recv(1 << 16):
            pieces.append(piece)
    return b"".join(pieces)


def status_of(s, seconds=20):
    """Of what the server says at once; None where it waits."""
    s.settimeout(seconds)
    try:
        got = s.recv(4096)
    except (socket.timeout, ConnectionError):
        return None
    return int(got.split()[1]) if got else None


class Bounds(unittest.TestCase):
    def start(self, *flags, **more):
        server = Server(*flags, **more)
        self.addCleanup(lambda: self.assertEqual(server.stop(), 0))
        return server

    def held(self, server):
        return server.metric("venturi_clients_held_bytes")

    def gives_all_back(self, server):
        end = time.monotonic() + 20
        while self.held(server) > 0 and time.monotonic() < end:
            time.sleep(0.05)
        # A request for the metrics holds nothing.
        self.assertEqual(self.held(server), 0)
        self.assertNotIn('holder="clients"', server.ask("GET", "/metrics")[1])

    def close(self, sockets):
        for s in sockets:
            s.close()


class Memory(Bounds):
    BUDGET = 64_000_000

    def within(self, server):
        if not support.OPTIONS.sanitized:
            self.assertLess(resident(server.process.pid), self.BUDGET + SLACK)

    def unfinished(self, length, sent, chunked=False, n=16):
        """What is answered to many bodies that do not end, and an ordinary request beside them."""
        server = self.start("--memory", "64M", "--streams", 2)
        alone = server.ask("POST", "/v1/completions", BODY)[1]["choices"][0]["text"]
        opened = [begun(server.port, length, sent, chunked=chunked) for _ in range(n)]
        self.within(server)
        status, answer, _ = server.ask("POST", "/v1/completions", BODY)
        self.assertEqual((status, answer["choices"][0]["text"]), (200, alone))
        text = server.ask("GET", "/metrics")[1]
        self.within(server)
        statuses = [status_of(s, 0.3) for s in opened]
        self.close(opened)
        self.gives_all_back(server)
        return statuses, text

    def test_bodies_larger_than_the_budget_bears_are_a_413(self):
        statuses, _ = self.unfinished(15_000_000, 14_900_000)
        self.assertEqual(set(statuses), {413})

    def test_bodies_beyond_the_room_are_a_503_and_ordinary_ones_are_served(self):
        statuses, text = self.unfinished(4_000_000, 3_900_000)
        self.assertEqual(set(statuses), {503, None})  # some are waited for
        self.assertIn('holder="clients"', text)
        statuses, _ = self.unfinished(0, 4_000_000, chunked=True)
        self.assertEqual(set(statuses), {503, None})

    def test_a_refusal_says_when_to_come_again(self):
        server = self.start("--memory", "64M", "--streams", 2)
        opened = [begun(server.port, 4_000_000, 1000) for _ in range(8)]
        status, answer, headers = server.ask("POST", "/v1/completions", json.dumps({**BODY, "user": "a" * 3_000_000}))
        self.assertEqual((status, headers["Retry-After"], answer["error"]["type"]), (503, "1", "server_error"))
        self.close(opened)
        self.gives_all_back(server)
        self.assertGreater(server.metric("venturi_clients_without_room_total"), 0)
        self.assertEqual(server.ask("POST", "/v1/completions", json.dumps({**BODY, "user": "a" * 3_000_000}))[0], 200)

    def test_what_a_body_is_parsed_to_counts(self):
        server = self.start("--memory", "64M", "--streams", 2)
        # More than will ever fit is no matter of waiting,
        for n in (1_900_000, 390_000):
            status, answer, headers = server.ask("POST", "/v1/completions", '{"prompt":[' + "7," * n + "7]}")
            self.assertEqual((status, answer["error"]["code"], headers["Retry-After"]), (413, "request_too_large", None), answer)
            fits = int(re.fullmatch(r"the body holds \d+ values; beside its \d+ bytes there is room for (\d+)", answer["error"]["message"])[1])
            self.assertLess(fits, n)
            self.within(server)
        # what is said to fit does; and where others hold the room it is.
        body = '{"prompt":[' + "7," * (fits - 1000) + "7]}"
        status, answer, _ = server.ask("POST", "/v1/completions", body)
        self.assertEqual((status, answer["error"]["code"]), (400, "context_length_exceeded"), answer)
        opened = [begun(server.port, 1_000_000, 1000) for _ in range(2)]
        status, answer, headers = server.ask("POST", "/v1/completions", body)
        self.assertEqual((status, headers["Retry-After"]), (503, "1"), answer)
        self.assertIn("values", answer["error"]["message"])
        self.close(opened)
        self.gives_all_back(server)

    def test_what_models_hold_is_not_waited_for(self):
        # A quarter of the budget would be one MiB more than the model leaves.
        server = self.start("--memory", "6M", "--streams", 2)
        limit = self.limit(server)
        self.assertEqual(limit, (4 << 20) // 3)
        with begun(server.port, limit + 1) as s:
            self.assertEqual(status_of(s), 413)
        for chunked in (False, True):
            with begun(server.port, limit, limit >> 16 << 16, chunked=chunked) as s:
                self.assertIsNone(status_of(s, 0.3))
        whole = json.dumps({**BODY, "user": ""})
        whole = whole[:-2] + "a" * (limit - len(whole)) + whole[-2:]
        self.assertEqual(server.ask("POST", "/v1/completions", whole)[0], 200)
        self.gives_all_back(server)

    def limit(self, server):
        """The largest body, as a refusal says it."""
        status, answer, _ = server.ask("POST", "/v1/completions", json.dumps({**BODY, "user": "a" * 15_000_000}))
        self.assertEqual(status, 413)
        return int(re.fullmatch(r"the body is larger than (\d+) bytes", answer["error"]["message"])[1])

    def test_answers_that_nobody_reads_count(self):
        server = self.start("--memory", "64M", "--streams", 8)
        stalled = [StalledReader(server.port) for _ in range(10)]
        end, most = time.monotonic() + 90, 0
        while server.metric("venturi_clients_stalled_total") == 0 and time.monotonic() < end:
            self.within(server)
            most = max(most, self.held(server))
            time.sleep(0.2)
        self.assertGreater(most, 1 << 20)
        self.assertEqual(server.ask("POST", "/v1/completions", BODY)[0], 200)
        self.within(server)
        self.close(stalled)
        self.gives_all_back(server)

    def test_headers_count(self):
        server = self.start("--memory", "64M", "--streams", 2)
        opened = []
        for _ in range(600):
            s = socket.create_connection(("127.0.0.1", server.port), 20)
            s.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 15000)
            opened.append(s)
        self.assertEqual(server.ask("GET", "/health")[0], 200)
        self.within(server)
        # A megabyte of them is waited for, those that came last.
        self.assertEqual({status_of(s, 1) for s in opened[:5]}, {503})
        self.assertEqual({status_of(s, 0.1) for s in opened[-5:]}, {None})
        self.assertLessEqual(self.held(server), 1 << 20)
        self.close(opened)
        self.gives_all_back(server)
        self.assertGreaterEqual(server.metric("venturi_clients_gave_way_total"), 579)


class Groups(Bounds):
    """Many prompts, and many answers to each, in one request."""

    def test_more_than_may_wait_is_a_400_at_once(self):
        server = self.start("--memory", "80M", "--streams", 4)
        before = resident(server.process.pid)
        body = {"prompt": ["Once"] * 256, "n": 128, "max_tokens": 2, "logit_bias": {str(i): 1 for i in range(1000)}}
        begin = time.monotonic()
        status, answer, _ = server.ask("POST", "/v1/completions", body)
        self.assertEqual((status, answer["error"]["param"]), (400, "n"), answer)
        self.assertIn("at most 256", answer["error"]["message"])
        if not support.OPTIONS.sanitized:
            self.assertLess(time.monotonic() - begin, 5)
            self.assertLess(resident(server.process.pid) - before, 16 << 20)
        status, answer, _ = server.ask("POST", "/v1/completions", {**body, "n": 1})
        self.assertEqual((status, len(answer["choices"])), (200, 256))
        self.assertEqual(server.ask("POST", "/v1/completions", {**body, "prompt": ["Once"] * 100, "n": 3})[0], 400)
        self.gives_all_back(server)

    def test_what_is_asked_for_at_once_does_not_wait_for_itself(self):
        server = self.start("--streams", 1, "--max-wait", 1)
        status, answer, _ = server.ask("POST", "/v1/completions", {"prompt": [PROMPT] * 128, "n": 2, "max_tokens": 60, "ignore_eos": True})
        self.assertEqual((status, len(answer.get("choices", []))), (200, 256), answer)
        # Whoever comes meanwhile does: once for all of it, and nothing of it is begun.
        with begun_for(server.port, MODEL.stem, n=128, max_tokens=230, ignore_eos=True, stream=True) as first:
            first.recv(4096)
            refused = server.metric("venturi_requests_refused_total")
            status, answer, headers = server.ask("POST", "/v1/completions", {"prompt": [PROMPT] * 10, "max_tokens": 20})
            self.assertEqual((status, answer["error"]["code"]), (429, "rate_limit_exceeded"))
            self.assertGreaterEqual(int(headers["Retry-After"]), 1)
            end = time.monotonic() + 10  # counted with the step
            while server.metric("venturi_requests_refused_total") == refused and time.monotonic() < end:
                time.sleep(0.02)
            self.assertEqual(server.metric("venturi_requests_refused_total"), refused + 10)
        self.assertTrue(server.settles())
        self.gives_all_back(server)


class Answers(Bounds):
    """What answers and the grammars that hold them take: there is room for it before anything is computed."""
    MESSAGES = [{"role": "user", "content": "Hm"}]
    LOGGED = {"messages": MESSAGES, "logprobs": True, "top_logprobs": 20, "max_tokens": 200, "ignore_eos": True}

    def test_log_probabilities_that_never_have_room_are_a_400_before_they_are_computed(self):
        server = self.start("--memory", "80M", "--streams", 4)
        before, drawn = resident(server.process.pid), server.metric("vllm:generation_tokens_total")
        status, answer, headers = server.ask("POST", "/v1/chat/completions", {**self.LOGGED, "n": 128})
        self.assertEqual((status, answer["error"]["param"]), (400, "max_tokens"), answer)
        self.assertIn("never room", answer["error"]["message"])
        self.assertNotIn("Retry-After", headers)
        self.assertEqual(server.metric("vllm:generation_tokens_total"), drawn)
        if not support.OPTIONS.sanitized:
            self.assertLess(resident(server.process.pid) - before, 16 << 20)
        self.gives_all_back(server)

    def test_what_has_no_room_beside_others_is_a_503_at_once(self):
        server = self.start("--memory", "80M", "--streams", 2)
        # As many answers as have room alone, but for a third.
        body = next(body for body in ({**self.LOGGED, "n": n} for n in (48, 32, 24, 16, 12, 8, 6, 4))
                    if server.ask("POST", "/v1/chat/completions", body)[0] == 200)
        self.assertLess(body["n"], 48)
        with socket.create_connection(("127.0.0.1", server.port), 60) as first:
            first.sendall(request_bytes(body, path="/v1/chat/completions"))
            end = time.monotonic() + 20
            while self.held(server) < 500_000 * body["n"] and time.monotonic() < end:
                time.sleep(0.02)
            refused = None
            for _ in range(3):
                status, answer, headers = server.ask("POST", "/v1/chat/completions", body)
                if status == 503:
                    refused = answer, headers
                    break
            self.assertIsNotNone(refused, "two of them have room at once")
            self.assertEqual((refused[1]["Retry-After"], refused[0]["error"]["type"]), ("1", "server_error"))
            self.assertEqual(status_of(first, 60), 200)
        self.assertEqual(server.ask("POST", "/v1/chat/completions", body)[0], 200)
        self.gives_all_back(server)

    def test_a_whole_answer_logs_what_a_stream_logs(self):
        server = self.start("--streams", 4)
        body = {**self.LOGGED, "n": 3, "seed": 5, "max_tokens": 30, "top_logprobs": 4}
        choices = server.ask("POST", "/v1/chat/completions", body)[1]["choices"]
        streamed = [[] for _ in choices]
        for data in server.events("/v1/chat/completions", {**body, "stream": True})[:-1]:
            for choice in json.loads(data)["choices"]:
                streamed[choice["index"]] += (choice["logprobs"] or {"content": []})["content"]
        for choice, tokens in zip(choices, streamed):
            self.assertEqual(len(tokens), 30)
            self.assertEqual({len(t["top_logprobs"]) for t in tokens}, {4})
            self.assertEqual(choice["logprobs"], {"content": tokens, "refusal": None})
            self.assertEqual(b"".join(bytes(t["bytes"]) for t in tokens).decode(errors="replace"), choice["message"]["content"])
        body = {"prompt": [PROMPT, "Once"], "n": 2, "seed": 5, "max_tokens": 10, "logprobs": 3, "echo": True, "ignore_eos": True}
        choices = server.ask("POST", "/v1/completions", body)[1]["choices"]
        streamed = [{} for _ in choices]
        for data in server.events("/v1/completions", {**body, "stream": True})[:-1]:
            for choice in json.loads(data)["choices"]:
                for name, values in choice["logprobs"].items():
                    streamed[choice["index"]].setdefault(name, []).extend(values)
        self.assertEqual([c["logprobs"] for c in choices], streamed)
        for choice in choices:
            self.assertIsNone(choice["logprobs"]["token_logprobs"][0])
            self.assertEqual("".join(choice["logprobs"]["tokens"][1:]).strip(), choice["text"].strip())

    def test_grammars_count_as_long_as_they_are_used(self):
        server = self.start("--memory", "80M", "--streams", 2)
        before, opened = resident(server.process.pid), []
        for i in range(24):
            schema = {"type": "array", "minItems": 90, "maxItems": 200, "items": {"enum": [f"w{i}x{j}" for j in range(6000)]}}
            body = {"messages": self.MESSAGES, "max_tokens": 200, "stream": True, "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}}
            s = socket.create_connection(("127.0.0.1", server.port), 60)
            s.sendall(request_bytes(body, path="/v1/chat/completions"))
            opened.append(s)
        held, end = 0, time.monotonic() + 60
        while time.monotonic() < end and held < 3_000_000:
            held = max(held, self.held(server))
            time.sleep(0.02)
        statuses = [status_of(s, 1) for s in opened]
        self.assertIn(200, statuses)
        self.assertLessEqual(set(statuses), {200, 503, None})
        if not support.OPTIONS.sanitized:
            self.assertLess(resident(server.process.pid) - before, 80_000_000)
        self.assertGreater(held, 3_000_000)
        self.close(opened)
        self.gives_all_back(server)


class Gaps(Bounds):
    """What takes long to read keeps nobody else waiting."""

    def test_large_requests_do_not_stop_the_server(self):
        server = self.start("--streams", 2)
        schema = lambda n: {"messages": Answers.MESSAGES, "max_tokens": 2, "response_format": {
            "type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": [f"word{i}" for i in range(n)]}}}}
        large = [("/tokenize", {"content": PROMPT * 240_000}, 200), ("/v1/chat/completions", schema(20_000), 200),
                 ("/v1/messages/count_tokens", {"messages": Answers.MESSAGES * 60_000}, 200)]
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            for path, body, expected in large:
                request, waits, begin = request_bytes(body, path=path), [], time.monotonic()
                asked = pool.submit(whole_answer, server.port, request)
                while not asked.done():
                    at = time.monotonic()
                    self.assertEqual(server.ask("POST", "/v1/completions", BODY)[0], 200)
                    waits.append(time.monotonic() - at)
                took = time.monotonic() - begin
                self.assertEqual(int(asked.result().split()[1]), expected, asked.result()[:500])
                # With the server's thread in it, one waits for nearly all of the time that it takes.
                self.assertGreater(len(waits), 3, (path, took))
                if not support.OPTIONS.sanitized:
                    self.assertLess(max(waits), max(0.4, took / 4), (path, took))

    def test_a_prompt_that_its_length_says_is_too_long_is_not_tokenized(self):
        server = self.start("--streams", 2)
        text = PROMPT * 240_000
        for path, body in (("/v1/completions", {"prompt": text}), ("/v1/completions", {"prompt": ["Once", text]}),
                           ("/v1/chat/completions", {"messages": [{"role": "user", "content": text}]})):
            status, answer, _ = server.ask("POST", path, {**body, "max_tokens": 1})
            self.assertEqual((status, answer["error"]["code"]), (400, "context_length_exceeded"))
            self.assertRegex(answer["error"]["message"], r"^the prompt has at least \d{5,} tokens, the context holds 256$")
        self.gives_all_back(server)


class Keys(Bounds):
    def test_the_key_is_asked_for_before_the_body(self):
        server = self.start("--streams", 2, "--api-key", "right")
        for chunked in (False, True):
            with begun(server.port, 1_000_000, 65536, "wrong", chunked) as s:
                self.assertEqual(status_of(s), 401)
        with begun(server.port, 1_000_000, 65536, "right") as s:
            self.assertIsNone(status_of(s, 0.3))
        # Nor is anyone without it told to go on, and what is sent in spite of it hides no answer.
        with socket.create_connection(("127.0.0.1", server.port), 20) as s:
            s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n")
            self.assertEqual(status_of(s), 401)
        status, answer, _ = server.ask("POST", "/v1/completions", json.dumps({**BODY, "user": "a" * 9_000_000}), {"Authorization": "Bearer wrong"})
        self.assertEqual((status, answer["error"]["code"]), (401, "invalid_api_key"))
        self.assertEqual(server.ask("POST", "/nowhere", "{}", {"Authorization": "Bearer right"})[0], 404)
        self.assertEqual(server.ask("POST", "/metrics", "{}", {"Authorization": "Bearer right"})[0], 405)


class Strangers(Bounds):
    """Who has shown no key takes the place of nobody who has."""
    KEY = {"Authorization": "Bearer right"}

    def crowd(self, server, n, sent=b"", peer="127.0.0.1"):
        opened = [socket.create_connection(("127.0.0.1", server.port), 20, (peer, 0)) for _ in range(n)]
        self.addCleanup(self.close, opened)
        for s in opened:
            push(s, sent)
        return opened

    def test_large_headers(self):
        server = self.start("--memory", "64M", "--streams", 2, "--api-key", "right")
        half = b"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer right\r\nX: " + b"a" * 6000
        slow, = self.crowd(server, 1, half, peer="127.0.0.2")
        time.sleep(0.2)
        for sent in (b"GET /v1/models HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 15000, half):
            self.crowd(server, 300, sent)
            for _ in range(5):
                status, answer, _ = server.ask("POST", "/v1/completions", BODY, {**self.KEY, "X-Long": "a" * 12000})
                self.assertEqual(status, 200, answer)
            held = server.metric("venturi_clients_held_bytes", self.KEY)
            self.assertGreater(held, 800_000)
            self.assertLessEqual(held, 1 << 20)
        # Nor is one who comes from elsewhere put out.
        slow.sendall(b"a" * 6000 + b"\r\n\r\n")
        self.assertEqual(status_of(slow), 200)
        self.within(server)

    def within(self, server):
        if not support.OPTIONS.sanitized:
            self.assertLess(resident(server.process.pid), Memory.BUDGET + SLACK)

    def test_connections(self):
        server = self.start("--streams", 2, "--api-key", "right", "--max-connections", 40)
        known = server.connect()
        known.request("GET", "/v1/models", headers=self.KEY)
        self.assertEqual(known.getresponse().read()[:1], b"{")
        for sent in (b"", b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer wrong\r\n\r\n"):
            self.crowd(server, 100, sent)
            self.assertEqual(server.ask("POST", "/v1/completions", BODY, self.KEY)[0], 200)
            self.assertLessEqual(server.metric("venturi_connections", self.KEY), 41)
        known.request("GET", "/v1/models", headers=self.KEY)  # on the connection that it had
        self.assertEqual(known.getresponse().status, 200)
        known.close()

    def test_they_send_no_bodies(self):
        server = self.start("--streams", 2, "--api-key", "right")
        for framing in ("Content-Length: 1000000", "Transfer-Encoding: chunked"):
            with socket.create_connection(("127.0.0.1", server.port), 20) as s:
                s.sendall(f"GET /health HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n".encode())
                self.assertEqual(status_of(s), 413)
        for headers in ({"Content-Length": "0"}, {}):
            self.assertEqual(server.ask("GET", "/health", headers=headers)[0], 200)
        self.assertEqual(server.ask("GET", "/health", "x" * 1000, self.KEY)[0], 200)


class Slow(Bounds):
    def test_a_body_that_does_not_come_is_a_408(self):
        server = self.start("--streams", 2, "--body-timeout", 1)
        begin = time.monotonic()
        with begun(server.port, 1000, 100) as slow, begun(server.port, 1000, 100) as dripping, \
                begun(server.port, 0, 65536, chunked=True) as chunked:
            while time.monotonic() < begin + 0.8:
                dripping.sendall(b"a")
                time.sleep(0.05)
            self.assertEqual(server.ask("POST", "/v1/completions", BODY)[0], 200)
            for s in (slow, dripping, chunked):
                self.assertEqual(status_of(s), 408)
        self.assertGreater(time.monotonic(), begin + 0.9)
        self.assertEqual(self.held(server), 0)


class Names(Bounds):
    def test_fields_that_mean_nothing_are_told_once(self):
        server = Server("--streams", 2)
        messages = [{"role": "user", "content": "Hm"}]
        bodies = {"/v1/completions": BODY, "/v1/chat/completions": {"messages": messages, "max_tokens": 2}, "/v1/responses": {"input": "Hm", "max_output_tokens": 2},
                  "/v1/messages": {"messages": messages, "max_tokens": 2}, "/v1/messages/count_tokens": {"messages": messages},
                  "/api/generate": {"prompt": "Hm", "stream": False, "options": {"num_predict": 2}}, "/tokenize": {"content": "a"},
                  "/detokenize": {"tokens": [5]}, "/models/load": {"model": MODEL.stem}, "/models/unload": {"model": MODEL.stem}}
        for path, body in bodies.items():
            for _ in range(2):
                status, answer, _ = server.ask("POST", path, {**body, "odd " + path: 1, "model": MODEL.stem})
                self.assertEqual(status, 200, (path, answer))
        server.ask("POST", "/tokenize", {"content": "a", "line\n\u001b[31m": 1, "l" * 5000: 1, **{f"name {i}": 1 for i in range(200)}})
        server.errors.seek(0)
        said = server.errors.read()
        self.assertEqual(server.stop(), 0)
        for path in bodies:
            self.assertEqual(said.count(f'a request has a field "odd {path}" that means nothing here'), 1, said)
        for name in ("model", "prompt", "max_tokens", "max_output_tokens", "input", "messages"):
            self.assertNotIn(f'field "{name}"', said)
        self.assertIn(r'"line\n\u001b[31m"', said)
        # 32 a minute, of which some may have gone by.
        self.assertIn(len(said.splitlines()), range(32, 43), said)
        self.assertIn("for a minute", said)
        self.assertLess(max(map(len, said.splitlines())), 200)

    def test_fields_within_others_are_told_with_their_path(self):
        server = Server("--streams", 2, context=768)
        function = {"name": "f", "parameters": {"type": "object"}}
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}", "z1": 1}, "z2": 1}
        chat = {"max_tokens": 2, "stream": True, "stream_options": {"include_usage": True, "z3": 1}, "response_format": {"type": "text", "z4": 1},
                "tools": [{"type": "function", "z5": 1, "function": {**function, "z6": 1}}], "tool_choice": {"type": "function", "function": {"name": "f"}, "z7": 1},
                "messages": [{"role": "user", "content": [{"type": "text", "text": "Hm", "z8": 1, "cache_control": {}}], "z9": 1}, {"role": "assistant", "tool_calls": [call]},
                             {"role": "tool", "tool_call_id": "c", "content": "a"}], "venturi": {"timings": False, "z10": 1}}
        schema = {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": {"type": "null"}, "z11": 1}}
        responses = {"max_output_tokens": 2, "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hm"}], "z12": 1}], "reasoning": {"effort": None, "z13": 1},
                     "text": {"format": {"type": "json_schema", "name": "n", "strict": True, "schema": {"type": "null"}, "z14": 1}, "z15": 1}}
        messages = {"max_tokens": 2, "tools": [{"name": "f", "input_schema": {"type": "object"}, "z16": 1, "cache_control": {"type": "ephemeral"}}], "tool_choice": {"type": "auto", "z17": 1},
                    "messages": [{"role": "user", "content": [{"type": "text", "text": "Hm", "z18": 1, "cache_control": {"type": "ephemeral"}}], "z19": 1}]}
        ollama = {"stream": False, "options": {"num_predict": 2, "z20": 1}, "messages": [{"role": "user", "content": "Hm", "z21": 1}]}
        for path, body in (("/v1/chat/completions", chat), ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hm"}], "max_tokens": 2, "response_format": schema}),
                           ("/v1/responses", responses), ("/v1/messages", messages), ("/api/chat", ollama)):
            status, answer, _ = server.ask("POST", path, body)
            self.assertEqual(status, 200, answer)
        server.errors.seek(0)
        said = server.errors.read()
        self.assertEqual(server.stop(), 0)
        paths = ("messages[].tool_calls[].function.z1", "messages[].tool_calls[].z2", "stream_options.z3", "response_format.z4", "tools[].z5", "tools[].function.z6", "tool_choice.z7",
                 "messages[].content[].z8", "messages[].z9", "venturi.z10", "response_format.json_schema.z11", "input[].z12", "reasoning.z13", "text.format.z14", "text.z15",
                 "tools[].z16", "tool_choice.z17", "messages[].content[].z18", "messages[].z19", "options.z20", "messages[].z21")
        for path in paths:
            self.assertIn(f'a request has a field "{path}" that means nothing here', said)
        self.assertEqual(said.count("a request has a field"), len(paths), said)


@unittest.skipUnless(SHIM.exists(), f"no {SHIM}")
class Ends(WithSlowDisk, Bounds):
    """SIGTERM while a model is being loaded from a disk that takes long."""

    def loading(self, *flags):
        """A server that loads its second model for a minute."""
        server = serve(MODEL, self.disk.environment, "-m", f"slow={self.slow}", "--streams", 1, *flags, context=256)
        self.disk.is_told("slow slow.gguf 60000")
        waits = begun_for(server.port, "slow")
        self.addCleanup(waits.close)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            states = {m["id"]: m["status"]["value"] for m in server.ask("GET", "/v1/models")[1]["data"]}
            if states["slow"] == "loading":
                break
            time.sleep(0.05)
        self.assertEqual(states["slow"], "loading")
        return server

    def test_a_load_does_not_outlast_the_deadline(self):
        server = self.loading("--drain-seconds", 1)
        begin = time.monotonic()
        self.assertEqual(server.stop(), 0)
        self.assertLess(time.monotonic() - begin, 10)

    def ends_at_the_second_signal(self, server):
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        self.assertIsNone(server.process.poll())
        begin = time.monotonic()
        self.assertEqual(server.stop(), 0)
        self.assertLess(time.monotonic() - begin, 8)

    def test_the_second_signal_ends_it_at_once(self):
        server = self.loading("--drain-seconds", 600, "--max-wait", 3600)
        stream = begun_for(server.port, MODEL.stem, n=64, max_tokens=240, ignore_eos=True)
        self.addCleanup(stream.close)
        self.ends_at_the_second_signal(server)

    def test_the_second_signal_does_not_wait_for_what_runs(self):
        server = Server("--streams", 1, "--drain-seconds", 600, "--max-wait", 3600)
        streams = [begun_for(server.port, MODEL.stem, n=64, max_tokens=240, ignore_eos=True) for _ in range(4)]
        self.ends_at_the_second_signal(server)
        self.close(streams)


if __name__ == "__main__":
    support.main()
