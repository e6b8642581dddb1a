#include "cache/block_writer.h"

#include <utility>

#include "base/clock.h"

namespace venturi {

BlockWriter::~BlockWriter() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void BlockWriter::write(uint64_t id, int64_t block, uint64_t offset, Pieces pieces) {
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back({id, block, offset, std::move(pieces)});
  }
  wake_.notify_one();
}

std::vector<BlockWriter::Written> BlockWriter::take_written() {
  const std::lock_guard lock(mutex_);
  return std::exchange(written_, {});
}

void BlockWriter::wait() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [&] { return jobs_.empty() && !busy_; });
}

Status BlockWriter::write_now(uint64_t offset, const Pieces& pieces) {
  const std::lock_guard lock(disk_);
  return file_.write(offset, pieces);
}

void BlockWriter::loop() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return stopping_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    const Job job = std::move(jobs_.front());
    jobs_.pop_front();
    busy_ = true;
    lock.unlock();
    const double begin = now_seconds();
    Status status = write_now(job.offset, job.pieces);
    const double seconds = now_seconds() - begin;
    lock.lock();
    busy_ = false;
    written_.push_back({job.id, job.block, std::move(status), seconds});
    if (jobs_.empty()) idle_.notify_all();
  }
}

}  // namespace venturi
