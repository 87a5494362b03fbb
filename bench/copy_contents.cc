#include "bench/copy_contents.h"

#include <fmt/format.h>

#include <string>
#include <vector>

namespace bitacora::bench {
namespace {

constexpr int kSmallRows = 1000;

constexpr const char* kLarge = R"(
  CREATE TABLE large (
    id bigint PRIMARY KEY, customer integer, product integer, quantity integer, made timestamptz,
    note text);
  CREATE INDEX large_customer ON large (customer))";

// Texts of 40 to 80 characters, half of them words, half as good as random. Customers are in no
// order, as keys of other tables are.
std::string fill_large(std::int64_t rows) {
  return fmt::format(R"(
    INSERT INTO large
    SELECT i, i * 7919 % 1000003, i % 997, i % 9,
           timestamptz '2026-01-01 00:00+00' + i * interval '1 second',
           left('a note about order ' || i || ' ' || md5(i::text) || md5((-i)::text),
                40 + (i % 41)::integer)
      FROM generate_series(1, {}::bigint) AS i)",
                     rows);
}

std::string small_table(const std::string& name) {
  return fmt::format(R"(
    CREATE TABLE {0} (id integer PRIMARY KEY, customer integer, note text);
    CREATE INDEX {0}_customer ON {0} (customer))",
                     name);
}

std::string fill_small(const std::string& name) {
  return fmt::format(
      "INSERT INTO {} SELECT i, i * 7919 % 1009, 'a note of some length about ' || i "
      "FROM generate_series(1, {}) AS i",
      name, kSmallRows);
}

}  // namespace

Workload large_table(std::int64_t rows) {
  Workload content{"large", fmt::format("one table of {} rows", rows), {"large"}, {kLarge}};
  content.statements = [rows](int) { return std::vector<std::string>{fill_large(rows)}; };
  return content;
}

Workload small_tables(int tables) {
  Workload content{"small", fmt::format("{} tables of {} rows", tables, kSmallRows), {}, {}};
  std::vector<std::string> fill;
  for (int i = 1; i <= tables; ++i) {
    const auto name = fmt::format("small_{}", i);
    content.tables.push_back(name);
    content.setup.push_back(small_table(name));
    fill.push_back(fill_small(name));
  }
  content.statements = [fill = std::move(fill)](int) { return fill; };
  return content;
}

}  // namespace bitacora::bench
