// In which form a set of UPDATEs or DELETEs goes to a large table, by how many there are: row by
// row in a pipeline, as arrays, or staged in a temporary table by COPY; joined by index or by one
// scan. What FastPathOptions::set_rows_min and SetWriter's choice of the join rest on.
//   build/release/set_forms [--table-rows N] [--sizes N,...] [--max-sets N] [SERVER]
#include <libpq-fe.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <fstream>
#include <functional>
#include <iostream>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "apply/copy_format.h"
#include "apply/pipeline.h"
#include "apply/set_statement.h"
#include "apply/standby_session.h"
#include "base/bytes.h"
#include "bench/command.h"
#include "bench/quiet_cluster.h"
#include "tests/postgres/database.h"

namespace bitacora::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRowsAtLeast = 30'000;  // measured per size and form, when max-sets allows
constexpr int kSetsAtLeast = 3;
constexpr int kScanSizeMin = 1000;                        // a scan for fewer is out of the question
constexpr std::array<Oid, 5> kTypes{20, 23, 23, 25, 20};  // int8, int4, int4, text, int8
constexpr std::array<Oid, 5> kArrayTypes{1016, 1007, 1007, 1009, 1016};

struct Options {
  int table_rows = 1'000'000;
  std::vector<int> sizes{10, 30, 100, 300, 1000, 10'000, 50'000};
  int max_sets = 300;
  std::string server;
};

// One row's values, each in its binary form; the first is the key.
using Values = std::array<std::string, 5>;

template <class Integer>
std::string big_endian(Integer value) {
  std::string bytes;
  append_big_endian(bytes, value);
  return bytes;
}

Values values_of(std::int64_t id, int turn) {
  return {big_endian(id), big_endian(turn), big_endian(static_cast<std::int32_t>(id % 997)),
          fmt::format("a note of some length for row {}", id), big_endian(id * turn)};
}

// As many of them as the statement has.
std::string tuple_of(const Values& values, std::size_t columns) {
  std::string tuple = big_endian(static_cast<std::int16_t>(columns));
  for (std::size_t i = 0; i < columns; ++i)
    tuple += big_endian(static_cast<std::int32_t>(values[i].size())) + values[i];
  return tuple;
}

std::string array_of(const std::vector<Values>& rows, std::size_t column) {
  std::string bytes = big_endian(std::int32_t{1}) + big_endian(std::int32_t{0}) +
                      big_endian(static_cast<std::int32_t>(kTypes[column])) +
                      big_endian(static_cast<std::int32_t>(rows.size())) +
                      big_endian(std::int32_t{1});
  for (const auto& row : rows)
    bytes += big_endian(static_cast<std::int32_t>(row[column].size())) + row[column];
  return bytes;
}

double own_cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// In nanoseconds on the CPU, which /proc/PID/stat does not have.
double backend_cpu_seconds(int pid) {
  std::ifstream file(fmt::format("/proc/{}/schedstat", pid));
  double nanoseconds = 0;
  file >> nanoseconds;
  return nanoseconds / 1e9;
}

struct Cost {
  double wall = 0;  // seconds
  double standby = 0;
  double client = 0;
  int rows = 0;
};

enum class Operation { kUpdate, kDelete };

// The applying session, with every form a set may take. Each runs in an open transaction.
class Forms {
 public:
  Forms(const std::string& conninfo, Operation operation)
      : update_(operation == Operation::kUpdate),
        columns_(update_ ? kTypes.size() : 1),
        session_(connect(conninfo)) {
    const std::string set = "SET a = s.a, b = s.b, note = s.note, made = s.made";
    const auto changes = [&](const std::string& from) {
      return update_ ? fmt::format("UPDATE ONLY public.t {} FROM {} WHERE t.id = s.id", set, from)
                     : fmt::format("DELETE FROM ONLY public.t USING {} WHERE t.id = s.id", from);
    };
    staged_ = changes("pg_temp.stage AS s");
    // Planned once: as far as the plan is concerned ten rows come, which makes it go by index.
    execute("SET plan_cache_mode = force_generic_plan");
    execute(
        fmt::format("CREATE TEMPORARY TABLE stage ON COMMIT DELETE ROWS AS SELECT {} FROM "
                    "public.t WITH NO DATA",
                    update_ ? "*" : "id"));
    const auto arrays = changes(update_ ? "unnest($1, $2, $3, $4, $5) AS s(id, a, b, note, made)"
                                        : "unnest($1) AS s(id)");
    for (const char* name : {"arrays_index", "arrays_scan"}) prepare(name, arrays, kArrayTypes);
    prepare("row",
            update_ ? "UPDATE ONLY public.t SET a = $2, b = $3, note = $4, made = $5 "
                      "WHERE id = $1"
                    : "DELETE FROM ONLY public.t WHERE id = $1",
            kTypes);
  }

  int pid() { return PQbackendPID(connection()); }
  void execute(const std::string& sql) { run(sql); }

