#include "models/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/random.h"
#include "kernels/rows/rows.h"
#include "models/candidate_order.h"

namespace venturi {
namespace {

// Keeps these numbers apart from any other use of the same seed.
constexpr uint64_t kSamplingStream = 0x73616d706c65;  // "sample"

Error out_of_range(const char* name, double value, const char* range) {
  return error(Code::kInvalidArgument, "{} is {}; it must be {}", name, value, range);
}

const LogitBias& bias_of(const SamplingParams& p) {
  static const LogitBias kNone;
  return p.logit_bias ? *p.logit_bias : kNone;
}

}  // namespace

Status validate(const SamplingParams& p) {
  const auto finite = [](float x) { return std::isfinite(x); };
  // Written so that NaN fails.
  if (!(p.temperature >= 0) || !finite(p.temperature))
    return out_of_range("temperature", p.temperature, "0 or more");
  if (p.top_k < 0) return out_of_range("top_k", p.top_k, "0 (off) or more");
  if (!(p.top_p > 0 && p.top_p <= 1))
    return out_of_range("top_p", p.top_p, "more than 0 and at most 1 (off)");
  if (!(p.min_p >= 0 && p.min_p <= 1)) return out_of_range("min_p", p.min_p, "from 0 (off) to 1");
  if (!(p.typical_p > 0 && p.typical_p <= 1))
    return out_of_range("typical_p", p.typical_p, "more than 0 and at most 1 (off)");
  if (!(p.repetition_penalty > 0) || !finite(p.repetition_penalty))
    return out_of_range("repetition_penalty", p.repetition_penalty, "more than 0 (1 is off)");
  if (!finite(p.presence_penalty))
    return out_of_range("presence_penalty", p.presence_penalty, "finite (0 is off)");
  if (!finite(p.frequency_penalty))
    return out_of_range("frequency_penalty", p.frequency_penalty, "finite (0 is off)");
  if (p.penalty_last_n < -1)
    return out_of_range("penalty_last_n", p.penalty_last_n, "-1 (all), 0 (off) or more");
  if (p.mirostat < 0 || p.mirostat > 2)
    return out_of_range("mirostat", p.mirostat, "0 (off), 1 or 2");
  if (!(p.mirostat_tau > 0) || !finite(p.mirostat_tau))
    return out_of_range("mirostat_tau", p.mirostat_tau, "more than 0");
  if (!(p.mirostat_eta > 0) || !finite(p.mirostat_eta))
    return out_of_range("mirostat_eta", p.mirostat_eta, "more than 0");
  for (const auto& [token, bias] : bias_of(p)) {
    if (token < 0) return out_of_range("a token of logit_bias", token, "0 or more");
    if (std::isnan(bias) || bias == std::numeric_limits<float>::infinity())
      return out_of_range("a value of logit_bias", bias, "a number below infinity");
  }
  return {};
}

Result<Sampler> Sampler::create(SamplingParams params) {
  if (auto status = validate(params); !status) return std::move(status).error();
  return Sampler(std::move(params));
}

Sampler::Sampler(SamplingParams params)
    : params_(std::move(params)), mu_(2.0 * static_cast<double>(params_.mirostat_tau)) {}

Result<int32_t> Sampler::sample(std::span<const float> logits, uint64_t position) {
  if (draws_from_all(logits.size())) {
    surprises_.clear();
    if (auto status = load(logits, position); !status) return std::move(status).error();
    weigh_all(params_.temperature);
    return drawn_ = draw_from_all(random_uniform(params_.seed, kSamplingStream, position));
  }
  if (auto status = make_candidates(logits, position); !status) return std::move(status).error();
  double total = 0;
  for (const Candidate& c : candidates_) total += c.probability;
  const double target = random_uniform(params_.seed, kSamplingStream, position) * total;
  double sum = 0;
  size_t at = 0;
  size_t last_possible = 0;  // rounding may leave the target beyond the sum
  for (; at < candidates_.size(); ++at) {
    if (candidates_[at].probability > 0) last_possible = at;
    sum += candidates_[at].probability;
    if (sum > target) break;
  }
  if (at == candidates_.size()) at = last_possible;
  drawn_ = candidates_[at].token;
  drawn_surprise_ = at < surprises_.size() ? surprises_[at] : 0;
  return drawn_;
}

// Nothing cuts, so nothing need be listed or sorted.
bool Sampler::draws_from_all(size_t vocab_size) const {
  const SamplingParams& p = params_;
  return p.temperature > 0 && p.mirostat == 0 && (p.top_k == 0 || static_cast<size_t>(p.top_k) >= vocab_size) && p.typical_p >= 1 &&
         p.top_p >= 1 && p.min_p <= 0;
}

// Inverse transform over logits_, which hold probabilities: by sums of blocks, then within one.
int32_t Sampler::draw_from_all(double uniform) {
  constexpr size_t kBlock = 256, kLanes = 8;
  const size_t n = logits_.size(), n_blocks = (n + kBlock - 1) / kBlock;
  block_sums_.resize(n_blocks);
  double total = 0;
  for (size_t b = 0; b < n_blocks; ++b) {
    const float* x = logits_.data() + b * kBlock;
    const size_t size = std::min(kBlock, n - b * kBlock);
    double lanes[kLanes] = {};
    size_t i = 0;
    for (; i + kLanes <= size; i += kLanes)
      for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += static_cast<double>(x[i + lane]);
    for (; i < size; ++i) lanes[0] += static_cast<double>(x[i]);
    total += block_sums_[b] = std::accumulate(std::begin(lanes), std::end(lanes), 0.0);
  }
  double left = uniform * total;
  size_t b = 0;
  while (b + 1 < n_blocks && left >= block_sums_[b]) left -= block_sums_[b++];
  const auto last_possible = [&](size_t end) {  // rounding may leave the target beyond the sum
    while (end > 0 && !(logits_[end - 1] > 0)) --end;
    return static_cast<int32_t>(end - 1);
  };
  const size_t end = std::min(n, (b + 1) * kBlock);
  for (size_t i = b * kBlock; i < end; ++i) {
    left -= static_cast<double>(logits_[i]);
    if (left < 0) return static_cast<int32_t>(i);
  }
  return last_possible(end);
}

Result<std::vector<Sampler::Candidate>> Sampler::distribution(std::span<const float> logits,
                                                              uint64_t position) {
  if (auto status = make_candidates(logits, position); !status) return std::move(status).error();
  drawn_ = -1;
  return candidates_;
}

void Sampler::accept(int32_t token) {
  if (params_.mirostat != 0 && token == drawn_)
    mu_ -= static_cast<double>(params_.mirostat_eta) *
           (drawn_surprise_ - static_cast<double>(params_.mirostat_tau));
  drawn_ = -1;
  remember(token, true);
}

void Sampler::remember(int32_t token, bool drawn) {
  if (!penalises()) return;
  recent_.push_back({token, drawn});
  Counts& counts = counts_[token];
  ++counts.all;
  counts.drawn += drawn;
  if (params_.penalty_last_n < 0) return;
  while (recent_.size() > static_cast<size_t>(params_.penalty_last_n)) {
    const auto oldest = counts_.find(recent_.front().token);
    oldest->second.drawn -= recent_.front().drawn;
    if (--oldest->second.all == 0) counts_.erase(oldest);
    recent_.pop_front();
  }
}

void Sampler::follow(const Sampler& other) {
  params_ = other.params_;
  recent_ = other.recent_;
  counts_ = other.counts_;
  mu_ = other.mu_;
  drawn_ = -1;
}

bool Sampler::penalises() const {
  return params_.penalty_last_n != 0 &&
         (params_.repetition_penalty != 1 || params_.presence_penalty != 0 ||
          params_.frequency_penalty != 0);
}

Status Sampler::load(std::span<const float> logits, uint64_t position) {
  if (logits.empty())
    return error(Code::kInvalidArgument, "position {}: there are no logits", position);
  logits_.assign(logits.begin(), logits.end());
  const auto size = static_cast<int64_t>(logits_.size());
  for (const auto& [token, bias] : bias_of(params_)) {
    if (token >= size)
      return error(Code::kInvalidArgument, "logit_bias names token {}, but the vocabulary has {}",
                   token, size);
    logits_[static_cast<size_t>(token)] += bias;
  }
  for (const auto& [token, counts] : counts_) {
    if (token < 0 || token >= size) continue;
    float& logit = logits_[static_cast<size_t>(token)];
    logit = logit > 0 ? logit / params_.repetition_penalty : logit * params_.repetition_penalty;
    if (counts.drawn > 0) logit -= params_.presence_penalty + params_.frequency_penalty * static_cast<float>(counts.drawn);
  }

  // A plain pass, which the compiler turns into vector instructions: of NaN and infinity, and of the greatest.
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr size_t kLanes = 16;
  float greatest[kLanes];
  int32_t wrong[kLanes] = {};
  std::fill(std::begin(greatest), std::end(greatest), -kInfinity);
  const auto look = [&](size_t lane, float x) {
    wrong[lane] |= !(x < kInfinity);
    greatest[lane] = greatest[lane] < x ? x : greatest[lane];
  };
  size_t i = 0;
  for (; i + kLanes <= logits_.size(); i += kLanes)
    for (size_t lane = 0; lane < kLanes; ++lane) look(lane, logits_[i + lane]);
  for (; i < logits_.size(); ++i) look(0, logits_[i]);
  if (std::any_of(std::begin(wrong), std::end(wrong), [](int32_t w) { return w != 0; })) {
    const auto at =
        std::find_if(logits_.begin(), logits_.end(), [](float x) { return !(x < kInfinity); });
    return error(Code::kCorrupt, "position {}: the logit of token {} is {}; the model is damaged", position,
                 at - logits_.begin(), *at);
  }
  max_logit_ = *std::max_element(std::begin(greatest), std::end(greatest));
  if (max_logit_ == -kInfinity)
    return error(Code::kInvalidArgument, "position {}: every token is excluded", position);
  return {};
}

Status Sampler::make_candidates(std::span<const float> logits, uint64_t position) {
  surprises_.clear();
  if (auto status = load(logits, position); !status) return status;
  const SamplingParams& p = params_;
  if (p.temperature == 0) {
    const auto first = std::find(logits_.begin(), logits_.end(), max_logit_);
    candidates_.assign(1, {static_cast<int32_t>(first - logits_.begin()), max_logit_, 1.0});
    return {};
  }
  if (p.mirostat != 0) {
    keep_mirostat();
    return {};
  }
  if (p.top_k > 0 && static_cast<size_t>(p.top_k) < logits_.size()) {
    take_top(static_cast<size_t>(p.top_k));
  } else {
    take_all();
  }
  if (p.typical_p < 1) keep_typical();
  if (p.top_p < 1) keep_top_p();
  if (p.min_p > 0) keep_min_p();
  // Uncut, they are in the order of their ids.
  if (candidates_.size() == logits_.size() && p.top_p >= 1 && p.typical_p >= 1) {
    weigh_all(p.temperature);
    for (size_t i = 0; i < logits_.size(); ++i) candidates_[i].probability = static_cast<double>(logits_[i]);
  } else {
    weigh(p.temperature);
  }
  return {};
}

void Sampler::take_all() {
  candidates_.resize(logits_.size());
  for (size_t i = 0; i < logits_.size(); ++i)
    candidates_[i] = {static_cast<int32_t>(i), logits_[i], 0.0};
}

// The k that come first, in order. One pass over the vocabulary with a bar that rises: candidates
// that pass are buffered, and when 2k + 64 are there, all but the best k go and the k-th becomes
// the bar.
void Sampler::take_top(size_t k) {
  const size_t capacity = 2 * k + 64;
  candidates_.clear();
  candidates_.reserve(capacity);
  float bar = -std::numeric_limits<float>::infinity();
  const auto cut = [&] {
    const auto kth = candidates_.begin() + static_cast<std::ptrdiff_t>(k);
    std::nth_element(candidates_.begin(), kth - 1, candidates_.end(), comes_first);
    bar = (kth - 1)->logit;
    candidates_.erase(kth, candidates_.end());
  };
  for (size_t i = 0; i < logits_.size(); ++i) {
    // An equal logit has a higher id than those kept, so it would come after them.
    if (!(logits_[i] > bar) && candidates_.size() >= k) continue;
    candidates_.push_back({static_cast<int32_t>(i), logits_[i], 0.0});
    if (candidates_.size() == capacity) cut();
  }
  if (candidates_.size() > k) cut();
  std::sort(candidates_.begin(), candidates_.end(), comes_first);
}

// exp((logit - greatest) / T) over their sum; the typical filter may have dropped max_logit_.
void Sampler::weigh(float temperature) {
  float greatest = -std::numeric_limits<float>::infinity();
  for (const Candidate& c : candidates_) greatest = std::max(greatest, c.logit);
  const double scale = 1.0 / static_cast<double>(temperature);
  double sum = 0;
  for (Candidate& c : candidates_) {
    c.probability =
        std::exp((static_cast<double>(c.logit) - static_cast<double>(greatest)) * scale);
    sum += c.probability;
  }
  for (Candidate& c : candidates_) c.probability /= sum;
}

// The same into logits_, in f32, by the kernel, where nothing was cut: of a whole vocabulary, exponentials in
// f64 are what a draw's time goes to. What filters compare stays in f64.
void Sampler::weigh_all(float temperature) {
  const double scale = 1.0 / static_cast<double>(temperature);
  for (float& x : logits_)
    x = static_cast<float>((static_cast<double>(x) - static_cast<double>(max_logit_)) * scale);
  row_kernels().softmax_three_pass(logits_.data(), static_cast<int64_t>(logits_.size()));
}

// The tokens whose surprise is nearest to the entropy, until they hold typical_p of the mass.
void Sampler::keep_typical() {
  weigh(1);
  double entropy = 0;
  for (const Candidate& c : candidates_)
    if (c.probability > 0) entropy -= c.probability * std::log(c.probability);
  const auto distance = [&](const Candidate& c) {
    return std::abs(-std::log(c.probability) - entropy);
  };
  std::stable_sort(candidates_.begin(), candidates_.end(),
                   [&](const Candidate& a, const Candidate& b) {
                     const double x = distance(a);
                     const double y = distance(b);
                     return x < y || (x == y && a.token < b.token);
                   });
  double sum = 0;
  size_t kept = 0;
  while (kept < candidates_.size() && sum < static_cast<double>(params_.typical_p))
    sum += candidates_[kept++].probability;
  candidates_.resize(kept);
  std::sort(candidates_.begin(), candidates_.end(), comes_first);
}

// The smallest set of the most probable tokens that holds top_p of the mass.
void Sampler::keep_top_p() {
  weigh(1);
  // Sorted as far as it needs: the set is mostly a small part of a vocabulary.
  double sum = 0;
  size_t kept = 0, sorted = 0;
  while (kept < candidates_.size() && sum < static_cast<double>(params_.top_p)) {
    if (kept == sorted) {
      const std::span<Candidate> rest = std::span(candidates_).subspan(sorted);
      const size_t n = sorted == 0 ? bring_forward(rest, static_cast<double>(params_.top_p), scratch_) : rest.size();
      sort_candidates(rest.first(n), scratch_);
      sorted += n;
    }
    sum += candidates_[kept++].probability;
  }
  candidates_.resize(kept);
}

// The tokens at least min_p times as probable as the most probable one.
void Sampler::keep_min_p() {
  float greatest = -std::numeric_limits<float>::infinity();
  for (const Candidate& c : candidates_) greatest = std::max(greatest, c.logit);
  const double bar = static_cast<double>(greatest) + std::log(static_cast<double>(params_.min_p));
  std::erase_if(candidates_,
                [&](const Candidate& c) { return static_cast<double>(c.logit) < bar; });
}

// Version 1 estimates the exponent s of Zipf's law from the 100 most probable tokens and from it
// the k whose truncation has surprise μ (equations 2 and 30); version 2 drops what is more
// surprising than μ.
void Sampler::keep_mirostat() {
  take_all();
  sort_candidates(candidates_, scratch_);
  weigh(params_.temperature);
  size_t kept = 1;
  if (params_.mirostat == 1) {
    constexpr size_t kTokens = 100;
    double tb = 0;
    double tt = 0;
    for (size_t i = 0; i + 1 < std::min(kTokens, candidates_.size()); ++i) {
      if (candidates_[i + 1].probability <= 0) break;
      const double t = std::log(static_cast<double>(i + 2) / static_cast<double>(i + 1));
      tb += t * std::log(candidates_[i].probability / candidates_[i + 1].probability);
      tt += t * t;
    }
    const double n = static_cast<double>(candidates_.size());
    const double s = tt > 0 ? tb / tt : 1.0;
    const double epsilon = s - 1;
    // At s = 1 the formula is 0 / 0 and its limit is 2^mu / log n; at s = 0 (flat) nothing is cut.
    const double ratio =
        std::abs(epsilon) < 1e-9 ? 1.0 / std::log(n) : epsilon / (1 - std::pow(n, -epsilon));
    const double k = s > 1e-9 ? std::pow(ratio * std::exp2(mu_), 1 / s) : n;
    kept = static_cast<size_t>(std::clamp(std::round(k), 1.0, n));
    if (std::isnan(k)) kept = candidates_.size();
  } else {
    while (kept < candidates_.size() && -std::log2(candidates_[kept].probability) <= mu_) ++kept;
  }
  candidates_.resize(kept);
  double sum = 0;
  for (const Candidate& c : candidates_) {
    surprises_.push_back(-std::log2(c.probability));
    sum += c.probability;
  }
  for (Candidate& c : candidates_) c.probability /= sum;
}

}  // namespace venturi
