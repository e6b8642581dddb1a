// One request and what waits to be sent for it, as the connections of http.cc see it.
#pragma once

#include <boost/asio.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <optional>
#include <set>

#include "base/log.h"
#include "server/allowance.h"
#include "server/http.h"
#include "server/strangers.h"

namespace venturi::server {

inline auto seconds(double s) { return std::chrono::milliseconds(static_cast<int64_t>(s * 1000)); }

inline auto token(boost::system::error_code& failure) { return boost::asio::redirect_error(boost::asio::use_awaitable, failure); }

class HttpExchange;

// Counts of all connections, and what they hold. What is no count is for the server's thread alone.
struct Tally {
  std::atomic<int64_t> connections = 0, stalled = 0, without_room = 0, gave_way = 0, requests = 0, bodies = 0, leaving = 0;
  std::shared_ptr<Allowance> allowance;
  bool cut_off = false;  // see HttpServer
  std::set<HttpExchange*> open;
  std::function<std::string(std::string_view path, int status, std::string_view message)> error_body;
  Strangers strangers;      // connections
  Strangers large_headers;  // that are not whole yet
};

// What waits to be sent, in order; filled from any thread through the server's executor.
class HttpExchange : public Exchange, public std::enable_shared_from_this<HttpExchange> {
 public:
  struct Piece {
    enum class Kind { kWhole, kBegin, kText, kEnd } kind;
    int status = 200;
    std::string content_type, text;
    Headers headers;
    Allowance::Share share = {};
  };

  // `cut` ends the connection at once. Before the end, finished() or close().
  HttpExchange(boost::asio::any_io_executor executor, HttpRequest request, uint64_t max_unsent, Tally& tally, std::function<void()> cut)
      : executor_(executor), ready_(executor), request_(std::move(request)), max_unsent_(max_unsent), tally_(tally), cut_(std::move(cut)) {
    tally_.open.insert(this);
    ++tally_.requests;
  }

  const HttpRequest& request() const override { return request_; }
  void reply(int status, std::string content_type, std::string body, Headers headers) override {
    add({Piece::Kind::kWhole, status, std::move(content_type), std::move(body), std::move(headers)});
  }
  void begin(std::string content_type, Headers headers) override {
    add({Piece::Kind::kBegin, 200, std::move(content_type), {}, std::move(headers)});
  }
  void write(std::string text) override { add({Piece::Kind::kText, 200, {}, std::move(text), {}}); }
  void end() override { add({Piece::Kind::kEnd, 200, {}, {}, {}}); }
  void post(std::function<void()> work) override { boost::asio::post(executor_, std::move(work)); }
  double sending_seconds() const override { return sending_seconds_; }
  void on_close(std::function<void()> gone) override {
    boost::asio::dispatch(executor_, [self = shared_from_this(), gone = std::move(gone)]() mutable {
      if (self->closed_) {
        if (!self->ended_) gone();
      } else {
        self->gone_ = std::move(gone);
      }
    });
  }
  void on_cut_off(std::function<void()> say) override {
    boost::asio::dispatch(executor_, [self = shared_from_this(), say = std::move(say)]() mutable {
      if (self->closed_ || self->ended_) return;
      self->say_ = std::move(say);
      if (self->tally_.cut_off) self->cut_off();
    });
  }
  std::string take_body() override { return std::exchange(request_.body, {}); }
  bool hold(uint64_t bytes) override {
    return keep(tally_.allowance->take(bytes, bytes > Allowance::kOrdinaryBody ? Allowance::Kind::kLarge : Allowance::Kind::kOrdinary));
  }
  uint64_t most_to_hold() const override {
    const auto beside = [&](Allowance::Kind kind) {
      const uint64_t most = tally_.allowance->most(kind);
      return most - std::min(most, held_.bytes());
    };
    return std::max(beside(Allowance::Kind::kLarge), std::min(Allowance::kOrdinaryBody, beside(Allowance::Kind::kOrdinary)));
  }
  void body_done() override {
    request_.body = {};
    held_.release();
  }

