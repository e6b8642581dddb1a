// Runs text through a model and collects what calibration needs: for every weight, the mean square
// of each input column, over all rows (and per expert). An encoder that knows them spends its
// precision where the inputs are large.
#pragma once

#include "engine/engine.h"
#include "formats/convert.h"

namespace venturi {

struct CalibrationOptions {
  int64_t window = 512;       // tokens
  int64_t max_tokens = 65536;
  std::function<void(int64_t done, int64_t total)> progress;
};

// Code::kInvalidArgument when the text is shorter than one window.
Result<ImportanceData> calibrate(Engine& engine, std::string_view text, const CalibrationOptions& options = {});

}  // namespace venturi
