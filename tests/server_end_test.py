"""How everything that is under way ends when the server does: with an answer, or an error in its protocol's form."""
import json
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import unittest

import support
from disk_failure_test import SHIM, WithSlowDisk, serve
from server_bounds_test import begun_for
from server_test import PROMPT, Server
from serving_test import StalledReader, request_bytes
from support import MODEL

OVER = "the server is shutting down"
LONG = 200  # tokens
TALK = [{"role": "user", "content": "Once upon a time"}]
# An answer that cannot end early, where a protocol has no ignore_eos.
MANY = {"type": "array", "items": {"type": "integer"}, "minItems": 1000}
TOOL = {"name": "add", "strict": True, "input_schema": {"type": "object", "properties": {"terms": MANY}, "required": ["terms"], "additionalProperties": False}}
KINDS = {
    "/v1/chat/completions": {"messages": TALK, "max_tokens": LONG, "ignore_eos": True},
    "/v1/completions": {"prompt": PROMPT, "max_tokens": LONG, "ignore_eos": True},
    "/v1/responses": {"input": TALK[0]["content"], "max_output_tokens": LONG, "ignore_eos": True},
    "/v1/messages": {"messages": TALK, "max_tokens": LONG, "tools": [TOOL], "tool_choice": {"type": "any"}},
    "/api/chat": {"messages": TALK, "format": MANY, "options": {"num_predict": LONG}},
    "/api/generate": {"prompt": TALK[0]["content"], "format": MANY, "options": {"num_predict": LONG}},
}


def asked(port, path, body, close=False):
    s = socket.create_connection(("127.0.0.1", port), 60)
    s.sendall(request_bytes(body, close=close, path=path))
    return s


def to_the_end(s):
    """All that comes until the server closes; a reset is an error. (status, body): a chunked body must be whole."""
    data = b""
    while more := s.recv(65536):
        data += more
    s.close()
    head, _, body = data.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head.lower():
        chunks, body = body, b""
        while True:
            size, _, chunks = chunks.partition(b"\r\n")
            n = int(size, 16)
            assert chunks[n:n + 2] == b"\r\n", chunks[-200:]
            body, chunks = body + chunks[:n], chunks[n + 2:]
            if n == 0:
                break
        assert chunks == b"", chunks
    elif b"content-length: " in head.lower():
        assert len(body) == int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]), data
    return (int(head.split()[1]) if head else None), body.decode()


class Ended(unittest.TestCase):
    def start(self, *flags, **more):
        server = Server("--max-wait", 3600, *flags, **{"context": 512, **more})
        self.addCleanup(server.stop)
        return server

    def busy(self, server, n=128):
        """Work for long; its stream."""
        s = asked(server.port, "/v1/completions", {"prompt": PROMPT, "n": n, "max_tokens": LONG, "ignore_eos": True, "stream": True})
        self.addCleanup(s.close)
        first = s.recv(15)
        self.assertEqual(first, b"HTTP/1.1 200 OK")
        return s

    def ends(self, server, seconds):
        """Sends the signal; calls back when the server has to be gone."""
        begin = time.monotonic()
        server.process.send_signal(signal.SIGTERM)

        def check():
            self.assertEqual(server.process.wait(60), 0)
            self.assertLess(time.monotonic() - begin, seconds + 2 + (10 if support.OPTIONS.sanitized else 0.5))
        return check

    def is_error(self, path, error):
        """The error object of a protocol, in the body of a refusal or in a stream."""
        if path.startswith("/api/"):
            self.assertEqual(error, {"error": OVER})
        elif path == "/v1/messages":
            self.assertEqual(error, {"type": "error", "error": {"type": "overloaded_error", "message": OVER}})
        else:
            self.assertEqual(error, {"error": {"message": OVER, "type": "server_error", "param": None, "code": None}})

    def is_cut_off(self, path, stream):
        """A stream that was begun ends with its protocol's error and nothing that says it is whole."""
        last = stream.rstrip("\n").split("\n\n")[-1].split("\n")
        if path.startswith("/api/"):
            self.is_error(path, json.loads(last[-1]))
            self.assertNotIn('"done":true', stream)
        elif path == "/v1/responses":
            self.assertEqual(last[0], "event: error")
            event = json.loads(last[1].removeprefix("data: "))
            self.assertEqual(event.pop("sequence_number"), stream.count("event: ") - 1)
            self.assertEqual(event, {"type": "error", "code": "server_error", "message": OVER, "param": None})
            self.assertNotIn("response.completed", stream)
        elif path == "/v1/messages":
            self.assertEqual(last[0], "event: error")
            self.is_error(path, json.loads(last[1].removeprefix("data: ")))
            self.assertNotIn("message_stop", stream)
        else:
            self.is_error(path, json.loads(last[-1].removeprefix("data: ")))
            self.assertNotIn("[DONE]", stream)


