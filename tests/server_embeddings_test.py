"""/v1/embeddings of venturi serve: of unit length, as the reference in numpy has them, batched or alone."""
import base64
import json
import struct
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
                for body, param in (({"input": "a", "dimensions": 7}, "dimensions"), ({"input": []}, "input"), ({"input": [[]]}, "input"),
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


if __name__ == "__main__":
    support.main()
