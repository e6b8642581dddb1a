"""A disk that fails under a model that is streamed from it: the request that needed it fails with file and offset, the
process lives, and what is asked afterwards is answered as before. A disk that is slow or fails under the state of conversations:
who does not need it goes on."""
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

import support
from support import MODEL, VENTURI, ProgramTest, clean_environment
from server_test import Server

SHIM = support.OPTIONS.build / "tests" / "libfailing_disk.so"
PROMPT = "It was the best of times"
STREAMED = ("--memory", "4M")  # the embedded model does not fit this
WANTED = {"prompt": PROMPT, "max_tokens": 6, "temperature": 0}


class Disk:
    """The program's disk: healthy, or as told."""

    def __init__(self, folder):
        self.control = Path(folder) / "control"
        self.environment = {**clean_environment(), "LD_PRELOAD": str(SHIM), "VENTURI_FAILING_DISK": str(self.control)}

    def is_told(self, line):
        fresh = self.control.with_suffix(".new")
        fresh.write_text(line + "\n")
        os.replace(fresh, self.control)

    def heals(self):
        self.is_told("healthy")


def serve(model, environment, *flags, context=64):
    """A server, of one sequence, that streams its weights, or as the flags say."""
    before = support.clean_environment
    support.clean_environment = lambda: environment
    try:
        return Server(*(flags or STREAMED), model=model, context=context)
    finally:
        support.clean_environment = before


