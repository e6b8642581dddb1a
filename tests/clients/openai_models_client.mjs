// The official openai client against venturi serve with several models: listed, loaded when asked for, unknown ones NotFoundError.
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0 });
const names = [];
for await (const model of client.models.list()) names.push(model.id);
assert.deepEqual(names, ["one", "two"]);
for (const name of names) assert.equal((await client.models.retrieve(name)).id, name);
await assert.rejects(client.models.retrieve("three"), (e) => e instanceof OpenAI.NotFoundError);
const texts = [];
for (const model of names) {
  const answer = await client.chat.completions.create({ model, messages: [{ role: "user", content: "Hm" }], max_tokens: 8, temperature: 0 });
  assert.equal(answer.model, model);
  texts.push(answer.choices[0].message.content);
}
assert.equal(texts[0], texts[1]);
const ask = { model: "three", messages: [{ role: "user", content: "Hm" }] };
for (const stream of [false, true])
  await assert.rejects(client.chat.completions.create({ ...ask, stream }), (e) => e instanceof OpenAI.NotFoundError && e.code === "model_not_found");
console.log(JSON.stringify({ text: texts[0] || "." }));
