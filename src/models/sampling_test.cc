#include "models/sampling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "base/random.h"

namespace venturi {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

SamplingParams plain() {  // nothing but a draw
  SamplingParams p;
  p.temperature = 1;
  p.top_k = 0;
  p.top_p = 1;
  p.min_p = 0;
  return p;
}

std::shared_ptr<const LogitBias> one_bias(int32_t token, float bias) {
  return std::make_shared<const LogitBias>(LogitBias{{token, bias}});
}

Sampler make(const SamplingParams& params) { return Sampler::create(params).value(); }

std::vector<float> random_logits(size_t n, uint64_t stream, double scale = 3) {
  std::vector<float> logits(n);
  for (size_t i = 0; i < n; ++i) {  // a sum of uniforms: near enough to a normal
    double x = -3;
    for (uint64_t k = 0; k < 6; ++k) x += random_uniform(11, stream, 6 * i + k);
    logits[i] = static_cast<float>(scale * x);
  }
  return logits;
}

std::vector<double> softmax(const std::vector<float>& logits, double temperature) {
  std::vector<double> p(logits.size());
  const double greatest = *std::max_element(logits.begin(), logits.end());
  for (size_t i = 0; i < p.size(); ++i) p[i] = std::exp((logits[i] - greatest) / temperature);
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) x /= sum;
  return p;
}

// Draws at `draws` positions and returns chi-square over its degrees of freedom's scale: how many
// standard deviations the statistic lies above its mean. Tokens of probability 0 must not be drawn.
double chi_square_deviations(Sampler& sampler, const std::vector<float>& logits,
                             const std::vector<double>& expected, uint64_t draws) {
  std::vector<double> counts(logits.size());
  for (uint64_t position = 0; position < draws; ++position)
    counts[static_cast<size_t>(sampler.sample(logits, position).value())] += 1;
  double statistic = 0;
  double degrees = -1;
  double rare_expected = 0;  // bins that expect fewer than 5 are one
  double rare_count = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    const double e = expected[i] * static_cast<double>(draws);
    if (expected[i] == 0) {
      EXPECT_EQ(counts[i], 0) << "token " << i;
    } else if (e < 5) {
      rare_expected += e;
      rare_count += counts[i];
    } else {
      statistic += (counts[i] - e) * (counts[i] - e) / e;
      degrees += 1;
    }
  }
  if (rare_expected >= 5) {
    statistic += (rare_count - rare_expected) * (rare_count - rare_expected) / rare_expected;
    degrees += 1;
  }
  return (statistic - degrees) / std::sqrt(2 * degrees);
}

TEST(Sampler, AWholeVocabularyIsWeighedInF32AsInF64) {
  std::vector<float> logits = random_logits(32000, 9);
  logits[17] = -std::numeric_limits<float>::infinity();
  for (const float temperature : {0.3f, 1.0f, 2.0f}) {
    auto sampler = Sampler::create({.temperature = temperature, .top_k = 0, .top_p = 1, .min_p = 0}).value();
    const auto got = sampler.distribution(logits, 0).value();
    const std::vector<double> expected = softmax(logits, temperature);
    ASSERT_EQ(got.size(), expected.size());
    for (size_t i = 0; i < got.size(); ++i)
      ASSERT_NEAR(got[i].probability, expected[i], 1e-5 * expected[i] + 1e-30) << temperature << " token " << i;
  }
}

TEST(Sampler, DrawsFollowTheSoftmax) {
  const auto logits = random_logits(40, 1);
  for (const float temperature : {0.5f, 1.0f, 2.0f}) {
    SamplingParams p = plain();
    p.temperature = temperature;
    p.seed = 99;
    Sampler sampler = make(p);
    const double deviations =
        chi_square_deviations(sampler, logits, softmax(logits, temperature), 40000);
    EXPECT_LT(std::abs(deviations), 4.5) << temperature;
  }
}

