// Two schemas as people have them, a shop and a telemetry store, copied while several sessions live
// in them and then followed: the shop under other names and in other shapes, the store through its
// partition roots into tables without partitions. BITACORA_RICH_ROWS says how many rows of life.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <pqxx/pqxx>
#include <regex>
#include <set>

#include "engine/throwaway_cluster.h"
#include "tests/engine/schema_life.h"
#include "tests/engine/table_life.h"
#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"
#include "tests/postgres/servers.h"

namespace bitacora::harness {
namespace {

constexpr std::chrono::seconds kPatience{240};
constexpr int kSessions = 4;
constexpr int kRounds = 5;  // the last step of the SQL is of round 5

// How a table of the master is called and shaped on the standby.
struct Shape {
  std::string to = {};
  std::map<std::string, std::string> columns = {};
  std::set<std::string> left_out = {};
  std::map<std::string, std::string> constants = {};
  bool shipped = true;  // false: the root of partitions that are, which no rule is about
};

struct Store {
  std::string schema;
  std::string on_standby;               // the same schema there
  std::map<std::string, Shape> shapes;  // by table
  int changes_per_round;                // of one session, roughly
};

Store shop() {
  const std::map<std::string, std::string> party = {{"name", "nombre"}, {"tags", "Etiquetas"}};
  auto customer = party;
  customer.emplace("credit", "credito");
  const std::map<std::string, std::string> order = {{"remark", "nota"}};
  return {"shop",
          "tienda",
          {{"party", {.columns = party}},
           {"supplier", {.columns = party}},
           {"customer", {.to = "tienda.cliente", .columns = customer}},
           {"product", {.left_out = {"touched"}}},
           {"orders", {.columns = order, .shipped = false}},
           {"orders_2023", {.to = "tienda.pedidos_viejos", .columns = order}},
           {"orders_2024", {.columns = order, .shipped = false}},
           {"orders_2024_0", {.columns = order}},
           {"orders_2024_1", {.columns = order}},
           {"orders_rest", {.columns = order}},
           {"stock_move", {.columns = {{"moved", "cantidad"}}, .left_out = {"reason"}}},
           {"coupon",
            {.to = "ventas.cupon",
             .columns = {{"minimum", "minimo"}},
             .constants = {{"region", "eu"}}}}},
          2400};
}

Store telemetry() {
  return {"telemetry",
          "telemetry",
          {{"incident", {.to = "telemetry.suceso", .columns = {{"words", "palabras"}}}}},
          4000};
}

std::string quoted_list(const std::map<std::string, std::string>& values) {
  std::vector<std::string> each;
  for (const auto& [key, value] : values)
    each.push_back(fmt::format("\"{}\" = \"{}\"", key, value));
  return fmt::format("{{ {} }}", fmt::join(each, ", "));
}

// The receiver's file.
std::string config(const Store& store) {
  std::string text = fmt::format("[schemas]\n{} = \"{}\"\n", store.schema, store.on_standby);
  for (const auto& [table, shape] : store.shapes) {
    if (!shape.shipped) continue;
    text += fmt::format("[table.\"{}.{}\"]\n", store.schema, table);
    if (!shape.to.empty()) text += fmt::format("to = \"{}\"\n", shape.to);
    if (!shape.columns.empty()) text += "columns = " + quoted_list(shape.columns) + "\n";
    if (!shape.constants.empty()) text += "constants = " + quoted_list(shape.constants) + "\n";
    if (!shape.left_out.empty())
      text += fmt::format("leave_out = [\"{}\"]\n", fmt::join(shape.left_out, "\", \""));
  }
  return text;
}

// The same rows, asked for on each side.
struct Compared {
  std::string master;
  std::string standby;
};

Compared compare_table(const Store& store, const std::string& table, bool partitioned,
                       const std::vector<std::string>& columns) {
  const auto found = store.shapes.find(table);
  const Shape shape = found == store.shapes.end() ? Shape{} : found->second;
  std::vector<std::string> here, there;
  for (const auto& column : columns) {
    if (shape.left_out.contains(column)) continue;
    here.push_back(fmt::format("\"{}\"", column));
    const auto renamed = shape.columns.find(column);
    there.push_back(
        fmt::format("\"{}\"", renamed == shape.columns.end() ? column : renamed->second));
  }
  const auto* only = partitioned ? "" : "ONLY ";
  std::string own;
  for (const auto& [column, value] : shape.constants)
    own += fmt::format(" WHERE {} = '{}'", column, value);
  return {
      fmt::format("SELECT {} FROM {}{}.{}", fmt::join(here, ", "), only, store.schema, table),
      fmt::format("SELECT {} FROM {}{}{}", fmt::join(there, ", "), only,
                  shape.to.empty() ? fmt::format("{}.{}", store.on_standby, table) : shape.to, own),
  };
}

// Every table and view of the master's schema, with computed columns and what its triggers keep:
// one that ran on the standby too would have counted twice, or written an audit of its own.
std::vector<Compared> everything(const Pair& pair, const Store& store, bool partitions) {
  pqxx::connection connection(pair.master());
  const auto rows = pqxx::nontransaction(connection)
                        .exec(fmt::format(R"(
      SELECT c.relname, c.relkind, string_agg(a.attname, ',' ORDER BY a.attnum) FROM pg_class c
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      WHERE c.relnamespace = '{}'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND ({} OR NOT c.relispartition)
      GROUP BY c.oid ORDER BY 1)",
                                          store.schema, partitions));
  std::vector<Compared> all;
  for (const auto row : rows) {
    const auto name = row[0].as<std::string>();
    const auto kind = row[1].as<std::string>();
    if (kind == "v") {
      all.push_back({fmt::format("SELECT * FROM {}.{}", store.schema, name),
                     fmt::format("SELECT * FROM {}.{}", store.on_standby, name)});
      continue;
    }
    std::istringstream names(row[2].as<std::string>());
    std::vector<std::string> columns;
    for (std::string column; std::getline(names, column, ',');) columns.push_back(column);
    all.push_back(compare_table(store, name, kind == "p", columns));
  }
  return all;
}

std::vector<std::string> sorted_texts(const std::string& conninfo, const std::string& query) {
  pqxx::connection connection(conninfo);
  std::vector<std::string> texts;
  for (const auto row :
       pqxx::nontransaction(connection).exec(fmt::format("SELECT r::text FROM ({}) AS r", query))) {
    texts.push_back(row[0].as<std::string>());
  }
  std::sort(texts.begin(), texts.end());
  return texts;
}

// The first rows that only one side has.
std::string only_in(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  std::vector<std::string> rest;
  std::set_difference(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(rest));
  std::string text = fmt::format("{} rows", rest.size());
  for (std::size_t i = 0; i < std::min<std::size_t>(rest.size(), 3); ++i)
    text += "\n  " + rest[i].substr(0, 300);
  return text;
}

std::size_t expect_equal(const Pair& pair, const Compared& compared) {
  const auto master = sorted_texts(pair.master(), compared.master);
  const auto standby = sorted_texts(pair.standby(), compared.standby);
  EXPECT_TRUE(master == standby) << compared.master << "\n"
                                 << compared.standby
                                 << "\nonly on the master: " << only_in(master, standby)
                                 << "\nonly on the standby: " << only_in(standby, master);
  return master.size();
}

void expect_all_equal(const Pair& pair, const Store& store, bool partitions) {
  std::size_t rows = 0;
  for (const auto& compared : everything(pair, store, partitions))
    rows += expect_equal(pair, compared);
  EXPECT_GT(rows, 1000u);
}

// Those of identity columns and of defaults, whoever they serve.
void expect_equal_sequences(const Pair& pair, const Store& store) {
  const auto set = Pair::bitacora({"sequences", "--now", "--http", pair.receiver_http()});
  EXPECT_EQ(set.exit_code, 0) << set.error_output;
  pqxx::connection connection(pair.master());
  const auto names =
      pqxx::nontransaction(connection)
          .exec("SELECT sequencename FROM pg_sequences WHERE schemaname = '" + store.schema + "'");
  EXPECT_GT(names.size(), 3);
  for (const auto row : names) {
    const auto sql = [&](const std::string& schema) {
      return fmt::format("SELECT last_value, is_called FROM {}.{}", schema, row[0].c_str());
    };
    expect_equal(pair, {sql(store.schema), sql(store.on_standby)});
  }
}

struct Way {
  std::string name;
  std::vector<std::string> arguments;  // the receiver's
  int version = 0;                     // of both servers; 0: the one that is always here

