#include "server/http.h"

#include <boost/asio.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>

#include <poll.h>
#include <pthread.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <optional>

#include "base/clock.h"
#include "base/log.h"
#include "server/http_exchange.h"
#include "server/origins.h"

namespace venturi::server {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using boost::system::error_code;
using tcp = asio::ip::tcp;

namespace {

constexpr int kSendBuffer = 128 << 10;  // bytes; the kernel takes twice as many
constexpr uint64_t kReadAhead = 16 << 10, kSmallHeader = 4 << 10;
constexpr uint64_t kUnknownHeaders = Allowance::kOwn / 8;  // that large headers may hold until they are whole
constexpr double kGoodbyeSeconds = 5;  // for a client to notice that it has been told to go

// Cancels what a socket reads after a while, and leaves it open, so that the client can be told;
// tcp_stream's own deadline closes it.
class Deadline {
 public:
  Deadline(tcp::socket& socket, double after)
      : timer_(socket.get_executor(), seconds(after)),
        state_(std::make_shared<State>(State::kRuns)) {
    timer_.async_wait([&socket, state = state_](error_code failed) {
      if (failed || *state == State::kOver) return;
      *state = State::kPassed;
      error_code ignored;
      socket.cancel(ignored);
    });
  }
  ~Deadline() {
    *state_ = State::kOver;
    timer_.cancel();
  }
  bool passed() const { return *state_ == State::kPassed; }

