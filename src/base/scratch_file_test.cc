#include "base/scratch_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/buffer.h"

namespace venturi {
namespace {

using testing::HasSubstr;
using Piece = std::span<const uint8_t>;

class ScratchFileTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "/scratch_" + std::to_string(getpid());
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string folder_;
};

TEST_F(ScratchFileTest, HasNoNameAndKeepsWhatIsWritten) {
  for (const std::string& place : {folder_, folder_ + "/new"}) {
    auto scratch = ScratchFile::create(place);
    ASSERT_TRUE(scratch) << scratch.error().message;
    EXPECT_TRUE(std::filesystem::is_empty(folder_));
    EXPECT_THAT(scratch->path(), HasSubstr(folder_));
    EXPECT_GT(scratch->room(), 0u);
    auto ledger = Ledger::create();
    Buffer memory = Buffer::allocate(*ledger, 5 * 4096, "test").value();
    for (uint64_t i = 0; i < memory.size(); ++i)
      memory.data()[i] = static_cast<uint8_t>(i * 7 + i / 4096);
    const Piece all(memory.data(), memory.size());
    // Out of order, in pieces of which one is empty.
    ASSERT_TRUE(scratch->write(
        8192, std::vector<Piece>{all.subspan(4096, 8192), {}, all.subspan(16384, 4096)}));
    ASSERT_TRUE(scratch->write(0, std::vector<Piece>{all.first(8192)}));
    std::vector<uint8_t> back(5 * 4096), expected(all.begin(), all.begin() + 8192);
    ASSERT_TRUE(scratch->file().read_exact(0, back));
    expected.insert(expected.end(), all.begin() + 4096, all.begin() + 12288);
    expected.insert(expected.end(), all.begin() + 16384, all.end());
    EXPECT_EQ(back, expected);
  }
}

TEST_F(ScratchFileTest, ManyPieces) {
  auto scratch = ScratchFile::create(folder_).value();
  auto ledger = Ledger::create();
  Buffer memory = Buffer::allocate(*ledger, 700 * 4096, "test").value();
  for (uint64_t i = 0; i < memory.size(); ++i) memory.data()[i] = static_cast<uint8_t>(i >> 12);
  std::vector<Piece> pieces;
  for (int i = 0; i < 700; ++i) pieces.push_back({memory.data() + i * 4096, 4096});
  ASSERT_TRUE(scratch.write(4096, pieces));
  std::vector<uint8_t> back(memory.size());
  ASSERT_TRUE(scratch.file().read_exact(4096, back));
  EXPECT_TRUE(std::equal(back.begin(), back.end(), memory.data()));
}

TEST_F(ScratchFileTest, OverwritesNothing) {
  const std::string name = folder_ + "/precious";
  std::ofstream(name) << "kept";
  const auto refused = ScratchFile::create(name);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kInvalidArgument);
  EXPECT_TRUE(std::filesystem::exists(name));
  const auto nowhere = ScratchFile::create(folder_ + "/no/such");
  ASSERT_FALSE(nowhere);
  EXPECT_THAT(nowhere.error().message, HasSubstr(folder_ + "/no/such"));
}

TEST_F(ScratchFileTest, TheUsualPlaceIsTheTemporaryFolder) {
  const char* before = std::getenv("TMPDIR");
  const std::string kept = before ? before : "";
  setenv("TMPDIR", folder_.c_str(), 1);
  EXPECT_THAT(ScratchFile::create().value().path(), HasSubstr(folder_));
  unsetenv("TMPDIR");
  setenv("XDG_CACHE_HOME", folder_.c_str(), 1);
  EXPECT_THAT(ScratchFile::create().value().path(), HasSubstr(folder_ + "/venturi/"));
  unsetenv("XDG_CACHE_HOME");
  if (before) setenv("TMPDIR", kept.c_str(), 1);
}

TEST_F(ScratchFileTest, AFullDiskNamesFileAndOffset) {
  if (access("/dev/full", W_OK) != 0) GTEST_SKIP() << "no /dev/full";
  auto scratch = ScratchFile::create("/dev/full").value();
  auto ledger = Ledger::create();
  const Buffer memory = Buffer::allocate(*ledger, 4096, "test").value();
  const Status full = scratch.write(12288, std::vector<Piece>{{memory.data(), memory.size()}});
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, Code::kIo);
  EXPECT_THAT(
      full.error().message,
      testing::AllOf(HasSubstr("/dev/full"), HasSubstr("offset 12288"), HasSubstr("No space")));
}

}  // namespace
}  // namespace venturi