class AtTheDeadline(Ended):
    def test_streams_that_have_hardly_begun(self):
        server = self.start("--streams", 1, "--drain-seconds", 0.5)
        hog = self.busy(server)
        waiting = {path: asked(server.port, path, {**body, "stream": True}) for path, body in KINDS.items()}
        time.sleep(0.3)
        gone = self.ends(server, 0.5)
        for path, s in waiting.items():
            with self.subTest(path):
                status, stream = to_the_end(s)
                self.assertEqual(status, 200)
                self.is_cut_off(path, stream)
        self.assertIn(OVER, self.rest(hog))
        gone()

    def test_streams_amid_their_text(self):
        server = self.start("--streams", 16, "--drain-seconds", 0, context=4096)
        running = {path: asked(server.port, path, json.loads(json.dumps({**body, "stream": True}).replace(f": {LONG}", ": 3800"))) for path, body in KINDS.items()}
        begun = {}
        for path, s in running.items():
            begun[path] = b""
            while begun[path].count(b"\n{") + begun[path].count(b"data: ") < 12:
                more = s.recv(65536)
                self.assertTrue(more, (path, begun[path]))
                begun[path] += more
        gone = self.ends(server, 0)
        for path, s in running.items():
            with self.subTest(path):
                status, stream = to_the_end(Read(begun[path], s))
                self.assertEqual(status, 200)
                self.is_cut_off(path, stream)
        gone()

    def test_whole_answers_are_a_503(self):
        server = self.start("--streams", 1, "--drain-seconds", 0.5, "--pooling", "mean")
        self.busy(server)
        waiting = {path: asked(server.port, path, {**body, "stream": False}) for path, body in KINDS.items()}
        waiting["/v1/embeddings"] = asked(server.port, "/v1/embeddings", {"input": [PROMPT * 20] * 1000})
        time.sleep(0.3)
        gone = self.ends(server, 0.5)
        for path, s in waiting.items():
            with self.subTest(path):
                status, body = to_the_end(s)
                self.assertEqual(status, 503, body)
                self.is_error(path, json.loads(body))
        gone()

    def test_a_body_that_has_not_come_is_a_503(self):
        server = self.start("--streams", 1, "--drain-seconds", 0.5)
        opened = {}
        for path, body in KINDS.items():
            whole = request_bytes(body, path=path)
            opened[path] = socket.create_connection(("127.0.0.1", server.port), 20)
            opened[path].sendall(whole[:-10])
        time.sleep(0.3)
        gone = self.ends(server, 0.5)
        for path, s in opened.items():
            with self.subTest(path):
                status, body = to_the_end(s)
                self.assertEqual(status, 503, body)
                self.is_error(path, json.loads(body))
        gone()

    def test_who_does_not_read_is_not_waited_for(self):
        server = self.start("--streams", 4, "--drain-seconds", 1)
        readers = [StalledReader(server.port) for _ in range(3)]
        time.sleep(1)
        self.ends(server, 1)()
        for reader in readers:
            reader.close()

    @unittest.skipUnless(shutil.which("openssl"), "no openssl (Debian: apt-get install openssl)")
    def test_streams_through_tls(self):
        with tempfile.TemporaryDirectory() as folder:
            cert, key = f"{folder}/cert.pem", f"{folder}/key.pem"
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", cert,
                            "-days", "30", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)
            server = self.start("--streams", 1, "--drain-seconds", 0.3, "--tls-cert", cert, "--tls-key", key, scheme="https")
            context = ssl.create_default_context(cafile=cert)
            open_sockets = []
            for n in (128, 1):
                s = context.wrap_socket(socket.create_connection(("127.0.0.1", server.port), 20), server_hostname="127.0.0.1", suppress_ragged_eofs=False)
                s.sendall(request_bytes({**KINDS["/v1/completions"], "n": n, "stream": True}, close=False))
                open_sockets.append(s)
            time.sleep(0.3)
            gone = self.ends(server, 0.3)
            for s in open_sockets:  # an end without a goodbye would be an error
                status, stream = to_the_end(s)
                self.assertEqual(status, 200)
                self.is_cut_off("/v1/completions", stream)
            gone()

    def rest(self, s):
        data = b""
        while more := s.recv(65536):
            data += more
        self.assertTrue(data.endswith(b"\r\n0\r\n\r\n"), data[-200:])
        return data.decode()


class Read:
    """A socket of which the beginning has been read."""

    def __init__(self, begun, s):
        self.begun, self.s = begun, s

    def recv(self, n):
        begun, self.begun = self.begun, b""
        return begun or self.s.recv(n)

    def close(self):
        self.s.close()


