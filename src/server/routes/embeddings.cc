// OpenAI: POST /v1/embeddings, of unit length; with `dimensions`, of their first values.
#include <bit>
#include <cmath>

#include "server/generation.h"

namespace venturi::server {

namespace {

constexpr size_t kMaxInputs = 2048;

std::string base64(const std::vector<float>& values) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  static_assert(std::endian::native == std::endian::little);
  const auto* bytes = reinterpret_cast<const unsigned char*>(values.data());
  const size_t n = values.size() * sizeof(float);
  std::string out;
  for (size_t i = 0; i < n; i += 3) {
    const uint32_t three =
        bytes[i] << 16 | (i + 1 < n ? bytes[i + 1] << 8 : 0) | (i + 2 < n ? bytes[i + 2] : 0);
    for (int d = 0; d < 4; ++d)
      out += static_cast<size_t>(d) <= n - i ? kDigits[three >> (18 - 6 * d) & 63] : '=';
  }
  return out;
}

void to_unit_length(std::vector<float>& values) {
  double squares = 0;
  for (const float v : values) squares += static_cast<double>(v) * v;
  if (squares > 0)
    for (float& v : values) v = static_cast<float>(v / std::sqrt(squares));
}

Json data_of(Embedder::Embeddings embeddings, size_t width, bool as_text) {
  Json data = Json::array();
  for (std::vector<float>& one : embeddings) {
    one.resize(width);
    to_unit_length(one);
    data.push_back({{"object", "embedding"},
                    {"index", data.size()},
                    {"embedding", as_text ? Json(base64(one)) : Json(one)}});
  }
  return data;
}

// A step of it failed.
ApiError failure(const Error& why) {
  if (why.code != Code::kOutOfBudget) return api_error(why);
  return {.status = 503, .type = "server_error", .message = why.message, .retry_after_seconds = 1};
}

void embeddings(Call call) {
  const Target& target = call.target;
  const std::shared_ptr<Exchange> exchange = call.exchange;
  Fields fields(call.body);
  fields.ignore({"model"});
  if (!target->embedder) fields.fail("model", "gives text, not embeddings (unless served with --pooling)");
  if (!target.adapter.empty()) fields.fail("model", fmt::format("is {}; embeddings go through no adapter: ask {} for them", target.name, target->name));
  const std::string format = fields.text("encoding_format", "float");
  if (format != "float" && format != "base64")
    fields.fail("encoding_format", "must be float or base64");
  const auto width = static_cast<size_t>(fields.integer("dimensions", target->engine->info().d_model, 1, target->engine->info().d_model));
  fields.ignore({"user"});
  const bool timed = wants_timings(fields);
  std::vector<std::vector<TokenId>> inputs;
  if (!fields.error()) inputs = read_texts(fields, *target, "input", kMaxInputs);
  if (fields.error()) return reply(*exchange, *fields.error());
  log_unknown(fields);
  int64_t tokens = 0;
  for (const auto& input : inputs) tokens += static_cast<int64_t>(input.size());

  const bool as_text = format == "base64";
  auto request = target->embedder->submit(
      std::move(inputs), [target, exchange, tokens, as_text, width, timed](Result<Embedder::Embeddings> result, const Embedder::Times& times) {
        if (!result) return reply(*exchange, failure(result.error()));
        TimeLine line(exchange->request().arrived);
        line.add({.submitted = times.submitted, .started = times.started, .first_token = times.ended, .last_token = times.ended});
        Json answer = {{"object", "list"}};
        {
          const Stopwatch watch(line.write());
          answer["data"] = data_of(std::move(*result), width, as_text);
        }
        answer["model"] = target.name;
        answer["usage"] = {{"prompt_tokens", tokens}, {"total_tokens", tokens}};
        if (timed) answer["venturi"]["timings"] = line.timings(exchange->sending_seconds()).json();
        reply(*exchange, answer);
      });
  if (!request) {
    const bool draining = call.app.draining;
    ApiError error = api_error(request.error());
    if (request.error().code == Code::kOutOfBudget)
      error = {.status = draining ? 503 : 429,
               .type = draining ? "server_error" : "rate_limit_error",
               .message = request.error().message,
               .code = draining ? "" : "rate_limit_exceeded",
               .retry_after_seconds = 1};
    else if (error.status == 400)
      error.param = "input";
    return reply(*exchange, error);
  }
  exchange->on_close([target, id = *request] { target->embedder->cancel(id); });
}

}  // namespace

extern const Routes routes_embeddings;
const Routes routes_embeddings{{{"POST", "/v1/embeddings", embeddings, Needs::kModel}}};

}  // namespace venturi::server