class WithSlowDisk:
    """Of a test case: a disk, healthy until it is told otherwise, with a model `slow` on it."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.disk = Disk(folder.name)
        self.disk.heals()
        self.slow = Path(folder.name) / "slow.gguf"
        shutil.copyfile(MODEL, self.slow)


class DiskFailure(ProgramTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.model = self.folder / "model.gguf"
        shutil.copyfile(MODEL, self.model)

    def answer(self, server):
        status, body, _ = server.ask("POST", "/v1/completions", WANTED)
        self.assertEqual(status, 200, body)
        return body["choices"][0]["text"]

    def refusal(self, server):
        status, body, _ = server.ask("POST", "/v1/completions", WANTED)
        self.assertEqual(status, 500, body)
        return json.dumps(body)

    def test_a_file_that_shrinks_under_the_server(self):
        server = serve(self.model, clean_environment())
        try:
            good = self.answer(server)
            size = self.model.stat().st_size
            os.truncate(self.model, size // 3 // 4096 * 4096)
            for _ in range(3):
                message = self.refusal(server)
                self.assertIn(str(self.model), message)
                self.assertRegex(message, r"ends at \d+")
                self.assertEqual(server.ask("GET", "/health")[0], 200)
            with open(self.model, "r+b") as file:
                file.write(Path(MODEL).read_bytes())
            self.recovers(server, good)
        finally:
            server.stop()

    def recovers(self, server, good):
        # What was on its way may still fail one request.
        for _ in range(3):
            status, body, _ = server.ask("POST", "/v1/completions", WANTED)
            if status == 200:
                break
        self.assertEqual(self.answer(server), good)
        self.assertEqual(self.answer(server), good)


@unittest.skipIf(support.OPTIONS.sanitized, "a sanitizer's library must come first")
@unittest.skipUnless(SHIM.exists(), f"{SHIM} was not built")
class FailingReads(DiskFailure):
    def setUp(self):
        super().setUp()
        self.disk = Disk(self.folder)
        self.disk.heals()

    test_a_file_that_shrinks_under_the_server = None

    def run_program(self):
        return subprocess.run([str(VENTURI), "run", "-m", str(self.model), *STREAMED, "-c", "64", "-p", PROMPT, "-n", "6", "--ids", "-t", "2"],
                              env=self.disk.environment, capture_output=True, text=True)

    def test_eio_fails_the_request_and_not_the_server(self):
        server = serve(self.model, self.disk.environment)
        try:
            good = self.answer(server)
            for offset in (0, self.model.stat().st_size // 2):
                self.disk.is_told(f"eio model.gguf {offset}")
                message = self.refusal(server)
                self.assertIn(str(self.model), message)
                found = re.search(r"reading \d+ bytes at offset (\d+) failed: Input/output error", message)
                self.assertTrue(found, message)
                self.assertEqual(server.ask("GET", "/health")[0], 200)
                self.disk.heals()
                self.recovers(server, good)
        finally:
            server.stop()

    def test_eio_while_a_stream_is_read(self):
        server = serve(self.model, self.disk.environment)
        try:
            good = self.answer(server)
            connection = server.connect()
            connection.request("POST", "/v1/completions", json.dumps({**WANTED, "stream": True, "max_tokens": 40}),
                               {"Content-Type": "application/json"})
            response = connection.getresponse()
            self.assertEqual(response.status, 200)
            first = response.readline()
            self.disk.is_told("eio model.gguf 0")
            rest = first + response.read()
            connection.close()
            self.assertIn(b"Input/output error", rest)
            self.disk.heals()
            self.recovers(server, good)
        finally:
            server.stop()

    def test_short_reads_are_gone_on_with(self):
        good = self.run_program()
        self.assertEqual(good.returncode, 0, good.stderr)
        self.disk.is_told("short model.gguf 8192")
        short = self.run_program()
        self.assertEqual(short.returncode, 0, short.stderr)
        self.assertEqual(short.stdout, good.stdout)

    def test_a_run_says_where(self):
        self.disk.is_told("eio model.gguf 65536")
        failed = self.run_program()
        self.assertEqual(failed.returncode, 1)
        self.assertIn(str(self.model), failed.stderr)
        self.assertIn("Input/output error", failed.stderr)


STREAM = {"prompt": "Now", "max_tokens": 400, "ignore_eos": True, "stream": True, "temperature": 0}


@unittest.skipIf(support.OPTIONS.sanitized, "a sanitizer's library must come first")
@unittest.skipUnless(SHIM.exists(), f"{SHIM} was not built")
class StateOnDisk(unittest.TestCase):
    """Pages for a stream and a conversation; a long conversation is driven out to the file by another."""
    TALK = "It was the best of times, it was the worst of times, it was the age of wisdom. " * 12
    OTHER = "A long road led from the village to the sea, and nobody had ever walked to its end. " * 13

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.disk = Disk(folder.name)
        self.disk.heals()
        self.server = serve(MODEL, self.disk.environment, "--streams", 3, "--state-memory", "1300K", "--spill", folder.name, context=512)
        self.addCleanup(self.server.stop)

    def complete(self, prompt, tokens=8):
        status, body, _ = self.server.ask("POST", "/v1/completions", {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True})
        self.assertEqual(status, 200, body)
        return body["choices"][0]["text"], body["usage"]["prompt_tokens_details"]["cached_tokens"]

    def drive_out(self):
        written = self.server.metric("venturi_state_written_bytes_total")
        for i in range(3):
            self.complete(f"{i} {self.OTHER}")
        self.assertGreater(self.server.metric("venturi_state_written_bytes_total"), written)

    def stream(self, tokens=STREAM["max_tokens"]):
        """A stream that runs: (its thread, the times of its tokens, its text)."""
        connection = self.server.connect()
        connection.request("POST", "/v1/completions", json.dumps({**STREAM, "max_tokens": tokens}), {"Content-Type": "application/json"})
        response = connection.getresponse()
        times, text = [], []

        def listen():
            for line in response:
                if line.startswith(b"data: {"):
                    times.append(time.monotonic())
                    text.append(json.loads(line[6:])["choices"][0]["text"])
            connection.close()
        listener = threading.Thread(target=listen)
        listener.start()
        while not times:
            time.sleep(0.001)
        return listener, times, text

    def test_streams_go_on_while_state_comes_from_a_slow_disk(self):
        wanted, _ = self.complete(self.TALK)
        self.drive_out()
        read = self.server.metric("venturi_state_read_bytes_total")
        self.disk.is_told("slow venturi-state 300")
        listener, times, _ = self.stream()
        begin = time.monotonic()
        again, cached = self.complete(self.TALK, 1)
        end = time.monotonic()
        self.disk.heals()
        listener.join()
        self.assertEqual(again, wanted[:len(again)])
        self.assertGreater(cached, 100)
        self.assertGreater(self.server.metric("venturi_state_read_bytes_total"), read)
        self.assertGreater(end - begin, 0.3)
        beside = [t for t in times if begin < t < end]
        self.assertGreater(len(beside), 20)
        self.assertLess(max(b - a for a, b in zip(beside, beside[1:])), 0.25)

    def test_streams_go_on_while_state_is_written_to_a_lazy_disk(self):
        wanted, _ = self.complete(self.TALK)
        self.drive_out()
        written = self.server.metric("venturi_state_written_bytes_total")
        self.disk.is_told("lazy venturi-state 300")
        listener, times, _ = self.stream(150)  # on pages that are ready
        begin = time.monotonic()
        again, cached = self.complete(self.TALK, 1)  # its pages have others' blocks, which are written first
        end = time.monotonic()
        self.disk.heals()
        listener.join()
        self.assertEqual(again, wanted[:len(again)])
        self.assertGreater(cached, 200)
        self.assertGreater(self.server.metric("venturi_state_written_bytes_total"), written)
        self.assertGreater(end - begin, 0.3)
        self.assertGreater(len([t for t in times if t > begin]), 100)
        self.assertLess(max(b - a for a, b in zip(times, times[1:])), 0.25)

    def test_state_that_cannot_be_read_is_computed_again(self):
        alone, _ = self.complete(STREAM["prompt"], STREAM["max_tokens"])
        wanted, _ = self.complete(self.TALK)
        self.drive_out()
        listener, _, text = self.stream()
        self.disk.is_told("eio venturi-state 0")
        again, cached = self.complete(self.TALK)
        self.assertEqual(again, wanted)
        listener.join()
        self.assertEqual("".join(text), alone)  # the stream beside it has seen nothing of that
        self.disk.heals()
        again, more = self.complete(self.TALK)
        self.assertEqual(again, wanted)
        self.assertGreater(more, cached)

    def test_who_gave_way_and_cannot_come_back_is_computed_again(self):
        prompts = [f"{i}. {PROMPT}, and the old gentleman" for i in range(6)]
        wanted = [self.complete(prompt, 300)[0] for prompt in prompts]
        gave_way = self.server.metric("venturi_preemptions_to_disk_total")
        self.disk.is_told("eio venturi-state 0")
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            self.assertEqual([text for text, _ in pool.map(lambda prompt: self.complete(prompt, 300), prompts)], wanted)
        self.assertGreater(self.server.metric("venturi_preemptions_to_disk_total"), gave_way)
        self.assertGreater(self.server.metric("venturi_tokens_recomputed_total"), 0)
        self.assertTrue(self.server.settles())
        self.assertEqual(self.server.metric("vllm:kv_cache_usage_perc"), 0)

    def test_a_disconnect_while_state_is_coming_gives_its_pages_back(self):
        wanted, _ = self.complete(self.TALK)
        self.drive_out()
        self.until(lambda: self.server.metric("vllm:kv_cache_usage_perc") == 0)
        self.disk.is_told("slow venturi-state 700")
        connection = self.server.connect()
        connection.request("POST", "/v1/completions", json.dumps({"prompt": self.TALK, "max_tokens": 8}), {"Content-Type": "application/json"})
        self.until(lambda: self.server.metric("vllm:kv_cache_usage_perc") > 0)
        connection.close()
        # The request ends at once; its pages are back when the disk is done with them.
        begin = time.monotonic()
        self.until(lambda: self.server.metric("vllm:num_requests_running") == 0)
        self.assertLess(time.monotonic() - begin, 0.5)
        self.assertGreater(self.server.metric("vllm:kv_cache_usage_perc"), 0)
        self.until(lambda: self.server.metric("vllm:kv_cache_usage_perc") == 0)
        self.disk.heals()
        self.assertEqual(self.complete(self.TALK)[0], wanted)

    def test_the_server_ends_while_state_is_coming(self):
        self.complete(self.TALK)
        self.drive_out()
        self.disk.is_told("slow venturi-state 700")
        connection = self.server.connect()
        connection.request("POST", "/v1/completions", json.dumps({"prompt": self.TALK, "max_tokens": 8}), {"Content-Type": "application/json"})
        self.until(lambda: self.server.metric("vllm:kv_cache_usage_perc") > 0)
        self.server.process.terminate()
        response = connection.getresponse()  # drained: what was on its way comes and is answered
        self.assertEqual(response.status, 200)
        response.read()
        connection.close()
        self.assertEqual(self.server.process.wait(30), 0)

    def test_a_full_disk_forgets(self):
        wanted, _ = self.complete(self.TALK)
        self.disk.is_told("full venturi-state 0")
        for i in range(3):
            self.complete(f"{i} {self.OTHER}")
        self.assertEqual(self.server.metric("venturi_state_written_bytes_total"), 0)
        self.assertEqual(self.complete(self.TALK)[0], wanted)
        self.disk.heals()
        self.drive_out()
        self.assertEqual(self.complete(self.TALK)[0], wanted)

    def until(self, holds, seconds=20):
        end = time.monotonic() + seconds
        while not holds():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)


if __name__ == "__main__":
    support.main()