class BeforeTheDeadline(Ended):
    def test_a_body_that_was_on_its_way_is_answered(self):
        server = self.start("--streams", 2, "--drain-seconds", 30)
        body = {**KINDS["/v1/completions"], "max_tokens": 5}
        whole = request_bytes(body)
        with socket.create_connection(("127.0.0.1", server.port), 20) as s:
            s.sendall(whole[:-10])
            time.sleep(0.3)
            gone = self.ends(server, 3)
            time.sleep(1)
            self.assertIsNone(server.process.poll())
            s.sendall(whole[-10:])
            status, answer = to_the_end(s)
        self.assertEqual(status, 200, answer)
        self.assertEqual(json.loads(answer)["usage"]["completion_tokens"], 5)
        gone()

    def test_what_comes_later_is_refused(self):
        server = self.start("--streams", 1, "--drain-seconds", 30)
        kept = {path: server.connect() for path in KINDS}
        for connection in kept.values():
            connection.request("GET", "/health")
            connection.getresponse().read()
        running = asked(server.port, "/v1/completions", {**KINDS["/v1/completions"], "n": 40, "stream": True})
        self.assertEqual(running.recv(15), b"HTTP/1.1 200 OK")
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        for path, connection in kept.items():
            connection.request("POST", path, json.dumps(KINDS[path]), {"Content-Type": "application/json"})
            response = connection.getresponse()
            self.assertEqual(response.status, 503)
            self.assertGreaterEqual(int(response.headers["Retry-After"]), 1)
            self.is_error(path, json.loads(response.read()))
            connection.close()
        self.assertIn("[DONE]", to_the_end(Read(b"HTTP/1.1 200 OK", running))[1])
        self.assertEqual(server.process.wait(30), 0)

    def test_an_answer_that_is_read_slowly_is_sent_whole(self):
        server = self.start("--streams", 16, "--drain-seconds", 60)
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.settimeout(20)
        s.connect(("127.0.0.1", server.port))
        s.sendall(request_bytes({**KINDS["/v1/completions"], "n": 16, "logprobs": 20}, close=False))
        self.assertTrue(server.settles() or True)
        time.sleep(1)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(1.5)
        status, answer = to_the_end(s)
        self.assertEqual(status, 200)
        self.assertEqual(json.loads(answer)["usage"]["completion_tokens"], 16 * LONG)
        self.assertEqual(server.process.wait(30), 0)

    def test_a_second_signal_ends_streams_properly_at_once(self):
        server = self.start("--streams", 1, "--drain-seconds", 600)
        self.busy(server)
        waiting = {path: asked(server.port, path, {**body, "stream": True}) for path, body in KINDS.items()}
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        self.assertIsNone(server.process.poll())
        gone = self.ends(server, 0)
        for path, s in waiting.items():
            with self.subTest(path):
                self.is_cut_off(path, to_the_end(s)[1])
        gone()


@unittest.skipUnless(SHIM.exists(), f"no {SHIM}")
class OnASlowDisk(WithSlowDisk, Ended):
    """What the disk does lasts a minute longer than there is time."""

    def test_streams_end_beside_a_load(self):
        server = serve(MODEL, self.disk.environment, "-m", f"slow={self.slow}", "--streams", 1, "--max-wait", 3600, "--drain-seconds", 0.5, context=512)
        self.addCleanup(server.stop)
        self.disk.is_told("slow slow.gguf 60000")
        loading = begun_for(server.port, "slow")
        self.busy(server)
        waiting = {path: asked(server.port, path, {**body, "model": MODEL.stem, "stream": True}) for path, body in KINDS.items()}
        time.sleep(0.5)
        gone = self.ends(server, 0.5)
        self.assertEqual(to_the_end(loading)[0], 503)
        for path, s in waiting.items():
            with self.subTest(path):
                self.is_cut_off(path, to_the_end(s)[1])
        gone()

    def test_streams_end_within_a_step(self):
        server = serve(self.slow, self.disk.environment, "--streams", 2, "--pin", "1M", "--max-wait", 3600, "--drain-seconds", 0.5, context=512)
        self.addCleanup(server.stop)
        begun = {}
        for path, body in KINDS.items():
            s = asked(server.port, path, {**body, "stream": True})
            begun[path] = (s.recv(65536), s)
        self.disk.is_told("slow slow.gguf 60000")
        time.sleep(0.5)
        whole = asked(server.port, "/v1/completions", KINDS["/v1/completions"])
        time.sleep(0.2)
        gone = self.ends(server, 0.5)
        self.assertEqual(to_the_end(whole)[0], 503)
        for path, (first, s) in begun.items():
            with self.subTest(path):
                self.is_cut_off(path, to_the_end(Read(first, s))[1])
        gone()


if __name__ == "__main__":
    support.main()