  // On the server's thread.
  bool keep(std::optional<Allowance::Share> share) {
    if (!share) {
      ++tally_.without_room;
      return false;
    }
    held_.add(std::move(*share));
    return true;
  }
  // Between them the body is read; `stop` ends that.
  void begin_body(std::function<void()> stop) {
    stop_reading_ = std::move(stop);
    ++tally_.bodies;
  }
  void end_body() {
    if (std::exchange(stop_reading_, nullptr)) --tally_.bodies;
  }
  void body_is_here(std::string body, double now) {
    request_.body = std::move(body);
    request_.arrived = now;
  }
  void close() {
    if (closed_) return;
    finished_sending();
    if (auto gone = std::exchange(gone_, nullptr); gone && !ended_) gone();
  }
  // The server does not wait for the answer any longer.
  void cut_off() {
    if (closed_ || ended_) return;
    if (const auto say = std::exchange(say_, nullptr)) say();
    if (const auto gone = std::exchange(gone_, nullptr)) gone();
    if (stop_reading_) stop_reading_();
  }
  bool closed() const { return closed_; }
  bool answered() const { return ended_; }
  bool stalled() const { return stalled_; }
  // The client does not read what it asked for.
  void stall() {
    if (closed_ || std::exchange(stalled_, true)) return;
    spdlog::warn("a client does not read; it is dropped, with {} bytes that wait for it", unsent_);
    const auto cut = cut_;
    close();
    cut();
  }
  void add_sending(double seconds) { sending_seconds_ += seconds; }
  void finished() {
    if (!closed_) finished_sending();
    gone_ = say_ = nullptr;
  }
  // The next piece, when the one before is sent; none after a silence of `silence` seconds, or when the client has gone.
  boost::asio::awaitable<std::optional<Piece>> next(double silence) {
    unsent_ -= std::min(unsent_, on_its_way_.bytes());
    on_its_way_.release();
    if (pieces_.empty() && !closed_) {
      ready_.expires_after(seconds(silence));
      boost::system::error_code ignored;
      co_await ready_.async_wait(token(ignored));
    }
    if (pieces_.empty() || closed_) co_return std::nullopt;
    Piece piece = std::move(pieces_.front());
    pieces_.pop_front();
    // What has piled up goes out in one write.
    while (piece.kind == Piece::Kind::kText && !pieces_.empty() && pieces_.front().kind == Piece::Kind::kText) {
      piece.text += pieces_.front().text;
      piece.share.add(std::move(pieces_.front().share));
      pieces_.pop_front();
    }
    on_its_way_ = std::move(piece.share);
    co_return piece;
  }

 private:
  static constexpr uint64_t kLittle = 64u << 10;  // bytes that wait for one who reads

  void add(Piece piece) {
    boost::asio::dispatch(executor_, [self = shared_from_this(), piece = std::move(piece)]() mutable {
      if (self->closed_ || self->ended_ || !self->find_room(piece)) return;
      self->ended_ = piece.kind == Piece::Kind::kWhole || piece.kind == Piece::Kind::kEnd;
      self->pieces_.push_back(std::move(piece));
      self->ready_.cancel();
    });
  }
  // False when the client has been dropped. Where there is no room, whoever lets most wait makes it.
  bool find_room(Piece& piece) {
    const uint64_t bytes = piece.text.size();
    if (piece.kind == Piece::Kind::kText && unsent_ + bytes > max_unsent_) stall();
    while (bytes > 0 && !closed_) {
      if (auto share = tally_.allowance->take(bytes, Allowance::Kind::kAnswer)) {
        piece.share = std::move(*share);
        unsent_ += bytes;
        return true;
      }
      HttpExchange* most = *std::max_element(tally_.open.begin(), tally_.open.end(),
                                             [](const HttpExchange* a, const HttpExchange* b) { return a->unsent_ < b->unsent_; });
      if (most->unsent_ > kLittle) {
        most->stall();
      } else if (piece.kind == Piece::Kind::kWhole) {
        ++tally_.without_room;
        if (const uint64_t most = tally_.allowance->most(Allowance::Kind::kAnswer); bytes > most) {
          piece = {Piece::Kind::kWhole, 400, "application/json",
                   tally_.error_body(request_.path, 400, fmt::format("the answer has {} bytes, and there is room for {}; ask for less at once", bytes, most)), {}};
          return true;
        }
        piece = {Piece::Kind::kWhole, 503, "application/json",
                 tally_.error_body(request_.path, 503, fmt::format("there is no room for this answer of {} bytes now; ask for less at once, or later", bytes)),
                 {{"Retry-After", "1"}}};
        return true;
      } else {
        stall();
      }
    }
    return !closed_;
  }
  void finished_sending() {
    closed_ = true;
    end_body();
    tally_.open.erase(this);
    --tally_.requests;
    pieces_.clear();
    on_its_way_.release();
    unsent_ = 0;
    cut_ = say_ = nullptr;
    ready_.cancel();
  }

  boost::asio::any_io_executor executor_;
  boost::asio::steady_timer ready_;
  HttpRequest request_;
  Allowance::Share held_;  // for the request
  const uint64_t max_unsent_;
  Tally& tally_;
  std::function<void()> cut_, gone_, say_, stop_reading_;
  uint64_t unsent_ = 0;
  Allowance::Share on_its_way_;
  double sending_seconds_ = 0;
  std::deque<Piece> pieces_;
  bool ended_ = false, closed_ = false, stalled_ = false;
};

}  // namespace venturi::server
