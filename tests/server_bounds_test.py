"""What clients cannot make the server do: hold more memory than its budget allows, read a body without a key, wait for
one that does not come."""
import json
import shutil
import signal
import socket
import tempfile
import time
import unittest
from pathlib import Path

import support
from disk_failure_test import SHIM, Disk, serve
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
        status, answer, _ = server.ask("POST", "/v1/completions", '{"prompt":[' + "7," * 1_900_000 + "7]}")
        self.assertEqual(status, 503, answer)
        self.assertIn("values", answer["error"]["message"])
        self.within(server)
        self.gives_all_back(server)

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
        statuses = {status_of(s, 0.1) for s in opened[-5:]}
        self.close(opened)
        self.assertEqual(statuses, {503})
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
        self.assertEqual(said.count("means nothing here"), len(paths), said)


@unittest.skipUnless(SHIM.exists(), f"no {SHIM}")
class Ends(Bounds):
    """SIGTERM while a model is being loaded from a disk that takes long."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.disk = Disk(folder.name)
        self.disk.heals()
        self.slow = Path(folder.name) / "slow.gguf"
        shutil.copyfile(MODEL, self.slow)

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

    def test_the_second_signal_ends_it_at_once(self):
        server = self.loading("--drain-seconds", 600, "--max-wait", 3600)
        stream = begun_for(server.port, MODEL.stem, n=64, max_tokens=240, ignore_eos=True)
        self.addCleanup(stream.close)
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        self.assertIsNone(server.process.poll())
        begin = time.monotonic()
        self.assertEqual(server.stop(), 0)
        self.assertLess(time.monotonic() - begin, 8)

    def test_the_second_signal_does_not_wait_for_what_runs(self):
        server = Server("--streams", 1, "--drain-seconds", 600, "--max-wait", 3600)
        streams = [begun_for(server.port, MODEL.stem, n=64, max_tokens=240, ignore_eos=True) for _ in range(4)]
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        self.assertIsNone(server.process.poll())
        begin = time.monotonic()
        self.assertEqual(server.stop(), 0)
        self.assertLess(time.monotonic() - begin, 8)
        self.close(streams)


if __name__ == "__main__":
    support.main()
