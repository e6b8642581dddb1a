#include "loadtest/workload.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "loadtest/draws.h"

namespace venturi::loadtest {

namespace {

// Streams of the seed, so that a change of one thing leaves the others as they were.
enum : uint64_t { kGaps = 1, kShapes, kKeys, kTurns, kLengths = 1 << 8 };

// Spread of answers around the median, as the standard deviation of the logarithm. Ours: the figure
// shows it to be wide and gives no number.
constexpr double kResponseSpread = 0.7;
constexpr double kZipfExponent = 1.1;  // of the demonstration that comes with BurstGPT

class Lengths {
 public:
  explicit Lengths(const WorkloadOptions& o) : o_(o), zipf_(kZipfExponent, o.prompt_max) {}

  void draw(uint64_t request, Arrival& arrival) const {
    Draws draws(o_.seed, kLengths + request);
    const int64_t asked = zipf_.draw(draws);
    arrival.prompt_tokens = o_.prompt_tokens > 0 ? o_.prompt_tokens : scaled(asked);
    if (o_.output_tokens > 0) {
      arrival.output_tokens = o_.output_tokens;
      return;
    }
    const double median = median_response(static_cast<double>(asked));
    double tokens = static_cast<double>(o_.output_max);
    for (int tries = 0; tries < 64; ++tries) {  // the median may be above a small maximum
      const double drawn = std::round(median * std::exp(kResponseSpread * draws.normal()));
      if (drawn < 1 || drawn > static_cast<double>(o_.output_max)) continue;
      tokens = drawn;
      break;
    }
    arrival.output_tokens = scaled(static_cast<int64_t>(tokens));
  }

 private:
  int64_t scaled(int64_t tokens) const {
    return std::max<int64_t>(1, std::llround(static_cast<double>(tokens) * o_.length_scale));
  }

