#include "formats/hf_restore.h"

#include <algorithm>
#include <cmath>

#include "formats/convert_types.h"

namespace venturi {

namespace {

constexpr int64_t kChunkValues = 1 << 20;
constexpr int64_t kTransposedValues = 1 << 24;  // 64 MB: all but the largest matrices in one pass

bool is_rope(HfTransform transform) {
  return transform == HfTransform::kRopeQuery || transform == HfTransform::kRopeKey;
}
bool is_negative_exp(HfTransform transform) {
  return transform == HfTransform::kNegativeExp || transform == HfTransform::kNegativeExpColumn;
}
bool changes_values(HfTransform transform) {
  return transform == HfTransform::kAddOne || is_negative_exp(transform);
}

// What is read of a stored value.
float forward(HfTransform transform, float stored) {
  if (transform == HfTransform::kAddOne) return stored + 1;
  return is_negative_exp(transform) ? -std::exp(stored) : stored;
}

// The stored value that is read as `value`, or as near to it as there is one.
float inverse(HfTransform transform, float value) {
  if (transform == HfTransform::kAddOne) return value - 1;
  if (!is_negative_exp(transform)) return value;
  // The logarithm's rounding may miss the float whose power is exactly the value.
  const float nearest = static_cast<float>(std::log(-static_cast<double>(value)));
  for (const float candidate :
       {nearest, std::nextafter(nearest, -HUGE_VALF), std::nextafter(nearest, HUGE_VALF)})
    if (forward(transform, candidate) == value) return candidate;
  return nearest;
}

// Where row `i` of a rotated tensor in halves stands in pairs.
int64_t paired_position(int64_t i, int64_t n, uint64_t heads) {
  const int64_t head_dim = n / static_cast<int64_t>(heads), half = head_dim / 2;
  const int64_t within = i % head_dim;
  return i - within + within % half * 2 + within / half;
}

// Heads whose rows have to go back from pairs to halves; 0 if none.
Result<uint64_t> rotated_heads(const ModelFile& model, const HfOutput& output) {
  if (!is_rope(output.transform)) return uint64_t{0};
  const Metadata& metadata = model.metadata;
  const uint64_t n_heads = TRY(metadata.get_uint(arch_key(metadata, "attention.head_count")));
  const uint64_t heads =
      output.transform == HfTransform::kRopeQuery
          ? n_heads
          : TRY(metadata.uint_or(arch_key(metadata, "attention.head_count_kv"), n_heads));
  const TensorInfo& tensor = *output.tensor;
  const auto rows =
      static_cast<uint64_t>(tensor.dims.size() == 1 ? tensor.dims[0] : tensor.n_rows());
  if (heads == 0 || rows % heads != 0 || rows / heads % 2 != 0)
    return error(Code::kCorrupt, "tensor '{}': {} heads do not divide its {} rows into pairs",
                 tensor.name, heads, rows);
  return heads;
}

// Rows [begin, begin + original.size() / n_in): as GGUF has them, in Hugging Face's order, and the
// stored values.
Status read_values(const ModelFile& model, const HfOutput& output, uint64_t heads, int64_t begin,
                   std::span<float> original, std::span<float> stored) {
  const TensorInfo& tensor = *output.tensor;
  TRY(model.read_rows_f32(tensor, begin, original));
  if (heads != 0) {
    const std::vector<float> pairs(original.begin(), original.end());
    const int64_t n = tensor.n_in();
    for (int64_t i = 0; i < n; ++i)
      original[static_cast<size_t>(i)] = pairs[static_cast<size_t>(paired_position(i, n, heads))];
  }
  for (size_t i = 0; i < original.size(); ++i) {
    const float value = original[i];
    if (!std::isfinite(value) || (is_negative_exp(output.transform) && !(value < 0)))
      return error(
          Code::kCorrupt, "{}: tensor '{}' has the value {}, expected {}; the model is damaged",
          model.path, tensor.name, value, std::isfinite(value) ? "one below 0" : "a finite one");
    stored[i] = inverse(output.transform, value);
  }
  return {};
}

// visit(original, stored) of a few rows at a time.
template <typename Visit>
Status for_each_chunk(const ModelFile& model, const HfOutput& output, Visit&& visit) {
  const int64_t n_in = output.tensor->n_in();
  const uint64_t heads = output.tensor->dims.size() == 1 ? TRY(rotated_heads(model, output)) : 0;
  const int64_t step = std::clamp<int64_t>(kChunkValues / n_in, 1, output.n_rows);
  std::vector<float> original(static_cast<size_t>(step * n_in)), stored(original.size());
  for (int64_t done = 0; done < output.n_rows; done += step) {
    const auto n = static_cast<size_t>(std::min(step, output.n_rows - done) * n_in);
    const std::span a(original.data(), n), b(stored.data(), n);
    TRY(read_values(model, output, heads, output.first_row + done, a, b));
    TRY(visit(std::span<const float>(a), std::span<const float>(b)));
  }
  return {};
}

// Encoded, and what is read of it.
struct Encoded {
  std::vector<uint8_t> bytes;
  std::vector<float> read;

