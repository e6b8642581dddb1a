#include "base/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <numeric>
#include <vector>

namespace venturi {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

class FileTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "venturi-file-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string path(const char* name) const { return (folder_ / name).string(); }
  static void write(const std::string& path, std::string_view text) {
    auto file = AtomicFile::create(path);
    ASSERT_TRUE(file) << file.error().message;
    ASSERT_TRUE(file->append(text));
    ASSERT_TRUE(file->commit());
  }
  int count_files() const {
    return static_cast<int>(
        std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }

  fs::path folder_;
};

TEST_F(FileTest, ReadsExactlyWhatIsAsked) {
  write(path("a"), "0123456789");
  const auto file = File::open(path("a"));
  ASSERT_TRUE(file);
  EXPECT_EQ(file->size(), 10u);
  std::vector<uint8_t> bytes(4);
  ASSERT_TRUE(file->read_exact(3, bytes));
  EXPECT_EQ(std::string(bytes.begin(), bytes.end()), "3456");
  EXPECT_TRUE(file->read_exact(10, {}));
}

TEST_F(FileTest, PastTheEndIsAnErrorWithFileAndOffset) {
  write(path("a"), "0123456789");
  const auto file = File::open(path("a"));
  std::vector<uint8_t> bytes(4);
  const auto status = file->read_exact(8, bytes);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kIo);
  EXPECT_THAT(status.error().message,
              AllOf(HasSubstr(path("a")), HasSubstr("ends at 10"), HasSubstr("2 more")));
  EXPECT_FALSE(file->read_exact(UINT64_MAX - 1, bytes));
}

TEST_F(FileTest, TruncatedAfterOpeningIsAnError) {
  write(path("a"), std::string(10000, 'x'));
  const auto file = File::open(path("a"));
  std::vector<uint8_t> bytes(10000);
  ASSERT_TRUE(file->read_exact(0, bytes));
  fs::resize_file(path("a"), 5000);
  EXPECT_EQ(file->size(), 10000u);
  const auto status = file->read_exact(0, bytes);
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message, HasSubstr("ends at 5000"));
}

TEST_F(FileTest, MissingFilesAndFoldersAreTold) {
  EXPECT_EQ(File::open(path("none")).error().code, Code::kNotFound);
  EXPECT_EQ(File::open(folder_.string()).error().code, Code::kInvalidArgument);
  EXPECT_EQ(read_text_file(path("none")).error().code, Code::kNotFound);
  EXPECT_FALSE(AtomicFile::create(path("no/such/folder")));
}

TEST_F(FileTest, TextIsBounded) {
  write(path("a"), std::string(100000, 'y'));
  EXPECT_EQ(read_text_file(path("a"))->size(), 100000u);
  EXPECT_EQ(read_text_file(path("a"), 100000)->size(), 100000u);
  EXPECT_FALSE(read_text_file(path("a"), 99999));
}

TEST_F(FileTest, AtomicFileWritesInAnyOrder) {
  auto file = AtomicFile::create(path("a"));
  ASSERT_TRUE(file->append("abc"));
  const uint8_t z[] = {'z'};
  ASSERT_TRUE(file->write_at(5, z));
  ASSERT_TRUE(file->write_at(0, z));
  EXPECT_EQ(file->size(), 6u);
  ASSERT_TRUE(file->append("!"));
  ASSERT_TRUE(file->commit());
  EXPECT_EQ(*read_text_file(path("a")), std::string("zbc\0\0z!", 7));
  EXPECT_EQ(count_files(), 1);
}

TEST_F(FileTest, UncommittedLeavesTheOldAndNoRubbish) {
  write(path("a"), "old");
  {
    auto file = AtomicFile::create(path("a"));
    ASSERT_TRUE(file->append("new"));
    AtomicFile moved(std::move(file).value());
    EXPECT_LE(count_files(), 2);
  }
  EXPECT_EQ(*read_text_file(path("a")), "old");
  EXPECT_EQ(count_files(), 1);
}

// A child is killed after each of its steps in turn; whoever looks sees the old file or the new
// one.
TEST_F(FileTest, KilledWriterLeavesOldOrNew) {
  const std::string new_text(300000, 'n');
  constexpr int kCommitted = 5;
  for (int kill_after = 0; kill_after <= kCommitted; ++kill_after) {
    write(path("a"), "old");
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      int step = 0;
      const auto reached = [&] {
        if (step++ == kill_after) ::raise(SIGKILL);
      };
      auto file = AtomicFile::create(path("a"));
      reached();  // 0: created
      for (int i = 0; i < 3; ++i) {
        (void)file->append(std::string_view(new_text).substr(i * 100000, 100000));
        reached();  // 1 to 3: partly written
      }
      reached();  // 4: all written
      (void)file->commit();
      reached();  // 5
      ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << kill_after;
    const std::string now = *read_text_file(path("a"));
    EXPECT_EQ(now, kill_after < kCommitted ? "old" : new_text) << kill_after;
  }
}

TEST_F(FileTest, WhatIsNoRegularFileIsNotReplaced) {
  const auto file = AtomicFile::create("/dev/null");
  ASSERT_FALSE(file);
  EXPECT_THAT(file.error().message, HasSubstr("no regular file"));
  EXPECT_FALSE(AtomicFile::create(folder_.string()));
  EXPECT_FALSE(AtomicFile::create(path("none") + "/a"));
}

TEST_F(FileTest, FilesCommittedTogether) {
  std::vector<AtomicFile> files;
  for (const char* name : {"a", "b"}) {
    files.push_back(AtomicFile::create(path(name)).value());
    ASSERT_TRUE(files.back().reserve(1000));
    ASSERT_TRUE(files.back().append(name));
  }
  EXPECT_FALSE(fs::exists(path("a")) || fs::exists(path("b")));
  ASSERT_TRUE(commit_all(files));
  EXPECT_EQ(*read_text_file(path("a")) + *read_text_file(path("b")), "ab");
  EXPECT_EQ(count_files(), 2);
}

}  // namespace
}  // namespace venturi