// The draw by sums of blocks takes the token that a plain walk over the distribution takes, but where the target is
// within rounding of the border of two.
TEST(Sampler, AWholeVocabularyIsDrawnFromAsByAWalk) {
  std::mt19937 random(8);
  std::normal_distribution<float> normal(0, 3);
  for (const size_t size : {1u, 7u, 255u, 256u, 257u, 1000u, 32'000u}) {
    std::vector<float> logits(size);
    for (float& x : logits) x = normal(random);
    for (size_t i = 0; i + 1 < size; i += 3) logits[i] = -kInfinity;
    SamplingParams p = plain();
    p.temperature = 1.3f;
    p.seed = 5;
    Sampler sampler = make(p);
    const auto all = sampler.distribution(logits, 0).value();
    double total = 0;
    for (const auto& c : all) total += c.probability;
    for (uint64_t position = 0; position < 500; ++position) {
      const double target = random_uniform(5, 0x73616d706c65, position) * total;
      const auto token = static_cast<size_t>(sampler.sample(logits, position).value());
      double before = 0;
      for (size_t i = 0; i < token; ++i) before += all[i].probability;
      EXPECT_GT(all[token].probability, 0);
      EXPECT_GE(target, before - 1e-9);
      EXPECT_LT(target, before + all[token].probability + 1e-9);
    }
  }
}

TEST(Sampler, DrawsFollowTheFilteredDistribution) {
  const auto logits = random_logits(300, 2);
  SamplingParams p;  // the defaults: every filter but typical
  p.typical_p = 0.9f;
  Sampler sampler = make(p);
  std::vector<double> expected(logits.size());
  const auto left = sampler.distribution(logits, 0).value();
  for (const auto& c : left) expected[static_cast<size_t>(c.token)] = c.probability;
  EXPECT_GT(left.size(), 5u);
  EXPECT_LT(std::abs(chi_square_deviations(sampler, logits, expected, 40000)), 4.5);
}

TEST(Sampler, FiltersLeaveWhatTorchLeaves) {
  std::ifstream file(VENTURI_SOURCE_DIR "/tests/data/sampling/golden.json");
  const auto cases = nlohmann::json::parse(file);
  ASSERT_GE(cases.size(), 48u);
  for (const auto& one : cases) {
    const auto& q = one["params"];
    SamplingParams p = plain();
    p.temperature = q["temperature"];
    p.top_k = q["top_k"];
    p.top_p = q["top_p"];
    p.min_p = q["min_p"];
    p.typical_p = q["typical_p"];
    p.repetition_penalty = q.value("repetition_penalty", 1.0f);
    p.presence_penalty = q.value("presence_penalty", 0.0f);
    p.frequency_penalty = q.value("frequency_penalty", 0.0f);
    LogitBias biases;
    for (const auto& bias : q.value("logit_bias", nlohmann::json::array())) biases[bias[0]] = bias[1];
    p.logit_bias = std::make_shared<const LogitBias>(biases);
    Sampler sampler = make(p);
    for (const int32_t token : q.value("history", std::vector<int32_t>())) sampler.accept(token);
    const std::vector<float> logits = one["logits"];
    std::vector<double> got(logits.size());
    for (const auto& c : sampler.distribution(logits, 0).value())
      got[static_cast<size_t>(c.token)] = c.probability;
    const std::vector<double> expected = one["probabilities"];
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i] == 0, expected[i] == 0) << q << " token " << i;
      // Penalised logits are rounded to f32: an error of 2^-24 of a logit below 16, over T = 0.7.
      EXPECT_NEAR(got[i], expected[i], 4e-6) << q << " token " << i;
    }
  }
}

TEST(Sampler, TopKIsTheHeadOfTheSortedRow) {
  for (const size_t n : {1u, 2u, 50u, 1000u, 5000u}) {
    auto logits = random_logits(n, n);
    for (float& x : logits) x = std::round(x * 4) / 4;  // many ties
    std::vector<int32_t> order(n);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
    });
    for (const size_t k : {1u, 2u, 7u, 40u, 900u}) {
      if (k >= n) continue;
      SamplingParams p = plain();
      p.top_k = static_cast<int32_t>(k);
      const auto left = make(p).distribution(logits, 0).value();
      ASSERT_EQ(left.size(), k);
      for (size_t i = 0; i < k; ++i)
        EXPECT_EQ(left[i].token, order[i]) << n << " " << k << " " << i;
    }
  }
}

TEST(Sampler, TopPSortsAsFarAsItNeeds) {
  const auto logits = random_logits(20000, 5, 0.3);  // flat: thousands are needed
  const auto p_all = softmax(logits, 1);
  for (const float top_p : {0.01f, 0.5f, 0.999f}) {
    SamplingParams p = plain();
    p.top_p = top_p;
    const auto left = make(p).distribution(logits, 0).value();
    double mass = 0;
    for (size_t i = 0; i < left.size(); ++i) {
      if (i + 1 < left.size()) { EXPECT_GE(left[i].logit, left[i + 1].logit); }
      mass += p_all[static_cast<size_t>(left[i].token)];
    }
    EXPECT_GE(mass, top_p - 1e-9);
    EXPECT_LT(mass - p_all[static_cast<size_t>(left.back().token)], top_p + 1e-9);
  }
}

