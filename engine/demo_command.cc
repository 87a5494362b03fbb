#include "engine/demo_command.h"

#include <signal.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <iostream>
#include <optional>
#include <sstream>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "apply/standby_session.h"
#include "base/interruptible_sleep.h"
#include "engine/child_process.h"
#include "engine/status_command.h"
#include "engine/throwaway_cluster.h"
#include "wal/master_session.h"

namespace bitacora::engine {
namespace {

using Clock = std::chrono::steady_clock;
using Rows = std::vector<apply::StandbySession::Fields>;

constexpr const char* kDatabase = "contactos";
constexpr std::chrono::seconds kPatience{20};

constexpr const char* kTables =
    "CREATE TABLE public.datos (nombre character(20), telefono integer);"
    "INSERT INTO public.datos VALUES ('Pepe', 958233459), ('Cristina', 658765412), ('Roberto', "
    "958753212),"
    " ('Alberto', 958789878), ('Sofia', 912678562);"
    "CREATE TABLE public.momentos (id integer PRIMARY KEY, escrito timestamptz DEFAULT "
    "clock_timestamp(),"
    " azar double precision DEFAULT random(), clave uuid DEFAULT gen_random_uuid());"
    // For the control only: here the statements are run again instead of their results being
    // shipped.
    "CREATE TABLE public.repetidos (LIKE public.momentos INCLUDING ALL)";

constexpr std::string_view kCopied = "event=copied ";

constexpr const char* kNondeterministic = "INSERT INTO public.{} (id) SELECT generate_series(1, 5)";

Result<Rows> query(const std::string& conninfo, const std::string& sql) {
  ASSIGN_OR_RETURN(auto session, apply::StandbySession::connect(conninfo, "bitacora demo"));
  return session.query("the demo", sql);
}

Result<void> execute(const std::string& conninfo, const std::string& sql) {
  wal::MasterSession session(conninfo);
  return session.execute("the demo", [&](pqxx::nontransaction& tx) { tx.exec(sql); });
}

std::string own_binary() { return std::filesystem::read_symlink("/proc/self/exe"); }

// The pair, its clusters and directories; everything is gone when it dies.
class Demo {
 public:
  explicit Demo(std::stop_token stop) : stop_(std::move(stop)) {}
  ~Demo() {
    std::error_code ignored;
    if (!directory_.empty()) std::filesystem::remove_all(directory_, ignored);
  }
  Demo(const Demo&) = delete;
  Demo& operator=(const Demo&) = delete;

  Result<void> run() {
    RETURN_IF_ERROR(make_clusters());
    RETURN_IF_ERROR(start_pair());
    RETURN_IF_ERROR(show_row_arriving());
    RETURN_IF_ERROR(show_nondeterminism());
    RETURN_IF_ERROR(show_status());
    return stop_pair();
  }

 private:
  Result<void> make_clusters() {
    std::cout
        << "1. Two PostgreSQL clusters of our own: a master with five rows, an empty standby\n"
        << std::flush;
    for (auto* cluster : {&master_, &standby_}) {
      ASSIGN_OR_RETURN(*cluster,
                       ThrowawayCluster::make(cluster == &master_ ? "master" : "standby"));
      RETURN_IF_ERROR(
          execute((*cluster)->conninfo(), fmt::format("CREATE DATABASE {}", kDatabase)));
    }
    RETURN_IF_ERROR(execute(master_->conninfo(kDatabase), kTables));
    std::cout << fmt::format(
        "   master on port {}, standby on port {}, database {}, table datos\n\n", master_->port(),
        standby_->port(), kDatabase);
    return {};
  }

