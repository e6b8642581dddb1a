#include "memory/weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>

#include "base/random.h"
#include "formats/gguf_write.h"
#include "formats/test_files.h"
#include "kernels/matmul/layout.h"

namespace venturi {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr int64_t kIn = 512, kOut = 37, kPlanes = 3, kTall = 1100;

// Random bytes: loading moves them, it does not read them as numbers.
std::vector<uint8_t> bytes_of(const GgufTensor& tensor, size_t index) {
  std::vector<uint8_t> bytes(tensor.bytes());
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<uint8_t>(random_bits(index, 1, i));
  if (tensor.name == "norm")  // numbers that a vector can be compared by
    for (size_t i = 0; i < bytes.size(); i += 4) bytes[i + 3] = 0x3f;
  return bytes;
}

class WeightsTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const Codec* codec : all_codecs()) {
      const std::string name(codec->name);
      tensors_.push_back({name, codec, {kIn, kOut}});
      tensors_.push_back({name + ".stack", codec, {kIn, kOut, kPlanes}});
    }
    tensors_.push_back({"tall", find_codec("F32"), {kIn, kTall}});  // more than one staging buffer
    tensors_.push_back({"norm", find_codec("F32"), {kIn}});
    const auto written = write_gguf(path(), {}, tensors_, [&](size_t i, const ByteSink& sink) {
      return sink(bytes_of(tensors_[i], i));
    });
    ASSERT_TRUE(written) << written.error().message;
    auto file = open_model(path());
    ASSERT_TRUE(file) << file.error().message;
    file_ = std::move(file).value();
  }
  std::string path() const { return folder_.path + "/model.gguf"; }
  void declare_all(WeightCatalog& catalog) {
    for (const GgufTensor& t : tensors_) {
      if (t.dims.size() == 1) {
        ASSERT_TRUE(catalog.vector(t.name, t.dims[0]));
      } else {
        ASSERT_TRUE(
            catalog.matrix(t.name, t.dims[0], t.dims[1], t.dims.size() == 3 ? t.dims[2] : 1));
      }
    }
  }

  TemporaryFolder folder_;
  std::vector<GgufTensor> tensors_;
  std::unique_ptr<ModelFile> file_;
};

TEST_F(WeightsTest, EveryRowArrivesPackedOrAsStored) {
  for (const bool repack : {true, false})
    for (const int threads : {1, 2}) {
      WeightCatalog catalog(*file_);
      declare_all(catalog);
      auto ledger = Ledger::create();
      ThreadPool pool(threads);
      std::atomic<uint64_t> progress{0};
      const auto status = catalog.load(
          *ledger, pool,
          {.repack = repack, .progress = [&](uint64_t done, uint64_t) { progress = done; }});
      ASSERT_TRUE(status) << status.error().message;
      EXPECT_GT(progress, 0u);
      for (size_t i = 0; i < tensors_.size(); ++i) {
        const auto expected = bytes_of(tensors_[i], i);
        if (tensors_[i].dims.size() == 1) {
          const VectorWeight* v = catalog.vector(tensors_[i].name, kIn).value();
          EXPECT_EQ(std::memcmp(v->data(), expected.data(), expected.size()), 0);
          continue;
        }
        const int64_t planes = tensors_[i].dims.size() == 3 ? kPlanes : 1,
                      rows = tensors_[i].dims[1];
        const Weight& w = *catalog.matrix(tensors_[i].name, kIn, rows, planes).value();
        EXPECT_EQ(w.packed, repack && w.codec->layout != nullptr);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(w.data) % 64, 0u);
        std::vector<uint8_t> row(w.row_bytes);
        for (int64_t p = 0; p < planes; ++p)
          for (int64_t r = 0; r < rows; ++r) {
            const uint8_t* plane = w.data + p * w.plane_bytes;
            if (w.packed) {
              unpack_row(*w.codec->layout, plane, r, kIn, row.data());
            } else {
              std::memcpy(row.data(), plane + r * w.row_bytes, w.row_bytes);
            }
            ASSERT_EQ(std::memcmp(row.data(), expected.data() + (p * rows + r) * w.row_bytes,
                                  w.row_bytes),
                      0)
                << w.name << " plane " << p << " row " << r;
          }
      }
    }
}

TEST_F(WeightsTest, TheLedgerHoldsWhatWasForetold) {
  for (const bool repack : {true, false}) {
    WeightCatalog catalog(*file_);
    declare_all(catalog);
    ThreadPool pool(2);
    auto ledger = Ledger::create();
    ASSERT_TRUE(catalog.load(*ledger, pool, {.repack = repack, .progress = {}}));
    EXPECT_GE(ledger->held(), catalog.bytes(repack));
    EXPECT_LE(ledger->held(), catalog.bytes(repack) + (2 << 20));  // rounded to a huge page
    EXPECT_LE(ledger->peak(), ledger->held() + 2 * (catalog.staging_bytes() + 4096));

    auto small = Ledger::create(catalog.bytes(repack) - 1);
    const auto refused = WeightCatalog(*file_).load(*small, pool);
    EXPECT_TRUE(refused);  // nothing declared, nothing asked
    WeightCatalog again(*file_);
    declare_all(again);
    const auto status = again.load(*small, pool, {.repack = repack, .progress = {}});
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, Code::kOutOfBudget);
    EXPECT_THAT(status.error().message, HasSubstr("weights"));
  }
}

TEST_F(WeightsTest, WrongDeclarationsAreTold) {
  WeightCatalog catalog(*file_);
  EXPECT_EQ(catalog.matrix("none", 1, 1).error().code, Code::kNotFound);
  const auto wrong = catalog.matrix("F16", kIn, kOut + 1);
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().message,
              AllOf(HasSubstr("F16"), HasSubstr("512 x 37"), HasSubstr("512 x 38")));
  EXPECT_FALSE(catalog.vector("norm", kIn + 1));
  EXPECT_EQ(catalog.optional_matrix("none", 1, 1).value(), nullptr);
  EXPECT_EQ(catalog.optional_vector("none", 1).value(), nullptr);
  EXPECT_FALSE(catalog.optional_matrix("F16", 1, 1));

  // The same tensor twice is one weight, and its shape is checked each time.
  Weight* first = catalog.matrix("F16", kIn, kOut).value();
  EXPECT_EQ(catalog.matrix("F16", kIn, kOut).value(), first);
  EXPECT_FALSE(catalog.matrix("F16", kOut, kIn));
  ASSERT_TRUE(catalog.vector("norm", kIn));
  EXPECT_FALSE(catalog.vector("norm", 1));
  EXPECT_EQ(catalog.matrices().size(), 1u);
}

TEST_F(WeightsTest, AFileTruncatedAfterOpeningIsAnError) {
  WeightCatalog catalog(*file_);
  declare_all(catalog);
  std::filesystem::resize_file(path(), std::filesystem::file_size(path()) / 2);
  auto ledger = Ledger::create();
  ThreadPool pool(2);
  const auto status = catalog.load(*ledger, pool);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kIo);
  EXPECT_THAT(status.error().message, HasSubstr("truncated"));
}

}  // namespace
}  // namespace venturi