  // Rows touched.
  int row_by_row(const std::vector<Values>& rows) {
    int touched = 0;
    apply::Pipeline pipeline(connection(), [&](const PGresult* reply) {
      touched += std::atoi(PQcmdTuples(const_cast<PGresult*>(reply)));
      return Result<void>{};
    });
    apply::Parameters parameters;
    for (const auto& row : rows) {
      parameters.clear();
      for (std::size_t i = 0; i < columns_; ++i) add(parameters, row[i]);
      must(pipeline.execute("row", parameters));
    }
    must(pipeline.sync());
    must(pipeline.finish());
    must(pipeline.leave());
    return touched;
  }

  int arrays(const std::vector<Values>& rows, apply::JoinBy join) {
    if (join == apply::JoinBy::kScan) run(apply::set_join(join));
    std::vector<std::string> arrays;
    for (std::size_t i = 0; i < columns_; ++i) arrays.push_back(array_of(rows, i));
    apply::Parameters parameters;
    for (const auto& array : arrays) add(parameters, array);
    const apply::ResultHandle result(
        PQexecPrepared(connection(), join == apply::JoinBy::kIndex ? "arrays_index" : "arrays_scan",
                       static_cast<int>(columns_), parameters.values.data(),
                       parameters.lengths.data(), parameters.formats.data(), 0));
    return touched(result.get());
  }

  int staged(const std::vector<Values>& rows, apply::JoinBy join) {
    run("COPY pg_temp.stage FROM STDIN (FORMAT binary)");
    std::string bytes;
    apply::begin_copy(bytes);
    for (const auto& row : rows) bytes += tuple_of(row, columns_);
    apply::end_copy(bytes);
    if (PQputCopyData(connection(), bytes.data(), static_cast<int>(bytes.size())) != 1 ||
        PQputCopyEnd(connection(), nullptr) != 1)
      throw std::runtime_error(PQerrorMessage(connection()));
    while (const apply::ResultHandle result{PQgetResult(connection())}) touched(result.get());
    return run(apply::set_join(join) + staged_ + apply::reset_join());
  }

 private:
  static apply::StandbySession connect(const std::string& conninfo) {
    auto session = apply::StandbySession::connect(conninfo, "set_forms");
    if (!session.ok()) throw std::runtime_error(one_line(session.error()));
    return std::move(*session);
  }
  PGconn* connection() { return session_.connection(); }

  static void must(const Result<void>& result) {
    if (!result.ok()) throw std::runtime_error(one_line(result.error()));
  }
  static void add(apply::Parameters& parameters, const std::string& value) {
    parameters.values.push_back(value.data());
    parameters.lengths.push_back(static_cast<int>(value.size()));
    parameters.formats.push_back(1);
  }

  template <class Types>
  void prepare(const char* name, const std::string& sql, const Types& types) {
    const apply::ResultHandle result(
        PQprepare(connection(), name, sql.c_str(), static_cast<int>(columns_), types.data()));
    touched(result.get());
  }

  int touched(PGresult* result) {
    const auto status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_COPY_IN)
      throw std::runtime_error(PQerrorMessage(connection()));
    return std::atoi(PQcmdTuples(result));
  }

  int run(const std::string& sql) {
    if (PQsendQuery(connection(), sql.c_str()) != 1)
      throw std::runtime_error(PQerrorMessage(connection()));
    int rows = 0;
    while (const apply::ResultHandle result{PQgetResult(connection())}) {
      rows += touched(result.get());
      if (PQresultStatus(result.get()) == PGRES_COPY_IN) break;
    }
    return rows;
  }

  const bool update_;
  const std::size_t columns_;
  apply::StandbySession session_;
  std::string staged_;
};

struct Form {
  const char* name;
  bool scans;
  std::function<int(Forms&, const std::vector<Values>&)> apply;
};

const std::vector<Form>& forms() {
  using apply::JoinBy;
  static const std::vector<Form> all{
      {"row by row", false, [](auto& forms, const auto& rows) { return forms.row_by_row(rows); }},
      {"arrays, index", false,
       [](auto& forms, const auto& rows) { return forms.arrays(rows, JoinBy::kIndex); }},
      {"staged, index", false,
       [](auto& forms, const auto& rows) { return forms.staged(rows, JoinBy::kIndex); }},
      {"arrays, scan", true,
       [](auto& forms, const auto& rows) { return forms.arrays(rows, JoinBy::kScan); }},
      {"staged, scan", true,
       [](auto& forms, const auto& rows) { return forms.staged(rows, JoinBy::kScan); }}};
  return all;
}

class SetForms {
 public:
  explicit SetForms(const Options& options)
      : options_(options),
        standby_(quiet_cluster("bench-standby", options.server)),
        conninfo_(harness::fresh_database(standby_, "set_forms")),
        ids_(static_cast<std::size_t>(options.table_rows)) {
    harness::execute(
        conninfo_,
        fmt::format("CREATE TABLE t (id bigint PRIMARY KEY, a integer, b integer, note text, made "
                    "bigint); INSERT INTO t SELECT i, 0, i % 997, 'a note of some length for row ' "
                    "|| i, i FROM generate_series(1, {}) AS i; "
                    "CREATE TABLE spare AS SELECT * FROM t; ALTER TABLE spare ADD PRIMARY KEY (id)",
                    options.table_rows));
    std::iota(ids_.begin(), ids_.end(), 1);
  }

