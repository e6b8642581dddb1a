#include "cli/line_reader.h"

#include <histedit.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <csignal>
#include <cstdlib>
#include <cwchar>
#include <iostream>
#include <utility>

namespace venturi {

namespace {

constexpr int kHistoryLines = 1000;

volatile std::sig_atomic_t g_resized = 0, g_continued = 0;

void watch(int signal, void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  sigaction(signal, &action, nullptr);
}

// Waits for a byte of the terminal. False when woken: a signal alone may come between two reads, or to another
// thread.
bool wait_for_input(EditLine* editor, int wake_fd) {
  for (;;) {
    pollfd fds[] = {{0, POLLIN, 0}, {wake_fd, POLLIN, 0}};
    const int ready = ::poll(fds, 2, -1);
    if (std::exchange(g_resized, 0)) el_resize(editor);
    if (std::exchange(g_continued, 0)) {
      el_set(editor, EL_PREP_TERM, 1);
      el_set(editor, EL_REFRESH);
    }
    if (ready < 0 && errno == EINTR) continue;
    return ready < 0 || fds[1].revents == 0;
  }
}

// One character of the terminal, for libedit: 1, 0 at the end, -1 when woken. Its own reader begins a read
// again that a signal broke off. Bytes that are no UTF-8 are dropped here.
int read_character(EditLine* editor, wchar_t* out) {
  void* wake_fd = nullptr;
  el_get(editor, EL_CLIENTDATA, &wake_fd);
  std::mbstate_t state = {};
  for (;;) {
    if (!wait_for_input(editor, *static_cast<const int*>(wake_fd))) {
      errno = EINTR;
      return -1;
    }
    char byte;
    const ssize_t got = ::read(0, &byte, 1);
    if (got == 0) return 0;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return 0;  // the terminal is gone
    const size_t length = std::mbrtowc(out, &byte, 1, &state);
    if (length == static_cast<size_t>(-1)) state = {};
    if (length <= 1) return 1;
  }
}

// std::getline, but of a line longer than `most` only one byte more than that.
bool read_line(std::istream& in, std::string& line, size_t most) {
  line.clear();
  int c = in.get();
  if (c == std::istream::traits_type::eof()) return false;
  for (; c != std::istream::traits_type::eof() && c != '\n' && line.size() <= most; c = in.get()) line += static_cast<char>(c);
  return true;
}

char* prompt(EditLine*) {
  static char text[] = "> ";
  return text;
}

}  // namespace

struct LineReader::Editor {
  Editor(std::string path, int wake) : history_path(std::move(path)), wake_fd(wake) {
    // Text is UTF-8 here whatever the environment says; without a locale that knows it, letters beyond
    // ASCII would be lost.
    std::setlocale(LC_CTYPE, "");
    if (MB_CUR_MAX == 1) std::setlocale(LC_CTYPE, "C.UTF-8");
    watch(SIGWINCH, [](int) { g_resized = 1; });
    watch(SIGCONT, [](int) { g_continued = 1; });
    // The prompt is no part of what is kept where the answers go to a file.
    edit = el_init("venturi", stdin, isatty(1) ? stdout : stderr, stderr);
    el_set(edit, EL_EDITOR, "emacs");
    el_set(edit, EL_PROMPT, prompt);
    el_set(edit, EL_CLIENTDATA, &wake_fd);
    el_set(edit, EL_GETCFN, read_character);
    HistEvent event;
    past = history_init();
    history(past, &event, H_SETSIZE, kHistoryLines);
    el_set(edit, EL_HIST, history, past);
    if (!history_path.empty()) history(past, &event, H_LOAD, history_path.c_str());
  }
  ~Editor() {
    history_end(past);
    el_end(edit);
    watch(SIGWINCH, SIG_DFL);
    watch(SIGCONT, SIG_DFL);
  }

  // Saved at once, so that the end of the terminal loses nothing.
  void remember(const std::string& line) {
    HistEvent event;
    history(past, &event, H_ENTER, line.c_str());
    if (!history_path.empty()) history(past, &event, H_SAVE, history_path.c_str());
  }

  std::string history_path;
  int wake_fd;
  EditLine* edit = nullptr;
  History* past = nullptr;
};

LineReader::LineReader(const std::string& history_path, int wake_fd) {
  if (isatty(0)) editor_ = std::make_unique<Editor>(history_path, wake_fd);
}

LineReader::~LineReader() = default;

LineReader::Outcome LineReader::next(std::string& line, size_t most) {
  if (!editor_) return read_line(std::cin, line, most) ? Outcome::kLine : Outcome::kEnd;
  // Before the prompt is shown, or what is typed at once would be echoed twice.
  el_set(editor_->edit, EL_PREP_TERM, 1);
  errno = 0;
  int length = 0;
  const char* text = el_gets(editor_->edit, &length);
  if (!text || length <= 0) return length < 0 && errno == EINTR ? Outcome::kInterrupted : Outcome::kEnd;
  line.assign(text, static_cast<size_t>(length));
  if (line.ends_with('\n')) line.pop_back();
  if (!line.empty()) editor_->remember(line);
  return Outcome::kLine;
}

}  // namespace venturi
