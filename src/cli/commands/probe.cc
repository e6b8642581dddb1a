// venturi probe: what the machine can do, and how steadily.
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/text.h"
#include "planner/disk_probe.h"
#include "planner/probe.h"

namespace venturi {

namespace {

struct Options {
  std::string model, folder = "/var/tmp", size = "512M", profile;
  int threads = 0, repetitions = 7;
  bool json = false, no_disk = false, no_kernels = false, no_store = false;
};

// Above this, predictions from a profile are guesses.
constexpr double kNoisy = 0.25;

std::vector<std::string> spread_row(std::string what, const Spread& s, double unit, const char* name) {
  return {std::move(what), fmt::format("{:.2f} {}", s.median / unit, name), fmt::format("{:.2f}", s.low / unit),
          fmt::format("{:.2f}", s.high / unit), fmt::format("{:.0f} %", 100 * s.relative())};
}

std::string report(const MachineProfile& p) {
  std::vector<std::vector<std::string>> rows = {{"", "median", "low", "high", "spread"}};
  for (const MemoryRate& m : p.memory)
    rows.push_back(spread_row(fmt::format("memory read, {} thread{}", m.threads, m.threads == 1 ? "" : "s"),
                              m.bytes_per_second, 1e9, "GB/s"));
  rows.push_back(spread_row("int8 peak", p.int8_macs_per_second, 1e9, "Gmac/s"));
  rows.push_back(spread_row("f32 peak", p.f32_macs_per_second, 1e9, "Gmac/s"));
  for (const DiskRate& d : p.disk.rates)
    rows.push_back(spread_row(fmt::format("disk, {} {}, {} by {}", d.sequential ? "sequential" : "random",
                                          d.direct ? "direct" : "buffered", d.depth, format_bytes(d.request_bytes)),
                              d.bytes_per_second, 1e9, "GB/s"));
  std::string text = fmt::format("{} threads, {}", p.threads, p.instruction_set);
  if (!p.disk.rates.empty()) text += fmt::format("; disk through {}: {}", p.disk.backend, p.disk.path);
  text += "\n" + markdown_table(rows);
  if (!p.kernels.empty()) {
    rows = {{"product, weights a second (10^9)", "held", "rows of input", "median", "low", "high", "spread"}};
    for (const KernelRate& k : p.kernels) {
      auto row = spread_row(k.codec, k.weights_per_second, 1e9, "");
      row.insert(row.begin() + 1, {k.packed ? "interleaved" : "as in the file", std::to_string(k.rows)});
      rows.push_back(std::move(row));
    }
    text += "\n" + markdown_table(rows);
  }
  std::string of;
  const double noise = p.noise(&of);
  return text + fmt::format("\nlargest spread: {:.0f} % ({}){}\n", 100 * noise, of,
                            noise > kNoisy ? "; the machine is not steady, predictions will be as far off" : "");
}

// What is wrong with the file that the disk will be measured with, told before the seconds of measuring.
Status check_disk_file(const Options& o) {
  if (o.no_disk) return {};
  if (!o.model.empty()) {
    TRY(open_model(o.model));
    return {};
  }
  TRY(parse_bytes(o.size));
  TRY(ProbeFile::create(o.folder, 1));
  return {};
}

Status run(const Options& o) {
  // What lacks a part would be taken for a whole one.
  const bool stores = !o.no_store && !o.no_disk && !o.no_kernels;
  const std::string stored = o.profile.empty() ? stored_profile_path() : o.profile;
  if (stores && stored.empty())
    return error(Code::kIo, "the profile has no place: neither XDG_CACHE_HOME nor HOME is set (--profile FILE, or --no-store)");
  TRY(check_disk_file(o));
  auto pool = std::make_shared<ThreadPool>(o.threads > 0 ? o.threads : default_thread_count());
  const auto ledger = Ledger::create();
  MachineProfile profile = TRY(probe_machine(*ledger, *pool, {.repetitions = o.repetitions}));
  if (!o.no_kernels) {
    std::vector<KernelCase> cases;
    for (const Codec* codec : all_codecs()) cases.push_back({.codec = codec});
    TRY(probe_kernels(ledger, pool, cases, {}, profile));
  }
  if (!o.no_disk) {
    std::optional<ProbeFile> written;
    std::string path = o.model;
    if (path.empty()) {
      written.emplace(TRY(ProbeFile::create(o.folder, TRY(parse_bytes(o.size)))));
      path = written->path();
    } else if (const auto file = TRY(open_model(path)); !file->files.empty()) {
      path = file->files[0].path();
    }
    profile.disk = TRY(probe_disk_patterns(*ledger, path));
  }
  if (stores) TRY(write_profile(stored, profile));
  print_out(o.json ? profile_json(profile).dump(1) + "\n" : report(profile));
  return {};
}

}  // namespace

extern const Command command_probe;
const Command command_probe{"probe", "Measure memory, disk, kernels and arithmetic peaks of this machine; store the profile",
                            [](CLI::App& app) -> std::function<Status()> {
  auto o = std::make_shared<Options>();
  auto* model = app.add_option("-m,--model", o->model, "read this model file to measure the disk (default: a file that is written and removed)");
  app.add_option("--dir", o->folder, "where to write that file")->excludes(model)->capture_default_str();
  app.add_option("--size", o->size, "its size")->excludes(model)->capture_default_str();
  app.add_option("-t,--threads", o->threads, "threads")->check(CLI::Range(1, 1024));
  app.add_option("-r,--repetitions", o->repetitions, "repetitions of memory and peaks")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--profile", o->profile, "where to store the profile (default: profile.json in $XDG_CACHE_HOME/venturi or ~/.cache/venturi)");
  app.add_flag("--no-disk", o->no_disk, "leave the disk out (then nothing is stored)");
  app.add_flag("--no-kernels", o->no_kernels, "leave the products out (then nothing is stored)");
  app.add_flag("--no-store", o->no_store, "store nothing");
  app.add_flag("--json", o->json, "JSON");
  return [o] { return run(*o); };
}};

}  // namespace venturi
