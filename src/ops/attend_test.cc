// Attention with its cache against a dense softmax in double, and bit by bit against itself: the
// same token gets the same bits in any chunking, on any threads, beside any neighbours.
#include "ops/attend.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "codecs/codec.h"
#include "kernels/golden_test_support.h"
#include "kernels/test_support.h"

namespace venturi {
namespace {

using namespace kernel_testing;

struct Case {
  int n_heads = 4, n_kv_heads = 2, k_dim = 24, v_dim = 20;
  float scale = 0.2f, soft_cap = 0;
  int64_t window = 0;
  Mask mask = Mask::kCausal;
  std::vector<float> sinks = {};
  std::vector<float> q = {}, k = {}, v = {};  // [n, heads, dim]; q of the last rows only, if fewer

  int64_t n_keys() const { return static_cast<int64_t>(k.size()) / (n_kv_heads * k_dim); }
  int64_t n_queries() const { return static_cast<int64_t>(q.size()) / (n_heads * k_dim); }
  AttendParams params() const {
    return {.slot = 0,
            .n_heads = n_heads,
            .n_kv_heads = n_kv_heads,
            .k_dim = k_dim,
            .v_dim = v_dim,
            .scale = scale,
            .soft_cap = soft_cap,
            .window = window,
            .rope = nullptr,
            .sinks = sinks.empty() ? nullptr : sinks.data()};
  }
};

Case random_case(Case c, uint64_t seed, int64_t n) {
  c.q = floats(seed, n * c.n_heads * c.k_dim, 2);
  c.k = floats(seed + 1, n * c.n_kv_heads * c.k_dim, 2);
  c.v = floats(seed + 2, n * c.n_kv_heads * c.v_dim);
  return c;
}

// ---- the reference
// --------------------------------------------------------------------------------

struct Reference {
  std::vector<double> out;
  double largest_score = 0;  // of scale * sum |q k|: what rounding errors of scores scale with
};

// Keys and values rounded to f16 as the cache stores them, or not.
Reference dense(const Case& c, bool f16) {
  const auto stored = [&](float x) -> double { return f16 ? f16_to_f32(f32_to_f16(x)) : x; };
  const int64_t n = c.n_keys(), first = n - c.n_queries();
  Reference r;
  for (int64_t i = 0; i < c.n_queries(); ++i)
    for (int h = 0; h < c.n_heads; ++h) {
      const int kv = h / (c.n_heads / c.n_kv_heads);
      const int64_t p = first + i;
      const int64_t hi = c.mask == Mask::kFull ? n : p + 1;
      const int64_t lo =
          c.mask == Mask::kCausal && c.window > 0 ? std::max<int64_t>(0, p - c.window + 1) : 0;
      std::vector<double> s;
      for (int64_t j = lo; j < hi; ++j) {
        double sum = 0, size = 0;
        for (int d = 0; d < c.k_dim; ++d) {
          const double term = c.q[(i * c.n_heads + h) * c.k_dim + d] *
                              stored(c.k[(j * c.n_kv_heads + kv) * c.k_dim + d]);
          sum += term;
          size += std::fabs(term);
        }
        r.largest_score = std::max(r.largest_score, size * c.scale);
        s.push_back(c.soft_cap > 0 ? c.soft_cap * std::tanh(sum * c.scale / c.soft_cap)
                                   : sum * c.scale);
      }
      double top = *std::max_element(s.begin(), s.end());
      if (!c.sinks.empty()) top = std::max(top, double{c.sinks[h]});
      double total = c.sinks.empty() ? 0 : std::exp(c.sinks[h] - top);
      for (double& v : s) total += v = std::exp(v - top);
      for (int d = 0; d < c.v_dim; ++d) {
        double sum = 0;
        for (int64_t j = lo; j < hi; ++j)
          sum += s[j - lo] * stored(c.v[(j * c.n_kv_heads + kv) * c.v_dim + d]);
        r.out.push_back(sum / total);
      }
    }
  return r;
}

// A score is off by (k_dim + 4) roundings of at most its largest partial sum, which moves a weight
// by as much, relatively; twice that for the weight and the total. To it come the exponential's own
// error (1e-7, and 2^-23 of the distance to the top), and the sums over keys.
double bound(const Case& c, const Reference& r, double v_max) {
  const double score = (c.k_dim + 8) * 0x1p-24 * r.largest_score;
  const double keys = (static_cast<double>(c.n_keys()) + 64) * 0x1p-24;
  return v_max * (2 * score + 4 * 0x1p-23 * std::min(90.0, r.largest_score) + 1e-6 + keys);
}

// ---- running
// ----------------------------------------------------------------------------------------

struct Stream {  // one sequence and how far it is
  const Case* c;
  std::unique_ptr<SequenceState> state;
  int64_t position = 0;
};

std::shared_ptr<StatePool> pool_for(const Case& c, int64_t tokens, int sequences) {
  auto ledger = Ledger::create();
  const std::vector<SlotSpec> slots = {SlotSpec::paged(c.n_kv_heads, c.k_dim, c.v_dim)};
  auto pool = StatePool::create(*ledger, slots,
                                plan_state(slots, {.tokens = tokens, .sequences = sequences}));
  EXPECT_TRUE(pool);
  return std::move(pool).value();
}

std::unique_ptr<Context> context_of(int threads) {
  return Context::run(Ledger::create(), std::make_shared<ThreadPool>(threads), 8 << 20).value();
}

// One step over the next rows of each stream; returns the outputs of each. Queries that a case
// lacks (those of its prefix) are ones.
std::vector<std::vector<float>> step(Context& context,
                                     std::vector<std::pair<Stream*, int64_t>> parts) {
  Step s;
  int64_t rows = 0;
  for (auto& [stream, n] : parts) {
    s.spans.push_back({.row_begin = rows,
                       .n_rows = n,
                       .position = stream->position,
                       .state = stream->state.get(),
                       .mask = stream->c->mask});
    rows += n;
    EXPECT_TRUE(stream->state->reserve(stream->position + n));
  }
  s.tokens.resize(rows);
  const Case& c = *parts[0].first->c;
  Act q = context.allocate(rows, c.n_heads * c.k_dim),
      k = context.allocate(rows, c.n_kv_heads * c.k_dim),
      v = context.allocate(rows, c.n_kv_heads * c.v_dim);
  for (size_t i = 0; i < parts.size(); ++i) {
    const Case& from = *parts[i].first->c;
    const int64_t missing = from.n_keys() - from.n_queries();
    for (int64_t r = 0; r < parts[i].second; ++r) {
      const int64_t p = parts[i].first->position + r, row = s.spans[i].row_begin + r;
      std::fill_n(q.row(row), q.cols(), 1.0f);
      if (p >= missing)
        std::copy_n(from.q.begin() + (p - missing) * q.cols(), q.cols(), q.row(row));
      std::copy_n(from.k.begin() + p * k.cols(), k.cols(), k.row(row));
      std::copy_n(from.v.begin() + p * v.cols(), v.cols(), v.row(row));
    }
  }
  const AttendParams params = c.params();
  const Act y = attend(context, s, params, q, k, v);
  std::vector<std::vector<float>> out;
  for (size_t i = 0; i < parts.size(); ++i) {
    out.emplace_back(y.row(s.spans[i].row_begin),
                     y.row(s.spans[i].row_begin) + parts[i].second * y.cols());
    parts[i].first->position += parts[i].second;
    parts[i].first->state->set_length(parts[i].first->position);
  }
  return out;
}

// All rows of a case in chunks of `chunk` (0: at once); the outputs of its queries.
std::vector<float> run(const Case& c, int64_t chunk, int threads) {
  auto pool = pool_for(c, c.n_keys(), 1);
  auto context = context_of(threads);
  Stream stream{&c, pool->new_sequence().value()};
  std::vector<float> all;
  while (stream.position < c.n_keys()) {
    const int64_t left = c.n_keys() - stream.position;
    const auto part = step(*context, {{&stream, chunk ? std::min(chunk, left) : left}})[0];
    all.insert(all.end(), part.begin(), part.end());
  }
  return {all.end() - c.n_queries() * c.n_heads * c.v_dim, all.end()};
}

void expect_near(const Case& c, const std::vector<float>& y, const std::string& what) {
  const Reference exact = dense(c, true);
  ASSERT_EQ(y.size(), exact.out.size());
  const double limit = bound(c, exact, 1.0);
  ASSERT_LT(limit, 2e-3) << what;  // a bound that says something
  for (size_t i = 0; i < y.size(); ++i)
    ASSERT_NEAR(y[i], exact.out[i], limit) << what << " at " << i;
}

const std::pair<const char*, Case> kCases[] = {
    {"groups of two", {}},
    {"one head", {.n_heads = 1, .n_kv_heads = 1}},
    {"no groups", {.n_heads = 3, .n_kv_heads = 3, .k_dim = 16, .v_dim = 16}},
    {"groups of eight", {.n_heads = 8, .n_kv_heads = 1, .k_dim = 8, .v_dim = 8}},
    {"groups of seven, odd head", {.n_heads = 14, .n_kv_heads = 2, .k_dim = 7, .v_dim = 5}},
    {"values wider than keys", {.k_dim = 18, .v_dim = 40}},
    {"large heads", {.n_heads = 2, .n_kv_heads = 1, .k_dim = 128, .v_dim = 128, .scale = 0.05f}},
    {"window", {.window = 50}},
    {"window over splits", {.window = 520}},
    {"soft cap", {.soft_cap = 1.5f}},
    {"sinks", {.sinks = {0.5f, -3, 4, 1}}},
    {"window, cap and sinks", {.soft_cap = 2, .window = 70, .sinks = {0.5f, -3, 4, 1}}},
    {"full mask", {.mask = Mask::kFull}},
};

class AttendTest : public testing::TestWithParam<std::pair<const char*, Case>> {
 protected:
  const Case& base = GetParam().second;
};
INSTANTIATE_TEST_SUITE_P(Cases, AttendTest, testing::ValuesIn(kCases), [](const auto& info) {
  std::string name = info.param.first;
  for (char& ch : name)
    if (!std::isalnum(static_cast<unsigned char>(ch))) ch = '_';
  return name;
});

TEST_P(AttendTest, PrefillIsTheDenseSoftmax) {
  for (const int64_t n : {1, 2, 17, 63, 64, 65, 130}) {
    const Case c = random_case(base, n, n);
    expect_near(c, run(c, 0, 2), std::to_string(n));
  }
}

TEST_P(AttendTest, DecodeIsTheDenseSoftmax) {
  for (const int64_t n : {1, 64, 65, 511, 512, 513, 1025}) {
    Case c = random_case(base, n, n);
    c.q.erase(c.q.begin(), c.q.end() - c.n_heads * c.k_dim);  // the last query alone
    if (c.mask == Mask::kFull) continue;                      // has no decode
    expect_near(c, run(c, n - 1, 2), std::to_string(n));
  }
}

TEST_P(AttendTest, AnyChunkingAndThreadsGiveTheSameBits) {
  if (base.mask == Mask::kFull) GTEST_SKIP() << "a full mask is not cut";
  for (const int64_t n : {5, 63, 64, 65, 129, 511, 513, 1030}) {
    const Case c = random_case(base, n, n);
    const auto whole = run(c, 0, 1);
    for (const auto& [chunk, threads] :
         {std::pair<int64_t, int>{0, 2}, {0, 3}, {7, 1}, {7, 2}, {64, 3}, {100, 2}}) {
      ASSERT_TRUE(same_bits(run(c, chunk, threads), whole))
          << n << " in " << chunk << " on " << threads;
    }
    if (n <= 129 || n == 513) {
      ASSERT_TRUE(same_bits(run(c, 1, 2), whole)) << n << " one by one";
    }
  }
}

TEST_P(AttendTest, NeighboursDoNotShow) {
  if (base.mask == Mask::kFull) GTEST_SKIP() << "spans of one chunk each: see below";
  const Case a = random_case(base, 1, 600), b = random_case(base, 2, 70),
             c = random_case(base, 3, 3);
  const auto alone_a = run(a, 0, 1), alone_b = run(b, 0, 1), alone_c = run(c, 0, 1);
  for (const int threads : {1, 2, 3}) {
    auto pool = pool_for(a, 600, 3);
    auto context = context_of(threads);
    Stream sa{&a, pool->new_sequence().value()}, sb{&b, pool->new_sequence().value()},
        sc{&c, pool->new_sequence().value()};
    std::vector<float> ya, yb, yc;
    const auto take = [](std::vector<float>& all, const std::vector<float>& part) {
      all.insert(all.end(), part.begin(), part.end());
    };
    auto first = step(*context, {{&sb, 65}, {&sa, 590}, {&sc, 1}});
    take(yb, first[0]), take(ya, first[1]), take(yc, first[2]);
    auto second = step(*context, {{&sa, 9}, {&sc, 1}, {&sb, 4}});
    take(ya, second[0]), take(yc, second[1]), take(yb, second[2]);
    auto third = step(*context, {{&sa, 1}, {&sb, 1}, {&sc, 1}});  // a batch of decodes
    take(ya, third[0]), take(yb, third[1]), take(yc, third[2]);
    EXPECT_TRUE(same_bits(ya, alone_a)) << threads;
    EXPECT_TRUE(same_bits(yb, alone_b)) << threads;
    EXPECT_TRUE(same_bits(yc, alone_c)) << threads;
  }
}

TEST(Attend, FullMaskBesideNeighbours) {
  const Case a = random_case({.mask = Mask::kFull}, 1, 90),
             b = random_case({.mask = Mask::kFull}, 2, 30);
  auto pool = pool_for(a, 90, 2);
  auto context = context_of(2);
  Stream sa{&a, pool->new_sequence().value()}, sb{&b, pool->new_sequence().value()};
  const auto both = step(*context, {{&sa, 90}, {&sb, 30}});
  EXPECT_TRUE(same_bits(both[0], run(a, 0, 1)));
  EXPECT_TRUE(same_bits(both[1], run(b, 0, 3)));
}

// Pages come back with what another sequence left in them; slots not yet filled must not be seen.
TEST(Attend, RecycledPagesAreAsGoodAsNew) {
  Case loud = random_case({}, 1, 128);
  for (float& x : loud.k) x *= 3e4f;
  for (float& x : loud.v) x *= 6e4f;
  const Case quiet = random_case({}, 2, 70);
  auto pool = pool_for(loud, 128, 1);
  auto context = context_of(2);
  {
    Stream stream{&loud, pool->new_sequence().value()};
    step(*context, {{&stream, 128}});
  }
  Stream stream{&quiet, pool->new_sequence().value()};
  EXPECT_TRUE(same_bits(step(*context, {{&stream, 70}})[0], run(quiet, 0, 1)));
}

// A value that overflowed to infinity belongs to later tokens only, though a tile computes them
// together.
TEST(Attend, LaterInfinitiesAreNotSeen) {
  Case c = random_case({}, 3, 40);
  Case cut = c;
  cut.q.resize(20 * c.n_heads * c.k_dim);
  cut.k.resize(20 * c.n_kv_heads * c.k_dim);
  cut.v.resize(20 * c.n_kv_heads * c.v_dim);
  for (size_t i = cut.v.size(); i < c.v.size(); ++i) c.v[i] = 1e6f;
  const auto all = run(c, 0, 1), early = run(cut, 0, 1);
  EXPECT_TRUE(same_bits(all.data(), early.data(), static_cast<int64_t>(early.size())));
}

// The comparisons can fail: the same keys at other absolute positions are summed in another order.
TEST(Attend, AnotherSumOrderIsSeen) {
  constexpr int64_t kWindow = 100, kShift = 37;
  const Case a = random_case({.window = kWindow}, 4, kWindow);
  Case b = random_case({.window = kWindow}, 5, kWindow + kShift);
  std::copy(a.k.begin(), a.k.end(), b.k.end() - static_cast<int64_t>(a.k.size()));
  std::copy(a.v.begin(), a.v.end(), b.v.end() - static_cast<int64_t>(a.v.size()));
  std::copy(a.q.begin(), a.q.end(), b.q.end() - static_cast<int64_t>(a.q.size()));
  const auto ya = run(a, 0, 1), yb = run(b, 0, 1);
  const int64_t row = int64_t{a.n_heads} * a.v_dim;
  const float *last_a = &ya[ya.size() - row], *last_b = &yb[yb.size() - row];
  EXPECT_FALSE(same_bits(last_a, last_b, row));
  for (int64_t i = 0; i < row; ++i) EXPECT_NEAR(last_a[i], last_b[i], 1e-5);
}

// ---- goldens of torch
// -----------------------------------------------------------------------------

TEST(Attend, Goldens) {
  const auto goldens = read_golden("attention.json", "cases");
  ASSERT_GE(goldens.size(), 13u);
  for (const auto& g : goldens) {
    Case c{.n_heads = g["n_heads"],
           .n_kv_heads = g["n_kv_heads"],
           .k_dim = g["head_dim"],
           .v_dim = g["v_dim"],
           .scale = g["scale"],
           .soft_cap = g["softcap"],
           .window = g["window"],
           .mask = g["causal"].get<bool>() ? Mask::kCausal : Mask::kFull,
           .sinks = numbers(g["sinks"]),
           .q = numbers(g["q"]),
           .k = numbers(g["k"]),
           .v = numbers(g["v"])};
    const auto name = g["name"].get<std::string>();
    ASSERT_EQ(c.n_queries(), g["n_queries"].get<int64_t>()) << name;
    ASSERT_EQ(c.n_keys(), g["n_keys"].get<int64_t>()) << name;
    // The dense reference is torch's …
    const auto golden = numbers(g["out"]);
    const Reference plain = dense(c, false);
    for (size_t i = 0; i < golden.size(); ++i) ASSERT_NEAR(plain.out[i], golden[i], 1e-6) << name;
    // … and ours is the dense reference's for keys and values as the cache holds them.
    const Reference stored = dense(c, true);
    const double v_max = *std::max_element(
        c.v.begin(), c.v.end(), [](float a, float b) { return std::fabs(a) < std::fabs(b); });
    const double limit = bound(c, stored, std::fabs(v_max));
    const int64_t prefix = c.n_keys() - c.n_queries();
    for (const int64_t chunk : {prefix, int64_t{c.mask == Mask::kFull ? 0 : 1}}) {
      const auto y = run(c, chunk, 2);
      for (size_t i = 0; i < y.size(); ++i)
        EXPECT_NEAR(y[i], stored.out[i], limit) << name << " at " << i;
    }
  }
}

// Our frequencies for a golden, or, for a scheme that the model files bring, the golden's own.
std::vector<double> frequencies_of(const nlohmann::json& g) {
  const std::string scaling = g.value("scaling", "");
  if (scaling.empty()) return Rope::plain(g["n_rot"], g["base"]);
  if (scaling == "linear") return Rope::plain(g["n_rot"], g["base"], g["factor"]);
  if (scaling == "yarn")
    return Rope::yarn(g["n_rot"], g["base"], g["factor"], g["original_context"], g["beta_fast"],
                      g["beta_slow"]);
  return g["frequencies"].get<std::vector<double>>();
}

TEST(Attend, GoldenRope) {
  const auto goldens = read_golden("ops.json", "rope");
  ASSERT_GE(goldens.size(), 7u);
  for (const auto& g : goldens) {
    Rope rope{.frequencies = frequencies_of(g),
              .interleaved = g["pairing"] == "norm",
              .magnitude = g["magnitude"]};
    const auto listed =
        g["frequencies"].get<std::vector<double>>();  // as f32: off by 2^-24 of themselves
    ASSERT_EQ(rope.frequencies.size(), listed.size());
    for (size_t i = 0; i < listed.size(); ++i)
      EXPECT_NEAR(rope.frequencies[i], listed[i], listed[i] * 0x1p-23);
    const double angle_error = g.value("scaling", "") == "llama3" ? 0x1p-24 : 0;  // per position
    const int64_t head_dim = g["head_dim"], heads = g["n_heads"], half = rope.dims() / 2;
    ASSERT_EQ(rope.dims(), g["n_rot"].get<int64_t>());
    auto x = numbers(g["x"]);
    const auto out = numbers(g["out"]);
    std::vector<float> cosine(half), sine(half), scratch(rope.dims());
    size_t at = 0;
    for (const int64_t position : g["positions"].get<std::vector<int64_t>>()) {
      rope.table(position, cosine.data(), sine.data());
      for (int64_t h = 0; h < heads; ++h, at += head_dim) {
        rope.rotate(&x[at], cosine.data(), sine.data(), scratch.data());
        for (int64_t i = 0; i < head_dim; ++i) {
          // Interleaved pairs come out in halves order.
          const int64_t ours = !rope.interleaved || i >= rope.dims() ? i : i / 2 + i % 2 * half;
          // Values to 4: roundings of cosine, magnitude, product and sum, 2^-24 each.
          EXPECT_NEAR(x[at + ours], out[at + i],
                      4 * (4 * 0x1p-24 + angle_error * static_cast<double>(position)))
              << g["name"] << i;
        }
      }
    }
    ASSERT_EQ(at, x.size());
  }
}

// Rotated at store: only the distance between query and key matters to the score.
TEST(Attend, RopeSeesDistancesOnly) {
  Rope rope{.frequencies = Rope::plain(24, 100.0)};
  std::vector<float> scratch(24), cosine(12), sine(12);
  const auto dot = [&](int64_t pq, int64_t pk) {
    auto q = floats(1, 24), k = floats(2, 24);
    rope.table(pq, cosine.data(), sine.data());
    rope.rotate(q.data(), cosine.data(), sine.data(), scratch.data());
    rope.table(pk, cosine.data(), sine.data());
    rope.rotate(k.data(), cosine.data(), sine.data(), scratch.data());
    double sum = 0;
    for (int i = 0; i < 24; ++i) sum += double{q[i]} * k[i];
    return sum;
  };
  EXPECT_NEAR(dot(7, 3), dot(10007, 10003), 1e-5);
  EXPECT_GT(std::fabs(dot(7, 3) - dot(7, 4)), 1e-3);
}

// ---- cost and memory
// --------------------------------------------------------------------------------

TEST(Attend, CostFollowsTheClosedForm) {
  const Case c;
  for (const auto& [n, window] :
       {std::pair<uint64_t, int64_t>{1, 0}, {100, 0}, {700, 0}, {700, 64}, {50, 64}}) {
    auto shape = Context::shape(2);
    Step s;
    s.tokens.resize(n);
    s.spans.push_back({.row_begin = 0, .n_rows = static_cast<int64_t>(n)});
    AttendParams p = c.params();
    p.window = window;
    Act q = shape->allocate(n, c.n_heads * c.k_dim), k = shape->allocate(n, c.n_kv_heads * c.k_dim),
        v = shape->allocate(n, c.n_kv_heads * c.v_dim);
    attend(*shape, s, p, q, k, v);
    const uint64_t w = window ? std::min<uint64_t>(window, n) : n;
    const uint64_t pairs = w * (w + 1) / 2 + (n - w) * w;
    EXPECT_EQ(shape->costs().back().f32_macs, pairs * c.n_heads * (c.k_dim + c.v_dim));
  }
}

TEST(Attend, ShapeModePlansTheArena) {
  for (const int64_t n : {1, 7, 200}) {
    const Case c = random_case({}, 1, n);
    auto shape = Context::shape(3);
    {
      Step s;
      s.tokens.resize(n);
      s.spans.push_back({.row_begin = 0, .n_rows = n});
      Act q = shape->allocate(n, c.n_heads * c.k_dim),
          k = shape->allocate(n, c.n_kv_heads * c.k_dim),
          v = shape->allocate(n, c.n_kv_heads * c.v_dim);
      const Act y = attend(*shape, s, c.params(), q, k, v);
    }
    auto ledger = Ledger::create();
    auto context =
        Context::run(ledger, std::make_shared<ThreadPool>(3), shape->arena_peak()).value();
    const uint64_t planned = ledger->held();
    auto pool = pool_for(c, n, 1);
    Stream stream{&c, pool->new_sequence().value()};
    step(*context, {{&stream, n}});
    EXPECT_EQ(ledger->peak(), planned) << n;
  }
}

}  // namespace
}  // namespace venturi
