// HTTP/1.1 on sockets, through TLS where asked: requests in, whole or streamed answers out, every size and time bounded.
//
// One thread runs all connections, a coroutine each (Boost.Beast, in http.cc alone). A handler is
// called on that thread with an Exchange, answers now or later, and must not block. It is asked twice: whether a
// request may be read, when its header is there, and for the answer.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "server/allowance.h"

namespace venturi::server {

struct HttpRequest {
  std::string method, path, query;                           // path without the query, as sent
  std::string authorization, api_key, content_type, origin, host;  // headers; "" where absent
  std::string cors_method, cors_headers;                     // of a preflight
  std::string body;
  double arrived = 0;  // whole, on the monotonic clock
};

using Headers = std::vector<std::pair<std::string, std::string>>;

// One request being answered: by reply(), or by begin(), write()…, end(). All calls may come from
// any thread; what comes after the end or after the client has gone is passed over.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual const HttpRequest& request() const = 0;
  virtual void reply(int status, std::string content_type, std::string body,
                     Headers headers = {}) = 0;
  virtual void begin(std::string content_type, Headers headers = {}) = 0;
  virtual void write(std::string text) = 0;
  virtual void end() = 0;
  // Runs `work` on the server's thread.
  virtual void post(std::function<void()> work) = 0;
  // Called once, on the server's thread, if the client goes or stalls before the end.
  virtual void on_close(std::function<void()> gone) = 0;
  // Called once, on the server's thread, if the answer is cut off: it must end the answer then, and say why. What is set
  // later is called instead; then comes what on_close() has.
  virtual void on_cut_off(std::function<void()> say) {}
  // That writing to the connection has taken so far. On the server's thread.
  virtual double sending_seconds() const { return 0; }

  // On the server's thread. The body is counted in the allowance until body_done(), taken or not.
  virtual std::string take_body() { return request().body; }
  // Room in the allowance, beside the body's, for what is made of it; false where there is none.
  virtual bool hold(uint64_t bytes) { return true; }
  // The most bytes that hold() could ever find room for, however long a client waits.
  virtual uint64_t most_to_hold() const { return UINT64_MAX; }
  // Nothing is needed any more that was made of the body.
  virtual void body_done() {}
};
struct Handler {
  // Whether who asks may use the server, by the header alone; others have little room and give way. None: all may.
  std::function<bool(const HttpRequest& request)> knows = {};
  // Before the body is read; what is not admitted has been answered.
  std::function<bool(Exchange& exchange)> admits;
  std::function<void(std::shared_ptr<Exchange>)> handle;
  // Of what never reaches the handler: how an error of a path looks; "": the path is not known.
  std::function<std::string(std::string_view path, int status, std::string_view message)> error_body = {};
};

struct HttpOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 8080;  // 0: one that is free
  int64_t max_connections = 2048;
  uint64_t max_body_bytes = 16u << 20;  // less where the allowance is small
  uint32_t max_header_bytes = 16u << 10;
  double header_seconds = 15, body_seconds = 60, idle_seconds = 75;
  double write_seconds = 30;             // a client that reads nothing for so long is dropped
  uint64_t max_unsent_bytes = 4u << 20;  // likewise one that lets so much pile up
  std::string tls_cert, tls_key;           // PEM files; "": no TLS
  std::vector<std::string> cors_origins;   // whose pages may read answers; "*": anybody's
  double keep_alive_seconds = 15;        // of silence in an event stream, before a comment
  std::shared_ptr<Allowance> allowance;  // of what clients make the server hold
};

class HttpServer {
 public:
  // Listens; Code::kIo when the address cannot be had, kInvalidArgument for what is no certificate or key.
  static Result<std::unique_ptr<HttpServer>> listen(const HttpOptions& options, Handler handler);
  virtual ~HttpServer() = default;
  virtual uint16_t port() const = 0;
  // Serves until stop(); calls on_signal(), on this thread, at SIGINT and SIGTERM.
  virtual void run(std::function<void()> on_signal) = 0;
  // From any thread: no new connections; what is being answered goes on.
  virtual void stop_listening() = 0;
  // From any thread: whatever is not answered yet, and what still comes, is cut off (Exchange::on_cut_off).
  virtual void cut_off() = 0;
  virtual void stop() = 0;
  virtual int64_t requests() const = 0;  // from their header until all of the answer is sent
  virtual int64_t bodies() const = 0;    // of those, whose body is still on its way
  virtual int64_t leaving() const = 0;   // connections that are over, whose clients have not closed them yet
  virtual int64_t connections() const = 0;
  virtual int64_t stalled() const = 0;  // clients dropped so far because they did not read
  virtual uint64_t held_bytes() const = 0;      // in the allowance
  virtual int64_t gave_way() const = 0;         // clients dropped so far, not known yet, because others needed their place
  virtual double cpu_seconds() const = 0;       // of the thread in run()
  virtual int64_t without_room() const = 0;     // requests and answers refused so far because it had no room
};

}  // namespace venturi::server
