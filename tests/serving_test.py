"""The server among many and among the hostile: a thousand streams, readers that stall, malformed requests, slow
ones, disconnects.

SERVING_SECONDS and SERVING_REQUESTS make it long (scripts/soak.sh does)."""
import concurrent.futures
import json
import os
import random
import resource
import select
import selectors
import socket
import tempfile
import time
import unittest
from pathlib import Path

import support
from server_test import PROMPT, Server

SECONDS = float(os.environ.get("SERVING_SECONDS", "0"))
REQUESTS = int(os.environ.get("SERVING_REQUESTS", "1500"))
STREAMS = 1000
KEYS = 8


def request_bytes(body, key="", close=True, path="/v1/completions"):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    extra = (f"Authorization: Bearer {key}\r\n" if key else "") + ("Connection: close\r\n" if close else "")
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{extra}Content-Length: {len(data)}\r\n\r\n".encode() + data


def resident(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def many_streams(port, keys, n, tokens, seconds=120):
    """n streams at once on one thread; how many came to their end, and the others' last words."""
    selector, open_sockets, done, wrong = selectors.DefaultSelector(), 0, 0, []
    for i in range(n):
        s = socket.create_connection(("127.0.0.1", port), 20)
        s.sendall(request_bytes({"prompt": f"{PROMPT} {i}", "max_tokens": tokens, "ignore_eos": True, "stream": True, "seed": i}, keys[i % len(keys)]))
        s.setblocking(False)
        selector.register(s, selectors.EVENT_READ, bytearray())
        open_sockets += 1
    end = time.monotonic() + seconds
    while open_sockets and time.monotonic() < end:
        for item, _ in selector.select(1):
            try:
                got = item.fileobj.recv(1 << 16)
            except ConnectionError:
                got = b""
            item.data.extend(got)
            if got:
                continue
            if item.data.startswith(b"HTTP/1.1 200") and b"data: [DONE]" in item.data:
                done += 1
            else:
                wrong.append(bytes(item.data[-200:]))
            selector.unregister(item.fileobj)
            item.fileobj.close()
            open_sockets -= 1
    for item in list(selector.get_map().values()):
        wrong.append(b"not ended: " + bytes(item.data[-100:]))
        item.fileobj.close()
    selector.close()
    return done, wrong


def vanish(port, request, draws):
    """Sends a request and goes, at any phase of it."""
    with socket.create_connection(("127.0.0.1", port), 20) as s:
        phase = draws.randrange(4)
        if phase == 0:  # while it is sent
            s.sendall(request[:draws.randrange(len(request))])
        else:
            s.sendall(request)
        if phase == 2:  # while it is queued or its prompt is computed
            time.sleep(draws.random() * 0.05)
        if phase == 3:  # mid-stream
            s.settimeout(60)
            s.recv(draws.choice([64, 400]))
        if draws.random() < 0.3:  # by a reset, not a farewell
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


class StalledReader:
    """A client that asks for much and reads nothing of it."""

    def __init__(self, port, key=""):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(20)
        self.socket.connect(("127.0.0.1", port))
        self.socket.sendall(request_bytes({"prompt": PROMPT, "n": 12, "max_tokens": 220, "ignore_eos": True, "logprobs": 20, "stream": True}, key))

    def is_dropped(self, seconds):
        poll = select.poll()
        poll.register(self.socket, 0)  # errors and the end, not bytes
        return bool(poll.poll(seconds * 1000))

    def close(self):
        self.socket.close()


@unittest.skipIf(support.OPTIONS.sanitized, "too slow with sanitizers")
class ManyStreams(unittest.TestCase):
    def test_a_thousand_streams_in_flat_memory_beside_readers_that_stall(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < 4096 and hard != resource.RLIM_INFINITY:
            self.skipTest(f"only {hard} descriptors are allowed")
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
        with tempfile.TemporaryDirectory() as folder:
            keys = [f"key-{i}" for i in range(KEYS)]
            (Path(folder) / "keys").write_text("\n".join([*keys, "stalled"]))
            server = Server("--api-key-file", Path(folder) / "keys", "--max-queued", 2000, "--max-wait", 3600, "--streams", 16)
            stalled, dropped = StalledReader(server.port, "stalled"), 0
            try:
                sizes, begin = [], time.monotonic()
                while len(sizes) < 3 or time.monotonic() - begin < SECONDS:
                    done, wrong = many_streams(server.port, keys, STREAMS, 8)
                    self.assertEqual((done, wrong[:3]), (STREAMS, []))
                    sizes.append(resident(server.process.pid))
                    if stalled.is_dropped(0):
                        stalled.close()
                        stalled, dropped = StalledReader(server.port, "stalled"), dropped + 1
                self.assertTrue(stalled.is_dropped(60))
                # The first round takes what a thousand connections need; after it nothing grows.
                self.assertLess(max(sizes[1:]), sizes[0] + (16 << 20), sizes)
                self.assertLess(sizes[-1], min(sizes[1:]) + (8 << 20), sizes)
                print(f"{len(sizes)} rounds, {dropped + 1} stalled readers dropped, resident MiB first {sizes[0] >> 20}, "
                      f"least {min(sizes) >> 20}, most {max(sizes) >> 20}, last {sizes[-1] >> 20}", flush=True)
                authorization = {"Authorization": "Bearer key-0"}
                self.assertEqual(server.metric("venturi_clients_stalled_total", authorization), dropped + 1)
                self.assertTrue(server.settles(20, authorization))
                self.assertEqual(server.metric("vllm:kv_cache_usage_perc", authorization), 0)
            finally:
                stalled.close()
                code = server.stop()
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            self.assertEqual(code, 0)


class Hostile(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--streams", 4, context=2048)

    @classmethod
    def tearDownClass(cls):
        code = cls.server.stop()
        assert code == 0, code

    def setUp(self):
        self.baseline = self.server.metric("vllm:kv_cache_usage_perc")

    def running_stream(self):
        """A stream beside it all: what it says must be what it says alone."""
        body = {"prompt": PROMPT, "max_tokens": 1200, "ignore_eos": True, "seed": 5, "temperature": 1}
        pool = concurrent.futures.ThreadPoolExecutor(1)
        return pool.submit(lambda: self.streamed(body)), pool

    def streamed(self, body):
        events = self.server.events("/v1/completions", {**body, "stream": True})
        self.assertEqual(events[-1], "[DONE]")
        chunks = [json.loads(e)["choices"][0] for e in events[:-1]]
        self.assertEqual(chunks[-1]["finish_reason"], "length")
        return "".join(c["text"] for c in chunks)

    def healthy(self):
        self.assertEqual(self.server.ask("GET", "/health")[0], 200)
        self.assertTrue(self.server.settles())
        self.assertEqual(self.server.metric("vllm:kv_cache_usage_perc"), self.baseline)

    def mutated(self, draws):
        """A request that is broken in one of many ways: bytes, and the statuses that are right."""
        good = {"prompt": PROMPT, "max_tokens": 2}
        kind = draws.randrange(8)
        if kind == 0:  # JSON with bytes changed
            data = bytearray(json.dumps(good).encode())
            for _ in range(draws.randint(1, 6)):
                data[draws.randrange(len(data))] = draws.randrange(256)
            return request_bytes(bytes(data)), (200, 400)
        if kind == 1:  # cut JSON
            data = json.dumps(good).encode()
            return request_bytes(data[:draws.randrange(len(data) - 1)]), (400,)
        if kind == 2:  # wrong types and ranges
            name = draws.choice(["prompt", "max_tokens", "temperature", "n", "stop", "stream", "logit_bias", "logprobs", "top_p", "seed"])
            value = draws.choice([[], {}, [[]], -1, 1e300, "x" * 70, {"a": {}}, [None], [1.5], "\u0000"])
            return request_bytes({**good, name: value}), (200, 400)
        if kind == 3:  # a header of noise
            return b"POST /v1/completions HTTP/1.1\r\n" + bytes(draws.randrange(256) for _ in range(60)) + b"\r\n\r\n", (400, 404, 431, None)
        if kind == 4:  # no HTTP at all
            return bytes(draws.randrange(256) for _ in range(draws.randint(1, 200))) + b"\r\n\r\n", (400, 431, None)
        if kind == 5:  # lengths that lie
            wrong = draws.choice(["-1", "abc", "99999999999999999999", "1e3", ""])
            return f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {wrong}\r\n\r\n{{}}".encode(), (400, 413, None)
        if kind == 6:  # nested beyond measure
            return request_bytes(b"[" * draws.randint(100, 20000)), (400,)
        path = "/" + "".join(chr(draws.randint(33, 126)) for _ in range(draws.randint(1, 60))).replace("#", "").replace("?", "")
        return f"{draws.choice(['GET', 'PUT', 'DELETE', 'BREW', 'OPTIONS'])} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode(), (400, 404, 405, 204, None)

    def send(self, data):
        """The status of the first answer, or None where there is none."""
        with socket.create_connection(("127.0.0.1", self.server.port), 20) as s:
            try:
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
                got = b""
                while b"\r\n" not in got:
                    piece = s.recv(4096)
                    if not piece:
                        break
                    got += piece
            except ConnectionError:
                return None
        return int(got.split()[1]) if got.startswith(b"HTTP/1.1 ") else None

    def test_malformed_requests(self):
        alone = self.running_stream()[0].result()
        beside, pool = self.running_stream()
        draws = random.Random(3)
        seen = {}
        for i in range(REQUESTS):
            data, right = self.mutated(draws)
            status = self.send(data)
            # A half-closed connection may be taken for one that is gone.
            self.assertIn(status, (*right, None), data[:300])
            seen[status] = seen.get(status, 0) + 1
        self.assertGreater(seen.get(400, 0), REQUESTS // 5, seen)
        self.assertFalse(any(s and s >= 500 for s in seen), seen)
        self.assertEqual(beside.result(), alone)
        pool.shutdown()
        self.healthy()

    def test_slow_headers_and_bodies_hold_up_nobody(self):
        alone = self.running_stream()[0].result()
        slow = []
        body = request_bytes({"prompt": PROMPT, "max_tokens": 4})
        try:
            for i in range(100):
                s = socket.create_connection(("127.0.0.1", self.server.port), 20)
                s.sendall(body[:20 + 2 * i])
                slow.append(s)
            begin = time.monotonic()
            beside, pool = self.running_stream()
            self.assertEqual(beside.result(), alone)
            pool.shutdown()
            for _ in range(3):
                for s in slow:
                    try:
                        s.sendall(b" ")
                    except ConnectionError:
                        pass
                self.assertEqual(self.server.ask("GET", "/health")[0], 200)
            # And they are told to go when their time is over: 15 s for a header.
            slow[0].settimeout(40)
            got = slow[0].recv(4096)
            self.assertTrue(got == b"" or b" 40" in got[:16], got[:80])
            self.assertLess(time.monotonic() - begin, 180 if support.OPTIONS.sanitized else 45)
        finally:
            for s in slow:
                s.close()
        self.healthy()

    def test_disconnects_at_every_phase(self):
        alone = self.running_stream()[0].result()
        beside, pool = self.running_stream()
        draws = random.Random(9)
        long_prompt = " ".join([PROMPT] * 60)
        for i in range(max(60, REQUESTS // 25)):
            body = request_bytes({"prompt": draws.choice([PROMPT, long_prompt]), "max_tokens": 300, "ignore_eos": True,
                                  "stream": draws.random() < 0.7, "n": draws.choice([1, 1, 3])})
            vanish(self.server.port, body, draws)
        self.assertEqual(beside.result(), alone)
        pool.shutdown()
        self.healthy()


if __name__ == "__main__":
    support.main()
