// Files that lie: every hyper-parameter and tensor of every golden model spoilt in turn. A model is
// refused with an Error or, where the value is harmless, runs in shape mode; nothing crashes.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include "formats/model_file.h"
#include "models/architecture.h"
#include "ops/order.h"

namespace venturi {

namespace {

const std::string kFolder = std::string(VENTURI_SOURCE_DIR) + "/tests/data/models/";

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder))
    if (entry.path().extension() == ".gguf") names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

std::unique_ptr<ModelFile> open_file(const std::string& name) {
  auto file = open_model(kFolder + name + ".gguf");
  EXPECT_TRUE(file);
  return std::move(file).value();
}

// Makes the model and, if that succeeds, runs it in shape mode.
Status try_model(const ModelFile& file) {
  WeightCatalog catalog(file);
  auto model = create_model(file, catalog);
  if (!model) return std::move(model).error();
  const auto context = Context::shape(2);
  Step step;
  step.tokens = {0, 0, 0};
  step.spans = {{.row_begin = 0, .n_rows = 3, .position = 0, .state = nullptr}};
  step.output_rows = {2};
  (void)(*model)->forward(*context, step);
  return {};
}

class Spoilt : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    file_ = open_file(GetParam());
    prefix_ = file_->metadata.get_string("general.architecture").value() + ".";
  }
  std::unique_ptr<ModelFile> file_;
  std::string prefix_;
};

TEST_P(Spoilt, IsFineBefore) {
  const Status status = try_model(*file_);
  EXPECT_TRUE(status) << status.error().message;
}

TEST_P(Spoilt, HyperParameters) {
  const auto entries = file_->metadata.entries();
  for (const auto& [key, original] : entries) {
    if (!key.starts_with(prefix_)) continue;
    Metadata& metadata = file_->metadata;
    for (const int64_t value :
         {int64_t{0}, int64_t{-1}, int64_t{1}, int64_t{3}, int64_t{7}, int64_t{1} << 20,
          int64_t{INT32_MAX}, int64_t{UINT32_MAX}, int64_t{1} << 62, INT64_MIN}) {
      metadata.set_int(key, value);
      (void)try_model(*file_);
    }
    for (const float value : {0.0f, -1.0f, 1e-38f, 1e38f, std::numeric_limits<float>::infinity(),
                              std::numeric_limits<float>::quiet_NaN()}) {
      metadata.set_float(key, value);
      (void)try_model(*file_);
    }
    metadata.set_string(key, "x");
    (void)try_model(*file_);
    metadata.set_ints(key, {1, 2, 3});
    (void)try_model(*file_);
    metadata.erase(key);
    (void)try_model(*file_);
    metadata.set(key, original);
  }
  EXPECT_TRUE(try_model(*file_));
}

TEST_P(Spoilt, RefusedValues) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  Metadata& metadata = file_->metadata;
  const auto refuse = [&](const std::string& suffix, auto... values) {
    const std::string key = prefix_ + suffix;
    if (!metadata.contains(key)) return;
    const MetaValue original = *metadata.find(key);
    const auto each = [&](auto value) {
      if constexpr (std::is_floating_point_v<decltype(value)>) {
        metadata.set_float(key, value);
      } else {
        metadata.set_int(key, value);
      }
      const Status status = try_model(*file_);
      EXPECT_FALSE(status) << key << " = " << value;
      if (status) return;
      EXPECT_NE(status.error().message.find(GetParam()), std::string::npos)
          << status.error().message;
    };
    (each(values), ...);
    metadata.set(key, original);
  };
  refuse("block_count", 0, -1, 3000, 5000, int64_t{1} << 40);
  refuse("embedding_length", 0, -1, 47, 49, int64_t{1} << 40);
  refuse("context_length", 0, -1);
  refuse("attention.layer_norm_rms_epsilon", 0.0f, -1e-5f, nan, 1e9f);
  refuse("attention.layer_norm_epsilon", 0.0f, -1e-5f, nan, 1e9f);
  if (prefix_ != "mamba2.") refuse("attention.head_count", 0, -1, 5, 1 << 20);
  if (prefix_ != "deepseek2." && prefix_ != "mamba2.") {
    refuse("attention.head_count_kv", 0, -1, 5, 1 << 20);
    refuse("feed_forward_length", int64_t{1} << 40, -1);
  }
  refuse("attention.key_length_mla", 0, 8, 9, 1 << 20);
  refuse("attention.value_length_mla", 0, 19, 1 << 20);
  refuse("attention.kv_lora_rank", 0, 31, 1 << 20);
  refuse("attention.q_lora_rank", -1, 23, 1 << 30);
  refuse("rope.dimension_count", 0, 1, 3, 7, -2, 1 << 20);
  refuse("rope.freq_base", 0.0f, -1.0f, nan);
  refuse("rope.scaling.factor", 0.0f, -1.0f, nan);
  refuse("expert_count", 3, 1 << 30, -1);
  refuse("expert_used_count", 0, -1, 7, 1 << 30);
  refuse("expert_feed_forward_length", 0, 33, 1 << 30);
  refuse("expert_shared_feed_forward_length", 0, 33, 1 << 30);
  refuse("expert_shared_count", 2, -1, 1 << 30);
  refuse("expert_group_count", 0, 4, 7);
  refuse("expert_group_used_count", 0, 4);
  refuse("expert_weights_scale", 0.0f, nan);
  refuse("attn_logit_softcapping", 0.0f, -1.0f, nan);
  refuse("final_logit_softcapping", -1.0f, nan);
  refuse("attention.scale", 0.0f, nan);
  refuse("attention.sliding_window", -1);
  refuse("leading_dense_block_count", -1, 3);
  refuse("ssm.conv_kernel", 0, 5, 1 << 30);
  refuse("ssm.inner_size", 0, 95, 97, 1 << 30);
  refuse("ssm.state_size", 0, 33, 1 << 30);
  refuse("ssm.time_step_rank", 0, 5, 7, 1 << 30);
  refuse("ssm.group_count", 0, 3, 4, 1 << 30);
  refuse("pooling_type", 0, 4, -1);
}