  Encoded(const Codec& codec, HfTransform transform, std::span<const float> values)
      : bytes(codec.bytes(values.size())), read(values.size()) {
    const auto n = static_cast<int64_t>(values.size());
    codec.encode(values.data(), nullptr, bytes.data(), n);
    codec.decode(bytes.data(), read.data(), n);
    for (float& value : read) value = forward(transform, value);
  }
};

// Whether reading the tensor back from `codec` gives the same values.
Result<bool> loses_nothing(const ModelFile& model, const HfOutput& output, const Codec& codec) {
  bool same = true;
  TRY(for_each_chunk(model, output,
                     [&](std::span<const float> original, std::span<const float> stored) -> Status {
                       if (!same) return {};
                       const Encoded encoded(codec, output.transform, stored);
                       same = std::equal(original.begin(), original.end(), encoded.read.begin());
                       return {};
                     }));
  return same;
}

uint64_t count_overflows(const Codec& codec, std::span<const float> read) {
  if (codec.name != "F16") return 0;
  return static_cast<uint64_t>(
      std::count_if(read.begin(), read.end(), [](float x) { return !std::isfinite(x); }));
}

Status write_values(const ModelFile& model, const HfOutput& output, const ByteSink& sink,
                    HfLosses& losses) {
  return for_each_chunk(
      model, output, [&](std::span<const float> original, std::span<const float> stored) -> Status {
        const Encoded encoded(*output.codec, output.transform, stored);
        losses.overflows += count_overflows(*output.codec, encoded.read);
        if (changes_values(output.transform))
          for (size_t i = 0; i < original.size(); ++i)
            losses.rounded += encoded.read[i] != original[i];
        return sink(encoded.bytes);
      });
}

Status sink_encoded(const HfOutput& output, std::span<const float> values, const ByteSink& sink,
                    HfLosses& losses) {
  for (const float value : values)
    if (!std::isfinite(value))
      return error(Code::kCorrupt,
                   "tensor '{}' has the value {}, which no type can hold; the model is damaged",
                   output.tensor->name, value);
  const Encoded encoded(*output.codec, HfTransform::kNone, values);
  losses.overflows += count_overflows(*output.codec, encoded.read);
  return sink(encoded.bytes);
}

// Some columns at a time, which are rows of what is written.
Status write_transposed(const ModelFile& model, const HfOutput& output, const ByteSink& sink,
                        HfLosses& losses) {
  const TensorInfo& tensor = *output.tensor;
  const int64_t n_in = tensor.n_in(), n_rows = tensor.n_rows();
  const int64_t width = std::clamp<int64_t>(kTransposedValues / n_rows, 1, n_in);
  const int64_t batch = std::clamp<int64_t>(kChunkValues / n_in, 1, n_rows);
  std::vector<float> rows(static_cast<size_t>(batch * n_in)),
      columns(static_cast<size_t>(width * n_rows));
  for (int64_t first = 0; first < n_in; first += width) {
    const int64_t n = std::min(width, n_in - first);
    for (int64_t row = 0; row < n_rows; row += batch) {
      const int64_t n_read = std::min(batch, n_rows - row);
      TRY(model.read_rows_f32(tensor, row,
                              std::span(rows).first(static_cast<size_t>(n_read * n_in))));
      for (int64_t r = 0; r < n_read; ++r)
        for (int64_t i = 0; i < n; ++i)
          columns[static_cast<size_t>(i * n_rows + row + r)] =
              rows[static_cast<size_t>(r * n_in + first + i)];
    }
    TRY(sink_encoded(output, std::span(columns).first(static_cast<size_t>(n * n_rows)), sink,
                     losses));
  }
  return {};
}

// Head by head: the rows of the first transposed, then those of the second.
Status write_joined(const ModelFile& model, const HfOutput& output, const ByteSink& sink,
                    HfLosses& losses) {
  const TensorInfo &first = *output.tensor, &second = *output.second;
  const int64_t heads = first.dims[2], n_first = first.dims[0], n_second = second.dims[1],
                n_in = second.dims[0];
  std::vector<float> turned(static_cast<size_t>(n_first * n_in)),
      head(static_cast<size_t>((n_first + n_second) * n_in));
  for (int64_t h = 0; h < heads; ++h) {
    TRY(model.read_rows_f32(first, h * n_in, turned));
    for (int64_t i = 0; i < n_in; ++i)
      for (int64_t r = 0; r < n_first; ++r)
        head[static_cast<size_t>(r * n_in + i)] = turned[static_cast<size_t>(i * n_first + r)];
    TRY(model.read_rows_f32(second, h * n_second, std::span(head).subspan(turned.size())));
    TRY(sink_encoded(output, head, sink, losses));
  }
  return {};
}

// Which tensor a rule's transform makes of dimensions {…}, as PyTorch has it, slowest first.
std::vector<int64_t> stored_shape(const HfArchitecture& architecture, const TensorInfo& tensor,
                                  HfTransform transform, bool experts) {
  std::vector<int64_t> shape(tensor.dims.rbegin() + (experts ? 1 : 0), tensor.dims.rend());
  if (transform == HfTransform::kTransposed && shape.size() == 2) std::swap(shape[0], shape[1]);
  const bool column =
      transform == HfTransform::kColumn || transform == HfTransform::kNegativeExpColumn;
  if (column && shape.size() == 2 && shape[1] == 1) shape.pop_back();
  if (architecture.restore) architecture.restore(tensor.name, shape);
  return shape;
}

class Planner {
 public:
  Planner(const ModelFile& model, const HfArchitecture& architecture, const Codec& codec)
      : model_(model), architecture_(architecture), codec_(codec) {}

