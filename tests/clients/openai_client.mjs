// The official openai client against venturi serve: OPENAI_BASE_URL and OPENAI_API_KEY say where.
// Prints one JSON object; any failure is an exception.
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0 });
const model = (await client.models.list()).data[0].id;
const messages = [{ role: "system", content: "Be short." }, { role: "user", content: "Who came in?" }];
const ask = { model, messages, max_tokens: 24, seed: 11, temperature: 0.7 };

const whole = await client.chat.completions.create(ask);
assert.equal(whole.object, "chat.completion");
assert.equal(whole.choices[0].message.role, "assistant");
assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens);

// A stream gives the same text, a role first, one finish, usage last.
let text = "";
const finishes = [];
const roles = [];
let usage = null;
for await (const chunk of await client.chat.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } })) {
  if (chunk.usage) usage = chunk.usage;
  if (!chunk.choices.length) continue;
  text += chunk.choices[0].delta.content ?? "";
  if (chunk.choices[0].delta.role) roles.push(chunk.choices[0].delta.role);
  if (chunk.choices[0].finish_reason) finishes.push(chunk.choices[0].finish_reason);
}
assert.equal(text, whole.choices[0].message.content);
assert.deepEqual(roles, ["assistant"]);
assert.deepEqual(finishes, [whole.choices[0].finish_reason]);
// The second time, the prompt but for its last token is found in the cache.
assert.deepEqual(usage, { ...whole.usage, prompt_tokens_details: { cached_tokens: usage.prompt_tokens - 1 } });

// The client's own helper, which puts chunks together and checks them.
const helper = client.chat.completions.stream({ ...ask, n: 2 });
const final = await helper.finalChatCompletion();
assert.equal(final.choices.length, 2);
assert.equal(final.choices[0].message.content, text);

// Structured output.
const schema = {
  type: "object",
  properties: { who: { enum: ["Ann", "Bob"] }, alone: { type: "boolean" } },
  required: ["who", "alone"],
  additionalProperties: false,
};
const structured = await client.chat.completions.create({
  ...ask, max_tokens: 100, response_format: { type: "json_schema", json_schema: { name: "visitor", strict: true, schema } },
});
const visitor = JSON.parse(structured.choices[0].message.content);
assert.ok(["Ann", "Bob"].includes(visitor.who) && typeof visitor.alone === "boolean");

// Functions: called whole and streamed, with the helper that puts the pieces together; results go back in.
const parameters = {
  type: "object",
  properties: { place: { enum: ["Rome", "Oslo"] }, days: { type: "integer", minimum: 1, maximum: 9 } },
  required: ["place", "days"],
  additionalProperties: false,
};
const tools = [{ type: "function", function: { name: "get_weather", description: "The weather.", parameters } }];
const calling = { model, messages: [{ role: "user", content: "Rain?" }], tools, max_tokens: 60, seed: 2, parallel_tool_calls: false };
for (const tool_choice of ["required", { type: "function", function: { name: "get_weather" } }]) {
  const called = (await client.chat.completions.create({ ...calling, tool_choice })).choices[0];
  assert.equal(called.finish_reason, "tool_calls");
  assert.equal(called.message.content, null);
  const pieces = client.chat.completions.stream({ ...calling, tool_choice });
  let deltas = 0;
  pieces.on("tool_calls.function.arguments.delta", () => ++deltas);
  const put = (await pieces.finalChatCompletion()).choices[0];
  assert.equal(put.finish_reason, "tool_calls");
  assert.ok(deltas > 1);
  const [whole, streamed] = [called, put].map((c) => c.message.tool_calls[0]);
  assert.equal(streamed.function.name, "get_weather");
  assert.equal(streamed.function.arguments, whole.function.arguments);
  const place = JSON.parse(whole.function.arguments);
  assert.ok(["Rome", "Oslo"].includes(place.place) && place.days >= 1 && place.days <= 9);
  const answer = await client.chat.completions.create({
    ...calling, max_tokens: 4, messages: [...calling.messages, called.message, { role: "tool", tool_call_id: whole.id, content: "Sun." }],
  });
  assert.equal(answer.choices[0].message.role, "assistant");
}

