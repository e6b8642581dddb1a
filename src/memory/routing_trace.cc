#include "memory/routing_trace.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "base/file.h"

namespace venturi {

namespace {

constexpr std::string_view kDigits =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr int64_t kMaxLayers = 4096, kMaxExperts = 4096, kMaxTraceBytes = 64 << 20;

int64_t digits_of(const RoutingTrace& trace) { return trace.n_experts > 64 ? 2 : 1; }

int digit(char c) {
  static const auto table = [] {
    std::array<int8_t, 256> t;
    t.fill(-1);
    for (size_t i = 0; i < kDigits.size(); ++i)
      t[static_cast<uint8_t>(kDigits[i])] = static_cast<int8_t>(i);
    return t;
  }();
  return table[static_cast<uint8_t>(c)];
}

Result<RoutingTrace> parse_head(std::string_view line) {
  RoutingTrace trace;
  long long layers = 0, experts = 0, top_k = 0;
  int end = 0;
  const std::string text(line);
  const int fields = std::sscanf(text.c_str(), "venturi-routes 1 layers=%lld experts=%lld top_k=%lld%n",
                                 &layers, &experts, &top_k, &end);
  if (fields != 3 || static_cast<size_t>(end) != text.size())
    return error(Code::kCorrupt,
                 "line 1 is \"{}\", expected \"venturi-routes 1 layers=N experts=N top_k=N\"",
                 line.substr(0, 80));
  if (layers < 1 || layers > kMaxLayers || experts < 1 || experts > kMaxExperts || top_k < 1 ||
      top_k > experts)
    return error(Code::kCorrupt,
                 "line 1 has layers={} experts={} top_k={}; expected 1 to {} layers, 1 to {} experts, "
                 "and a top_k of 1 to the experts",
                 layers, experts, top_k, kMaxLayers, kMaxExperts);
  trace.n_layers = layers;
  trace.n_experts = experts;
  trace.top_k = top_k;
  return trace;
}

Status parse_token(std::string_view line, int64_t number, RoutingTrace& trace) {
  const int64_t digits = digits_of(trace), width = trace.top_k * digits + 1;
  if (static_cast<int64_t>(line.size()) != trace.n_layers * width - 1)
    return error(Code::kCorrupt, "line {} has {} characters, expected {}", number, line.size(),
                 trace.n_layers * width - 1);
  for (int64_t layer = 0; layer < trace.n_layers; ++layer) {
    if (layer > 0 && line[layer * width - 1] != ' ')
      return error(Code::kCorrupt, "line {} has no space after layer {}", number, layer - 1);
    const size_t first = trace.choices.size();
    for (int64_t i = 0; i < trace.top_k; ++i) {
      int32_t expert = 0;
      for (int64_t d = 0; d < digits; ++d) {
        const int value = digit(line[layer * width + i * digits + d]);
        if (value < 0)
          return error(Code::kCorrupt, "line {}, layer {}: '{}' is no digit of base 64", number,
                       layer, line[layer * width + i * digits + d]);
        expert = expert * 64 + value;
      }
      if (expert >= trace.n_experts)
        return error(Code::kCorrupt, "line {}, layer {}: expert {} of {}", number, layer, expert,
                     trace.n_experts);
      if (std::find(trace.choices.begin() + static_cast<int64_t>(first), trace.choices.end(),
                    expert) != trace.choices.end())
        return error(Code::kCorrupt, "line {}, layer {}: expert {} is chosen twice", number, layer,
                     expert);
      trace.choices.push_back(expert);
    }
  }
  return {};
}

}  // namespace

std::string format_routing_trace(const RoutingTrace& trace) {
  std::string text = fmt::format("venturi-routes 1 layers={} experts={} top_k={}\n", trace.n_layers,
                                 trace.n_experts, trace.top_k);
  for (int64_t t = 0; t < trace.n_tokens(); ++t)
    for (int64_t l = 0; l < trace.n_layers; ++l) {
      for (const int32_t expert : trace.at(t, l)) {
        if (digits_of(trace) == 2) text += kDigits[static_cast<size_t>(expert / 64)];
        text += kDigits[static_cast<size_t>(expert % 64)];
      }
      text += l + 1 < trace.n_layers ? ' ' : '\n';
    }
  return text;
}

Result<RoutingTrace> parse_routing_trace(std::string_view text) {
  const auto line_at = [&](size_t begin) {
    return text.substr(begin, std::min(text.find('\n', begin), text.size()) - begin);
  };
  RoutingTrace trace = TRY(parse_head(line_at(0)));
  int64_t number = 2;
  for (size_t at = line_at(0).size() + 1; at < text.size(); ++number) {
    const std::string_view line = line_at(at);
    if (auto status = parse_token(line, number, trace); !status) return std::move(status).error();
    at += line.size() + 1;
  }
  if (trace.choices.empty()) return error(Code::kCorrupt, "the trace has no tokens");
  return trace;
}

Result<RoutingTrace> read_routing_trace(const std::string& path) {
  const std::string text = TRY(read_text_file(path, kMaxTraceBytes));
  auto trace = parse_routing_trace(text);
  if (!trace) return std::move(trace).error().within(path);
  return trace;
}

}  // namespace venturi
