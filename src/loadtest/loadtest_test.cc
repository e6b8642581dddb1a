#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <map>

#include "loadtest/draws.h"
#include "loadtest/report.h"
#include "loadtest/sse.h"
#include "loadtest/workload.h"

namespace venturi::loadtest {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Largest distance between the draws' distribution and the one given (Kolmogorov, Smirnov).
template <typename Cdf>
double distance(std::vector<double> values, Cdf cdf) {
  std::sort(values.begin(), values.end());
  double most = 0;
  const double n = static_cast<double>(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    const double p = cdf(values[i]);
    most = std::max({most, std::abs(p - static_cast<double>(i) / n), std::abs(p - static_cast<double>(i + 1) / n)});
  }
  return most;
}

constexpr int kMany = 100000;
// 1.95 / sqrt(n): exceeded by one right distribution in a thousand.
const double kBound = 1.95 / std::sqrt(static_cast<double>(kMany));

std::vector<double> gammas(double shape, uint64_t seed = 7) {
  Draws draws(seed, 1);
  std::vector<double> values;
  for (int i = 0; i < kMany; ++i) values.push_back(draws.gamma(shape));
  return values;
}

TEST(Gamma, FollowsItsClosedForms) {
  // P(1/2, x) = erf(sqrt x), P(1, x) = 1 - e^-x, P(2, x) = 1 - e^-x (1 + x).
  EXPECT_LT(distance(gammas(0.5), [](double x) { return std::erf(std::sqrt(x)); }), kBound);
  EXPECT_LT(distance(gammas(1), [](double x) { return 1 - std::exp(-x); }), kBound);
  EXPECT_LT(distance(gammas(2), [](double x) { return 1 - std::exp(-x) * (1 + x); }), kBound);
  // And not another's.
  EXPECT_GT(distance(gammas(0.6), [](double x) { return std::erf(std::sqrt(x)); }), kBound);
}

TEST(Gamma, HasItsMoments) {
  for (const double shape : {0.25, 0.5, 1.0, 3.5}) {
    double sum = 0, squares = 0;
    for (const double v : gammas(shape)) {
      sum += v;
      squares += v * v;
    }
    const double mean = sum / kMany, variance = squares / kMany - mean * mean;
    EXPECT_NEAR(mean, shape, 4 * std::sqrt(shape / kMany));
    // The variance of the variance: (kurtosis - 1) k^2 / n, the kurtosis being 3 + 6/k.
    EXPECT_NEAR(variance, shape, 4 * shape * std::sqrt((2 + 6 / shape) / kMany));
  }
}

TEST(Normal, FollowsItsClosedForm) {
  Draws draws(3, 9);
  std::vector<double> values;
  for (int i = 0; i < kMany; ++i) values.push_back(draws.normal());
  EXPECT_LT(distance(values, [](double x) { return 0.5 * std::erfc(-x / std::sqrt(2)); }), kBound);
}

TEST(ZipfDraws, FollowTheirPowerLaw) {
  const Zipf zipf(1.1, 1024);
  EXPECT_DOUBLE_EQ(zipf.probability(2) / zipf.probability(1), std::pow(2, -1.1));
  Draws draws(5, 2);
  std::vector<int64_t> counts(1025);
  for (int i = 0; i < kMany; ++i) ++counts.at(static_cast<size_t>(zipf.draw(draws)));
  EXPECT_EQ(counts[0], 0);
  double chi_square = 0;
  int cells = 0;
  for (int64_t k = 1; k <= 1024; ++k) {
    const double expected = zipf.probability(k) * kMany;
    const double off = static_cast<double>(counts[static_cast<size_t>(k)]) - expected;
    chi_square += off * off / expected;
    ++cells;
  }
  // Mean cells - 1, variance twice that.
  EXPECT_LT(chi_square, cells - 1 + 4 * std::sqrt(2.0 * cells));
}

TEST(Geometric, HasItsMeanAndItsFirst) {
  Draws draws(1, 1);
  double sum = 0;
  int ones = 0;
  for (int i = 0; i < kMany; ++i) {
    const int64_t n = draws.geometric(3.5);
    ASSERT_GE(n, 1);
    sum += static_cast<double>(n);
    ones += n == 1;
  }
  EXPECT_NEAR(sum / kMany, 3.5, 4 * std::sqrt(3.5 * 2.5 / kMany));
  EXPECT_NEAR(static_cast<double>(ones) / kMany, 1 / 3.5, 0.006);
  EXPECT_EQ(draws.geometric(1), 1);
}

TEST(Workload, IsAFunctionOfItsSeed) {
  const WorkloadOptions o{.seed = 4, .requests = 500, .turns = 3};
  const auto a = make_workload(o), b = make_workload(o);
  ASSERT_EQ(a.size(), 500u);
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].at, b[i].at);
    EXPECT_EQ(a[i].prompt_tokens, b[i].prompt_tokens);
  }
  const auto other = make_workload({.seed = 5, .requests = 500, .turns = 3});
  EXPECT_NE(a[9].at, other[9].at);
  // The rate changes when, not what.
  const auto faster = make_workload({.seed = 4, .requests = 500, .rate = 10, .turns = 1});
  const auto slower = make_workload({.seed = 4, .requests = 500, .rate = 2, .turns = 1});
  for (size_t i = 0; i < faster.size(); ++i) {
    EXPECT_NEAR(faster[i].at * 5, slower[i].at, 1e-9 * slower[i].at);
    EXPECT_EQ(faster[i].output_tokens, slower[i].output_tokens);
  }
}