TEST_P(Spoilt, TensorsOfAnotherShape) {
  for (TensorInfo& tensor : file_->tensors) {
    const std::vector<int64_t> dims = tensor.dims;
    tensor.dims[0] += 1;
    EXPECT_FALSE(try_model(*file_)) << tensor.name;
    tensor.dims = dims;
    tensor.dims.insert(tensor.dims.begin(), 2);
    EXPECT_FALSE(try_model(*file_)) << tensor.name;
    tensor.dims = dims;
  }
}

TEST_P(Spoilt, TensorsThatAreMissing) {
  for (const TensorInfo& tensor : file_->tensors) {
    // What a file may leave out: a head (then it is the embedding), biases that only some models
    // of the architecture have, divisors of frequencies, the bias of a choice of experts.
    const bool bias = tensor.name.ends_with(".bias");
    const bool optional =
        tensor.name == "output.weight" || tensor.name == "rope_freqs.weight" ||
        (bias && (prefix_ == "llama." || tensor.name.find("ffn_") != std::string::npos ||
                  tensor.name.find("norm") != std::string::npos ||
                  tensor.name.find("attn_output.") != std::string::npos ||
                  tensor.name.find("exp_probs_b") != std::string::npos));
    const auto node = file_->by_name.extract(tensor.name);
    const Status status = try_model(*file_);
    EXPECT_EQ(status.ok(), optional) << tensor.name;
    if (!status) {
      EXPECT_NE(status.error().message.find("is missing"), std::string::npos)
          << status.error().message;
    }
    file_->by_name[tensor.name] = static_cast<size_t>(&tensor - file_->tensors.data());
  }
}

// A step of `rows` in shape mode.
std::unique_ptr<Context> shape_of(const ModelFile& file, int64_t rows) {
  WeightCatalog catalog(file);
  const auto model = create_model(file, catalog).value();
  auto context = Context::shape(2);
  context->set_row_tile(0);
  Step step;
  step.tokens.assign(static_cast<size_t>(rows), 0);
  step.spans = {{.row_begin = 0, .n_rows = rows, .position = 0, .state = nullptr}};
  step.output_rows = {rows - 1};
  (void)model->forward(*context, step);
  return context;
}

// The operators of every model in the order of its code: none holds less at one time in another order, or the code
// would have that one.
TEST_P(Spoilt, NoOrderOfOperatorsIsBetter) {
  for (const int64_t rows : {1, 40}) {
    const auto context = shape_of(*file_, rows);
    const OperatorGraph graph = operators_of(*context);
    const auto program = program_order(graph);
    ASSERT_TRUE(is_order(graph, program));
    const uint64_t as_written = live_peak(blocks_in_order(graph, program));
    EXPECT_LE(as_written, live_peak(context->arena().trace()));
    const ExactOrder found = find_order(graph);
    EXPECT_TRUE(found.proved);
    EXPECT_EQ(found.peak, as_written) << rows << " rows";
  }
}

// What an op did not tell that it reads would seem to be free too early: a block goes when the op after the last that
// touched it begins, or an op is silent (or the code keeps what it needs no longer).
TEST_P(Spoilt, BlocksGoWhenTheyAreNoLongerUsed) {
  const auto context = shape_of(*file_, 7);
  const auto& ops = context->accesses();
  const auto trace = context->arena().trace();
  std::vector<size_t> last(trace.size(), SIZE_MAX);
  for (size_t i = 0; i < ops.size(); ++i)
    for (const auto* list : {&ops[i].reads, &ops[i].writes})
      for (const int32_t b : *list) last[static_cast<size_t>(b)] = i;
  for (size_t b = 0; b < trace.size(); ++b) {
    if (last[b] == SIZE_MAX) continue;
    const size_t i = last[b];
    size_t next = i + 1;
    while (next < ops.size() && ops[i].group >= 0 && ops[next].group == ops[i].group) ++next;
    if (next == ops.size()) continue;
    EXPECT_LE(trace[b].end, ops[next].time) << "block " << b << " of " << trace[b].bytes << " bytes, last touched by "
                                            << ops[i].op << ", op " << i << ", then " << ops[next].op;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Spoilt, testing::ValuesIn(model_names()), [](const auto& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace

}  // namespace venturi