  Result<void> start_pair() {
    directory_ =
        master_->directory().parent_path() / (master_->directory().filename().string() + "-pair");
    ASSIGN_OR_RETURN(const int port, free_loopback_port());
    ASSIGN_OR_RETURN(const int sender_http, free_loopback_port());
    ASSIGN_OR_RETURN(const int receiver_http, free_loopback_port());
    const auto listen = fmt::format("127.0.0.1:{}", port);
    sender_http_ = fmt::format("127.0.0.1:{}", sender_http);
    receiver_http_ = fmt::format("127.0.0.1:{}", receiver_http);
    const std::vector<std::string> sender = {
        own_binary(), "sender",    "--master",    master_->conninfo(kDatabase),
        "--listen",   listen,      "--state-dir", directory_ / "sender",
        "--http",     sender_http_};
    const std::vector<std::string> receiver = {own_binary(),      "receiver",
                                               "--sender",        listen,
                                               "--standby",       standby_->conninfo(kDatabase),
                                               "--data-dir",      directory_ / "receiver",
                                               "--name",          "reporting",
                                               "--create-schema", "--http",
                                               receiver_http_};
    std::cout << "2. The pair\n";
    for (const auto* command : {&sender, &receiver})
      std::cout << "   bitacora" << shown(*command) << "\n";
    std::cout << "\n" << std::flush;
    sender_.emplace(sender);
    receiver_.emplace(receiver);
    RETURN_IF_ERROR(wait_until("the pair to stream", [this]() -> Result<bool> {
      const auto page = fetch_status(receiver_http_);
      return page.ok() && page->find("\"state\":\"streaming\"") != std::string::npos;
    }));
    std::cout << "   the receiver made the schema and copied the rows:\n";
    std::istringstream lines(receiver_->error_output());
    for (std::string line; std::getline(lines, line);) {
      const auto at = line.find(kCopied);
      if (at != std::string::npos) std::cout << "     " << line.substr(at + kCopied.size()) << "\n";
    }
    std::cout << "\n" << std::flush;
    return {};
  }

  static std::string shown(const std::vector<std::string>& command) {
    std::string text;
    for (std::size_t i = 1; i < command.size(); ++i) {
      const bool spaces = command[i].find(' ') != std::string::npos;
      text += (spaces ? " \"" : " ") + command[i] + (spaces ? "\"" : "");
    }
    return text;
  }

  // Polls without a pause worth mentioning: what it measures is the pair.
  Result<void> wait_until(const char* what, const std::function<Result<bool>()>& done) {
    const auto deadline = Clock::now() + kPatience;
    while (Clock::now() < deadline) {
      ASSIGN_OR_RETURN(const bool reached, done());
      if (reached) return {};
      for (auto* process : {&sender_, &receiver_}) {
        if (*process && !(*process)->running())
          return Error{ErrorCode::kInternal, (*process)->error_output()};
      }
      if (!interruptible_sleep(std::chrono::milliseconds(1), stop_))
        return Error{ErrorCode::kUsage, "interrupted"};
    }
    return Error{ErrorCode::kInternal, fmt::format("waited {} s for {}", kPatience.count(), what),
                 "run it again on a quieter machine"};
  }

  Result<void> show_row_arriving() {
    constexpr const char* kInsert = "INSERT INTO public.datos VALUES ('Juan', 987654321)";
    std::cout << "3. On the master: " << kInsert << "\n" << std::flush;
    wal::MasterSession master(master_->conninfo(kDatabase));
    RETURN_IF_ERROR(master.facts().ok()
                        ? Result<void>{}
                        : Result<void>(Error{ErrorCode::kMaster, "the master is gone"}));
    ASSIGN_OR_RETURN(auto standby, apply::StandbySession::connect(standby_->conninfo(kDatabase),
                                                                  "bitacora demo"));
    RETURN_IF_ERROR(master.execute("insert", [&](pqxx::nontransaction& tx) { tx.exec(kInsert); }));
    const auto committed = Clock::now();
    RETURN_IF_ERROR(wait_until("the row", [&]() -> Result<bool> {
      ASSIGN_OR_RETURN(const auto rows,
                       standby.query("look", "SELECT FROM public.datos WHERE nombre = 'Juan'"));
      return !rows.empty();
    }));
    const std::chrono::duration<double, std::milli> took = Clock::now() - committed;
    ASSIGN_OR_RETURN(const auto rows,
                     standby.query("look", "SELECT nombre, telefono FROM public.datos"));
    std::cout << fmt::format(
        "   on the standby {:.1f} ms after the commit:\n\n          nombre        | telefono\n"
        "   ----------------------+-----------\n",
        took.count());
    for (const auto& row : rows) std::cout << fmt::format("    {} | {}\n", *row[0], *row[1]);
    std::cout << fmt::format("   ({} rows)\n\n", rows.size());
    return rows.size() == 6 ? Result<void>{}
                            : Error{ErrorCode::kInternal, "the standby should hold six rows"};
  }