TEST(Workload, HasTheRateAndTheBurstinessAskedFor) {
  for (const double shape : {0.25, 0.5, 1.0, 4.0}) {
    const auto arrivals = make_workload(
        {.requests = 40000, .rate = 20, .shape_low = shape, .shape_high = shape, .prompt_tokens = 1, .output_tokens = 1});
    double sum = 0, squares = 0;
    for (size_t i = 1; i < arrivals.size(); ++i) {
      const double gap = arrivals[i].at - arrivals[i - 1].at;
      sum += gap;
      squares += gap * gap;
    }
    const double n = static_cast<double>(arrivals.size() - 1), mean = sum / n;
    const double cv = std::sqrt(squares / n - mean * mean) / mean;
    EXPECT_NEAR(mean * 20, 1, 4 / std::sqrt(shape * n));
    EXPECT_NEAR(cv * std::sqrt(shape), 1, 0.06) << shape;
  }
}

TEST(Workload, KeepsTurnsInOrderAndTheRateWithThem) {
  const auto arrivals =
      make_workload({.requests = 30000, .rate = 5, .shape_low = 1, .shape_high = 1, .turns = 4, .turn_gap_seconds = 10});
  std::map<int64_t, int64_t> next;
  double last = 0;
  for (const Arrival& a : arrivals) {
    EXPECT_EQ(a.turn, next[a.conversation]++);
    EXPECT_GE(a.at, last);
    last = a.at;
  }
  // After the first conversations have come to their ends, and before the last ones begin.
  double within = 0;
  for (const Arrival& a : arrivals) within += a.at >= 500 && a.at < 5000;
  EXPECT_NEAR(within / 4500, 5, 0.4);
}

TEST(Workload, SharesKeysAsTold) {
  const auto arrivals = make_workload({.requests = 20000, .key_shares = {19, 1}});
  double second = 0;
  for (const Arrival& a : arrivals) second += a.key == 1;
  EXPECT_NEAR(second / 20000, 0.05, 0.007);
}

TEST(Workload, LengthsKeepTheirLimitsAndTheirRelation) {
  EXPECT_EQ(median_response(10), 250);
  EXPECT_EQ(median_response(100), 90);
  EXPECT_EQ(median_response(5000), 440);
  std::vector<double> near_hundred;
  for (const Arrival& a : make_workload({.requests = 60000, .rate = 100})) {
    ASSERT_TRUE(a.prompt_tokens >= 1 && a.prompt_tokens <= 1024);
    ASSERT_TRUE(a.output_tokens >= 1 && a.output_tokens <= 1024);
    if (a.prompt_tokens >= 95 && a.prompt_tokens <= 105) near_hundred.push_back(static_cast<double>(a.output_tokens));
  }
  ASSERT_GT(near_hundred.size(), 200u);
  EXPECT_NEAR(summarise(near_hundred).p50, 90, 15);
  for (const Arrival& a : make_workload({.requests = 200, .prompt_tokens = 7, .output_tokens = 9})) {
    EXPECT_EQ(a.prompt_tokens, 7);
    EXPECT_EQ(a.output_tokens, 9);
  }
}

