// SPDX-License-Identifier: Apache-2.0
#include "cli/app.hpp"

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "cli/client.hpp"
#include "cli/conntrack.hpp"
#include "cli/output.hpp"
#include "cli/show.hpp"
#include "lib/rundir.hpp"

namespace ctd {
namespace {

// Longer than it takes to detach, and to delete a table of millions.
constexpr std::chrono::seconds kShutdownPatience{60};

struct Options {
  std::string rundir = default_rundir();
  std::string instance = kDefaultInstance;
  std::string format;
  bool all = false;
};

using Command = std::function<Result<>(const Options&, const Client&, Output&)>;

using Show = Result<> (*)(Output&, const nlohmann::ordered_json&);

// The API's document as it is for json, shown for everything else.
Command show_command(const char* path, Show show) {
  return [path, show](const Options& options, const Client& client, Output& out) -> Result<> {
    const std::string body = CTD_TRY(client.get(path));
    if (options.format == "json") return out.write(body);
    return show(out, CTD_TRY(parse_answer(body)));
  };
}

Result<> stats(const Options& options, const Client& client, Output& out) {
  const std::string body = CTD_TRY(client.get("/v1/stats"));
  if (options.format == "json") return out.write(body);
  return show_stats(out, CTD_TRY(parse_answer(body)), options.all);
}

Result<> conntrack_dump(const Options& options, const Client& client, Output& out) {
  const auto make = options.format == "json"     ? make_json_writer
                    : options.format == "ndjson" ? make_ndjson_writer
                                                 : make_table_writer;
  return dump_connections(client, *make(out));
}

Result<uint64_t> number(const std::string& body, const char* member) {
  const nlohmann::ordered_json answer = CTD_TRY(parse_answer(body));
  if (!answer.contains(member) || !answer[member].is_number_unsigned())
    return fail("ctd's answer has no number \"{}\": {:.80}", member, body);
  return answer[member].get<uint64_t>();
}

Result<> conntrack_count(const Options&, const Client& client, Output& out) {
  const std::string body = CTD_TRY(client.get("/v1/conntrack/count"));
  return out.write(fmt::format("{}\n", CTD_TRY(number(body, "count"))));
}

Result<> conntrack_flush(const Options&, const Client& client, Output& out) {
  const uint64_t deleted = CTD_TRY(number(CTD_TRY(client.del("/v1/conntrack")), "deleted"));
  return out.write(fmt::format("{} connection{} deleted\n", deleted, deleted == 1 ? "" : "s"));
}

Result<> shutdown(const Options& options, const Client& client, Output& out) {
  CTD_TRY(client.shutdown(kShutdownPatience));
  return out.write(fmt::format("ctd instance \"{}\" is shut down\n", options.instance));
}

class CommandLine {
 public:
  CommandLine() {
    app_.require_subcommand(1);
    app_.fallthrough();  // --instance may stand after the verb as well
    app_.set_version_flag("--version", std::string("ctctl ") + CTD_VERSION);
    app_.add_option("--instance", options_.instance, "Instance of ctd")
        ->capture_default_str()
        ->check([](const std::string& name) {
          const Result<> good = check_instance_name(name);
          return good ? std::string() : good.error().message();
        });
    app_.add_option("--rundir", options_.rundir, "Folder of the instances' sockets (or CTD_RUNDIR)")
        ->capture_default_str();

    CLI::App& conntrack = noun("conntrack", "The connection table");
    verb(conntrack, "dump", "List all connections", {"table", "json", "ndjson"}, conntrack_dump);
    verb(conntrack, "count", "How many connections there are", {}, conntrack_count);
    verb(conntrack, "flush", "Delete all connections", {}, conntrack_flush);
    verb(noun("flow", "The datapath's flows"), "dump", "List the flows", {"dpctl", "json"},
         show_command("/v1/flows", show_flows));
    verb(noun("rule", "The daemon's rules"), "dump", "List the rules", {"ofctl", "json"},
         show_command("/v1/rules", show_rules));
    verb(noun("port", "The datapath's ports"), "list", "List the ports", {"table", "json"},
         show_command("/v1/ports", show_ports));
    verb(app_, "stats", "Packets, bytes, drops by reason", {"table", "json"}, stats)
        .add_flag("--all", options_.all, "Also what is zero (table)");
    verb(app_, "shutdown", "Take the instance down, connections included, and leave nothing behind", {}, shutdown);
  }

  // True: there is a command to run. False: there is nothing left to do but to exit with *exit_code.
  bool parse(int argc, const char* const* argv, int* exit_code) {
    try {
      app_.parse(argc, argv);
      return true;
    } catch (const CLI::ParseError& e) {
      *exit_code = app_.exit(e) == 0 ? kExitOk : kExitUsage;  // prints help, version or what is wrong
      return false;
    }
  }

  const Options& options() const { return options_; }
  const Command& command() const { return command_; }

 private:
  CLI::App& noun(const char* name, const char* text) {
    CLI::App* app = app_.add_subcommand(name, text);
    app->require_subcommand(1);
    app->fallthrough();
    return *app;
  }

  // formats: of -o, the default first; none: no such option.
  CLI::App& verb(CLI::App& parent, const char* name, const char* text, std::vector<std::string> formats,
                 Command command) {
    CLI::App* app = parent.add_subcommand(name, text);
    app->fallthrough();
    if (!formats.empty())
      app->add_option("-o,--output", options_.format, fmt::format("Format; {} if not given", formats.front()))
          ->check(CLI::IsMember(formats));
    app->callback([this, command = std::move(command)] { command_ = command; });
    return *app;
  }

  CLI::App app_{"ctctl: look at and steer the ctd datapath", "ctctl"};
  Options options_;
  Command command_;
};

Result<> run(const CommandLine& line, Output& out) {
  const Client client = CTD_TRY(Client::open(line.options().rundir, line.options().instance));
  Result<> done = line.command()(line.options(), client, out);
  Result<> flushed = out.flush();  // what there is, also after an error
  return done ? std::move(flushed) : std::move(done);
}

}  // namespace

int run_ctctl(int argc, const char* const* argv, int out_fd) {
  CommandLine line;
  int exit_code = kExitOk;
  if (!line.parse(argc, argv, &exit_code)) return exit_code;

  Output out(out_fd);
  const Result<> done = run(line, out);
  if (done || done.error().code() == EPIPE) return kExitOk;
  fmt::print(stderr, "ctctl: {}\n", done.error().message());
  return kExitFailure;
}

}  // namespace ctd