  friend void PrintTo(const Way& way, std::ostream* out) { *out << way.name; }
};

engine::ThrowawayCluster& server(const Way& way, const std::string& role) {
  static std::map<std::string, engine::ThrowawayCluster> servers;
  if (const auto found = servers.find(role); found != servers.end()) return found->second;
  engine::ClusterOptions options;
  options.bin_dir = available_servers().at(way.version);
  auto made = engine::ThrowawayCluster::make(role, options);
  if (!made.ok()) throw std::runtime_error(one_line(made.error()));
  return servers.emplace(role, std::move(made).value()).first->second;
}

PairOptions options(const Way& way, const Store& store) {
  PairOptions options;
  options.copy = true;
  options.receiver_arguments = way.arguments;
  const auto path = testing::TempDir() + "bitacora_" + options.name + ".toml";
  std::ofstream(path) << config(store);
  options.receiver_arguments.insert(options.receiver_arguments.end(),
                                    {"--config", path, "--split-tables-larger-than", "1MB"});
  return options;
}

LifeOptions life_options(const Store& store, const std::string& master) {
  LifeOptions options{master, schema_sql(store.schema + "_life.sql"), kSessions, kRounds, 20};
  if (const char* rows = std::getenv("BITACORA_RICH_ROWS"); rows != nullptr) {
    options.rows = 100;
    options.rounds = std::max(kRounds, std::atoi(rows) / (kSessions * store.changes_per_round));
  }
  return options;
}

class RichSchemas : public testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    const int version = GetParam().version;
    if (version != 0 && !available_servers().contains(version))
      GTEST_SKIP() << why_missing(version);
  }

  static std::unique_ptr<Pair> make_pair(PairOptions options) {
    if (GetParam().version == 0) return std::make_unique<Pair>(std::move(options));
    return std::make_unique<Pair>(server(GetParam(), "master"), server(GetParam(), "standby"),
                                  std::move(options));
  }

  static void make_schema(const std::string& conninfo, const std::string& schema,
                          const std::string& sql) {
    execute(conninfo, "CREATE SCHEMA " + schema);
    execute(in_schema(conninfo, schema), sql);
  }

  // From rows that are there, through a copy while it lives, to the end of its life.
  static void live(Pair& pair, const Store& store) {
    const auto master = in_schema(pair.master(), store.schema);
    const auto options = life_options(store, master);
    execute(master, with_values(schema_sql(store.schema + "_rows.sql"),
                                {{"rows", std::to_string(options.rows * 20)}}));
    pair.start_sender();
    pair.wait_for_slot();
    SchemaLife life(options);
    pair.start_receiver();
    pair.wait_applied(kPatience);
    life.let_end();
    life.wait();
    pair.wait_applied(kPatience);
    const auto changes = query_value(
        pair.master(), "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables");
    fmt::print("{} row changes, {} rounds, {} steps rolled back by the server\n", changes,
               life.rounds(), life.refused());
    EXPECT_GT(life.refused(), 0);
  }
};

