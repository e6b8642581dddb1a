#include <algorithm>
#include <cmath>

#include "loadtest/report.h"

namespace venturi::loadtest {

namespace {

constexpr double kWidth = 860, kLeft = 64, kRight = 16;
constexpr double kTop = 44, kUpper = 220, kBetween = 56, kLower = 200, kBottom = 44;
constexpr const char* kWaiting = "#c8780a";
constexpr const char* kStreaming = "#1f5fa8";
constexpr const char* kFailed = "#b3261e";

std::string escaped(const std::string& text) {
  std::string safe;
  for (const char c : text) safe += c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : std::string(1, c);
  return safe;
}

struct Change {
  double at;
  int waiting, streaming;
};

// How many wait for their first token and how many stream, over time.
std::vector<Change> changes(const Run& run) {
  std::vector<Change> all;
  for (const Record& r : run.records) {
    const double from = r.arrival.at, end = from + r.ended;
    if (r.error == "interrupted" && r.ended == 0) continue;
    all.push_back({from, 1, 0});
    if (r.first_token > 0) {
      all.push_back({from + r.first_token, -1, 1});
      all.push_back({end, 0, -1});
    } else {
      all.push_back({end, -1, 0});
    }
  }
  std::sort(all.begin(), all.end(), [](const Change& a, const Change& b) { return a.at < b.at; });
  int waiting = 0, streaming = 0;
  for (Change& c : all) {
    waiting += c.waiting;
    streaming += c.streaming;
    c.waiting = waiting;
    c.streaming = streaming;
  }
  return all;
}

}  // namespace

std::string report_svg(const Run& run, const std::string& title) {
  const double span = std::max(run.seconds, 1e-3), plot = kWidth - kLeft - kRight;
  const double lower_top = kTop + kUpper + kBetween, height = lower_top + kLower + kBottom;
  const auto x = [&](double t) { return kLeft + std::clamp(t / span, 0.0, 1.0) * plot; };
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" "
      "font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
      "<text x=\"{2}\" y=\"20\" font-size=\"14\">{3}</text>\n",
      kWidth, height, kLeft, escaped(title));
  const auto text = [&](double px, double py, const char* anchor, const std::string& what, const char* fill = "#222") {
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" fill=\"{}\">{}</text>\n", px, py, anchor, fill, what);
  };
  const auto grid = [&](double py, const std::string& label) {
    svg += fmt::format("<line x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#ddd\"/>\n", kLeft, kWidth - kRight, py, py);
    text(kLeft - 6, py + 4, "end", label);
  };

  // Above: requests in flight, streaming below waiting.
  const std::vector<Change> steps = changes(run);
  int most = 1;
  for (const Change& c : steps) most = std::max(most, c.waiting + c.streaming);
  const auto y = [&](double n) { return kTop + kUpper * (1 - n / most); };
  for (int i = 0; i <= 4; ++i) grid(y(most * i / 4.0), fmt::format("{:.3g}", most * i / 4.0));
  const auto area = [&](const char* fill, auto level) {
    std::string points = fmt::format("{:.1f},{:.1f} ", x(0), y(0));
    double before = 0;
    for (const Change& c : steps) {
      points += fmt::format("{:.1f},{:.1f} {:.1f},{:.1f} ", x(c.at), y(before), x(c.at), y(level(c)));
      before = level(c);
    }
    svg += fmt::format("<polygon points=\"{}{:.1f},{:.1f}\" fill=\"{}\"/>\n", points, x(span), y(0), fill);
  };
  area(kWaiting, [](const Change& c) { return c.waiting + c.streaming; });
  area(kStreaming, [](const Change& c) { return c.streaming; });
  text(kLeft, kTop - 6, "start", "requests in flight:");
  text(kLeft + 120, kTop - 6, "start", "streaming", kStreaming);
  text(kLeft + 190, kTop - 6, "start", "waiting for the first token", kWaiting);

  // Below, on a logarithmic scale: what each request saw.
  double low = 1e9, high = 1e-9;
  const auto note = [&](double v) {
    if (v <= 0) return;
    low = std::min(low, v);
    high = std::max(high, v);
  };
  for (const Record& r : run.records) {
    note(r.first_token);
    for (const float gap : r.gaps) note(std::max(static_cast<double>(gap), 1e-4));
  }
  if (low > high) low = 0.01, high = 1;
  const double from = std::floor(std::log10(low)), to = std::max(from + 1, std::ceil(std::log10(high)));
  const auto ly = [&](double v) {
    return lower_top + kLower * (1 - (std::log10(std::max(v, 1e-12)) - from) / (to - from));
  };
  for (double decade = from; decade <= to; ++decade)
    grid(ly(std::pow(10, decade)), decade >= 0 ? fmt::format("{:g} s", std::pow(10, decade)) : fmt::format("{:g} ms", std::pow(10, decade + 3)));
  for (const Record& r : run.records) {
    if (!r.error.empty()) {
      svg += fmt::format("<path d=\"M{:.1f} {:.1f}l6 6m0 -6l-6 6\" stroke=\"{}\"/>\n", x(r.arrival.at) - 3, lower_top + kLower - 8, kFailed);
      continue;
    }
    svg += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"2.5\" fill=\"{}\"/>\n", x(r.arrival.at), ly(r.first_token), kWaiting);
    if (r.gaps.empty()) continue;
    const double gap = static_cast<double>(*std::max_element(r.gaps.begin(), r.gaps.end()));
    if (gap >= low)
      svg += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"4\" height=\"4\" fill=\"{}\"/>\n", x(r.arrival.at) - 2, ly(gap) - 2, kStreaming);
  }
  text(kLeft, lower_top - 8, "start", "of each request, at its arrival:");
  text(kLeft + 180, lower_top - 8, "start", "● time to first token", kWaiting);
  text(kLeft + 320, lower_top - 8, "start", "■ longest gap", kStreaming);
  text(kLeft + 420, lower_top - 8, "start", "× failed", kFailed);
  for (int i = 0; i <= 6; ++i) text(x(span * i / 6), height - kBottom + 18, "middle", fmt::format("{:.3g}", span * i / 6));
  text(kLeft + plot / 2, height - 8, "middle", "seconds");
  return svg + "</svg>\n";
}

}  // namespace venturi::loadtest
