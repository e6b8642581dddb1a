// Memory for pages that are about to be taken, asked for before a step writes them.
//
// What is written for the first time is given in that moment: the kernel clears a huge page, and of a guest's its host
// does so once more. All slots of a model come to a fresh huge page in the same step, a hundred megabytes together, and
// that step takes several times as long as the others. Here a thread of low priority asks for each slot's next huge page
// while its last one fills. Nothing is asked for that is far from being used; contents do not change.
//
// Threads: used() from the pool's; the thread is joined at the end, before which the memory must not go.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace venturi {

class TouchAhead {
 public:
  struct Region {
    uint8_t* begin = nullptr;
    uint64_t bytes = 0;
    uint64_t stride = 0;  // from page to page; 0: all of it at once
    int group = 0;        // whose pages these are; of a stride of 0 any
  };
  TouchAhead(std::vector<Region> regions, int groups);
  ~TouchAhead();
  TouchAhead(const TouchAhead&) = delete;
  TouchAhead& operator=(const TouchAhead&) = delete;

  // A page of the group is taken; those before it are, or have been.
  void used(int group, int32_t page);
  uint64_t touched_bytes() const { return touched_bytes_.load(std::memory_order_relaxed); }

 private:
  void loop();
  uint64_t wanted(const Region& region) const;

  const std::vector<Region> regions_;
  std::vector<uint64_t> touched_;             // [region]
  std::vector<std::atomic<int32_t>> highest_;  // [group] page taken; -1: none
  std::atomic<uint32_t> changes_ = 0;
  std::atomic<bool> stopping_ = false;
  std::atomic<uint64_t> touched_bytes_ = 0;
  std::thread thread_;
};

}  // namespace venturi
