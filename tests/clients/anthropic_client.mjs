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

// Tools: a block of the answer, streamed as partial JSON; its result goes back in.
const input_schema = { type: "object", properties: { place: { enum: ["Rome", "Oslo"] } }, required: ["place"], additionalProperties: false };
const calling = {
  ...ask, max_tokens: 200, tools: [{ name: "get_weather", description: "The weather.", input_schema }],
  tool_choice: { type: "tool", name: "get_weather" },
};
const called = await client.messages.create(calling);
assert.equal(called.stop_reason, "tool_use");
assert.equal(called.content.length, 1);
assert.ok(["Rome", "Oslo"].includes(called.content[0].input.place));
const pieces = client.messages.stream(calling);
let partial = 0;
pieces.on("inputJson", () => ++partial);
const put = await pieces.finalMessage();
assert.ok(partial > 1);
assert.deepEqual(put.content.map(({ name, input }) => ({ name, input })), called.content.map(({ name, input }) => ({ name, input })));
const answer = await client.messages.create({
  ...calling, max_tokens: 4, tool_choice: { type: "auto" },
  messages: [...messages, { role: "assistant", content: called.content },
    { role: "user", content: [{ type: "tool_result", tool_use_id: called.content[0].id, content: "Sun." }] }],
});
assert.equal(answer.role, "assistant");

await assert.rejects(client.messages.create({ ...ask, max_tokens: 5000 }), (e) =>
  e instanceof Anthropic.BadRequestError && e.error.error.type === "invalid_request_error");
await assert.rejects(client.messages.create({ ...ask, temperature: 9, stream: true }), (e) => e instanceof Anthropic.BadRequestError);
await assert.rejects(new Anthropic({ apiKey: "wrong", maxRetries: 0 }).messages.create(ask), (e) => e instanceof Anthropic.AuthenticationError);

const aborted = client.messages.stream({ ...ask, max_tokens: 200, temperature: 1 });
aborted.on("text", () => aborted.abort());
await assert.rejects(aborted.finalMessage(), (e) => e instanceof Anthropic.APIUserAbortError);

console.log(JSON.stringify({ text }));
