// The official @anthropic-ai/sdk client against venturi serve: ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY say where.
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ maxRetries: 0 });
const messages = [{ role: "user", content: [{ type: "text", text: "Who came in?" }] }];
const ask = { model: process.env.MODEL_NAME, system: "Be short.", messages, max_tokens: 16, temperature: 0 };

const counted = await client.messages.countTokens({ model: ask.model, system: ask.system, messages });
const whole = await client.messages.create(ask);
assert.equal(whole.type, "message");
assert.equal(whole.role, "assistant");
assert.equal(whole.usage.input_tokens, counted.input_tokens);
assert.ok(["max_tokens", "end_turn"].includes(whole.stop_reason));
const text = whole.content[0].text;

// The helper puts the events together and checks their order.
const stream = client.messages.stream(ask);
const seen = [];
stream.on("streamEvent", (event) => seen.push(event.type));
const final = await stream.finalMessage();
assert.equal(final.content[0].text, text);
assert.equal(final.stop_reason, whole.stop_reason);
assert.equal(final.usage.output_tokens, whole.usage.output_tokens);
assert.equal(seen[0], "message_start");
assert.equal(seen.at(-1), "message_stop");

const stop = text.slice(3, 8);
const stopped = await client.messages.create({ ...ask, stop_sequences: [stop] });
assert.equal(stopped.stop_reason, "stop_sequence");
assert.equal(stopped.stop_sequence, stop);
assert.equal(stopped.content[0].text, text.slice(0, text.indexOf(stop)));

await assert.rejects(client.messages.create({ ...ask, max_tokens: 5000 }), (e) =>
  e instanceof Anthropic.BadRequestError && e.error.error.type === "invalid_request_error");
await assert.rejects(client.messages.create({ ...ask, temperature: 9, stream: true }), (e) => e instanceof Anthropic.BadRequestError);
await assert.rejects(new Anthropic({ apiKey: "wrong", maxRetries: 0 }).messages.create(ask), (e) => e instanceof Anthropic.AuthenticationError);

const aborted = client.messages.stream({ ...ask, max_tokens: 200, temperature: 1 });
aborted.on("text", () => aborted.abort());
await assert.rejects(aborted.finalMessage(), (e) => e instanceof Anthropic.APIUserAbortError);

console.log(JSON.stringify({ text }));
