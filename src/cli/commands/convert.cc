// venturi convert: a model to GGUF of any type, or back to a Hugging Face directory.
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/progress.h"
#include "cli/text.h"
#include "engine/calibrate.h"
#include "formats/convert.h"
#include "formats/overwrite.h"

#include <filesystem>

namespace venturi {

namespace {

struct Options {
  std::string model, output, type = "F16", imatrix, split, memory;
  bool pure = false, hf = false;
  int threads = 0;
  int64_t imatrix_tokens = 65536;
};

Result<ImportanceData> importance(const Options& o, const std::string& path) {
  const std::string text = TRY(read_text_file(o.imatrix));
  EngineOptions options{.context = 512, .threads = o.threads};
  if (!o.memory.empty()) options.memory = TRY(parse_bytes(o.memory));
  auto engine = TRY(Engine::open(path, options));
  ProgressLine line("calibrating");
  return calibrate(*engine, text, {.max_tokens = o.imatrix_tokens,
                                   .progress = [&](int64_t done, int64_t total) { line.update(static_cast<double>(done) / static_cast<double>(total)); }});
}

// What could not be opened afterwards is not written, unless it is of an architecture that is not known here.
Status check_model(const ModelFile& model) {
  if (model.tensors.empty()) return {};
  WeightCatalog catalog(model);
  auto created = create_model(model, catalog);
  if (created.ok() || created.error().code == Code::kUnsupported) return {};
  return std::move(created).error();
}

Status run(const Options& o) {
  const std::string path = TRY(model_path(o.model));
  const auto model = TRY(open_model(path));
  TRY(check_model(*model));
  if (std::error_code ignored; !o.hf && std::filesystem::is_directory(o.output, ignored))
    return error(Code::kInvalidArgument, "-o {} is a folder; name a file in it, or give --hf for a Hugging Face directory", o.output);
  if (is_same_file(o.output, o.imatrix))
    return error(Code::kInvalidArgument, "-o {} is the text of --imatrix; write to another place", o.output);
  ConvertOptions options;
  options.type = o.type;
  // Types are written in capitals.
  for (char& c : options.type) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  options.pure = o.pure;
  if (!o.split.empty()) options.part_bytes = TRY(parse_bytes(o.split));
  ImportanceData data;
  if (!o.imatrix.empty()) {
    data = TRY(importance(o, path));
    options.importance = &data;
  }
  ThreadPool pool(o.threads > 0 ? o.threads : default_thread_count());
  ConvertReport report;
  {
    ProgressLine line("converting");
    options.progress = [&](const ConvertProgress& p) {
      line.update(static_cast<double>(p.bytes_done) / static_cast<double>(std::max<uint64_t>(1, p.bytes_total)));
      return true;
    };
    report = o.hf ? TRY(convert_to_hf(*model, o.output, options, pool)) : TRY(convert_to_gguf(*model, o.output, options, pool));
  }
  for (const std::string& warning : report.warnings) std::fprintf(stderr, "warning: %s\n", warning.c_str());
  std::string out;
  for (const std::string& written : report.paths) out += written + "\n";
  std::vector<std::vector<std::string>> rows = {{"type", "tensors", "bytes"}};
  for (const auto& [type, total] : report.by_type) rows.push_back({type, std::to_string(total.tensors), format_bytes(total.bytes)});
  print_out(out + markdown_table(rows));
  return {};
}

}  // namespace

extern const Command command_convert;
const Command command_convert{"convert", "Convert a model to GGUF of any type, or to a Hugging Face directory",
                              [](CLI::App& app) -> std::function<Status()> {
  auto o = std::make_shared<Options>();
  app.add_option("-m,--model", o->model, "GGUF file or Hugging Face directory to read");
  app.add_option("-o,--output", o->output, "file (or, with --hf, folder) to write")->required();
  app.add_option("--type", o->type, "F32, F16, BF16, Q8_0, Q4_0, Q4_K_M, Q6_K, IQ4_XS, …")->capture_default_str();
  app.add_flag("--pure", o->pure, "every matrix in that one type, no mixture");
  app.add_flag("--hf", o->hf, "write a Hugging Face directory with safetensors");
  auto* imatrix = app.add_option("--imatrix", o->imatrix, "text to calibrate on: weights that meet large inputs are rounded with more care");
  app.add_option("--imatrix-tokens", o->imatrix_tokens, "tokens of it to use")->check(CLI::Range(512, 1 << 30))->capture_default_str();
  app.add_option("--memory", o->memory, "budget for running the model on that text, e.g. 2G (default: none)")->needs(imatrix);
  app.add_option("--split,--shard-size", o->split, "cut the weights into files of about this size, e.g. 2G");
  app.add_option("-t,--threads", o->threads, "threads")->check(CLI::Range(1, 1024));
  return [o] { return run(*o); };
}};

}  // namespace venturi
