#include "memory/neurons/window.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <list>

#include "base/random.h"

namespace venturi {
namespace {

// The window, filled as it goes, beside a plain list in order of last use: the same neurons, step for step.
TEST(NeuronWindow, KeepsTheMostRecent) {
  for (const int64_t slots : {0, 1, 7, 20, 40, 64}) {
    NeuronWindow window(40, slots);
    const size_t n_slots = static_cast<size_t>(std::min<int64_t>(slots, 40));
    std::list<int32_t> plain;  // held, least recent first
    for (uint64_t step = 0; step < 300; ++step) {
      std::vector<int32_t> neurons;
      const double density = step % 7 == 0 ? 0.9 : 0.2;
      for (int32_t n = 0; n < 40; ++n)
        if (random_uniform(1, step, static_cast<uint64_t>(n)) < density) neurons.push_back(n);
      for (size_t i = neurons.size(); i > 1; --i)
        std::swap(neurons[i - 1], neurons[random_bits(2, step, i) % i]);
      window.use(neurons);
      // Those that are held stay, the others come in from the most recent on, as far as there is room.
      size_t held = 0;
      for (const int32_t n : neurons) held += std::find(plain.begin(), plain.end(), n) != plain.end();
      size_t skip = neurons.size() - held > n_slots - held ? neurons.size() - n_slots : 0;
      std::vector<int32_t> now;
      for (const int32_t n : neurons) {
        const bool is_held = std::find(plain.begin(), plain.end(), n) != plain.end();
        if (!is_held && skip > 0) {
          --skip;
          continue;
        }
        now.push_back(n);
      }
      for (const int32_t n : now) plain.remove(n);
      plain.insert(plain.end(), now.begin(), now.end());
      while (plain.size() > n_slots) plain.pop_front();
      std::vector<bool> taken(n_slots);
      for (int32_t n = 0; n < 40; ++n) {
        const bool expected = std::find(plain.begin(), plain.end(), n) != plain.end();
        ASSERT_EQ(window.slot_of(n) != NeuronWindow::kNone, expected) << "slots " << slots << " step " << step << " neuron " << n;
        if (!expected) continue;
        ASSERT_LT(static_cast<size_t>(window.slot_of(n)), n_slots);
        ASSERT_FALSE(taken[static_cast<size_t>(window.slot_of(n))]);
        taken[static_cast<size_t>(window.slot_of(n))] = true;
        if (!window.holds(n)) window.fill(n);
      }
    }
  }
}

TEST(NeuronWindow, WhatIsDroppedIsFree) {
  NeuronWindow window(4, 2);
  const int32_t first[] = {0, 1}, second[] = {2};
  window.use(first);
  window.fill(0);
  EXPECT_TRUE(window.holds(0));
  EXPECT_FALSE(window.holds(1));
  window.drop(1);
  window.use(second);
  EXPECT_TRUE(window.holds(0));
  EXPECT_NE(window.slot_of(2), NeuronWindow::kNone);
}

}  // namespace
}  // namespace venturi