TEST_P(RichSchemas, ShopUnderOtherNames) {
  const auto store = shop();
  const auto pair = make_pair(options(GetParam(), store));
  make_schema(pair->master(), "shop", schema_sql("shop.sql"));
  shift_oids(pair->standby());
  make_schema(pair->standby(), "tienda", schema_sql("shop.sql") + schema_sql("tienda.sql"));
  live(*pair, store);
  expect_all_equal(*pair, store, true);
  expect_equal_sequences(*pair, store);
  // What is there only, is as it was.
  EXPECT_EQ(query_value(pair->standby(),
                        "SELECT string_agg(code || used, ' ' ORDER BY code)"
                        " FROM ventas.cupon WHERE region = 'us'"),
            "C11 X0-11");
  EXPECT_EQ(query_value(pair->standby(), "SELECT count(*) FROM tienda.delivery WHERE seen IS NULL"),
            "0");
  // A trigger that is the standby's own runs once per row.
  pair->on_master("INSERT INTO shop.basket SELECT 9, i, 'null' FROM generate_series(1, 10) i");
  pair->wait_applied();
  EXPECT_EQ(query_value(pair->standby(), "SELECT escrito FROM tienda.cajas WHERE session = 9"),
            "10");
}

// The standby's tables of the same SQL, without partitions.
std::string unpartitioned(const std::string& sql) {
  return std::regex_replace(sql, std::regex(R"( PARTITION BY \w+ \(\w+\))"), "") +
         "ALTER TABLE incident RENAME TO suceso; ALTER TABLE suceso RENAME words TO palabras;";
}