  Result<std::vector<HfOutput>> run() {
    for (const TensorInfo& tensor : model_.tensors) {
      if (is_rope_tensor(tensor.name) || TRY(plan_join(tensor))) continue;
      TRY(plan_tensor(tensor));
    }
    return std::move(outputs_);
  }

 private:
  // config.json says what they hold.
  static bool is_rope_tensor(std::string_view name) {
    return name == "rope_freqs.weight" || name == "rope_factors_short.weight" ||
           name == "rope_factors_long.weight";
  }

  std::string whole_name(std::string name) const {
    return name.starts_with("lm_head.") ? name : std::string(architecture_.own_prefix).append(name);
  }

  static std::string with_block(std::string_view pattern, int block) {
    const size_t at = pattern.find("{}");
    return fmt::format("{}{}{}", pattern.substr(0, at), block, pattern.substr(at + 2));
  }

  // Whether the tensor is one of a join's two; the output stands where the first does.
  Result<bool> plan_join(const TensorInfo& tensor) {
    for (const HfJoin& join : architecture_.joins) {
      int block = -1;
      const bool is_first = is_gguf_name(join.first, tensor.name, block);
      if (!is_first && !is_gguf_name(join.second, tensor.name, block)) continue;
      const std::string name = with_block(join.hf, block);
      // Files that keep both layouts.
      const HfMatch joined = match_hf_name(architecture_, name);
      if (joined.rule && model_.find(joined.gguf)) return true;
      const TensorInfo* other = model_.find(with_block(is_first ? join.second : join.first, block));
      if (!other)
        return error(Code::kNotFound, "{}: tensor '{}' is there without '{}'", model_.path,
                     tensor.name, with_block(is_first ? join.second : join.first, block));
      if (!is_first) return true;
      if (tensor.dims.size() != 3 || other->dims.size() != 3 || tensor.dims[1] != other->dims[0] ||
          tensor.dims[2] != other->dims[2])
        return error(Code::kCorrupt, "{}: the tensors '{}' and '{}' are not the two halves of one",
                     model_.path, tensor.name, other->name);
      const int64_t n_rows = tensor.dims[2] * (tensor.dims[0] + other->dims[1]);
      add({.stored = {.name = whole_name(name), .shape = {n_rows, tensor.dims[1]}},
           .tensor = &tensor,
           .codec = &codec_,
           .n_rows = n_rows,
           .second = other});
      return true;
    }
    return false;
  }

