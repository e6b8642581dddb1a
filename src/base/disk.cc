#include "base/disk.h"

#include <fcntl.h>
#include <liburing.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "base/log.h"

namespace venturi {

namespace {

struct OpenFile {
  std::string path;
  int fd = -1;
  bool direct = false;
};

// A DiskRead that is on its way.
struct Job {
  DiskRead read;
  int left = 0;  // requests that have not ended
  Status status;  // of the first part of the file that failed, at failed_at
  uint64_t failed_at = UINT64_MAX;
};

// One system call's worth of a job: whole blocks, of which the first `needed` bytes must arrive (the
// last block of a file is cut off by its end).
struct Request {
  Job* job;
  int fd;
  uint64_t offset, bytes, needed;
  uint8_t* buffer;
};

}  // namespace

// What both ways of reading share: files, requests that wait, and what becomes of a result.
struct DiskReader::Core {
  explicit Core(const DiskOptions& o) : options(o) {}
  ~Core() {
    for (const OpenFile& file : files) ::close(file.fd);
  }

  const DiskOptions options;
  std::mutex mutex;
  std::condition_variable idle;
  std::deque<OpenFile> files;   // stable addresses
  std::deque<Request*> waiting;
  int jobs = 0;
  DiskCounters counters;

  Request* next() {  // with the lock
    if (waiting.empty()) return nullptr;
    Request* request = waiting.front();
    waiting.pop_front();
    request->fd = files[request->job->read.file].fd;
    ++counters.requests;
    return request;
  }

