// Lines that a person types, with editing and a history kept between sessions; or lines of standard input
// where that is no terminal. One object at a time, one thread.
#pragma once

#include <memory>
#include <string>

namespace venturi {

class LineReader {
 public:
  // The history is the file at `history_path`, of the last thousand lines; "" keeps none. A line that is
  // waited for is given up when `wake_fd` (of an InterruptWatch) becomes readable; -1: never.
  explicit LineReader(const std::string& history_path, int wake_fd = -1);
  ~LineReader();

  // kInterrupted: the line was given up.
  // kEnd: the end of input, Ctrl-D on an empty line.
  enum class Outcome { kLine, kInterrupted, kEnd };
  Outcome next(std::string& line, size_t most);

  bool terminal() const { return editor_ != nullptr; }

 private:
  struct Editor;
  std::unique_ptr<Editor> editor_;  // null where standard input is no terminal
};

}  // namespace venturi
