#include "engine/calibrate.h"

#include <algorithm>

namespace venturi {

namespace {

class MeanSquares : public Observer {
 public:
  void linear_input(const Weight& weight, int64_t plane, const float* x, int64_t rows, int64_t n_in) override {
    Sums& sums = sums_[weight.name];
    if (sums.squares.empty()) {
      sums.squares.resize(static_cast<size_t>(n_in * weight.n_planes));
      sums.rows.resize(static_cast<size_t>(weight.n_planes));
    }
    double* squares = sums.squares.data() + plane * n_in;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = 0; i < n_in; ++i) squares[i] += static_cast<double>(x[r * n_in + i]) * x[r * n_in + i];
    sums.rows[static_cast<size_t>(plane)] += rows;
  }

  ImportanceData data() const {
    ImportanceData data;
    for (const auto& [name, sums] : sums_) {
      std::vector<float> means(sums.squares.size());
      const size_t n_in = sums.squares.size() / sums.rows.size();
      for (size_t i = 0; i < means.size(); ++i) {
        // An expert that no token reached is weighted evenly.
        const int64_t rows = sums.rows[i / n_in];
        means[i] = rows > 0 ? static_cast<float>(sums.squares[i] / static_cast<double>(rows)) : 1.0f;
      }
      data.emplace(name, std::move(means));
    }
    return data;
  }

 private:
  struct Sums {
    std::vector<double> squares;
    std::vector<int64_t> rows;  // per plane
  };
  std::unordered_map<std::string, Sums> sums_;
};

}  // namespace

Result<ImportanceData> calibrate(Engine& engine, std::string_view text, const CalibrationOptions& options) {
  const Tokenizer* tokenizer = TRY(engine.tokenizer());
  std::vector<TokenId> tokens = tokenizer->encode(text, {.add_special = false});
  const int64_t window = std::min(options.window, engine.options().context);
  const int64_t windows = std::min(static_cast<int64_t>(tokens.size()), options.max_tokens) / window;
  if (windows == 0)
    return error(Code::kInvalidArgument, "the calibration text has {} tokens, less than one window of {}", tokens.size(), window);
  auto sequence = TRY(engine.new_sequence());
  MeanSquares observer;
  engine.context().set_observer(&observer);
  Status status;
  for (int64_t w = 0; w < windows && status; ++w) {
    std::vector<TokenId> chunk(tokens.begin() + w * window, tokens.begin() + (w + 1) * window);
    if (const auto bos = tokenizer->bos()) chunk[0] = *bos;
    sequence->truncate(0);
    if (auto fed = engine.feed(*sequence, chunk); !fed) status = std::move(fed).error();
    if (options.progress) options.progress((w + 1) * window, windows * window);
  }
  engine.context().set_observer(nullptr);
  if (!status) return std::move(status).error();
  return observer.data();
}

}  // namespace venturi
