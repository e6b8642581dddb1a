// Blocks on their way to a scratch file, written by a thread of its own beside whoever computes.
//
// Threads: every member from one thread; the blocks' memory must not change until they are written. Failure: of a block,
// in what is told of it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "base/scratch_file.h"

namespace venturi {

class BlockWriter {
 public:
  explicit BlockWriter(ScratchFile& file) : file_(file), thread_([this] { loop(); }) {}
  ~BlockWriter();  // after what was asked for
  BlockWriter(const BlockWriter&) = delete;
  BlockWriter& operator=(const BlockWriter&) = delete;

  using Pieces = std::vector<std::span<const uint8_t>>;
  struct Written {
    uint64_t id = 0;
    int64_t block = 0;
    Status status;
    double seconds = 0;
  };
  // Beside; `id` is the caller's name for it.
  void write(uint64_t id, int64_t block, uint64_t offset, Pieces pieces);
  // What has been written since this was asked.
  std::vector<Written> take_written();
  void wait();  // until all is written
  // At once, behind the block that is being written.
  Status write_now(uint64_t offset, const Pieces& pieces);

 private:
  struct Job {
    uint64_t id;
    int64_t block;
    uint64_t offset;
    Pieces pieces;
  };
  void loop();

  ScratchFile& file_;
  std::mutex disk_;  // ScratchFile::write is for one at a time
  std::mutex mutex_;  // of what follows
  std::condition_variable wake_, idle_;
  std::deque<Job> jobs_;
  std::vector<Written> written_;
  bool busy_ = false, stopping_ = false;
  std::thread thread_;  // last: everything is there when it starts
};

}  // namespace venturi
