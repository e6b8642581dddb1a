"""/v1/embeddings of venturi serve: of unit length, as the reference in numpy has them, batched or alone."""
import base64
import json
import math
import struct
import time
import unittest

import support
from server_test import Server

MODELS = support.SOURCE / "tests" / "data" / "models"


class Embeddings(unittest.TestCase):
    def test_they_are_the_references(self):
        for name in ("bert-mean", "bert-cls"):
            golden = json.loads((MODELS / f"{name}.json").read_text())
            server = Server("--streams", 4, model=MODELS / f"{name}.gguf", context=64)
            try:
                inputs = [p["tokens"] for p in golden["prompts"]]
                status, answer, _ = server.ask("POST", "/v1/embeddings", {"input": inputs, "model": name})
                self.assertEqual(status, 200, answer)
                self.assertEqual(answer["usage"]["prompt_tokens"], sum(map(len, inputs)))
                for i, (prompt, one) in enumerate(zip(golden["prompts"], answer["data"])):
                    self.assertEqual((one["object"], one["index"]), ("embedding", i))
                    for got, expected in zip(one["embedding"], prompt["pooled_unit_length"]):
                        self.assertAlmostEqual(got, expected, delta=1e-3)
                    alone = server.ask("POST", "/v1/embeddings", {"input": prompt["tokens"], "encoding_format": "base64"})[1]["data"][0]["embedding"]
                    raw = base64.b64decode(alone)
                    self.assertEqual([*struct.unpack(f"<{len(raw) // 4}f", raw)], one["embedding"])
                self.assertEqual(server.ask("POST", "/v1/embeddings", {"input": "a b"})[0], 200)
                self.shortened(server, one["embedding"], prompt["tokens"])
                for body, param in (({"input": "a", "dimensions": 7000}, "dimensions"), ({"input": "a", "dimensions": 0}, "dimensions"), ({"input": []}, "input"), ({"input": [[]]}, "input"),
                                    ({"input": [200]}, "input"), ({}, "input"), ({"input": "a " * 200}, "input"), ({"input": [["a"]]}, "input"),
                                    ({"input": "a", "encoding_format": "hex"}, "encoding_format"), ({"input": ["a"] * 2049}, "input"),
                                    ({"input": {"a": 1}}, "input")):
                    status, answer, _ = server.ask("POST", "/v1/embeddings", body)
                    self.assertEqual((status, answer["error"]["param"]), (400, param), answer)
                status, answer, _ = server.ask("POST", "/v1/completions", {"prompt": "a"})
                self.assertEqual((status, answer["error"]["param"]), (400, "model"), answer)
                self.assertEqual(server.metric("venturi_embedding_requests_waiting"), 0)
                self.assertGreater(server.metric("venturi_embedded_texts_total"), 3)
            finally:
                self.assertEqual(server.stop(), 0)


    def test_where_the_time_went(self):
        server = Server("--streams", 4, model=MODELS / "bert-mean.gguf", context=64)
        try:
            ask = {"input": ["a b", "b"] * 20}
            begin = time.monotonic()
            status, answer, _ = server.ask("POST", "/v1/embeddings", {**ask, "venturi": {"timings": True}})
            wall = time.monotonic() - begin
            self.assertEqual(status, 200, answer)
            timings = answer["venturi"]["timings"]
            parts = [timings[f"{part}_seconds"] for part in ("tokenize", "queue", "prefill", "decode", "finish")]
            self.assertEqual(set(timings), {f"{part}_seconds" for part in ("tokenize", "queue", "prefill", "decode", "finish", "total", "detokenize", "write")})
            self.assertAlmostEqual(sum(parts), timings["total_seconds"], delta=1e-6)
            self.assertLessEqual(timings["total_seconds"], wall)
            for name in ("tokenize", "prefill", "finish", "write"):
                self.assertGreater(timings[f"{name}_seconds"], 0, name)
            self.assertLessEqual(timings["write_seconds"], timings["finish_seconds"])
            self.assertEqual(timings["decode_seconds"], 0)
            self.assertGreaterEqual(min(parts), 0)
            self.assertNotIn("venturi", server.ask("POST", "/v1/embeddings", ask)[1])
            status, answer, _ = server.ask("POST", "/v1/embeddings", {**ask, "venturi": True})
            self.assertEqual((status, answer["error"]["param"]), (400, "venturi"))
        finally:
            self.assertEqual(server.stop(), 0)

    def shortened(self, server, whole, tokens):
        """dimensions: the first values, of unit length again."""
        part = server.ask("POST", "/v1/embeddings", {"input": tokens, "dimensions": 5})[1]["data"][0]["embedding"]
        length = math.sqrt(sum(x * x for x in whole[:5]))
        self.assertEqual(len(part), 5)
        for got, expected in zip(part, whole):
            self.assertAlmostEqual(got, expected / length, delta=1e-5)

    def test_a_decoder_gives_its_last_hidden_state_or_their_mean_and_text_beside_it(self):
        name = "llama-plain"
        golden = json.loads((MODELS / f"{name}.json").read_text())
        inputs = [p["tokens"] for p in golden["prompts"]]
        means = {}
        for pooling, batch in (("last", 512), ("mean", 512), ("mean", 7)):
            server = Server("--streams", 2, "--pooling", pooling, "-b", batch, model=MODELS / f"{name}.gguf", context=64)
            try:
                status, answer, _ = server.ask("POST", "/v1/embeddings", {"input": inputs, "model": name})
                self.assertEqual(status, 200, answer)
                vectors = [one["embedding"] for one in answer["data"]]
                for vector in vectors:
                    self.assertAlmostEqual(sum(x * x for x in vector), 1, delta=1e-5)
                if pooling == "last":
                    for prompt, vector in zip(golden["prompts"], vectors):
                        expected = prompt["hidden"]["final_norm"]
                        length = math.sqrt(sum(x * x for x in expected))
                        for got, x in zip(vector, expected, strict=True):
                            self.assertAlmostEqual(got, x / length, delta=2e-3)
                else:
                    means[batch] = vectors
                self.shortened(server, vectors[0], inputs[0])
                text = server.ask("POST", "/v1/completions", {"prompt": inputs[0], "max_tokens": 4, "temperature": 0})
                self.assertEqual(text[0], 200, text[1])
                self.assertEqual(server.ask("POST", "/v1/embeddings", {"input": [inputs[0] * 4]})[0], 400)
                self.assertEqual(server.metric("venturi_embedding_requests_waiting"), 0)
            finally:
                self.assertEqual(server.stop(), 0)
        self.assertEqual(means[512], means[7], "however it is cut")

    def test_a_decoder_without_a_pooling_says_what_to_do(self):
        server = Server("--streams", 1)
        try:
            status, answer, _ = server.ask("POST", "/v1/embeddings", {"input": "a"})
            self.assertEqual((status, answer["error"]["param"]), (400, "model"))
            self.assertIn("--pooling", answer["error"]["message"])
        finally:
            self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    support.main()
