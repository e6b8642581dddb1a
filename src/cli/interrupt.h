// Ctrl-C as a wish to stop the work at hand rather than the program.
#pragma once

namespace venturi {

// From construction to destruction the first SIGINT is only noted, and a second one before the note is
// taken ends the program. Where nobody is there to go on (`active` is false) the first one does. One object
// at a time.
class InterruptWatch {
 public:
  explicit InterruptWatch(bool active);
  ~InterruptWatch();
  InterruptWatch(const InterruptWatch&) = delete;
  InterruptWatch& operator=(const InterruptWatch&) = delete;

  // Becomes readable when one is noted, whatever thread the system tells of it; -1: not active.
  int wake_fd() const { return wake_fd_; }
  bool noted() const;
  bool take();  // whether one was noted since the last take

 private:
  int wake_fd_ = -1;
};

}  // namespace venturi