 private:
  enum class State { kRuns, kPassed, kOver };
  asio::steady_timer timer_;
  std::shared_ptr<State> state_;
};

HttpRequest header_of(const http::request<http::string_body>& from) {
  HttpRequest to;
  to.method = std::string(from.method_string());
  const std::string_view target = from.target();
  const size_t mark = target.find('?');
  to.path = std::string(target.substr(0, mark));
  if (mark != std::string_view::npos) to.query = std::string(target.substr(mark + 1));
  to.authorization = std::string(from[http::field::authorization]);
  to.api_key = std::string(from["x-api-key"]);
  to.content_type = std::string(from[http::field::content_type]);
  to.origin = std::string(from[http::field::origin]);
  to.host = std::string(from[http::field::host]);
  to.cors_method = std::string(from[http::field::access_control_request_method]);
  to.cors_headers = std::string(from[http::field::access_control_request_headers]);
  to.arrived = now_seconds();
  return to;
}

using Plain = beast::tcp_stream;
using Tls = asio::ssl::stream<beast::tcp_stream>;

// Whether the other side has closed, whatever it sent before that and was not read.
bool has_closed(tcp::socket& socket) {
  pollfd watched{.fd = socket.native_handle(), .events = POLLRDHUP, .revents = 0};
  return ::poll(&watched, 1, 0) > 0 && (watched.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

// Where a connection comes from; whoever has an IPv6 address has a network of them.
std::string peer_of(const tcp::socket& socket) {
  error_code failed;
  const asio::ip::address address = socket.remote_endpoint(failed).address();
  if (failed || address.is_v4()) return failed ? "" : address.to_string();
  if (address.to_v6().is_v4_mapped()) return asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6()).to_string();
  const auto bytes = address.to_v6().to_bytes();
  return std::string(bytes.begin(), bytes.begin() + 8);
}

// One connection: requests one after another. Stream is Plain or Tls.
template <typename Stream>
class Session : public std::enable_shared_from_this<Session<Stream>> {
 public:
  template <typename... TlsContext>
  Session(tcp::socket socket, const HttpOptions& options, const Handler& handler,
          Tally& tally, TlsContext&... tls)
      : stream_(std::move(socket), tls...),
        o_(options),
        handler_(handler),
        tally_(tally),
        pause_(lowest().get_executor()),
        peer_(peer_of(lowest().socket())) {
    ++tally_.connections;
    unknown_.emplace(tally_.strangers, peer_, [this] { lowest().close(); });
  }
  ~Session() {
    if (exchange_) exchange_->finished();
    --tally_.connections;
  }

  asio::awaitable<void> run() {
    const auto self = this->shared_from_this();
    if (!co_await shake_hands()) co_return;
    beast::flat_buffer buffer(o_.max_header_bytes + kReadAhead);
    for (bool first = true;; first = false) {
      Parser parser;
      parser.header_limit(o_.max_header_bytes);
      parser.body_limit(boost::none);  // read_body() has it; who may not use the server is told that, not how much
      Allowance::Share share;  // of a large header
      error_code failed;
      if (!first && buffer.size() == 0) {  // the time between requests is longer than within one
        lowest().expires_after(seconds(o_.idle_seconds));
        buffer.commit(co_await stream_.async_read_some(buffer.prepare(4096), token(failed)));
        if (failed) break;
      }
      failed = co_await read_header(buffer, parser, share);
      if (failed) {
        co_await refuse(failed, header_of(parser.get()).path);
        break;
      }
      exchange_ = std::make_shared<HttpExchange>(lowest().get_executor(), header_of(parser.get()), o_.max_unsent_bytes, tally_,
                                                 [this] { lowest().close(); });
      const bool known = !handler_.knows || handler_.knows(exchange_->request());
      if (known) unknown_.reset();
      if (!keep_header(std::move(share), known)) {
        refuse_for_room();
      } else if (is_preflight()) {
        exchange_->reply(204, "text/plain", "", preflight_headers());
      } else if (handler_.admits(*exchange_) && !exchange_->answered()) {
        if (!known && !parser.is_done()) {
          exchange_->reply(413, "application/json", tally_.error_body(exchange_->request().path, 413, "a request without a key may have no body"), {});
        } else {
          exchange_->begin_body([this] {
            error_code ignored;
            lowest().socket().cancel(ignored);
          });
          failed = co_await read_body(buffer, parser);
          exchange_->end_body();
        }
        if (exchange_->answered()) {
          // It was refused, or cut off.
        } else if (!failed) {
          exchange_->body_is_here(std::move(parser.get().body()), now_seconds());
          handler_.handle(exchange_);
        } else if (failed == asio::error::no_buffer_space) {
          refuse_for_room();
        } else {
          co_await refuse(failed, exchange_->request().path);
          exchange_->finished();
          exchange_.reset();
          break;
        }
      }
      // Behind a body that was not read comes nothing that could be understood.
      const bool keep = parser.get().keep_alive() && parser.is_done();
      watch();
      const bool sent = co_await answer(keep, parser.get().version(), parser.get().method() == http::verb::head);
      if (sent) {
        exchange_->finished();
      } else {
        exchange_->close();
      }
      if (exchange_->stalled()) {
        ++tally_.stalled;
        lowest().close();
      }
      exchange_.reset();
      error_code ignored;
      lowest().socket().cancel(ignored);  // the watch
      pause_.cancel();
      if (!sent || !keep || tally_.cut_off) break;
    }
    ++tally_.leaving;
    co_await say_goodbye();
    --tally_.leaving;
  }

 private:
  using Parser = http::request_parser<http::string_body>;

  Plain& lowest() { return beast::get_lowest_layer(stream_); }

  asio::awaitable<error_code> read_header(beast::flat_buffer& buffer, Parser& parser, Allowance::Share& share) {
    error_code failed;
    bool gave_way = false;
    std::optional<Strangers::Place> place;
    const Deadline deadline(lowest().socket(), o_.header_seconds);
    lowest().expires_never();
    parser.eager(false);
    while (!failed) {
      if (buffer.size() > 0) buffer.consume(parser.put(buffer.data(), failed));
      if (failed && failed != http::error::need_more) break;
      failed = {};
      if (parser.is_header_done()) break;
      if (buffer.size() > kSmallHeader && share.bytes() == 0) {
        const uint64_t room = Allowance::kCopies * o_.max_header_bytes;
        if ((tally_.large_headers.size() + 1) * room > kUnknownHeaders && tally_.large_headers.drop_one()) ++tally_.gave_way;
        place.emplace(tally_.large_headers, peer_, [this, &gave_way] {
          gave_way = true;
          error_code ignored;
          lowest().socket().cancel(ignored);
        });
        auto taken = tally_.allowance->take(room, Allowance::Kind::kOrdinary);
        if (!taken) co_return asio::error::no_buffer_space;
        share = std::move(*taken);
      }
      const size_t more = beast::read_size(buffer, kReadAhead);
      if (more == 0) co_return http::error::buffer_overflow;
      buffer.commit(co_await stream_.async_read_some(buffer.prepare(more), token(failed)));
      if (gave_way) share.release();
      if (gave_way) co_return asio::error::no_buffer_space;
      if (deadline.passed()) co_return beast::error::timeout;
    }
    co_return failed;
  }

  // The room of a large header that is whole now. Of one who is known it counts as a large body's.
  bool keep_header(Allowance::Share share, bool known) {
    if (share.bytes() == 0) return true;
    if (!known) return exchange_->keep(std::move(share));
    return exchange_->keep(tally_.allowance->take(share.bytes(), Allowance::Kind::kLarge));
  }

  // Every byte has room in the allowance before it is read; no_buffer_space where there is none.
  asio::awaitable<error_code> read_body(beast::flat_buffer& buffer, Parser& parser) {
    if (parser.is_done()) co_return error_code();
    const auto length = parser.content_length();
    parser.body_limit(body_limit_ = std::min(o_.max_body_bytes, exchange_->most_to_hold() / Allowance::kCopies));
    uint64_t room = length ? *length : kReadAhead;
    if (room > body_limit_) co_return http::error::body_limit;
    if (!exchange_->keep(tally_.allowance->take_body(room, room))) co_return asio::error::no_buffer_space;
    error_code failed;
    if (beast::iequals(parser.get()[http::field::expect], "100-continue")) {
      http::response<http::empty_body> go_on(http::status::continue_, parser.get().version());
      lowest().expires_after(seconds(o_.write_seconds));
      co_await http::async_write(stream_, go_on, token(failed));
    }
    const Deadline deadline(lowest().socket(), o_.body_seconds);
    lowest().expires_never();
    buffer.reserve(std::min<uint64_t>(room, kReadAhead));  // else it is read by half kilobytes
    parser.eager(true);
    while (!failed && !parser.is_done() && !exchange_->answered()) {
      co_await http::async_read_some(stream_, buffer, parser, token(failed));
      if (deadline.passed()) co_return beast::error::timeout;
      if (const uint64_t there = parser.get().body().size(); !length && there + kReadAhead > room) {
        const uint64_t more = std::min(there, body_limit_ - room);
        if (!exchange_->keep(tally_.allowance->take_body(more, 2 * there))) co_return asio::error::no_buffer_space;
        room += more;
      }
    }
    co_return failed;
  }

  void refuse_for_room() {
    exchange_->reply(503, "application/json",
                     tally_.error_body(exchange_->request().path, 503, "other requests take the room that there is for bodies; ask again"), {{"Retry-After", "1"}});
  }

  asio::awaitable<bool> shake_hands() {
    if constexpr (std::is_same_v<Stream, Tls>) {
      error_code failed;
      lowest().expires_after(seconds(o_.header_seconds));
      co_await stream_.async_handshake(asio::ssl::stream_base::server, token(failed));
      co_return !failed;
    }
    co_return true;
  }

  asio::awaitable<void> say_goodbye() {
    error_code ignored;
    if constexpr (std::is_same_v<Stream, Tls>) {
      lowest().expires_after(std::chrono::seconds(2));
      co_await stream_.async_shutdown(token(ignored));
    }
    lowest().socket().shutdown(tcp::socket::shutdown_send, ignored);
    // A socket that is closed with bytes unread is reset, and the answer with it.
    const Deadline deadline(lowest().socket(), kGoodbyeSeconds);
    lowest().expires_never();
    std::array<char, 4096> unread;
    while (!ignored && !deadline.passed()) co_await lowest().socket().async_read_some(asio::buffer(unread), token(ignored));
  }

  bool allows(const std::string& origin) const {
    const auto& all = o_.cors_origins;
    return !origin.empty() && std::any_of(all.begin(), all.end(), [&](const std::string& one) {
      return one == "*" || one == origin;
    });
  }
  bool is_preflight() const {
    const HttpRequest& r = exchange_->request();
    return r.method == "OPTIONS" && !r.cors_method.empty() && allows(r.origin);
  }
  Headers preflight_headers() const {
    const std::string& asked = exchange_->request().cors_headers;
    return {{"Access-Control-Allow-Methods", "GET, POST, OPTIONS"},
            {"Access-Control-Allow-Headers", asked.empty() ? "Authorization, Content-Type" : asked},
            {"Access-Control-Max-Age", "600"}};
  }

  // What goes wrong before there is a request to hand on.
  asio::awaitable<void> refuse(error_code failed, std::string path) {
    int status = 400;
    std::string message = "this is not an HTTP request: " + failed.message();
    if (failed == http::error::end_of_stream || failed == asio::error::eof ||
        failed == asio::error::connection_reset || failed == http::error::partial_message ||
        failed == asio::error::operation_aborted)
      co_return;
    if (failed == beast::error::timeout) {
      status = 408;
      message = "the request took too long to arrive";
    } else if (failed == http::error::body_limit) {
      status = 413;
      message = fmt::format("the body is larger than {} bytes", body_limit_);
    } else if (failed == http::error::header_limit || failed == http::error::buffer_overflow) {
      status = 431;
      message = fmt::format("the header is larger than {} bytes", o_.max_header_bytes);
    } else if (failed == asio::error::no_buffer_space) {
      ++tally_.without_room;
      status = 503;
      message = fmt::format("other requests take the room that there is for headers of more than {} bytes; ask again", kSmallHeader);
    }
    http::response<http::string_body> response(static_cast<http::status>(status), 11);
    response.set(http::field::content_type, "application/json");
    response.keep_alive(false);
    response.body() = tally_.error_body(path, status, message);
    response.prepare_payload();
    lowest().expires_after(seconds(o_.write_seconds));
    error_code ignored;
    co_await http::async_write(stream_, response, token(ignored));
  }

  // Notices that the client has gone while its answer is being made.
  void watch() {
    lowest().socket().async_wait(tcp::socket::wait_read, [self = this->shared_from_this(),
                                                          exchange = exchange_](error_code failed) {
      if (!failed) self->look(exchange);
    });
  }
  // Bytes are the next request, sent ahead, or a TLS goodbye; behind them it may have closed.
  void look(const std::shared_ptr<HttpExchange>& exchange) {
    if (exchange->closed()) return;
    if (has_closed(lowest().socket())) return exchange->close();
    pause_.expires_after(std::chrono::milliseconds(200));
    pause_.async_wait([self = this->shared_from_this(), exchange](error_code failed) {
      if (!failed) self->look(exchange);
    });
  }

  template <typename Response>
  void set_headers(Response& response, const HttpExchange::Piece& piece, bool keep) {
    response.set(http::field::content_type, piece.content_type);
    for (const auto& [name, value] : piece.headers) response.set(name, value);
    if (const std::string& origin = exchange_->request().origin; allows(origin)) {
      response.set(http::field::access_control_allow_origin, origin);
      response.set(http::field::vary, "Origin");
    }
    response.keep_alive(keep);
  }

  // With `on`, a close by a deadline throws away what the kernel holds for the client, who learns of it at once:
  // one that reads nothing would otherwise keep megabytes for minutes. A socket that is destroyed still closes gently.
  void reset_when_closed(bool on) {
    error_code ignored;
    lowest().socket().set_option(asio::socket_base::linger(on, 0), ignored);
  }

  // Sends the pieces of the exchange; false when the connection is of no use any more.
  asio::awaitable<bool> answer(bool keep, unsigned version, bool head) {
    using Kind = HttpExchange::Piece::Kind;
    error_code failed;
    bool streaming = false, chunked = false, events = false;
    while (!failed) {
      lowest().expires_never();
      auto piece = co_await exchange_->next(o_.keep_alive_seconds);
      if (exchange_->closed()) co_return false;
      if (!piece) {
        if (!events) continue;
        piece = HttpExchange::Piece{Kind::kText, 200, {}, ": keep-alive\n\n", {}};
      }
      lowest().expires_after(seconds(o_.write_seconds));
      const double begin = now_seconds();
      switch (piece->kind) {
        case Kind::kWhole: {
          http::response<http::string_body> response(static_cast<http::status>(piece->status),
                                                     version);
          set_headers(response, *piece, keep);
          response.body() = std::move(piece->text);
          response.prepare_payload();
          if (head) response.body().clear();
          co_await http::async_write(stream_, response, token(failed));
          if (!failed) co_return true;
          break;
        }
        case Kind::kBegin: {
          http::response<http::empty_body> response(http::status::ok, version);
          streaming = true;
          reset_when_closed(true);
          chunked = version >= 11;
          events = piece->content_type.starts_with("text/event-stream");
          set_headers(response, *piece, keep && chunked);
          response.set(http::field::cache_control, "no-cache");
          if (chunked) response.chunked(true);
          http::response_serializer<http::empty_body> serializer(response);
          co_await http::async_write_header(stream_, serializer, token(failed));
          break;
        }
        case Kind::kText:
          if (!streaming || piece->text.empty()) break;
          if (chunked) {
            co_await asio::async_write(stream_, http::make_chunk(asio::buffer(piece->text)),
                                       token(failed));
          } else {
            co_await asio::async_write(stream_, asio::buffer(piece->text), token(failed));
          }
          break;
        case Kind::kEnd:
          if (chunked) co_await asio::async_write(stream_, http::make_chunk_last(), token(failed));
          if (failed) break;
          reset_when_closed(false);
          co_return chunked;
      }
      exchange_->add_sending(now_seconds() - begin);
    }
    if (failed == beast::error::timeout) exchange_->stall();
    co_return false;
  }

  Stream stream_;
  const HttpOptions& o_;
  const Handler& handler_;
  Tally& tally_;
  asio::steady_timer pause_;  // of look()
  uint64_t body_limit_ = 0;   // of the request that is read
  const std::string peer_;
  std::optional<Strangers::Place> unknown_;  // until it has shown a key
  std::shared_ptr<HttpExchange> exchange_;
};

std::string plain_error(std::string_view, int, std::string_view message) { return std::string(message); }

class Server : public HttpServer {
 public:
  Server(const HttpOptions& options, Handler handler)
      : o_(options), handler_(std::move(handler)), acceptor_(context_), signals_(context_) {
    tally_.error_body = handler_.error_body ? handler_.error_body : plain_error;
    tally_.allowance = o_.allowance ? o_.allowance : Allowance::create(Ledger::create());
  }

  Status open() {
    error_code failed;
    auto address = asio::ip::make_address(o_.host, failed);
    if (failed && is_loopback(o_.host)) {  // a name is this machine, whatever a resolver says
      address = asio::ip::address_v4::loopback();
      failed.clear();
    }
    if (failed)
      return error(Code::kInvalidArgument,
                   "--host {} is not an address; give one like 127.0.0.1 or ::, or localhost", o_.host);
    TRY(open_tls());
    const tcp::endpoint endpoint(address, o_.port);
    acceptor_.open(endpoint.protocol(), failed);
    if (!failed) acceptor_.set_option(asio::socket_base::reuse_address(true), failed);
    if (!failed) acceptor_.bind(endpoint, failed);
    if (!failed) acceptor_.listen(1024, failed);
    if (failed)
      return error(Code::kIo, "cannot listen on {} port {}: {}", o_.host, o_.port,
                   failed.message());
    port_ = acceptor_.local_endpoint().port();
    signals_.add(SIGINT);
    signals_.add(SIGTERM);
    return {};
  }

  uint16_t port() const override { return port_; }
  int64_t connections() const override { return tally_.connections; }
  int64_t stalled() const override { return tally_.stalled; }
  int64_t requests() const override { return tally_.requests; }
  int64_t bodies() const override { return tally_.bodies; }
  int64_t leaving() const override { return tally_.leaving; }
  uint64_t held_bytes() const override { return tally_.allowance->held(); }
  int64_t without_room() const override { return tally_.without_room; }
  int64_t gave_way() const override { return tally_.gave_way; }
  double cpu_seconds() const override {
    timespec used{};
    if (runs_) ::clock_gettime(clock_, &used);
    return static_cast<double>(used.tv_sec) + 1e-9 * static_cast<double>(used.tv_nsec);
  }

  void run(std::function<void()> on_signal) override {
    runs_ = ::pthread_getcpuclockid(::pthread_self(), &clock_) == 0;
    asio::co_spawn(context_, accept(), asio::detached);
    asio::co_spawn(
        context_,
        [this, on_signal]() -> asio::awaitable<void> {
          for (;;) {
            error_code failed;
            co_await signals_.async_wait(token(failed));
            if (failed) co_return;
            on_signal();
          }
        },
        asio::detached);
    context_.run();
    runs_ = false;
  }

  void stop_listening() override {
    asio::post(context_, [this] {
      // Whoever has connected is answered.
      error_code failed;
      acceptor_.non_blocking(true, failed);
      while (!failed) {
        tcp::socket socket(context_);
        acceptor_.accept(socket, failed);
        if (!failed) take(std::move(socket));
      }
      acceptor_.close(failed);
    });
  }
  void cut_off() override {
    asio::post(context_, [this] {
      tally_.cut_off = true;
      std::vector<std::shared_ptr<HttpExchange>> open;
      for (HttpExchange* exchange : tally_.open) open.push_back(exchange->shared_from_this());
      for (const auto& exchange : open) exchange->cut_off();
    });
  }
  void stop() override { context_.stop(); }

 private:
  Status open_tls() {
    if (o_.tls_cert.empty() && o_.tls_key.empty()) return {};
    if (o_.tls_cert.empty() || o_.tls_key.empty())
      return error(Code::kInvalidArgument, "--tls-cert and --tls-key go together");
    tls_.emplace(asio::ssl::context::tls_server);
    tls_->set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_tlsv1 |
                      asio::ssl::context::no_tlsv1_1);
    error_code failed;
    tls_->use_certificate_chain_file(o_.tls_cert, failed);
    if (failed)
      return error(Code::kInvalidArgument, "--tls-cert {}: {}", o_.tls_cert, failed.message());
    tls_->use_private_key_file(o_.tls_key, asio::ssl::context::pem, failed);
    if (failed)
      return error(Code::kInvalidArgument, "--tls-key {}: {}", o_.tls_key, failed.message());
    return {};
  }

  template <typename Stream, typename... TlsContext>
  void serve(tcp::socket socket, TlsContext&... tls) {
    asio::co_spawn(
        context_,
        [session = std::make_shared<Session<Stream>>(std::move(socket), o_, handler_, tally_,
                                                     tls...)] { return session->run(); },
        [](std::exception_ptr failure) {
          try {
            if (failure) std::rethrow_exception(failure);
          } catch (const std::exception& e) {
            spdlog::error("a connection ended by an exception: {}", e.what());
          }
        });
  }

  void take(tcp::socket socket) {
    if (tally_.connections >= o_.max_connections && tally_.strangers.drop_one()) {
      ++tally_.gave_way;
    } else if (tally_.connections >= o_.max_connections) {
      spdlog::warn("{} connections are open already; one more is refused", tally_.connections.load());
      return;
    }
    error_code ignored;
    socket.set_option(tcp::no_delay(true), ignored);
    // The kernel would take megabytes for a client that does not read, and they are nobody's in the ledger.
    socket.set_option(asio::socket_base::send_buffer_size(kSendBuffer), ignored);
    if (tls_) {
      serve<Tls>(std::move(socket), *tls_);
    } else {
      serve<Plain>(std::move(socket));
    }
  }

  asio::awaitable<void> accept() {
    for (;;) {
      error_code failed;
      tcp::socket socket(context_);
      co_await acceptor_.async_accept(socket, token(failed));
      if (!acceptor_.is_open()) co_return;
      if (failed) {
        // Out of descriptors, most likely: some will come free.
        spdlog::warn("cannot accept a connection: {}", failed.message());
        asio::steady_timer pause(context_, std::chrono::milliseconds(100));
        co_await pause.async_wait(token(failed));
        continue;
      }
      take(std::move(socket));
    }
  }

  const HttpOptions o_;
  const Handler handler_;
  Tally tally_;
  asio::io_context context_{1};
  std::optional<asio::ssl::context> tls_;
  tcp::acceptor acceptor_;
  asio::signal_set signals_;
  uint16_t port_ = 0;
  clockid_t clock_ = 0;  // of the thread in run()
  std::atomic<bool> runs_ = false;
};

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::listen(const HttpOptions& options,
                                                       Handler handler) {
  auto server = std::make_unique<Server>(options, std::move(handler));
  TRY(server->open());
  return std::unique_ptr<HttpServer>(std::move(server));
}

}  // namespace venturi::server
