// The official openai client against venturi serve with a model that embeds; the client asks for base64 by itself.
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0 });
const model = (await client.models.list()).data[0].id;
const three = await client.embeddings.create({ model, input: ["a b", "c", "a b"] });
assert.deepEqual(three.data.map((d) => d.index), [0, 1, 2]);
assert.deepEqual(three.data[0].embedding, three.data[2].embedding);
const floats = await client.embeddings.create({ model, input: "a b", encoding_format: "float" });
assert.deepEqual(floats.data[0].embedding.map(Math.fround), three.data[0].embedding.map(Math.fround));
const short = await client.embeddings.create({ model, input: "a b", dimensions: 3 });
assert.equal(short.data[0].embedding.length, 3);
await assert.rejects(client.embeddings.create({ model, input: "a", dimensions: 100000 }), (e) => e.param === "dimensions");
await assert.rejects(client.completions.create({ model, prompt: "a" }), (e) => e instanceof OpenAI.BadRequestError && e.param === "model");
console.log(JSON.stringify({ model, text: "embedded" }));