  // `result`: bytes read, or -errno. Without the lock. What is not over goes back to the queue.
  void finish(Request* request, int64_t result);
  // Ends the request and, if it was its last, the job.
  void end(Request* request, Status status);
  bool use_buffered(int file);
  void wait_until_idle() {
    std::unique_lock lock(mutex);
    idle.wait(lock, [&] { return jobs == 0; });
  }
};

// The file refuses direct reads after all: from now on through the page cache.
bool DiskReader::Core::use_buffered(int file) {
  std::lock_guard lock(mutex);
  OpenFile& f = files[file];
  if (!f.direct) return false;
  f.direct = false;
  return fcntl(f.fd, F_SETFL, 0) == 0;
}

void DiskReader::Core::finish(Request* request, int64_t result) {
  const DiskRead& read = request->job->read;
  bool direct;
  std::string path;
  {
    std::lock_guard lock(mutex);
    direct = files[read.file].direct;
    path = files[read.file].path;
    if (result > 0) counters.bytes += static_cast<uint64_t>(result);
  }
  if (result > 0 && !direct)
    posix_fadvise(request->fd, static_cast<off_t>(request->offset), result, POSIX_FADV_DONTNEED);
  const auto again = [&] {
    std::lock_guard lock(mutex);
    waiting.push_front(request);
  };
  if (result == -EINTR || result == -EAGAIN) return again();
  if (result == -EINVAL && use_buffered(read.file)) return again();
  if (result < 0)
    return end(request, error(Code::kIo, "{}: reading {} bytes at offset {} failed: {}", path, request->needed,
                              request->offset, std::strerror(static_cast<int>(-result))));
  if (static_cast<uint64_t>(result) >= request->needed) return end(request, {});
  // Short: go on after the last whole block. Less than a block more is the end of the file.
  const uint64_t moved = static_cast<uint64_t>(result) / options.align * options.align;
  if (moved == 0)
    return end(request, error(Code::kIo, "{}: the file ends at {}, but {} more bytes are needed there; was it truncated?",
                              path, request->offset + static_cast<uint64_t>(result),
                              request->needed - static_cast<uint64_t>(result)));
  request->offset += moved;
  request->buffer += moved;
  request->bytes -= moved;
  request->needed -= moved;
  again();
}

void DiskReader::Core::end(Request* request, Status status) {
  Job* job = request->job;
  const uint64_t offset = request->offset;
  delete request;
  {
    std::lock_guard lock(mutex);
    if (!status && offset < job->failed_at) {
      job->status = std::move(status);
      job->failed_at = offset;
    }
    if (--job->left > 0) return;
  }
  if (job->read.done) job->read.done(std::move(job->status));
  delete job;
  std::lock_guard lock(mutex);
  if (--jobs == 0) idle.notify_all();
}

DiskReader::DiskReader(std::unique_ptr<Core> core) : core_(std::move(core)) {}
DiskReader::~DiskReader() = default;

Result<int> DiskReader::add(const File& file) {
  // Through the descriptor, so that it is the same file whatever the name has come to mean.
  const std::string self = fmt::format("/proc/self/fd/{}", file.fd());
  OpenFile open{.path = file.path()};
  if (core_->options.direct) open.fd = ::open(self.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
  open.direct = open.fd >= 0;
  if (open.fd < 0) open.fd = ::open(self.c_str(), O_RDONLY | O_CLOEXEC);
  if (open.fd < 0) return error(Code::kIo, "cannot open {} again: {}", file.path(), std::strerror(errno));
  if (!open.direct) posix_fadvise(open.fd, 0, 0, POSIX_FADV_RANDOM);  // no read-ahead: we are the read-ahead
  std::lock_guard lock(core_->mutex);
  core_->files.push_back(std::move(open));
  return static_cast<int>(core_->files.size()) - 1;
}

void DiskReader::submit(DiskRead read) {
  enqueue(std::move(read));
  wake();
}

void DiskReader::submit(std::vector<DiskRead> reads) {
  for (DiskRead& read : reads) enqueue(std::move(read));
  wake();
}

void DiskReader::enqueue(DiskRead read) {
  const uint64_t align = core_->options.align;
  assert(reinterpret_cast<uintptr_t>(read.buffer) % align == 0);
  auto* job = new Job{.read = std::move(read), .status = {}};
  const DiskRead& r = job->read;
  const uint64_t begin = r.offset / align * align, end = r.offset + r.bytes;
  const uint64_t cover = disk_cover(r.offset, r.bytes, align);
  const uint64_t piece = std::max(core_->options.request_bytes / kDiskAlign * kDiskAlign, kDiskAlign);
  std::vector<Request*> requests;
  for (uint64_t at = 0; at < cover; at += piece) {
    const uint64_t bytes = std::min(piece, cover - at);
    requests.push_back(new Request{job, -1, begin + at, bytes, std::min(bytes, end - begin - at), r.buffer + at});
  }
  if (requests.empty()) requests.push_back(new Request{job, -1, begin, 0, 0, r.buffer});
  job->left = static_cast<int>(requests.size());
  std::lock_guard lock(core_->mutex);
  ++core_->jobs;
  core_->waiting.insert(core_->waiting.end(), requests.begin(), requests.end());
}

Status DiskReader::read(int file, uint64_t offset, uint64_t bytes, uint8_t* buffer) {
  std::mutex mutex;
  std::condition_variable over;
  bool ended = false;
  Status status;
  submit({.file = file, .offset = offset, .bytes = bytes, .buffer = buffer, .done = [&](Status s) {
            std::lock_guard lock(mutex);
            status = std::move(s);
            ended = true;
            over.notify_one();
          }});
  std::unique_lock lock(mutex);
  over.wait(lock, [&] { return ended; });
  return status;
}

uint64_t small_block_size(const File& file) {
  constexpr uint64_t kSmall = 512;
  const std::string self = fmt::format("/proc/self/fd/{}", file.fd());
  const int fd = ::open(self.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
  if (fd < 0) return kDiskAlign;
  // Tried out: what fstat says of it depends on the kernel's age.
  alignas(kSmall) char block[kSmall];
  const ssize_t got = ::pread(fd, block, kSmall, kSmall);
  ::close(fd);
  return got == static_cast<ssize_t>(kSmall) ? kSmall : kDiskAlign;
}

DiskCounters DiskReader::counters() const {
  std::lock_guard lock(core_->mutex);
  return core_->counters;
}

bool DiskReader::direct(int file) const {
  std::lock_guard lock(core_->mutex);
  return core_->files[file].direct;
}

namespace {

// ---- io_uring: one thread collects what has ended and sends out what waits ------------------------

class RingReader : public DiskReader {
 public:
  RingReader(std::unique_ptr<Core> core, const io_uring& ring) : DiskReader(std::move(core)), ring_(ring) {
    collector_ = std::thread([this] { collect(); });
  }
  ~RingReader() override {
    core_->wait_until_idle();
    {
      // An entry without a request ends the collector.
      std::lock_guard lock(core_->mutex);
      io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
      io_uring_prep_nop(sqe);
      io_uring_sqe_set_data(sqe, nullptr);
      send();
    }
    collector_.join();
    io_uring_queue_exit(&ring_);
  }
  std::string_view backend() const override { return "io_uring"; }

  static Result<io_uring> open(int depth) {
    io_uring ring;
    // One more than the depth, for the entry that ends the collector.
    int code = io_uring_queue_init(static_cast<unsigned>(depth + 1), &ring, 0);
    if (code < 0) return error(Code::kIo, "io_uring is refused here: {}", std::strerror(-code));
    io_uring_probe* probe = io_uring_get_probe_ring(&ring);
    const bool reads = probe && io_uring_opcode_supported(probe, IORING_OP_READ);
    if (probe) io_uring_free_probe(probe);
    if (reads) return ring;
    io_uring_queue_exit(&ring);
    return error(Code::kIo, "this kernel's io_uring cannot read");
  }

 protected:
  void wake() override {
    std::lock_guard lock(core_->mutex);
    send_waiting();
  }

 private:
  void send() {
    // Refused for the moment (memory, or a completion queue that is being emptied): what was prepared
    // stays in the queue.
    while (io_uring_submit(&ring_) < 0) std::this_thread::yield();
  }
  void send_waiting() {
    bool any = false;
    while (in_flight_ < core_->options.depth) {
      Request* request = core_->next();
      if (!request) break;
      io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
      assert(sqe);
      io_uring_prep_read(sqe, request->fd, request->buffer, static_cast<unsigned>(request->bytes), request->offset);
      io_uring_sqe_set_data(sqe, request);
      ++in_flight_;
      any = true;
    }
    if (any) send();
  }
  void collect() {
    for (;;) {
      io_uring_cqe* cqe = nullptr;
      if (io_uring_wait_cqe(&ring_, &cqe) < 0) continue;  // interrupted
      auto* request = static_cast<Request*>(io_uring_cqe_get_data(cqe));
      const int result = cqe->res;
      io_uring_cqe_seen(&ring_, cqe);
      if (!request) return;
      // The queue is filled again before anybody is told.
      {
        std::lock_guard lock(core_->mutex);
        --in_flight_;
        send_waiting();
      }
      core_->finish(request, result);
      wake();  // what was short goes on
    }
  }

  io_uring ring_;
  int in_flight_ = 0;
  std::thread collector_;
};

// ---- threads: each reads one request at a time ----------------------------------------------------

class ThreadReader : public DiskReader {
 public:
  explicit ThreadReader(std::unique_ptr<Core> core) : DiskReader(std::move(core)) {
    for (int i = 0; i < core_->options.depth; ++i) threads_.emplace_back([this] { serve(); });
  }
  ~ThreadReader() override {
    core_->wait_until_idle();
    {
      std::lock_guard lock(core_->mutex);
      stop_ = true;
    }
    work_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  std::string_view backend() const override { return "threads"; }

 protected:
  void wake() override { work_.notify_all(); }

 private:
  void serve() {
    for (;;) {
      Request* request = nullptr;
      {
        std::unique_lock lock(core_->mutex);
        work_.wait(lock, [&] { return stop_ || (request = core_->next()); });
        if (!request) return;
      }
      const ssize_t got = ::pread(request->fd, request->buffer, request->bytes, static_cast<off_t>(request->offset));
      core_->finish(request, got < 0 ? -errno : got);
    }
  }

  bool stop_ = false;
  std::condition_variable work_;
  std::vector<std::thread> threads_;
};

}  // namespace

Result<std::unique_ptr<DiskReader>> DiskReader::create(const DiskOptions& options) {
  if (options.depth < 1 || options.depth > 1024)
    return error(Code::kInvalidArgument, "{} requests in flight; 1 to 1024 make sense", options.depth);
  auto core = std::make_unique<Core>(options);
  if (options.backend != DiskOptions::Backend::kThreads) {
    auto ring = RingReader::open(options.depth);
    if (ring) return std::unique_ptr<DiskReader>(new RingReader(std::move(core), *ring));
    if (options.backend == DiskOptions::Backend::kRing) return std::move(ring).error();
    spdlog::info("{}; reading with threads", ring.error().message);
  }
  return std::unique_ptr<DiskReader>(new ThreadReader(std::move(core)));
}

}  // namespace venturi