// Responses: whole and streamed, with the helper that puts the events together; functions; structured output.
const respond = { model, instructions: "Be short.", input: "Who came in?", max_output_tokens: 24, temperature: 0 };
const response = await client.responses.create(respond);
assert.equal(response.object, "response");
assert.ok(response.output_text.length > 0);
assert.equal(response.usage.total_tokens, response.usage.input_tokens + response.usage.output_tokens);
const kinds = [];
let streamed_text = "";
for await (const event of await client.responses.create({ ...respond, stream: true })) {
  assert.equal(event.sequence_number, kinds.length);
  kinds.push(event.type);
  if (event.type === "response.output_text.delta") streamed_text += event.delta;
}
assert.equal(streamed_text, response.output_text);
assert.deepEqual(kinds.filter((k) => k !== "response.output_text.delta"), [
  "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
  "response.output_text.done", "response.content_part.done", "response.output_item.done", `response.${response.status}`,
]);
const helped = await client.responses.stream(respond).finalResponse();
assert.equal(helped.output_text, response.output_text);
assert.deepEqual(helped.usage, response.usage);
const functions = [{ type: "function", name: "get_weather", description: "The weather.", parameters, strict: true }];
const calls = { ...respond, input: [{ role: "user", content: [{ type: "input_text", text: "Rain?" }] }], tools: functions, tool_choice: "required",
  parallel_tool_calls: false, max_output_tokens: 200 };
const asked = await client.responses.create(calls);
assert.equal(asked.status, "completed");
assert.deepEqual(asked.output.map((o) => [o.type, o.name]), [["function_call", "get_weather"]]);
const asked_again = await client.responses.stream(calls).finalResponse();
assert.equal(asked_again.output[0].arguments, asked.output[0].arguments);
assert.ok(["Rome", "Oslo"].includes(JSON.parse(asked.output[0].arguments).place));
const told = await client.responses.create({ ...calls, tool_choice: "auto", max_output_tokens: 4,
  input: [...calls.input, ...asked.output, { type: "function_call_output", call_id: asked.output[0].call_id, output: "Sun." }] });
assert.equal(told.incomplete_details.reason, "max_output_tokens");
const formed = await client.responses.create({ ...respond, max_output_tokens: 100,
  text: { format: { type: "json_schema", name: "visitor", strict: true, schema } } });
assert.ok(["Ann", "Bob"].includes(JSON.parse(formed.output_text).who));
for (const [wrong, param] of [[{ previous_response_id: "resp_1" }, "previous_response_id"], [{ store: true }, "store"], [{ input: [] }, "input"],
  [{ text: { format: { type: "json_schema", schema: { not: {} } } } }, "text.format.schema"], [{ tools: [{ type: "web_search" }] }, "tools"],
  [{ input: [{ role: "user", content: [{ type: "input_image" }] }] }, "input[0].content"], [{ truncation: "auto" }, "truncation"]]) {
  await assert.rejects(client.responses.create({ ...respond, instructions: null, ...wrong }), (e) => e instanceof OpenAI.BadRequestError && e.param === param);
}

// Logprobs, stop, completions.
const logged = await client.chat.completions.create({ ...ask, logprobs: true, top_logprobs: 2 });
assert.ok(logged.choices[0].logprobs.content.every((t) => t.top_logprobs.length === 2 && t.logprob <= 0));
const plain = await client.completions.create({ model, prompt: ["The road", "A house"], max_tokens: 5, temperature: 0, echo: true });
assert.ok(plain.choices[0].text.startsWith("The road") && plain.choices[1].text.startsWith("A house"));

// Errors arrive as the client's own classes, before the first byte of a stream too.
for (const stream of [false, true]) {
  await assert.rejects(client.chat.completions.create({ ...ask, temperature: -1, stream }), (e) =>
    e instanceof OpenAI.BadRequestError && e.param === "temperature" && e.type === "invalid_request_error");
  await assert.rejects(client.chat.completions.create({ ...ask, max_tokens: 1e6, stream }), (e) =>
    e instanceof OpenAI.BadRequestError && e.code === "context_length_exceeded");
}
await assert.rejects(client.chat.completions.create({ ...ask, model: "gpt-4" }), (e) => e instanceof OpenAI.NotFoundError && e.code === "model_not_found");
assert.equal((await client.models.retrieve(model)).id, model);
await assert.rejects(client.models.retrieve("gpt-4"), (e) => e instanceof OpenAI.NotFoundError && e.code === "model_not_found");
await assert.rejects(new OpenAI({ apiKey: "wrong", maxRetries: 0 }).models.list(), (e) => e instanceof OpenAI.AuthenticationError);
await assert.rejects(client.embeddings.create({ model, input: "a" }), (e) => e instanceof OpenAI.BadRequestError && e.param === "model");

// Abort: of a stream after its first chunk, and of a whole answer.
const aborted = await client.chat.completions.create({ ...ask, max_tokens: 200, stream: true, ignore_eos: true });
for await (const chunk of aborted) {
  if (chunk.choices[0]?.delta.content) {
    aborted.controller.abort();
    break;
  }
}
const controller = new AbortController();
setTimeout(() => controller.abort(), 30);
await assert.rejects(client.chat.completions.create({ ...ask, max_tokens: 220, ignore_eos: true }, { signal: controller.signal }),
  (e) => e instanceof OpenAI.APIUserAbortError);

console.log(JSON.stringify({ model, text }));