// The candidates, and their probabilities to the last bit, as a comparison sort of the whole row gives.
TEST(Sampler, TopPOfALongRowIsThatOfAFullSort) {
  struct Row {
    const char* name;
    std::vector<float> logits;
  };
  constexpr size_t kVocab = 128256;
  std::vector<Row> rows = {{"flat", std::vector<float>(kVocab, -2.5f)},
                           {"nearly flat", random_logits(kVocab, 5, 1e-3)},
                           {"wide", random_logits(kVocab, 6, 0.5)},
                           {"peaked", random_logits(kVocab, 7, 8)}};
  rows.push_back({"ties", rows[2].logits});
  for (float& x : rows.back().logits) x = std::round(x * 8) / 8;  // 0 and -0 too
  rows.push_back({"excluded", rows[2].logits});
  for (size_t i = 0; i < kVocab; i += 3) rows.back().logits[i] = -kInfinity;
  rows.push_back({"short", random_logits(300, 8, 0.1)});
  for (const auto& [name, logits] : rows)
    for (const float top_p : {1e-6f, 0.3f, 0.95f, 0.9999999f}) {
      SCOPED_TRACE(std::string(name) + " " + std::to_string(top_p));
      std::vector<Sampler::Candidate> all;
      const double greatest = *std::max_element(logits.begin(), logits.end());
      double total = 0;
      for (size_t i = 0; i < logits.size(); ++i) {
        all.push_back({static_cast<int32_t>(i), logits[i], std::exp(logits[i] - greatest)});
        total += all.back().probability;
      }
      for (auto& c : all) c.probability /= total;
      std::stable_sort(all.begin(), all.end(),
                       [](const auto& a, const auto& b) { return a.logit > b.logit; });
      size_t kept = 0;
      for (double sum = 0; kept < all.size() && sum < static_cast<double>(top_p);)
        sum += all[kept++].probability;
      all.resize(kept);
      total = 0;
      for (auto& c : all) total += c.probability = std::exp(c.logit - greatest);
      SamplingParams p = plain();
      p.top_p = top_p;
      const auto left = make(p).distribution(logits, 0).value();
      ASSERT_EQ(left.size(), all.size());
      for (size_t i = 0; i < all.size(); ++i) {
        ASSERT_EQ(left[i].token, all[i].token) << i;
        ASSERT_EQ(left[i].probability, all[i].probability / total) << i;
      }
    }
}

TEST(Sampler, GreedyTakesTheLowestOfEqualsWhateverTheSeed) {
  std::vector<float> logits = random_logits(1000, 6);
  logits[700] = logits[300] = logits[999] = 50;
  for (const uint64_t seed : {uint64_t{0}, uint64_t{1}, ~uint64_t{0}}) {
    SamplingParams p;
    p.temperature = 0;
    p.seed = seed;
    p.mirostat = static_cast<int32_t>(seed % 3);
    Sampler sampler = make(p);
    for (uint64_t position = 0; position < 50; ++position)
      EXPECT_EQ(sampler.sample(logits, position).value(), 300);
  }
  SamplingParams p;
  p.temperature = 0;
  p.logit_bias = one_bias(300, -kInfinity);
  p.presence_penalty = 60;
  Sampler sampler = make(p);
  EXPECT_EQ(sampler.sample(logits, 0).value(), 700);
  sampler.accept(700);
  EXPECT_EQ(sampler.sample(logits, 1).value(), 999);
}

TEST(Sampler, ATokenIsAFunctionOfSeedPositionAndLogits) {
  const auto a = random_logits(500, 7);
  const auto b = random_logits(500, 8);
  SamplingParams p = plain();
  p.seed = 5;
  Sampler one = make(p);
  Sampler two = make(p);
  p.seed = 6;
  Sampler other = make(p);
  std::vector<int32_t> forwards;
  for (uint64_t i = 0; i < 200; ++i) forwards.push_back(one.sample(a, i).value());
  size_t differ = 0;
  for (uint64_t i = 200; i-- > 0;) {  // another order, other rows between
    EXPECT_TRUE(two.sample(b, i).ok());
    two.accept(3);
    EXPECT_EQ(two.sample(a, i).value(), forwards[i]);
    differ += other.sample(a, i).value() != forwards[i];
  }
  EXPECT_GT(differ, 100u);
}

