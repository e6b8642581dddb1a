// Flags that several commands share, spelt as people know them from other engines.
#pragma once

#include <CLI/CLI.hpp>

#include <memory>
#include <string>

#include "engine/engine.h"

namespace venturi {

struct ModelFlags {
  std::string model;
  std::string memory;
  std::string pin, window;
  std::string sidecar;
  int64_t context = 0, batch = 0;
  int threads = 0;
  bool no_repack = false, no_sparse = false;

  void add(CLI::App& app);
  // Opens the engine; a progress bar on a terminal when loading takes over a second.
  Result<std::unique_ptr<Engine>> open(int64_t outputs = 1, int sequences = 1) const;
};

// -p TEXT, or -f FILE ("-": standard input).
struct TextFlags {
  std::string prompt, file;
  void add(CLI::App& app, const char* what);
  Result<std::string> text() const;
};

// The embedded default model beside the program or in the source tree; empty if there is none.
std::string default_model();

// "12.3 tok/s", three significant digits.
std::string format_rate(double per_second);

}  // namespace venturi
