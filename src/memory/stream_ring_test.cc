#include "memory/stream_ring.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/random.h"
#include "formats/test_files.h"

namespace venturi {
namespace {

using testing::HasSubstr;

constexpr uint64_t kSize = 1'000'001;

class StreamRingTest : public testing::Test {
 protected:
  void SetUp() override {
    bytes_.resize(kSize);
    for (size_t i = 0; i < bytes_.size(); ++i) bytes_[i] = static_cast<uint8_t>(random_bits(3, 4, i));
    std::ofstream(path(), std::ios::binary).write(reinterpret_cast<const char*>(bytes_.data()), kSize);
    // Of odd places and sizes.
    for (uint64_t i = 0, at = 77; i < 20; ++i) {
      const uint64_t n = 1 + random_bits(5, 6, i) % 40'000;
      sources_.push_back({0, at, n});
      at += n + i * 100;
    }
    for (const auto& s : sources_) largest_ = std::max(largest_, s.cover());
  }
  std::string path() const { return folder_.path + "/data"; }
  void make(uint64_t window, std::vector<int32_t> cycle) {
    disk_.reset();
    disk_ = DiskReader::create({.request_bytes = 8192, .depth = 4}).value();
    ASSERT_TRUE(disk_->add(File::open(path()).value()));
    auto ledger = Ledger::create();
    ring_ = std::make_unique<StreamRing>(*disk_, Buffer::allocate(*ledger, window, "window").value(), sources_,
                                         std::move(cycle));
  }
  // Takes a source, compares its bytes, gives it back.
  void take(int32_t id) {
    const auto slot = ring_->acquire(id);
    ASSERT_TRUE(slot) << slot.error().message;
    EXPECT_EQ(std::memcmp(slot->data, bytes_.data() + sources_[id].offset, sources_[id].bytes), 0) << id;
    ring_->release(slot->ticket);
  }

  TemporaryFolder folder_;
  std::vector<uint8_t> bytes_;
  std::vector<StreamRing::Source> sources_;
  uint64_t largest_ = 0;
  std::unique_ptr<StreamRing> ring_;
  std::unique_ptr<DiskReader> disk_;
};

TEST_F(StreamRingTest, GoesRoundInOrderAndReadsEverythingOnce) {
  std::vector<int32_t> cycle;
  uint64_t round_bytes = 0;
  for (int32_t i = 0; i < 20; ++i) {
    cycle.push_back(i * 7 % 20);
    round_bytes += sources_[i].cover();
  }
  for (const uint64_t window : {largest_, 2 * largest_, 3 * largest_ + 4096, 2 * kSize}) {
    make(window, cycle);
    constexpr int kRounds = 6;
    for (int round = 0; round < kRounds; ++round)
      for (const int32_t id : cycle) take(id);
  }
  make(2 * largest_, cycle);
  for (int round = 0; round < 6; ++round)
    for (const int32_t id : cycle) take(id);
  const uint64_t read = disk_->counters().bytes;
  EXPECT_LE(read, 6 * round_bytes + 2 * largest_);  // and what is ahead
}

TEST_F(StreamRingTest, AnyOrderGivesTheRightBytes) {
  std::vector<int32_t> cycle;
  for (int32_t i = 0; i < 15; ++i) cycle.push_back(i);  // 15 to 19 are strangers
  cycle.push_back(3);                                    // and one comes twice
  for (const uint64_t window : {largest_, 2 * largest_, 5 * largest_}) {
    make(window, cycle);
    for (uint64_t i = 0; i < 300; ++i) take(static_cast<int32_t>(random_bits(window, 8, i) % 20));
    // Long walks with a jump now and then.
    for (uint64_t i = 0, at = 0; i < 300; ++i, ++at) {
      if (random_bits(window, 9, i) % 10 == 0) at += random_bits(window, 10, i) % 16;
      take(cycle[at % cycle.size()]);
    }
  }
}

TEST_F(StreamRingTest, WhatIsExpectedComesFirst) {
  make(4 * largest_, {});
  const int32_t wanted[] = {5, 2, 19};
  ring_->expect(wanted);
  for (const int32_t id : wanted) take(id);
  take(7);  // not announced
  const int32_t skipped[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  ring_->expect(skipped);
  take(8);
  take(10);
  ring_->expect({});
  take(0);
}

TEST_F(StreamRingTest, NoRoomIsAnErrorAndNoDeadlock) {
  make(largest_ + 4096, {0, 1, 2, 3});
  const auto largest = std::max_element(sources_.begin(), sources_.end(), [](const auto& a, const auto& b) {
    return a.cover() < b.cover();
  });
  const auto held = ring_->acquire(static_cast<int32_t>(largest - sources_.begin()));
  ASSERT_TRUE(held);
  const auto more = ring_->acquire(static_cast<int32_t>((largest - sources_.begin() + 1) % 20));
  ASSERT_FALSE(more);
  EXPECT_THAT(more.error().message, HasSubstr("no room"));
  ring_->release(held->ticket);
  take(1);
}

TEST_F(StreamRingTest, AFailedReadFailsItsOwnAcquireOnly) {
  std::vector<int32_t> cycle;
  for (int32_t i = 0; i < 20; ++i) cycle.push_back(i);
  make(3 * largest_, cycle);
  std::filesystem::resize_file(path(), sources_[10].offset);
  for (int32_t i = 0; i < 10; ++i) take(i);
  for (int32_t i = 10; i < 13; ++i) {
    const auto slot = ring_->acquire(i);
    ASSERT_FALSE(slot);
    EXPECT_EQ(slot.error().code, Code::kIo);
  }
  for (int32_t i = 0; i < 10; ++i) take(i);
}

}  // namespace
}  // namespace venturi