TEST(Sampler, PenaltiesForgetWhatIsOld) {
  SamplingParams p = plain();
  p.frequency_penalty = 1;
  p.penalty_last_n = 3;
  const std::vector<float> logits = {0, 0};
  const auto gap = [&](Sampler& s) {
    auto left = s.distribution(logits, 0).value();
    return left[0].logit - left[1].logit;
  };
  Sampler recent = make(p);
  for (const int32_t token : {0, 0, 0, 0, 1}) recent.accept(token);
  EXPECT_FLOAT_EQ(gap(recent), -1);  // 0, 0, 1 are the last three
  p.penalty_last_n = -1;
  Sampler all = make(p);
  for (const int32_t token : {0, 0, 0, 0, 1}) all.accept(token);
  EXPECT_FLOAT_EQ(gap(all), -3);
  p.penalty_last_n = 0;
  Sampler none = make(p);
  for (const int32_t token : {0, 0, 0, 0, 1, 77, -5}) none.accept(token);
  EXPECT_FLOAT_EQ(gap(none), 0);
}

TEST(Sampler, ThePromptCountsForRepetitionAndForTheOthersWhereItShall) {
  SamplingParams p = plain();
  p.presence_penalty = 0.5f;
  p.frequency_penalty = 1;
  p.repetition_penalty = 2;
  p.penalty_last_n = 3;
  const std::vector<float> logits = {8, 8, 8};
  const auto after = [&](bool prompt_counts, std::initializer_list<int32_t> prompt, std::initializer_list<int32_t> drawn) {
    p.prompt_counts = prompt_counts;
    Sampler s = make(p);
    for (const int32_t token : prompt) s.accept_prompt(token);
    for (const int32_t token : drawn) s.accept(token);
    std::vector<float> left(3);
    for (const auto& c : s.distribution(logits, 0).value()) left[static_cast<size_t>(c.token)] = c.logit;
    return left;
  };
  using testing::ElementsAre;
  EXPECT_THAT(after(true, {0, 0}, {1}), ElementsAre(1.5f, 2.5f, 8));
  EXPECT_THAT(after(false, {0, 0}, {1}), ElementsAre(4, 2.5f, 8));
  EXPECT_THAT(after(false, {0, 0}, {1, 0}), ElementsAre(2.5f, 2.5f, 8));     // 0, 1, 0: one of the two was drawn
  EXPECT_THAT(after(false, {2}, {0, 1, 1}), ElementsAre(2.5f, 1.5f, 8));     // the prompt is too old
  EXPECT_THAT(after(false, {}, {0, 1, 1, 2}), ElementsAre(8, 1.5f, 2.5f));
}

TEST(Sampler, BadLogitsAreErrorsThatNameThePosition) {
  Sampler sampler = make({});
  std::vector<float> logits(100, 1.0f);
  logits[42] = std::nanf("");
  auto result = sampler.sample(logits, 1234);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().message, "position 1234: the logit of token 42 is nan; the model is damaged");
  logits[42] = kInfinity;
  EXPECT_FALSE(sampler.sample(logits, 0).ok());
  logits[42] = -kInfinity;
  EXPECT_TRUE(sampler.sample(logits, 0).ok());
  EXPECT_FALSE(sampler.sample({}, 0).ok());
  EXPECT_FALSE(sampler.sample(std::vector<float>(5, -kInfinity), 0).ok());
  SamplingParams p;
  p.logit_bias = one_bias(100, 1);
  EXPECT_FALSE(make(p).sample(logits, 0).ok());
}

TEST(Sampler, ExcludedTokensAreNeverDrawn) {
  std::vector<float> logits(64, -kInfinity);
  logits[9] = -3;
  logits[60] = -2;
  for (const int32_t mirostat : {0, 1, 2}) {
    SamplingParams p = plain();
    p.mirostat = mirostat;
    Sampler sampler = make(p);
    for (uint64_t i = 0; i < 300; ++i) {
      const int32_t token = sampler.sample(logits, i).value();
      EXPECT_TRUE(token == 9 || token == 60) << token;
      sampler.accept(token);
    }
  }
}