  const WorkloadOptions& o_;
  const Zipf zipf_;
};

struct Column {
  const char* name;
  int at = -1;
};

// The fields of a line; quotes around a field are taken off, none of BurstGPT's holds a comma.
std::vector<std::string_view> split(std::string_view line) {
  std::vector<std::string_view> fields;
  for (size_t from = 0;;) {
    const size_t comma = std::min(line.find(',', from), line.size());
    std::string_view field = line.substr(from, comma - from);
    while (!field.empty() && (field.front() == ' ' || field.front() == '"')) field.remove_prefix(1);
    while (!field.empty() && (field.back() == ' ' || field.back() == '"')) field.remove_suffix(1);
    fields.push_back(field);
    if (comma == line.size()) return fields;
    from = comma + 1;
  }
}

Result<double> number(std::string_view text, int64_t line, const char* column) {
  const std::string copy(text);
  char* end = nullptr;
  const double value = std::strtod(copy.c_str(), &end);
  if (copy.empty() || *end || !std::isfinite(value) || value < 0 || value > 1e15)
    return error(Code::kCorrupt, "line {}: {} is \"{}\"; a number of 0 or more is expected", line,
                 column, text.substr(0, 40));
  return value;
}

}  // namespace

double median_response(double prompt_tokens) {
  // (prompt, answer) tokens, between them straight on a logarithmic scale of the prompt.
  static constexpr std::array<std::pair<double, double>, 4> kPoints = {
      {{1, 250}, {50, 250}, {100, 90}, {2000, 440}}};
  if (prompt_tokens <= kPoints.front().first) return kPoints.front().second;
  for (size_t i = 1; i < kPoints.size(); ++i) {
    const auto [x0, y0] = kPoints[i - 1];
    const auto [x1, y1] = kPoints[i];
    if (prompt_tokens > x1) continue;
    return y0 + (y1 - y0) * std::log(prompt_tokens / x0) / std::log(x1 / x0);
  }
  return kPoints.back().second;
}

std::vector<Arrival> make_workload(const WorkloadOptions& o) {
  Draws gaps(o.seed, kGaps), shapes(o.seed, kShapes), keys(o.seed, kKeys), turns(o.seed, kTurns);
  const Lengths lengths(o);
  std::vector<Arrival> arrivals;
  arrivals.reserve(static_cast<size_t>(o.requests));
  // A conversation begins at each arrival; its later turns follow by themselves, so conversations
  // begin at the rate of requests over their mean number of turns.
  const double mean_gap = std::max(o.turns, 1.0) / o.rate;
  double now = 0, period_end = 0, shape = o.shape_low;
  const auto count = [&] { return static_cast<int64_t>(arrivals.size()); };
  for (int64_t conversation = 0; count() < o.requests; ++conversation) {
    while (now >= period_end) {
      shape = o.shape_low * std::pow(o.shape_high / o.shape_low, shapes.uniform());
      period_end += o.period_seconds;
    }
    Arrival arrival{.at = now, .key = keys.pick(o.key_shares), .conversation = conversation};
    const int64_t n_turns = turns.geometric(o.turns);
    for (int64_t turn = 0; turn < n_turns && count() < o.requests; ++turn) {
      arrival.turn = turn;
      lengths.draw(static_cast<uint64_t>(count()), arrival);
      arrivals.push_back(arrival);
      arrival.at += o.turn_gap_seconds * turns.gamma(1);
    }
    now += gaps.gamma(shape) * mean_gap / shape;
  }
  std::stable_sort(arrivals.begin(), arrivals.end(),
                   [](const Arrival& a, const Arrival& b) { return a.at < b.at; });
  return arrivals;
}

Result<Trace> parse_trace(std::string_view csv, const TraceOptions& o) {
  Column time{"Timestamp"}, session{"Session ID"}, request{"Request tokens"},
      response{"Response tokens"};
  Trace trace;
  std::vector<std::pair<size_t, std::string_view>> named;                     // arrival, session
  int64_t line_number = 0;
  double first = -1, last = 0;
  for (size_t from = 0; from < csv.size();) {
    const size_t end = std::min(csv.find('\n', from), csv.size());
    std::string_view line = csv.substr(from, end - from);
    from = end + 1;
    ++line_number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    const auto fields = split(line);
    if (time.at < 0) {
      for (Column* column : {&time, &session, &request, &response}) {
        const auto found = std::find(fields.begin(), fields.end(), column->name);
        if (found != fields.end()) column->at = static_cast<int>(found - fields.begin());
        if (found == fields.end() && column != &session)
          return error(Code::kCorrupt, "the first line names no column \"{}\"; it should be like "
                       "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type", column->name);
      }
      continue;
    }
    const auto field = [&](const Column& column) {
      const size_t i = static_cast<size_t>(column.at);
      return column.at >= 0 && i < fields.size() ? fields[i] : std::string_view();
    };
    const double at = TRY(number(field(time), line_number, time.name));
    const double asked = TRY(number(field(request), line_number, request.name));
    const double answered = TRY(number(field(response), line_number, response.name));
    if (first < 0) first = at;
    if (at < last)
      return error(Code::kCorrupt, "line {}: timestamp {} comes after {}; rows must be in order", line_number, at, last);
    last = at;
    if (answered == 0) {
      ++trace.failures;
      continue;
    }
    const auto tokens = [&](double n, int64_t limit) {
      return std::clamp<int64_t>(std::llround(n * o.length_scale), 1, limit);
    };
    Arrival arrival{.at = (at - first) / o.speed};
    arrival.prompt_tokens = tokens(asked, o.prompt_max);
    arrival.output_tokens = tokens(answered, o.output_max);
    named.emplace_back(trace.arrivals.size(), field(session));
    trace.arrivals.push_back(arrival);
    if (o.requests > 0 && static_cast<int64_t>(trace.arrivals.size()) >= o.requests) break;
  }
  if (trace.arrivals.empty()) return error(Code::kCorrupt, "there is no request in it");
  // Sessions by name: sorted, stably, so that the turns of each stay in order.
  std::stable_sort(named.begin(), named.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  int64_t conversation = -1;
  for (size_t i = 0; i < named.size(); ++i) {
    Arrival& arrival = trace.arrivals[named[i].first];
    const bool same = i > 0 && !named[i].second.empty() && named[i].second == named[i - 1].second;
    if (same) {
      arrival.turn = trace.arrivals[named[i - 1].first].turn + 1;
    } else {
      ++conversation;
    }
    arrival.conversation = conversation;
    arrival.key = static_cast<size_t>(conversation) % o.keys;
  }
  return trace;
}

std::string make_text(uint64_t seed, uint64_t stream, int64_t words) {
  static constexpr std::array kWords = {
      "the",  "of",   "and",  "to",    "in",   "that",  "was",   "he",    "it",   "his",   "is",
      "with", "as",   "for",  "had",   "you",  "not",   "be",    "her",   "on",   "at",    "by",
      "which", "have", "or",  "from",  "this", "him",   "but",   "all",   "she",  "they",  "were",
      "my",   "are",  "me",   "one",   "their", "so",   "an",    "said",  "them", "we",    "who",
      "would", "been", "will", "no",   "when", "there", "if",    "more",  "out",  "up",    "into",
      "any",  "your", "what", "has",   "man",  "could", "other", "than",  "our",  "some",  "very",
      "time", "upon", "about", "may",  "its",  "only",  "now",   "like",  "little", "then", "can",
      "made", "should", "did", "us",   "such", "great", "before", "must", "two",  "these", "see",
      "know", "over", "much", "down",  "after", "first", "good", "men",   "own",  "never", "most",
      "old",  "shall", "day", "where", "those", "came", "come",  "himself", "way", "work", "life"};
  Draws draws(seed, (uint64_t{1} << 40) + stream);
  std::string text;
  for (int64_t i = 0; i < words; ++i) {
    if (i) text += ' ';
    text += kWords[static_cast<size_t>(draws.uniform() * kWords.size())];
  }
  return text;
}

}  // namespace venturi::loadtest
