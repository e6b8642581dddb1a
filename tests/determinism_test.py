"""One request, one answer: text and logprobs are a function of the prompt, the sampling and the seed. The same bytes
alone, among 32, after giving way (recomputed, or from the disk) and with a beginning that was found."""
import concurrent.futures
import json
import re
import tempfile
import unittest

import support
from server_test import PROMPT, Server

# Sanitizers are slow; they still see all of it.
REQUESTS, TOKENS = (10, 90) if support.OPTIONS.sanitized else (32, 150)
STREAMS = 32
TIGHT = "5300K"  # all weights, and pages for three of the conversations
BYTES_A_TOKEN = 1536  # of state


def request(i):
    return {"prompt": f"{i}. {PROMPT}" + " and" * i, "max_tokens": TOKENS, "ignore_eos": True, "seed": i, "temperature": (1, 0, 0.7)[i % 3],
            "logprobs": 2}


class TheSameBytes(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        """What each says alone, on a server that remembers nothing."""
        server = Server("--streams", 1, "--no-prefix-cache")
        try:
            cls.alone = [cls.ask(server, request(i)) for i in range(REQUESTS)]
            assert all(cached == 0 for *_, cached in cls.alone)
        finally:
            code = server.stop()
        assert code == 0, code
        assert len({text for text, *_ in cls.alone}) == REQUESTS

    @staticmethod
    def ask(server, body):
        """(text, logprobs of its tokens, tokens of the prompt that were found)"""
        status, answer, _ = server.ask("POST", "/v1/completions", body)
        assert status == 200, answer
        choice = answer["choices"][0]
        return choice["text"], choice["logprobs"]["token_logprobs"], answer["usage"]["prompt_tokens_details"]["cached_tokens"]

    @staticmethod
    def ask_for_a_stream(server, body):
        chunks = [json.loads(e) for e in server.events("/v1/completions", {**body, "stream": True, "stream_options": {"include_usage": True}})[:-1]]
        choices = [c["choices"][0] for c in chunks if c["choices"]]
        return ("".join(c["text"] for c in choices),
                [x for c in choices if c.get("logprobs") for x in c["logprobs"]["token_logprobs"]],
                chunks[-1]["usage"]["prompt_tokens_details"]["cached_tokens"])

    def together(self, server):
        """All at once, every other as a stream."""
        with concurrent.futures.ThreadPoolExecutor(REQUESTS) as pool:
            return list(pool.map(lambda i: (self.ask_for_a_stream if i % 2 else self.ask)(server, request(i)), range(REQUESTS)))

    def same(self, answers, which=None):
        for i, answer in zip(which or range(REQUESTS), answers):
            with self.subTest(request=i):
                self.assertEqual(answer[:2], self.alone[i][:2])

    def serving(self, *flags):
        server = Server("--streams", STREAMS, "--max-wait", 3600, *flags)
        self.addCleanup(lambda: self.assertEqual(server.stop(), 0))
        return server

    def test_in_a_batch_of_32(self):
        server = self.serving()
        self.same(self.together(server))
        # They did run together: most steps had a row of most of them.
        steps, few = server.metric("venturi_step_rows_count"), server.bucket("venturi_step_rows", 16 if REQUESTS == 32 else 4)
        self.assertGreater(steps - few, TOKENS / 2)

    def test_after_giving_way_and_being_recomputed(self):
        server = self.serving("--state-memory", "800K")
        self.same(self.together(server))
        self.assertGreater(server.metric("vllm:num_preemptions_total"), 0)
        self.assertGreater(server.metric("venturi_tokens_recomputed_total"), 0)

    def test_after_giving_way_to_the_disk_and_with_what_is_found_there(self):
        with tempfile.TemporaryDirectory() as folder:
            server = self.serving("--state-memory", "800K", "--spill", folder)
            self.same(self.together(server))
            self.assertGreater(server.metric("venturi_preemptions_to_disk_total"), 0)
            self.assertGreater(server.metric("venturi_state_read_bytes_total"), 0)
            # Memory holds a few of these prompts; the others come from the file.
            before = server.metric("venturi_state_read_bytes_total")
            again = [self.ask(server, request(i)) for i in range(REQUESTS)]
            self.same(again)
            self.assertTrue(all(cached > 0 for *_, cached in again), [cached for *_, cached in again])
            self.assertGreater(server.metric("venturi_state_read_bytes_total"), before)
            self.doCleanups()

    def test_turns_that_come_back_from_the_disk_under_a_tight_budget(self):
        """Conversations of which memory holds a few: their second turns, all at once, find the first in the file, some give way on
        the way, and every byte is what a server says that has room for all and remembers nothing."""
        first = [{**request(i), "prompt": f"{i}. " + PROMPT * (3 + i % 3), "max_tokens": 60} for i in range(8)]
        calm = self.serving("--no-prefix-cache")
        said = [self.ask(calm, turn) for turn in first]
        second = [{**turn, "prompt": turn["prompt"] + text[:150] + " And then", "max_tokens": 40} for turn, (text, *_) in zip(first, said)]
        wanted = [self.ask(calm, turn) for turn in second]
        with tempfile.TemporaryDirectory() as folder:
            server = Server("--streams", 8, "--max-wait", 3600, "--memory", TIGHT, "--spill", folder)
            self.addCleanup(lambda: self.assertEqual(server.stop(), 0))
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                self.assertEqual([a[:2] for a in pool.map(lambda turn: self.ask(server, turn), first)], [a[:2] for a in said])
                written, read = (server.metric(f"venturi_state_{way}_bytes_total") for way in ("written", "read"))
                self.assertGreater(written, 0)
                self.assertGreater(server.metric("vllm:num_preemptions_total"), 0)
                answers = list(pool.map(lambda turn: self.ask(server, turn), second))
            self.assertEqual([a[:2] for a in answers], [a[:2] for a in wanted])
            self.assertGreater(min(cached for *_, cached in answers), 30)
            # What was read is several conversations' state: they are found in the file, not in memory.
            self.assertGreater(server.metric("venturi_state_read_bytes_total") - read, 8 * 64 * BYTES_A_TOKEN)
            text = server.ask("GET", "/metrics")[1]
            peak, limit = (float(re.search(rf"^venturi_memory_{what}_bytes(?:\{{.*\}})? (\S+)$", text, re.M).group(1)) for what in ("peak", "limit"))
            self.assertLessEqual(peak, limit)
            self.doCleanups()

    def test_with_a_beginning_that_is_found(self):
        server = self.serving()
        which = [0, 5, REQUESTS - 1]
        first = [self.ask(server, request(i)) for i in which]
        again = [self.ask(server, request(i)) for i in which]
        self.same(first, which)
        self.same(again, which)
        self.assertTrue(all(cached > 0 for *_, cached in again), again)
        # A second turn: all that the first said is found, and what follows is what a server says that knows nothing of it.
        turn = {**request(5), "prompt": request(5)["prompt"] + first[1][0][:200] + " And then", "max_tokens": 40}
        found = self.ask(server, turn)
        self.assertGreater(found[2], 20)
        cold = self.serving("--no-prefix-cache")
        self.assertEqual(self.ask(cold, turn), (*found[:2], 0))


if __name__ == "__main__":
    support.main()
