#include "base/disk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/buffer.h"
#include "base/random.h"

namespace venturi {
namespace {

using Backend = DiskOptions::Backend;
using testing::AllOf;
using testing::HasSubstr;

constexpr uint64_t kSize = 5'000'003;  // the last block is a part of one

struct Setting {
  Backend backend;
  bool direct;
};

class DiskTest : public testing::TestWithParam<Setting> {
 protected:
  void SetUp() override {
    // In the build tree, which lies on a disk; /tmp may be memory, which has no direct reads.
    std::string pattern = (std::filesystem::current_path() / "disk-test-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    bytes_.resize(kSize);
    for (size_t i = 0; i < bytes_.size(); ++i) bytes_[i] = static_cast<uint8_t>(random_bits(1, 2, i / 8) >> i % 8 * 8);
    std::ofstream(path(), std::ios::binary).write(reinterpret_cast<const char*>(bytes_.data()), kSize);
    auto file = File::open(path());
    ASSERT_TRUE(file);
    file_ = std::move(file).value();
    memory_ = Buffer::allocate(*Ledger::create(), kSize + 2 * kDiskAlign, "test").value();
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string path() const { return folder_ + "/data"; }

  std::unique_ptr<DiskReader> reader(uint64_t request_bytes = 1 << 20, int depth = 4) {
    auto reader = DiskReader::create({.backend = GetParam().backend, .direct = GetParam().direct,
                                      .request_bytes = request_bytes, .depth = depth});
    if (!reader && GetParam().backend == Backend::kRing) return nullptr;
    EXPECT_TRUE(reader);
    return std::move(reader).value();
  }
  bool same(uint64_t offset, uint64_t n) const {
    return std::memcmp(memory_.data() + offset % kDiskAlign, bytes_.data() + offset, n) == 0;
  }

  std::string folder_;
  std::vector<uint8_t> bytes_;
  File file_;
  Buffer memory_;
};

#define READER_OR_SKIP(name, ...)        \
  auto name = reader(__VA_ARGS__);       \
  if (!name) GTEST_SKIP() << "io_uring is refused here"

TEST_P(DiskTest, AnyRangeArrives) {
  for (const uint64_t request : {4096, 65536, 1 << 20}) {
    READER_OR_SKIP(disk, request);
    const int file = disk->add(file_).value();
    for (const auto& [offset, n] : std::vector<std::pair<uint64_t, uint64_t>>{
             {0, 1}, {0, 4096}, {4095, 2}, {1, 65536}, {12345, 1'234'567}, {0, kSize}, {kSize - 5, 5}, {7, 0}}) {
      std::memset(memory_.data(), 0xee, memory_.size());
      const Status status = disk->read(file, offset, n, memory_.data());
      ASSERT_TRUE(status) << status.error().message;
      EXPECT_TRUE(same(offset, n)) << offset << " + " << n << " in requests of " << request;
      const uint64_t cover = disk_cover(offset, n);
      EXPECT_EQ(memory_.data()[cover], 0xee) << "wrote past the blocks that cover " << offset << " + " << n;
    }
  }
}

TEST_P(DiskTest, ManyAtOnceAndFromManyThreads) {
  READER_OR_SKIP(disk, 8192, 3);
  const int file = disk->add(file_).value();
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      Buffer memory = Buffer::allocate(*Ledger::create(), 100'000, "test").value();
      for (uint64_t i = 0; i < 50; ++i) {
        const uint64_t offset = random_bits(9, t, i) % (kSize - 60'000), n = 1 + random_bits(8, t, i) % 60'000;
        if (!disk->read(file, offset, n, memory.data()) ||
            std::memcmp(memory.data() + offset % kDiskAlign, bytes_.data() + offset, n) != 0)
          ++wrong;
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);

  // One thread, all in flight; the destructor waits for them.
  std::atomic<int> done{0};
  for (uint64_t at = 0; at + 4096 <= kSize; at += 4096)
    disk->submit({.file = file, .offset = at, .bytes = 4096, .buffer = memory_.data() + at,
                  .done = [&](Status s) { done += s.ok(); }});
  disk.reset();
  EXPECT_EQ(done, static_cast<int>(kSize / 4096));
  EXPECT_EQ(std::memcmp(memory_.data(), bytes_.data(), kSize / 4096 * 4096), 0);
}

TEST_P(DiskTest, BytesAreCounted) {
  READER_OR_SKIP(disk, 65536);
  const int file = disk->add(file_).value();
  ASSERT_TRUE(disk->read(file, 4000, 200'000, memory_.data()));
  EXPECT_EQ(disk->counters().bytes, disk_cover(4000, 200'000));
  EXPECT_EQ(disk->counters().requests, 4u);
}

TEST_P(DiskTest, AFileThatWasTruncatedFailsThatReadOnly) {
  READER_OR_SKIP(disk, 65536);
  const int file = disk->add(file_).value();
  std::filesystem::resize_file(path(), 1'000'100);
  const Status beyond = disk->read(file, 900'000, 300'000, memory_.data());
  ASSERT_FALSE(beyond);
  EXPECT_EQ(beyond.error().code, Code::kIo);
  EXPECT_THAT(beyond.error().message, AllOf(HasSubstr(path()), HasSubstr("1000100"), HasSubstr("truncated")));
  const Status none = disk->read(file, 2'000'000, 10, memory_.data());
  ASSERT_FALSE(none);
  const Status before = disk->read(file, 900'000, 100'100, memory_.data());
  ASSERT_TRUE(before) << before.error().message;
  EXPECT_TRUE(same(900'000, 100'100));
}

// The memory of this process at address 0: the kernel answers EIO. It has no direct reads either.
TEST_P(DiskTest, AnErrorNamesFileAndOffset) {
  READER_OR_SKIP(disk);
  auto memory = File::open("/proc/self/mem");
  if (!memory) GTEST_SKIP() << memory.error().message;
  const int file = disk->add(*memory).value();
  EXPECT_FALSE(disk->direct(file));
  const Status status = disk->read(file, 8192, 100, memory_.data());
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kIo);
  EXPECT_THAT(status.error().message,
              AllOf(HasSubstr("/proc/self/mem"), HasSubstr("8192"), HasSubstr("Input/output error")));
  const int good = disk->add(file_).value();
  EXPECT_TRUE(disk->read(good, 0, kSize, memory_.data()));
  EXPECT_TRUE(same(0, kSize));
}

// A descriptor of ours: what closes the caller's does not touch it.
TEST_P(DiskTest, OutlivesTheFileItWasGiven) {
  READER_OR_SKIP(disk);
  const int file = disk->add(file_).value();
  file_ = File();
  std::filesystem::remove(path());
  EXPECT_TRUE(disk->read(file, 1000, 100'000, memory_.data()));
  EXPECT_TRUE(same(1000, 100'000));
  EXPECT_FALSE(disk->add(file_));
}

std::string setting_name(const testing::TestParamInfo<Setting>& info) {
  const char* names[] = {"auto", "ring", "threads"};
  return std::string(names[static_cast<int>(info.param.backend)]) + (info.param.direct ? "_direct" : "_buffered");
}

INSTANTIATE_TEST_SUITE_P(Ways, DiskTest,
                         testing::Values(Setting{Backend::kAuto, true}, Setting{Backend::kRing, true},
                                         Setting{Backend::kRing, false}, Setting{Backend::kThreads, true},
                                         Setting{Backend::kThreads, false}),
                         setting_name);

// Where locked memory is not to be had, kAuto still reads.
TEST(Disk, LittleLockedMemoryIsNoHindrance) {
  const pid_t child = fork();
  if (child == 0) {
    const rlimit none{0, 0};
    setrlimit(RLIMIT_MEMLOCK, &none);
    if (setuid(65534) != 0) _exit(3);  // root is above the limit
    auto file = File::open("/proc/self/exe");
    auto disk = DiskReader::create();
    if (!file || !disk) _exit(1);
    auto number = (*disk)->add(*file);
    Buffer memory = Buffer::allocate(*Ledger::create(), 2 * kDiskAlign, "test").value();
    if (!number || !(*disk)->read(*number, 0, 4, memory.data()) || std::memcmp(memory.data(), "\177ELF", 4) != 0)
      _exit(2);
    disk->reset();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFEXITED(status) && (WEXITSTATUS(status) == 3 || WEXITSTATUS(status) == 1))
    GTEST_SKIP() << "cannot become another user, or that user cannot read this program";
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(Disk, SettingsThatMakeNoSenseAreRefused) {
  EXPECT_FALSE(DiskReader::create({.depth = 0}));
  EXPECT_FALSE(DiskReader::create({.depth = 1 << 20}));
}

}  // namespace
}  // namespace venturi