TEST(SamplingParams, RangesAreChecked) {
  const float nan = std::nanf("");
  const auto refused = [](auto change) {
    SamplingParams p;
    change(p);
    const auto made = Sampler::create(p);
    return !made.ok() && made.error().message.find("must be") != std::string::npos;
  };
  using P = SamplingParams;
  EXPECT_TRUE(refused([](P& p) { p.temperature = -0.1f; }));
  EXPECT_TRUE(refused([&](P& p) { p.temperature = nan; }));
  EXPECT_TRUE(refused([](P& p) { p.top_k = -1; }));
  EXPECT_TRUE(refused([](P& p) { p.top_p = 0; }));
  EXPECT_TRUE(refused([](P& p) { p.top_p = 1.01f; }));
  EXPECT_TRUE(refused([&](P& p) { p.top_p = nan; }));
  EXPECT_TRUE(refused([](P& p) { p.min_p = -0.1f; }));
  EXPECT_TRUE(refused([](P& p) { p.typical_p = 0; }));
  EXPECT_TRUE(refused([](P& p) { p.repetition_penalty = 0; }));
  EXPECT_TRUE(refused([](P& p) { p.presence_penalty = kInfinity; }));
  EXPECT_TRUE(refused([&](P& p) { p.frequency_penalty = nan; }));
  EXPECT_TRUE(refused([](P& p) { p.penalty_last_n = -2; }));
  EXPECT_TRUE(refused([](P& p) { p.mirostat = 3; }));
  EXPECT_TRUE(refused([](P& p) { p.mirostat_tau = 0; }));
  EXPECT_TRUE(refused([](P& p) { p.mirostat_eta = -1; }));
  EXPECT_TRUE(refused([](P& p) { p.logit_bias = one_bias(-1, 0); }));
  EXPECT_TRUE(refused([](P& p) { p.logit_bias = one_bias(1, kInfinity); }));
  EXPECT_FALSE(refused([](P&) {}));
}

// The paper's algorithm 1 and version 2, written out once more from its equations.
size_t mirostat_cut(const std::vector<double>& sorted, double mu, int version) {
  const double n = static_cast<double>(sorted.size());
  if (version == 2) {
    size_t kept = 0;
    for (const double p : sorted) kept += std::log2(1 / p) <= mu;
    return std::max<size_t>(kept, 1);
  }
  double tb = 0;
  double tt = 0;
  for (int i = 1; i < std::min<int>(100, static_cast<int>(sorted.size())); ++i) {
    const double t = std::log((i + 1.0) / i);
    tb += t * std::log(sorted[static_cast<size_t>(i) - 1] / sorted[static_cast<size_t>(i)]);
    tt += t * t;
  }
  const double s = tb / tt;
  const double k = std::pow((s - 1) * std::exp2(mu) / (1 - std::pow(n, 1 - s)), 1 / s);
  return static_cast<size_t>(std::clamp(std::round(k), 1.0, n));
}

TEST(Mirostat, FollowsThePaperAndHoldsTheSurprise) {
  constexpr size_t kVocab = 2000;
  for (const int version : {1, 2}) {
    for (const float tau : {2.5f, 5.0f}) {
      SamplingParams p;
      p.temperature = 1;
      p.mirostat = version;
      p.mirostat_tau = tau;
      p.mirostat_eta = 0.2f;
      Sampler sampler = make(p);
      double mu = 2.0 * static_cast<double>(tau);
      double total = 0;
      constexpr uint64_t kSteps = 1500;
      for (uint64_t step = 0; step < kSteps; ++step) {
        // Zipf with an exponent that changes from step to step, its ranks shuffled over the ids.
        const double s = 1.0 + 0.4 * random_uniform(3, 0, step) + 0.01;
        std::vector<float> logits(kVocab);
        std::vector<float> sorted_logits(kVocab);
        for (size_t rank = 0; rank < kVocab; ++rank) {
          sorted_logits[rank] = static_cast<float>(-s * std::log(static_cast<double>(rank) + 1));
          logits[(rank * 977 + step) % kVocab] = sorted_logits[rank];
        }
        const auto sorted = softmax(sorted_logits, 1);
        ASSERT_NEAR(sampler.mirostat_mu(), mu, 1e-6);
        const auto left = sampler.distribution(logits, step).value();
        ASSERT_EQ(left.size(), mirostat_cut(sorted, mu, version))
            << "version " << version << " step " << step;
        const int32_t token = sampler.sample(logits, step).value();
        const size_t rank =
            static_cast<size_t>(std::find_if(left.begin(), left.end(),
                                             [&](const auto& c) { return c.token == token; }) -
                                left.begin());
        ASSERT_LT(rank, left.size());
        const double surprise = -std::log2(sorted[rank]);
        mu -= static_cast<double>(p.mirostat_eta) * (surprise - static_cast<double>(tau));
        if (step >= 100) total += surprise;
        sampler.accept(token);
      }
      EXPECT_NEAR(total / (kSteps - 100), tau, 0.1) << "version " << version;
    }
  }
}

}  // namespace
}  // namespace venturi