PairOptions through_roots(PairOptions options) {
  options.sender_arguments = {"--publish-via-partition-root", "--tables",
                              "telemetry.*,!telemetry.intake_*"};
  return options;
}

void resync(Pair& pair, const std::string& table) {
  const auto resync = Pair::bitacora({"resync", "--http", pair.receiver_http(), table});
  ASSERT_EQ(resync.exit_code, 0) << resync.error_output;
  pair.wait_applied();
}

// DDL is not replicated. What a partition brings with it when it is attached comes with a resync,
// what it takes with it when it is detached stays on the standby until then.
void attach_and_detach(Pair& pair, const Store& store) {
  const auto master = in_schema(pair.master(), "telemetry");
  execute(master,
          "CREATE TABLE intake_2035 (LIKE reading INCLUDING ALL);"
          "INSERT INTO intake_2035 SELECT id, '2035-06-01 UTC', 'pressure', id FROM device;"
          "ALTER TABLE reading ATTACH PARTITION intake_2035"
          " FOR VALUES FROM ('2035-01-01 UTC') TO ('2036-01-01 UTC')");
  resync(pair, "telemetry.reading");
  expect_all_equal(pair, store, false);
  execute(master,
          "UPDATE reading SET value = -1 WHERE at > '2035-01-01 UTC';"
          "UPDATE reading SET at = '2024-03-07 UTC' WHERE at > '2035-01-01 UTC' AND device < 9;"
          "DELETE FROM reading WHERE at > '2035-01-01 UTC' AND device % 2 = 0");
  pair.wait_applied();
  expect_all_equal(pair, store, false);

  execute(master,
          "ALTER TABLE reading DETACH PARTITION reading_2024_03;"
          "INSERT INTO reading (device, at, metric) SELECT min(id), '2035-03-07 UTC', 'humidity'"
          " FROM device");
  pair.wait_applied();
  constexpr const char* kColumns = "SELECT device, at, metric, value, quality, raw, day FROM ";
  const auto of_root = std::string(kColumns) + "telemetry.reading";
  expect_equal(pair, {of_root + " UNION ALL " + kColumns + "telemetry.reading_2024_03", of_root});
  EXPECT_NE(query_value(master, "SELECT count(*) FROM reading_2024_03"), "0");
  execute(master, "DELETE FROM reading_2024_03");  // nobody's any more
  resync(pair, "telemetry.reading");
  expect_equal(pair, {of_root, of_root});
}

TEST_P(RichSchemas, TelemetryThroughRoots) {
  const auto store = telemetry();
  const auto pair = make_pair(through_roots(options(GetParam(), store)));
  make_schema(pair->master(), "telemetry",
              schema_sql("telemetry.sql") + schema_sql("telemetry_partitions.sql"));
  shift_oids(pair->standby());
  make_schema(pair->standby(), "telemetry", unpartitioned(schema_sql("telemetry.sql")));
  EXPECT_EQ(query_value(pair->standby(), "SELECT count(*) FROM pg_class WHERE relkind = 'p'"), "0");
  live(*pair, store);
  expect_all_equal(*pair, store, false);
  // Of a partition that was made meanwhile.
  EXPECT_NE(query_value(pair->standby(),
                        "SELECT count(*) FROM telemetry.reading"
                        " WHERE at = '2034-04-03 UTC'"),
            "0");
  expect_equal_sequences(*pair, store);
  attach_and_detach(*pair, store);
}

INSTANTIATE_TEST_SUITE_P(Ways, RichSchemas,
                         testing::Values(Way{"Default", {}}, Way{"Workers", {"--workers", "4"}},
                                         Way{"PostgreSql18", {}, 18}),
                         [](const auto& way) { return way.param.name; });

}  // namespace
}  // namespace bitacora::harness
