// A trace of repeated words: each word's experts are its own, and words come in no order, so that
// neither recency nor frequency foretells anything, but the first layer gives the word away.
#include "memory/eviction/recall.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

namespace venturi {
namespace {

constexpr ExpertShape kShape{.n_layers = 6, .n_experts = 70};  // more than a word of bits
constexpr int kChosen = 7, kWords = 10;

class Words {
 public:
  explicit Words(unsigned seed) : random_(seed) {
    std::vector<int32_t> all(static_cast<size_t>(kShape.n_experts));
    std::iota(all.begin(), all.end(), 0);
    for (auto& word : chosen_)
      for (auto& layer : word) {
        std::shuffle(all.begin(), all.end(), random_);
        layer.assign(all.begin(), all.begin() + kChosen);
      }
  }
  int next() { return static_cast<int>(random_() % kWords); }
  const std::vector<int32_t>& at(int word, int64_t layer) const {
    return chosen_[word][static_cast<size_t>(layer)];
  }

 private:
  std::mt19937 random_;
  std::vector<int32_t> chosen_[kWords][kShape.n_layers];
};

TEST(Recall, AStepThatBeginsLikeAnotherGoesOnLikeIt) {
  Recall recall(kShape);
  Words words(1);
  const std::vector<float> chance(static_cast<size_t>(kShape.n_experts),
                                  static_cast<float>(kChosen) / kShape.n_experts);
  const std::vector<float> odds(chance.size(), Recall::log_odds(chance[0]));
  std::vector<float> shift(chance.size());
  for (int step = 0; step < 1500; ++step) {  // more than are remembered
    const int word = words.next();
    for (int64_t layer = 0; layer < kShape.n_layers; ++layer) {
      recall.chosen(layer, words.at(word, layer), chance);
      if (step < 100) continue;
      for (int64_t next = layer + 1; next < kShape.n_layers; ++next) {
        recall.foretell(next, chance, odds, shift);
        const auto& true_ones = words.at(word, next);
        for (int32_t e = 0; e < kShape.n_experts; ++e) {
          const bool chosen = std::find(true_ones.begin(), true_ones.end(), e) != true_ones.end();
          ASSERT_EQ(shift[static_cast<size_t>(e)] > 0.5f, chosen)
              << step << ", layer " << next << ", expert " << e;
        }
      }
    }
  }
}

// A step of so many rows that it chooses most experts repeats nothing, and nothing repeats it.
TEST(Recall, StepsOfManyRowsSayNothing) {
  Recall recall(kShape);
  const std::vector<float> chance(static_cast<size_t>(kShape.n_experts), 0.1f);
  const std::vector<float> odds(chance.size(), Recall::log_odds(chance[0]));
  std::vector<float> shift(chance.size());
  std::vector<int32_t> most(60), few(kChosen);
  std::iota(most.begin(), most.end(), 0);
  std::iota(few.begin(), few.end(), 0);
  for (const auto* experts : {&most, &most, &few, &most})
    for (int64_t layer = 0; layer < kShape.n_layers; ++layer) {
      recall.chosen(layer, *experts, chance);
      recall.foretell((layer + 1) % kShape.n_layers, chance, odds, shift);
      for (const float s : shift) ASSERT_NEAR(s, 0, 1e-5);
    }
}

TEST(Forecast, KnowsTheWordAfterOneLayer) {
  const auto evictor = find_eviction("forecast")->create(kShape);
  Words words(2);
  double right = 0, wrong = 0;
  int64_t steps = 0;
  for (int step = 0; step < 400; ++step) {
    const int word = words.next();
    for (int64_t layer = 0; layer < kShape.n_layers; ++layer) {
      evictor->chosen(layer, words.at(word, layer));
      if (step < 300 || layer + 1 == kShape.n_layers) continue;
      ++steps;
      const auto& true_ones = words.at(word, layer + 1);
      for (int32_t e = 0; e < kShape.n_experts; ++e) {
        if (evictor->likelihood(layer + 1, e) < 0.5) continue;
        (std::find(true_ones.begin(), true_ones.end(), e) != true_ones.end() ? right : wrong) += 1;
      }
    }
  }
  EXPECT_GT(right, 0.9 * kChosen * static_cast<double>(steps));
  EXPECT_LT(wrong, 0.1 * kChosen * static_cast<double>(steps));
}

}  // namespace
}  // namespace venturi
