#include "cli/plan_report.h"

#include <algorithm>
#include <map>

#include "cli/flags.h"
#include "cli/text.h"

namespace venturi {

namespace {

std::vector<std::string> plan_row(const Plan& plan) {
  const Prediction& p = plan.predicted;
  return {plan.name,
          format_bytes(p.peak_memory_bytes),
          std::to_string(plan.options.context),
          std::to_string(plan.options.sequences),
          format_rate(p.tokens_per_second),
          format_rate(p.tokens_per_second_full),
          format_rate(p.prefill_tokens_per_second),
          fmt::format("{:.2f} s", p.first_token_seconds),
          format_bytes(static_cast<uint64_t>(p.memory_bytes_per_token)),
          format_bytes(static_cast<uint64_t>(p.disk_bytes_per_token)),
          p.binds};
}

struct Sum {
  uint64_t pinned = 0, streamed = 0;
  int count = 0, by_neuron = 0;
};

// "blk.3.ffn_up.weight" -> "blk.*.ffn_up.weight"
std::string family(const std::string& name) {
  std::string out;
  for (size_t i = 0; i < name.size(); ++i) {
    if (name[i] < '0' || name[i] > '9' || (i > 0 && name[i - 1] != '.')) {
      out += name[i];
      continue;
    }
    size_t end = name.find_first_not_of("0123456789", i);
    if (end == std::string::npos) end = name.size();
    out += end == name.size() || name[end] == '.' ? "*" : name.substr(i, end - i);
    i = end - 1;
  }
  return out;
}

std::string residency_table(const Plan& plan, bool each) {
  std::vector<std::string> order;
  std::map<std::string, Sum> sums;
  for (const PlannedWeight& w : plan.weights) {
    const std::string key = (each ? w.name : family(w.name)) + " (" + w.codec + ")";
    Sum& sum = sums[key];
    if (sum.count++ == 0) order.push_back(key);
    sum.by_neuron += w.by_neuron;
    sum.pinned += w.pinned_bytes;
    sum.streamed += w.streamed_bytes;
  }
  std::vector<std::vector<std::string>> rows = {{"weights", "tensors", "in memory", "streamed"}};
  for (const std::string& key : order)
    rows.push_back({key, std::to_string(sums[key].count), format_bytes(sums[key].pinned),
                    sums[key].by_neuron ? "by neuron" : sums[key].streamed ? format_bytes(sums[key].streamed) : "-"});
  return markdown_table(rows);
}

std::string head(const PlanFile& file) {
  std::string of;
  const double noise = file.profile.noise(&of);
  return fmt::format("{} ({}); machine: {} threads, {}, {}reads {:.1f} GB/s from memory{}; largest spread {:.0f} % ({})\n",
                     file.model, format_bytes(file.model_bytes), file.profile.threads, file.profile.instruction_set,
                     file.profile.brief ? "measured in a hurry, " : "",
                     file.profile.read_bytes_per_second.median / 1e9,
                     file.profile.disk.rates.empty()
                         ? ""
                         : fmt::format(", {:.2f} GB/s from disk", file.profile.disk_bytes_per_second(1u << 20, 16) / 1e9),
                     100 * noise, of);
}

// What goes to and comes from the disk beside weights.
std::string beside_weights(const Plan& plan) {
  std::string text;
  if (plan.experts > 0)
    text += fmt::format("experts: slots for {} of {} ({}), {}\n", plan.expert_slots, plan.experts, format_bytes(plan.residency.expert_cache_bytes),
                        plan.predicted.experts_found > 0
                            ? fmt::format("{:.3g} % of those asked for found there", 100 * plan.predicted.experts_found)
                            : "found as published mixtures route (--routes tells of this one)");
  if (plan.neurons.used())
    text += fmt::format("neurons: {} for those active last and what is read, {} of neurons taken to be active for a token\n",
                        format_bytes(plan.footprint.neurons), fmt::format("{:.3g} %", 100 * plan.predicted.active_neurons));
  if (plan.state.spills())
    text += fmt::format("state: {} in memory, up to {} in a file ({})\n", format_bytes(plan.footprint.state),
                        format_bytes(plan.footprint.state_file), plan.options.spill->empty() ? "at the usual place" : *plan.options.spill);
  return text.empty() ? text : text + "\n";
}

}  // namespace

std::string plan_report(const PlanFile& file, bool weights) {
  std::vector<std::vector<std::string>> rows = {{"plan", "peak memory", "context", "streams", "decode", "full context",
                                                 "prefill", "first token", "memory a token", "disk a token", "binds"}};
  for (const Plan& plan : file.plans) rows.push_back(plan_row(plan));
  const Plan& first = file.plans[0];
  const Footprint& f = first.footprint;
  std::string assumed;
  for (const std::string& one : file.assumptions) assumed += fmt::format("assumes {}\n", one);
  const std::string type = first.state_type.empty() ? "" : " (" + first.state_type + ")";
  return head(file) + assumed + "\n" + markdown_table(rows) +
         fmt::format("\nfirst token after a prompt of {}, in steps of {}\n{}: weights {}{}, windows {}, state {}{}, "
                     "activations {}, {}\n\n",
                     first.predicted.prompt, first.options.batch, first.name, format_bytes(f.weights),
                     f.adapters > 0 ? ", adapters " + format_bytes(f.adapters) : "", format_bytes(f.windows),
                     format_bytes(f.state), type, format_bytes(f.activations),
                     first.options.repack ? "interleaved in memory" : "as in the file") +
         beside_weights(first) + residency_table(first, weights);
}

std::string sweep_table(const std::vector<SweepPoint>& points) {
  std::vector<std::vector<std::string>> rows = {
      {"memory", "decode", "prefill", "first token", "peak memory", "disk a token", "context", "binds"}};
  for (const SweepPoint& point : points) {
    if (!point.plan) {
      rows.push_back({format_bytes(point.memory), "does not fit", "", "", "", "", "", ""});
      continue;
    }
    const std::vector<std::string> row = plan_row(*point.plan);
    rows.push_back({format_bytes(point.memory), row[4], row[6], row[7], row[1], row[9], row[2], row[10]});
  }
  return markdown_table(rows);
}

std::string sweep_csv(const std::vector<SweepPoint>& points) {
  std::string text =
      "memory_bytes,tokens_per_second,prefill_tokens_per_second,first_token_seconds,peak_memory_bytes,"
      "disk_bytes_per_token,memory_bytes_per_token,context,binds\n";
  for (const SweepPoint& point : points) {
    if (!point.plan) {
      text += fmt::format("{},,,,,,,,\n", point.memory);
      continue;
    }
    const Prediction& p = point.plan->predicted;
    text += fmt::format("{},{:.6g},{:.6g},{:.6g},{},{:.0f},{:.0f},{},{}\n", point.memory, p.tokens_per_second,
                        p.prefill_tokens_per_second, p.first_token_seconds, p.peak_memory_bytes, p.disk_bytes_per_token,
                        p.memory_bytes_per_token, point.plan->options.context, p.binds);
  }
  return text;
}

std::string sweep_svg(const std::vector<SweepPoint>& points, std::string_view title) {
  constexpr double kWidth = 720, kHeight = 420, kLeft = 70, kRight = 20, kTop = 40, kBottom = 50;
  double most = 0;
  for (const SweepPoint& point : points)
    if (point.plan) most = std::max(most, point.plan->predicted.tokens_per_second);
  if (most <= 0) most = 1;
  const double first = static_cast<double>(points.front().memory), last = static_cast<double>(points.back().memory);
  const auto x = [&](double memory) {
    return kLeft + (last > first ? (memory - first) / (last - first) : 0.5) * (kWidth - kLeft - kRight);
  };
  const auto y = [&](double rate) { return kHeight - kBottom - rate / (1.05 * most) * (kHeight - kTop - kBottom); };
  std::string safe;
  for (const char c : title) safe += c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : std::string(1, c);
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" "
      "font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
      "<text x=\"{2}\" y=\"22\" font-size=\"14\">{3}</text>\n",
      kWidth, kHeight, kLeft, safe);
  constexpr int kTicks = 5;
  for (int i = 0; i <= kTicks; ++i) {
    const double rate = most * i / kTicks, memory = first + (last - first) * i / kTicks;
    svg += fmt::format("<line x1=\"{0}\" x2=\"{1}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\" stroke=\"#ddd\"/>"
                       "<text x=\"{3}\" y=\"{4:.1f}\" text-anchor=\"end\">{5:.3g}</text>\n",
                       kLeft, kWidth - kRight, y(rate), kLeft - 6, y(rate) + 4, rate);
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n", x(memory), kHeight - kBottom + 18,
                       format_bytes(static_cast<uint64_t>(memory)));
  }
  svg += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">memory</text>\n"
                     "<text x=\"16\" y=\"{}\" transform=\"rotate(-90 16 {})\" text-anchor=\"middle\">tokens a second</text>\n",
                     (kLeft + kWidth - kRight) / 2, kHeight - 10, kHeight / 2, kHeight / 2);
  std::string line;
  for (const SweepPoint& point : points) {
    if (!point.plan) continue;
    const double px = x(static_cast<double>(point.memory)), py = y(point.plan->predicted.tokens_per_second);
    line += fmt::format("{:.1f},{:.1f} ", px, py);
    svg += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"#1f5fa8\"/>\n", px, py);
  }
  return svg + fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"#1f5fa8\" stroke-width=\"2\"/>\n</svg>\n", line);
}

}  // namespace venturi