TEST(Traces, AreReadByColumnName) {
  const auto trace = parse_trace(
      "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\r\n"
      "5,a,1.5,ChatGPT,472,18,490,Conversation log\r\n"
      "45.5,\"b\",2,ChatGPT,1087,230,1317,Conversation log\n"
      "118,a,0,GPT-4,417,276,693,API log\n"
      "120,a,0,GPT-4,417,0,417,API log\n",
      {.speed = 2, .keys = 2});
  ASSERT_TRUE(trace) << trace.error().message;
  EXPECT_EQ(trace->failures, 1);
  ASSERT_EQ(trace->arrivals.size(), 3u);
  EXPECT_EQ(trace->arrivals[1].at, 20.25);
  EXPECT_EQ(trace->arrivals[1].prompt_tokens, 1024);
  EXPECT_EQ(trace->arrivals[0].output_tokens, 18);
  EXPECT_EQ(trace->arrivals[2].conversation, trace->arrivals[0].conversation);
  EXPECT_EQ(trace->arrivals[2].turn, 1);
  EXPECT_NE(trace->arrivals[1].conversation, trace->arrivals[0].conversation);
  EXPECT_NE(trace->arrivals[1].key, trace->arrivals[0].key);
}

TEST(Traces, OlderReleasesHaveNoSessions) {
  const auto trace = parse_trace("Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n0,x,1,2,3,y\n0,x,1,2,3,y\n", {});
  ASSERT_TRUE(trace) << trace.error().message;
  EXPECT_EQ(trace->arrivals[1].conversation, 1);
}

TEST(Traces, WhatIsWrongIsNamed) {
  const auto wrong = [](const char* csv) { return parse_trace(csv, {}).error().message; };
  EXPECT_THAT(wrong("a,b\n1,2\n"), HasSubstr("\"Timestamp\""));
  EXPECT_THAT(wrong("Timestamp,Request tokens,Response tokens\n1,x,3\n"), HasSubstr("line 2: Request tokens is \"x\""));
  EXPECT_THAT(wrong("Timestamp,Request tokens,Response tokens\n1,2\n"), HasSubstr("line 2: Response tokens"));
  EXPECT_THAT(wrong("Timestamp,Request tokens,Response tokens\n5,2,2\n4,2,2\n"), HasSubstr("line 3"));
  EXPECT_THAT(wrong("Timestamp,Request tokens,Response tokens\n"), HasSubstr("no request"));
  EXPECT_THAT(wrong(""), HasSubstr("no request"));
  EXPECT_THAT(wrong("Timestamp,Request tokens,Response tokens\nnan,2,2\n"), HasSubstr("Timestamp"));
}

TEST(Events, ComeWholeHoweverTheyAreCut) {
  const std::string body = ": hello\n\ndata: {\"a\":1}\n\nevent: x\r\ndata: two\r\ndata:lines\r\n\r\n\n\ndata: [DONE]\n\n";
  for (size_t size = 1; size <= body.size(); ++size) {
    EventReader reader;
    std::vector<std::string> got;
    for (size_t at = 0; at < body.size(); at += size)
      reader.feed(std::string_view(body).substr(at, size), [&](std::string_view data) { got.emplace_back(data); });
    EXPECT_THAT(got, ElementsAre("{\"a\":1}", "two\nlines", "[DONE]"));
  }
}

TEST(Events, HaveALimit) {
  EventReader reader(100);
  for (int i = 0; i < 1000; ++i) reader.feed("data: 0123456789", [](std::string_view) { FAIL(); });
  EXPECT_TRUE(reader.overflowed());
}

TEST(Summaries, LieBetweenNeighboursInOrder) {
  const Summary s = summarise({4, 1, 3, 2, 5});
  EXPECT_EQ(s.mean, 3);
  EXPECT_EQ(s.p50, 3);
  EXPECT_DOUBLE_EQ(s.p90, 4.6);
  EXPECT_DOUBLE_EQ(s.p99, 4.96);
  EXPECT_EQ(s.max, 5);
  EXPECT_EQ(summarise({}).count, 0);
  EXPECT_EQ(summarise({7}).p99, 7);
}