  Status plan_tensor(const TensorInfo& tensor) {
    const bool experts = tensor.dims.size() == 3;
    const int64_t n_parts = experts ? tensor.dims[2] : 1, n_rows = tensor.n_rows() / n_parts;
    for (int64_t part = 0; part < n_parts; ++part) {
      const HfRule* rule = nullptr;
      const std::string name =
          hf_name_of(architecture_, tensor.name, static_cast<int>(part), &rule);
      if (name.empty())
        return error(Code::kUnsupported, "{}: tensor '{}' has no name in Hugging Face's {}",
                     model_.path, tensor.name, architecture_.classes[0]);
      HfOutput output{
          .stored = {.name = whole_name(name),
                     .shape = stored_shape(architecture_, tensor, rule->transform, experts)},
          .tensor = &tensor,
          .codec = &codec_,
          .transform = rule->transform,
          .first_row = part * n_rows,
          .n_rows = n_rows};
      if (stays_f32(tensor) && codec_.name != "F32" && !TRY(loses_nothing(model_, output, codec_)))
        output.codec = find_codec("F32");
      add(std::move(output));
    }
    return {};
  }

  void add(HfOutput output) {
    output.stored.dtype = std::string(output.codec->name);
    outputs_.push_back(std::move(output));
  }

  const ModelFile& model_;
  const HfArchitecture& architecture_;
  const Codec& codec_;
  std::vector<HfOutput> outputs_;
};

}  // namespace

uint64_t HfOutput::bytes() const {
  uint64_t values = 1;
  for (const int64_t dim : stored.shape) values *= static_cast<uint64_t>(dim);
  return codec->bytes(values);
}

Result<std::vector<HfOutput>> plan_hf_outputs(const ModelFile& model,
                                              const HfArchitecture& architecture,
                                              const Codec& codec) {
  return Planner(model, architecture, codec).run();
}

Status write_hf_output(const ModelFile& model, const HfOutput& output, ThreadPool& pool,
                       const ByteSink& sink, HfLosses& losses) {
  const TensorInfo& tensor = *output.tensor;
  if (output.second) return write_joined(model, output, sink, losses);
  if (output.transform == HfTransform::kTransposed && tensor.dims.size() == 2)
    return write_transposed(model, output, sink, losses);
  if (changes_values(output.transform) || tensor.dims.size() == 1)
    return write_values(model, output, sink, losses);
  const uint64_t heads = TRY(rotated_heads(model, output));
  std::function<int64_t(int64_t)> row_of;
  if (heads != 0)
    row_of = [&](int64_t row) { return paired_position(row, tensor.n_rows(), heads); };
  return encode_rows({.model = model,
                      .tensor = tensor,
                      .codec = *output.codec,
                      .importance = nullptr,
                      .row_of = std::move(row_of),
                      .first_row = output.first_row,
                      .n_rows = output.n_rows},
                     pool, sink, losses.overflows);
}

}  // namespace venturi