  Result<void> show_nondeterminism() {
    std::cout << "4. Results are shipped, not statements: clock_timestamp(), random() and "
                 "gen_random_uuid() as defaults\n";
    RETURN_IF_ERROR(
        execute(master_->conninfo(kDatabase), fmt::format(kNondeterministic, "momentos")));
    const std::string all = "SELECT m::text FROM public.momentos m ORDER BY id";
    Rows shipped;
    RETURN_IF_ERROR(wait_until("the rows", [&]() -> Result<bool> {
      ASSIGN_OR_RETURN(shipped, query(standby_->conninfo(kDatabase), all));
      return shipped.size() == 5;
    }));
    RETURN_IF_ERROR(
        execute(standby_->conninfo(kDatabase), fmt::format(kNondeterministic, "repetidos")));
    ASSIGN_OR_RETURN(const auto written, query(master_->conninfo(kDatabase), all));
    ASSIGN_OR_RETURN(
        const auto repeated,
        query(standby_->conninfo(kDatabase), "SELECT r::text FROM public.repetidos r ORDER BY id"));
    std::cout << fmt::format(
        "   master   {}\n   standby  {}\n   shipped rows equal to the master's: {} of 5\n"
        "   the same statement run again on the standby instead: {} of 5\n\n",
        *written[0][0], *shipped[0][0], equal_rows(written, shipped),
        equal_rows(written, repeated));
    const bool as_promised =
        equal_rows(written, shipped) == 5 && equal_rows(written, repeated) == 0;
    return as_promised
               ? Result<void>{}
               : Error{ErrorCode::kInternal, "the rows should be equal, the repeated ones not"};
  }

  static int equal_rows(const Rows& a, const Rows& b) {
    int equal = 0;
    for (std::size_t i = 0; i < a.size() && i < b.size(); ++i) equal += a[i] == b[i] ? 1 : 0;
    return equal;
  }

  Result<void> show_status() {
    std::cout << "5. bitacora status --http " << sender_http_ << "; bitacora status --http "
              << receiver_http_ << "\n";
    for (const auto& address : {sender_http_, receiver_http_}) {
      ASSIGN_OR_RETURN(const auto page, fetch_status(address));
      std::istringstream lines(render_status(page));
      for (std::string line; std::getline(lines, line);) std::cout << "   " << line << "\n";
    }
    std::cout << "\n";
    return {};
  }

  Result<void> stop_pair() {
    std::cout << "6. Stopping everything, leaving nothing behind\n" << std::flush;
    for (auto* process : {&receiver_, &sender_}) {
      (*process)->signal(SIGTERM);
      const auto code = (*process)->wait(std::chrono::seconds(10));
      if (code != 0)
        return Error{ErrorCode::kInternal,
                     "a process did not stop cleanly: " + (*process)->error_output()};
    }
    std::cout
        << "   both processes ended with 0; the clusters and directories go with this command\n";
    return {};
  }

  std::stop_token stop_;
  std::optional<ThrowawayCluster> master_;
  std::optional<ThrowawayCluster> standby_;
  std::filesystem::path directory_;
  std::string sender_http_;
  std::string receiver_http_;
  std::optional<ChildProcess> sender_;
  std::optional<ChildProcess> receiver_;
};

}  // namespace

Result<void> run_demo(std::stop_token stop) { return Demo(std::move(stop)).run(); }

}  // namespace bitacora::engine