TEST(Jain, HasItsClosedForms) {
  EXPECT_EQ(jain_index({3, 3, 3}), 1);
  EXPECT_EQ(jain_index({1, 0, 0, 0}), 0.25);
  EXPECT_DOUBLE_EQ(jain_index({1, 2}), 0.9);
  EXPECT_EQ(jain_index({}), 1);
  EXPECT_EQ(jain_index({0, 0}), 1);
}

TEST(Reports, CountWhatMetItsTargets) {
  loadtest::Run run;
  run.seconds = 10;
  const auto add = [&](double at, size_t key, double first, double last, int64_t tokens, const char* error) {
    Record r{.arrival = {.at = at, .key = key, .prompt_tokens = 10, .output_tokens = tokens}, .error = error, .detail = {}};
    r.first_token = first;
    r.last_token = r.ended = last;
    r.prompt_tokens = 10;
    r.output_tokens = first > 0 ? tokens : 0;
    if (tokens > 1 && first > 0) r.gaps.assign(static_cast<size_t>(tokens - 1), static_cast<float>((last - first) / static_cast<double>(tokens - 1)));
    run.records.push_back(r);
  };
  add(0, 0, 9, 9.5, 6, "");         // in the warm-up
  add(1, 0, 0.5, 1.5, 11, "");      // 0.1 s a token
  add(2, 0, 2.0, 3.0, 11, "");      // first token late
  add(3, 1, 0.5, 5.5, 11, "");      // slow tokens
  add(4, 1, 0, 0.1, 11, "http 429");
  add(11, 1, 0, 0.1, 11, "http 429");
  const Report report = make_report(run, {1, 0.2}, 1, 2);
  EXPECT_EQ(report.requests, 5);
  EXPECT_EQ(report.answered, 3);
  EXPECT_EQ(report.within_targets, 1);
  EXPECT_NEAR(report.seconds, 10.1, 1e-9);
  EXPECT_NEAR(report.goodput_per_second, 1 / 10.1, 1e-9);
  EXPECT_NEAR(report.tpot.p50, 0.1, 1e-9);
  EXPECT_NEAR(report.gap.max, 0.5, 1e-6);
  ASSERT_EQ(report.errors.size(), 1u);
  EXPECT_EQ(report.errors[0], (std::pair<std::string, int64_t>{"http 429", 2}));
  EXPECT_EQ(report.keys[0].tokens_served, 42);
  EXPECT_EQ(report.keys[1].tokens_served, 21);
  EXPECT_DOUBLE_EQ(report.jain_tokens, 0.9);
  EXPECT_EQ(report_json(report, {1, 0.2})["errors"]["http 429"], 2);
  EXPECT_THAT(report_text(report, {1, 0.2}), HasSubstr("3 of 5 requests answered"));
  const std::string svg = report_svg(run, "a < b & c");
  EXPECT_THAT(svg, HasSubstr("a &lt; b &amp; c"));
  EXPECT_EQ(svg.find("nan"), std::string::npos);
}

TEST(Urls, AreTakenApart) {
  ClientOptions o;
  ASSERT_TRUE(parse_url("http://127.0.0.1:8080", o));
  EXPECT_EQ(o.host + " " + o.port + " " + o.base_path, "127.0.0.1 8080 /v1");
  ASSERT_TRUE(parse_url("http://[::1]:99/api/v1/", o));
  EXPECT_EQ(o.host + " " + o.port + " " + o.base_path, "::1 99 /api/v1");
  ASSERT_TRUE(parse_url("http://there", o));
  EXPECT_EQ(o.host + " " + o.port, "there 80");
  for (const char* url : {"https://a", "127.0.0.1:8080", "http://", "http://a:b", "http://a:0", "http://a:70000", "http://a/?x", "http://:80"})
    EXPECT_FALSE(parse_url(url, o)) << url;
}

TEST(Texts, AreAFunctionOfSeedAndStream) {
  EXPECT_EQ(make_text(1, 2, 50), make_text(1, 2, 50));
  EXPECT_NE(make_text(1, 2, 50), make_text(1, 3, 50));
  const std::string text = make_text(1, 2, 50);
  EXPECT_EQ(std::count(text.begin(), text.end(), ' '), 49);
}

}  // namespace
}  // namespace venturi::loadtest
