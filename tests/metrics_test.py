"""/metrics as Prometheus' own client reads it: the names that dashboards and routers ask for, and counters and
distributions that agree with what was sent."""
import concurrent.futures
import json
import math
import socket
import sys
import time
import unittest

import support
from server_test import PROMPT, Serving

sys.path.append("/usr/lib/python3/dist-packages")  # where the python3 at hand is not Debian's
try:
    from prometheus_client.parser import text_string_to_metric_families
except ImportError:
    text_string_to_metric_families = None

GAUGES = ["vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc",
          "vllm:cache_config_info"]
COUNTERS = ["vllm:prefix_cache_queries", "vllm:prefix_cache_hits", "vllm:prompt_tokens", "vllm:generation_tokens",
            "vllm:num_preemptions", "vllm:request_success"]
DISTRIBUTIONS = ["vllm:time_to_first_token_seconds", "vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds",
                 "vllm:request_time_per_output_token_seconds", "vllm:e2e_request_latency_seconds",
                 "vllm:request_queue_time_seconds", "vllm:request_inference_time_seconds", "vllm:request_prefill_time_seconds",
                 "vllm:request_decode_time_seconds", "vllm:request_prompt_tokens", "vllm:request_generation_tokens",
                 "vllm:iteration_tokens_total"]