  void run() {
    std::cout << fmt::format(
        "PostgreSQL {}, a table of {} rows; microseconds per row: wall, standby's CPU, ours\n",
        harness::query_value(conninfo_, "SHOW server_version"), options_.table_rows);
    for (const auto operation : {Operation::kUpdate, Operation::kDelete}) {
      std::cout << fmt::format("\n{:<8}", operation == Operation::kUpdate ? "UPDATE" : "DELETE");
      for (const auto& form : forms()) std::cout << fmt::format("{:>22}", form.name);
      std::cout << "\n";
      for (const int size : options_.sizes) measure(operation, size);
    }
  }

 private:
  // All forms in turn: a disturbance of the machine falls on all of them.
  void measure(Operation operation, int size) {
    harness::execute(conninfo_, "VACUUM ANALYZE t");
    harness::execute(standby_.conninfo(), "CHECKPOINT");
    Forms session(conninfo_, operation);
    std::vector<Cost> costs(forms().size());
    const int sets = std::clamp(kRowsAtLeast / size, kSetsAtLeast, options_.max_sets);
    for (int i = -1; i < sets; ++i) {  // the first one fills caches
      for (std::size_t form = 0; form < forms().size(); ++form) {
        if (forms()[form].scans && size < kScanSizeMin) continue;
        const auto ids = next_ids(size);
        measure_set(session, forms()[form], rows_of(ids), i < 0 ? nullptr : &costs[form]);
        if (operation == Operation::kDelete)
          harness::execute(
              conninfo_, fmt::format("INSERT INTO t SELECT * FROM spare WHERE id = ANY ('{{{}}}')",
                                     fmt::join(ids, ",")));
      }
    }
    print(size, costs);
  }

  static void measure_set(Forms& session, const Form& form, const std::vector<Values>& rows,
                          Cost* cost) {
    const double standby = backend_cpu_seconds(session.pid());
    const double client = own_cpu_seconds();
    const auto begin = Clock::now();
    session.execute("BEGIN");
    const int touched = form.apply(session, rows);
    session.execute("COMMIT");
    const std::chrono::duration<double> wall = Clock::now() - begin;
    if (touched != static_cast<int>(rows.size()))
      throw std::runtime_error(fmt::format("{}: {} of {} rows", form.name, touched, rows.size()));
    if (cost == nullptr) return;
    cost->wall += wall.count();
    cost->client += own_cpu_seconds() - client;
    cost->standby += backend_cpu_seconds(session.pid()) - standby;
    cost->rows += touched;
  }

  // Anywhere in the table, none twice, in the order in which the fast path writes them.
  std::vector<std::int64_t> next_ids(int size) {
    for (std::size_t i = 0; i < static_cast<std::size_t>(size); ++i)
      std::swap(ids_[i], ids_[i + random_() % (ids_.size() - i)]);
    std::sort(ids_.begin(), ids_.begin() + size);
    return {ids_.begin(), ids_.begin() + size};
  }

  std::vector<Values> rows_of(const std::vector<std::int64_t>& ids) {
    ++turn_;
    std::vector<Values> rows;
    for (const auto id : ids) rows.push_back(values_of(id, turn_));
    return rows;
  }

  static void print(int size, const std::vector<Cost>& costs) {
    std::cout << fmt::format("{:<8}", size);
    for (const auto& cost : costs) {
      const auto each = [&](double seconds) { return seconds * 1e6 / cost.rows; };
      std::cout << (cost.rows == 0 ? fmt::format("{:>22}", "-")
                                   : fmt::format("{:>9.1f}{:>7.1f}{:>6.1f}", each(cost.wall),
                                                 each(cost.standby), each(cost.client)));
    }
    std::cout << "\n" << std::flush;
  }

  const Options options_;
  engine::ThrowawayCluster standby_;
  std::string conninfo_;
  std::vector<std::int64_t> ids_;
  std::mt19937 random_{1};
  int turn_ = 0;
};

}  // namespace
}  // namespace bitacora::bench

int main(int argc, char** argv) {
  bitacora::bench::Options options;
  CLI::App app{"Sets of UPDATEs and DELETEs in every form, by their size", "set_forms"};
  bitacora::bench::add_server(app, options.server);
  app.add_option("--table-rows", options.table_rows)->check(CLI::Range(1000, 100'000'000));
  app.add_option("--sizes", options.sizes, "N,...: rows of a set")
      ->delimiter(',')
      ->allow_extra_args(false);
  app.add_option("--max-sets", options.max_sets, "of one size and form")
      ->check(CLI::Range(1, 10'000));
  return bitacora::bench::run_command(app, argc, argv,
                                      [&] { bitacora::bench::SetForms(options).run(); });
}
