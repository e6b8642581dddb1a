#include "cli/line_reader.h"

#include <histedit.h>
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

// One character of the terminal, for libedit: 1, 0 at the end, -1 after Ctrl-C. Its own reader begins a
// read again that a signal broke off, so that Ctrl-C would do nothing; and bytes that are no UTF-8 are
// dropped here.
int read_character(EditLine* editor, wchar_t* out) {
  std::mbstate_t state = {};
  for (;;) {
    char byte;
    const ssize_t got = ::read(0, &byte, 1);
    if (got == 0) return 0;
    if (got < 0) {
      if (errno != EINTR) return -1;
      if (std::exchange(g_resized, 0)) {
        el_resize(editor);
      } else if (std::exchange(g_continued, 0)) {
        el_set(editor, EL_PREP_TERM, 1);
        el_set(editor, EL_REFRESH);
      } else {
        errno = EINTR;
        return -1;
      }
      continue;
    }
    const size_t length = std::mbrtowc(out, &byte, 1, &state);
    if (length == static_cast<size_t>(-1)) state = {};
    if (length <= 1) return 1;
  }
}

char* prompt(EditLine*) {
  static char text[] = "> ";
  return text;
}

}  // namespace

struct LineReader::Editor {
  explicit Editor(std::string path) : history_path(std::move(path)) {
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
  EditLine* edit = nullptr;
  History* past = nullptr;
};

LineReader::LineReader(const std::string& history_path) {
  if (isatty(0)) editor_ = std::make_unique<Editor>(history_path);
}

LineReader::~LineReader() = default;

LineReader::Outcome LineReader::next(std::string& line) {
  if (!editor_) return std::getline(std::cin, line) ? Outcome::kLine : Outcome::kEnd;
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