@unittest.skipUnless(text_string_to_metric_families, "no python3-prometheus-client")
class Metrics(Serving):
    def families(self):
        """By name: (type, {(sample's name, its labels but the model's): value})."""
        status, text, headers = self.server.ask("GET", "/metrics")
        self.assertEqual((status, headers["Content-Type"]), (200, "text/plain; version=0.0.4; charset=utf-8"))
        found = {}
        for family in text_string_to_metric_families(text):
            self.assertNotIn(family.name, found, "a family comes in one piece")
            self.assertTrue(family.documentation)
            samples = {}
            for sample in family.samples:
                labels = dict(sample.labels)
                self.assertEqual(labels.pop("model_name"), "tiny", sample)
                samples[sample.name, tuple(sorted(labels.items()))] = sample.value
            self.assertEqual(len(samples), len(family.samples), family.name)
            found[family.name] = family.type, samples
        return found

    def settled(self):
        """Families when nothing goes on: twice the same count of steps."""
        steps = None
        while True:
            self.assertTrue(self.server.settles())
            families = self.families()
            if steps == (steps := self.value(families, "venturi_steps_total")):
                return families
            time.sleep(0.02)

    def value(self, families, name, **labels):
        return families[name.removesuffix("_total")][1][name, tuple(sorted(labels.items()))]

    def distribution(self, families, name):
        """(count, sum) of a histogram that is well formed."""
        kind, samples = families[name]
        self.assertEqual(kind, "histogram", name)
        buckets = sorted((float(dict(labels)["le"]), value) for (sample, labels), value in samples.items() if sample == name + "_bucket")
        counts = [count for _, count in buckets]
        self.assertEqual(counts, sorted(counts), name)
        self.assertEqual(buckets[-1][0], math.inf, name)
        self.assertEqual(counts[-1], samples[name + "_count", ()], name)
        return samples[name + "_count", ()], samples[name + "_sum", ()]

    def difference(self, before, after, name):
        return [b - a for a, b in zip(self.distribution(before, name), self.distribution(after, name))]

    def test_names_and_types(self):
        families = self.families()
        for kind, names in (("gauge", GAUGES), ("counter", COUNTERS), ("histogram", DISTRIBUTIONS)):
            for name in names:
                with self.subTest(name=name):
                    self.assertEqual(families[name][0], kind)
        for reason in ("stop", "length", "abort", "error"):
            self.assertGreaterEqual(self.value(families, "vllm:request_success_total", finished_reason=reason), 0)

    def test_they_agree_with_what_was_sent(self):
        before = self.settled()
        sent = [self.completion(prompt=f"{i}, {PROMPT}" * (1 + i % 3), max_tokens=3 + i, seed=i) for i in range(4)]
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            sent += pool.map(lambda i: self.completion(prompt=f"{i} by {i}: {PROMPT}", max_tokens=1 + i), range(9))
        # A stop text counts as one, though the service would have gone on.
        text = self.completion(max_tokens=40)["choices"][0]["text"]
        stopped = self.completion(max_tokens=200, stop=text[5:9])
        self.assertEqual(stopped["choices"][0]["finish_reason"], "stop")
        after = self.settled()

        def grew(name, **labels):
            return self.value(after, name, **labels) - self.value(before, name, **labels)

        whole = [answer["usage"] for answer in sent] + [{"prompt_tokens": stopped["usage"]["prompt_tokens"], "completion_tokens": 40}]
        prompt = sum(u["prompt_tokens"] for u in whole) + stopped["usage"]["prompt_tokens"]
        n = len(whole)
        self.assertEqual(grew("vllm:prompt_tokens_total"), prompt)
        self.assertEqual(grew("vllm:request_success_total", finished_reason="length"), n)
        self.assertEqual(grew("vllm:request_success_total", finished_reason="stop"), 1)
        self.assertEqual(grew("vllm:request_success_total", finished_reason="abort"), 0)
        # After the stop text some steps may have drawn what nobody saw.
        drawn = grew("vllm:generation_tokens_total")
        least = sum(u["completion_tokens"] for u in whole) + stopped["usage"]["completion_tokens"]
        self.assertTrue(least <= drawn < least + 200, (least, drawn))

        self.assertEqual(self.difference(before, after, "vllm:request_prompt_tokens"), [n + 1, prompt])
        self.assertEqual(self.difference(before, after, "vllm:request_generation_tokens"), [n + 1, drawn])
        self.assertEqual(self.difference(before, after, "vllm:time_to_first_token_seconds")[0], n + 1)
        self.assertEqual(self.difference(before, after, "vllm:inter_token_latency_seconds")[0], drawn - n - 1)
        self.assertEqual(after["vllm:inter_token_latency_seconds"][1]["vllm:inter_token_latency_seconds_sum", ()],
                         after["vllm:time_per_output_token_seconds"][1]["vllm:time_per_output_token_seconds_sum", ()])
        # One of them drew one token, which has no time between tokens.
        self.assertEqual(self.difference(before, after, "vllm:request_time_per_output_token_seconds")[0], n)
        parts = [self.difference(before, after, f"vllm:request_{part}_time_seconds") for part in ("queue", "prefill", "decode")]
        latency = self.difference(before, after, "vllm:e2e_request_latency_seconds")
        self.assertEqual([count for count, _ in [*parts, latency]], [n + 1] * 4)
        self.assertLessEqual(sum(total for _, total in parts), latency[1] * 1.001)
        self.assertGreater(sum(total for _, total in parts), latency[1] * 0.5)

    def test_steps_and_memory(self):
        before = self.settled()
        self.completion(max_tokens=30)
        after = self.settled()
        steps = self.value(after, "venturi_steps_total") - self.value(before, "venturi_steps_total")
        self.assertGreaterEqual(steps, 30)
        for name in ("venturi_step_seconds", "venturi_step_rows", "vllm:iteration_tokens_total",
                     "venturi_step_measured_over_predicted_ratio"):
            with self.subTest(name=name):
                self.assertEqual(self.difference(before, after, name)[0], steps)
        parts = {dict(labels)["part"]: value for (_, labels), value in after["venturi_step_part_seconds"][1].items()}
        self.assertEqual(set(parts), {"model", "guess", "draw", "tell", "plan"})
        self.assertEqual(parts.pop("guess"), 0)
        self.assertTrue(all(value > 0 for value in parts.values()), parts)
        self.assertAlmostEqual(sum(parts.values()), self.distribution(after, "venturi_step_seconds")[1], places=5)
        self.assertAlmostEqual(self.value(after, "venturi_step_overhead_ratio"), 1 - parts["model"] / sum(parts.values()), places=5)
        held = {dict(labels)["holder"]: value for (_, labels), value in after["venturi_memory_held_bytes"][1].items()}
        self.assertGreater(held["weights"], 1 << 20)
        self.assertGreaterEqual(self.value(after, "venturi_memory_peak_bytes"), sum(held.values()))

    def test_the_http_threads_time(self):
        """Of its processor, not the clock's: little while nothing goes on, and no more than has passed."""
        def seconds():
            return self.value(self.settled(), "venturi_http_thread_seconds_total"), time.monotonic()
        (before, begin), body = seconds(), {"prompt": PROMPT * 10, "max_tokens": 1}
        for _ in range(30):
            self.post("/v1/completions", body)
        after, end = seconds()
        self.assertGreater(after, before)
        self.assertLess(after - before, end - begin)
        time.sleep(1)
        idle, _ = seconds()
        self.assertLess(idle - after, 0.5)
        status = self.server.ask("GET", "/status")[1]["http_seconds"]
        self.assertGreaterEqual(status, idle)

    def test_a_client_that_goes(self):
        before = self.settled()
        body = json.dumps({"prompt": PROMPT, "n": 32, "max_tokens": 200, "ignore_eos": True, "stream": True}).encode()
        with socket.create_connection(("127.0.0.1", self.server.port), 20) as s:
            s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            s.recv(100)
        deadline = time.monotonic() + 20
        ends = {}
        while sum(ends.values()) < 32 and time.monotonic() < deadline:
            after = self.families()
            ends = {reason: self.value(after, "vllm:request_success_total", finished_reason=reason) -
                    self.value(before, "vllm:request_success_total", finished_reason=reason) for reason in ("abort", "length")}
        self.assertEqual(sum(ends.values()), 32)
        self.assertGreater(ends["abort"], 0)
        after = self.settled()
        self.assertEqual(self.value(after, "vllm:kv_cache_usage_perc"), 0)


del Serving

if __name__ == "__main__":
    support.main()
