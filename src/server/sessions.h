// Conversations' state in a folder: saved under a name, and restored, when the server has been started anew, into the
// prefix cache or, of models that share no pages, among the states that are kept whole, where the next request of the
// conversation finds it.
//
// Threads: save(), restore(), list() and remove() may be called from any thread and do not block but for small file
// operations; `done` is called once, from a thread of the service's or of this object's. Files are read, checked and
// synced on a thread of its own, pages are copied between the service's steps.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "server/models.h"

namespace venturi::server {

struct Account;

struct SessionAbout {
  std::string name;
  int64_t tokens = 0;
  uint64_t bytes = 0;
};
using SessionDone = std::function<void(std::variant<SessionAbout, ApiError>)>;

class Sessions {
 public:
  // The folder must be there.
  static Result<std::unique_ptr<Sessions>> open(const std::string& folder);
  // After the services that work for it have ended.
  ~Sessions();

  // What of the tokens is not in the prefix cache is computed first, as a request of `account`.
  void save(const Target& target, const std::string& name, std::vector<TokenId> tokens, const Account& account, SessionDone done);
  void restore(const Target& target, const std::string& name, SessionDone done);
  std::vector<SessionAbout> list() const;  // without tokens
  std::optional<ApiError> remove(const std::string& name);

 private:
  explicit Sessions(std::string folder);
  // The file of a name; an error for what is none: letters, digits and . _ -, not a dot first.
  std::variant<std::string, ApiError> path(const std::string& name) const;
  void add(std::function<void()> job);
  void work();

  const std::string folder_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> jobs_;
  bool stopping_ = false;
  std::thread thread_;  // last
};

}  // namespace venturi::server
