// Receivers of different tables on one sender: each gets what it wants and may have, and nothing of
// the rest reaches it.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <pqxx/pqxx>

#include <fmt/format.h>

#include "tests/engine/named_receiver.h"
#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"
#include "transport/posix_storage.h"
#include "transport/spool.h"
#include "transport/spool_reader.h"

namespace bitacora::harness {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::seconds kPatience{20};
constexpr const char* kMarker = "nobody may see this";

class Reader : public NamedReceiver {
 public:
  Reader(const Pair& pair, const std::string& name, Changes changes)
      : NamedReceiver(pair, shared_standby(), name), pair_(pair), changes_(std::move(changes)) {}
  void start() { NamedReceiver::start(changes_); }
  void stop() { EXPECT_EQ(NamedReceiver::stop(), 0) << story(); }

  // Everything that the master has committed.
  void wait_applied() {
    NamedReceiver::wait_applied(query_value(pair_.master(), "SELECT pg_current_wal_lsn()"));
  }
  bool same_content(const std::string& table) const {
    return table_content(pair_.master(), table) == table_content(standby(), table);
  }

  // Of a receiver that has stopped: what its spool holds, as text.
  std::vector<std::string> spooled() const {
    auto spool = transport::Spool::open(transport::open_posix_storage(data_dir() / "spool").value(),
                                        {}, std::nullopt);
    auto reader = (*spool)->read_from((*spool)->begin_lsn());
    std::vector<std::string> batches;
    while (reader.ok()) {
      auto event = (*reader)->next();
      if (!event.ok()) throw std::runtime_error(one_line(event.error()));
      const auto* batch = std::get_if<transport::SpoolBatch>(&*event);
      if (batch == nullptr) break;
      batches.push_back(batch->changes->DebugString());
    }
    return batches;
  }
  bool spooled(const std::string& text) const {
    const auto batches = spooled();
    return std::any_of(batches.begin(), batches.end(), [&](const std::string& batch) {
      return batch.find(text) != std::string::npos;
    });
  }

 private:
  const Pair& pair_;
  const Changes changes_;
};

constexpr const char* kSchema =
    "CREATE SCHEMA shop;"
    "CREATE TABLE shop.orders (id int PRIMARY KEY, v text);"
    "CREATE TYPE shop.mood AS ENUM ('good', 'bad');"
    "CREATE TABLE shop.lines (id serial PRIMARY KEY, v text, mood shop.mood DEFAULT 'good');"
    "CREATE TABLE shop.secret (id serial PRIMARY KEY, v text)";

class ReceiverTables : public testing::Test {
 protected:
  ReceiverTables() {
    config_ = fs::temp_directory_path() / (case_name() + ".toml");
    fs::remove(config_);
  }
  ~ReceiverTables() override { fs::remove(config_); }

  // What the sender's file says, before make().
  void configure(const std::string& text) { std::ofstream(config_) << text; }

  void make() {
    PairOptions options;
    if (fs::exists(config_)) options.sender_arguments = {"--config", config_};
    pair_ = std::make_unique<Pair>(options);
    pair_->on_master(kSchema);
    pair_->start_sender();
    pair_->wait_for_slot();
  }
  Reader& add(const std::string& name, Changes changes, bool with_schema = true) {
    auto& reader = *readers_.emplace_back(std::make_unique<Reader>(*pair_, name, changes));
    if (with_schema) execute(reader.standby(), kSchema);
    reader.start();
    return reader;
  }
  Reader& taking(const std::string& name, const std::string& tables) {
    return add(name, {{"--tables", tables}});
  }
  void expect_equal(Reader& reader, std::initializer_list<const char*> tables) {
    SCOPED_TRACE(reader.name());
    reader.wait_applied();
    for (const auto* table : tables) EXPECT_TRUE(reader.same_content(table)) << table;
  }
  void expect_empty(const Reader& reader, const std::string& table) {
    EXPECT_EQ(query_value(reader.standby(), "SELECT count(*) FROM " + table), "0");
  }
  // By SIGHUP, while the sender runs.
  void reload(const std::string& text) {
    configure(text);
    const auto before = pair_->said("event=reloaded");
    send_signal(pair_->sender(), SIGHUP);
    ASSERT_TRUE(eventually([&] { return pair_->said("event=reloaded") > before; }));
  }
  void TearDown() override {
    if (!HasFailure() || !pair_) return;
    std::cout << pair_->story();
    for (const auto& reader : readers_) std::cout << reader->name() << ":\n" << reader->story();
  }
  void on_master(const std::string& sql) { pair_->on_master(sql); }

  fs::path config_;
  std::unique_ptr<Pair> pair_;
  std::vector<std::unique_ptr<Reader>> readers_;
};

std::string some_life(int i) {
  return fmt::format(
      "BEGIN; INSERT INTO shop.orders VALUES ({0}, 'o'); INSERT INTO shop.secret (v) VALUES "
      "('{1}');"
      "COMMIT;"
      "BEGIN; INSERT INTO shop.lines (v) VALUES ('l'); UPDATE shop.lines SET v = v || {0} WHERE id "
      "% "
      "3 = {0} % 3; COMMIT; UPDATE shop.secret SET v = v || '!';"
      "DELETE FROM shop.orders WHERE id = {0} - 5; INSERT INTO shop.secret (v) VALUES ('{1}')",
      i, kMarker);
}

TEST_F(ReceiverTables, SubsetsOfOneStream) {
  make();
  auto& all = taking("all", "*");
  auto& orders = taking("orders", "shop.orders");
  auto& two = taking("two", "shop.*,!shop.secret");
  auto& none = taking("none", "other.*");
  for (auto& reader : readers_) reader->wait_applied();
  for (int i = 1; i <= 60; ++i) on_master(some_life(i));
  expect_equal(all, {"shop.orders", "shop.lines", "shop.secret"});
  on_master("TRUNCATE shop.orders, shop.secret; INSERT INTO shop.orders VALUES (1, 'again')");
  for (auto* reader : {&all, &orders, &two})
    execute(reader->standby(), "ALTER TABLE shop.orders ADD more int");
  on_master("ALTER TABLE shop.orders ADD more int; INSERT INTO shop.orders VALUES (2, 'x', 3)");
  on_master("INSERT INTO shop.orders VALUES (3, 'x', 4)");
  expect_equal(all, {"shop.orders", "shop.lines", "shop.secret"});
  expect_equal(orders, {"shop.orders"});
  expect_equal(two, {"shop.orders", "shop.lines"});
  none.wait_applied();
  for (auto* reader : {&orders, &two, &none}) expect_empty(*reader, "shop.secret");
  expect_empty(none, "shop.orders");
  for (auto& reader : readers_) reader->stop();
  EXPECT_TRUE(all.spooled(kMarker)) << "else nothing is shown here";
  for (auto* reader : {&orders, &two, &none}) {
    EXPECT_FALSE(reader->spooled(kMarker));
    EXPECT_FALSE(reader->spooled("\"secret\""));
  }
  EXPECT_TRUE(two.spooled("mood"));
  EXPECT_FALSE(orders.spooled("mood"));
}

// It holds neither the slot nor the others up, and costs little.
TEST_F(ReceiverTables, OneThatTakesNothingFollowsABusyStream) {
  make();
  auto& all = taking("all", "*");
  auto& none = taking("none", "other.*");
  all.wait_applied();
  none.wait_applied();
  for (int i = 0; i < 3; ++i) {
    on_master(
        "DO $$ BEGIN FOR i IN 1..3000 LOOP INSERT INTO shop.secret (v) VALUES ('x'); COMMIT; END "
        "LOOP; END $$");
    none.wait_applied();
  }
  all.wait_applied();
  const auto reached = query_value(pair_->master(), "SELECT pg_current_wal_lsn()");
  EXPECT_TRUE(eventually(
      [&] {
        return query_value(pair_->master(),
                           fmt::format("SELECT count(*) FROM pg_replication_slots WHERE database = "
                                       "current_database() AND confirmed_flush_lsn >= '{}'",
                                       reached)) == "1";
      },
      kPatience));
  EXPECT_EQ(pair_->story().find("event=receiver_detached receiver=none"), std::string::npos);
  none.stop();
  EXPECT_LT(none.spooled().size(), 1500u) << "a frame for every transaction";
}

TEST_F(ReceiverTables, StreamedTransactions) {
  make();
  on_master(fmt::format("ALTER DATABASE {} SET logical_decoding_work_mem = '64kB'", pair_->name()));
  pair_->stop_sender();
  pair_->start_sender();
  auto& all = taking("all", "*");
  auto& orders = taking("orders", "shop.orders");
  auto& none = taking("none", "other.*");
  for (auto& reader : readers_) reader->wait_applied();
  const auto rows = [](const char* table, int from) {
    return fmt::format(
        "INSERT INTO shop.{} (id, v) SELECT {} + i, '{}' || i FROM "
        "generate_series(1, 3000) i",
        table, from, kMarker);
  };
  pqxx::connection connection(pair_->master());
  pqxx::connection other(pair_->master());
  {
    pqxx::work secret(connection);
    secret.exec(rows("secret", 0));
    pqxx::work mixed(other);
    mixed.exec(rows("secret", 10'000));
    on_master("INSERT INTO shop.orders VALUES (-1, 'meanwhile')");
    orders.wait_applied();
    EXPECT_TRUE(orders.same_content("shop.orders"));
    mixed.exec(rows("orders", 10'000));
    mixed.exec("SAVEPOINT s");
    mixed.exec(rows("orders", 20'000));
    mixed.exec("ROLLBACK TO s");
    mixed.exec(rows("secret", 20'000));
    secret.commit();
    on_master("INSERT INTO shop.orders VALUES (-2, 'between')");
    mixed.commit();
  }
  {
    pqxx::work rolled_back(connection);
    rolled_back.exec(rows("secret", 40'000));
    rolled_back.exec(rows("orders", 40'000));
    rolled_back.abort();
  }
  on_master("INSERT INTO shop.secret VALUES (-1, '" + std::string(kMarker) + "')");
  expect_equal(all, {"shop.orders", "shop.secret"});
  expect_equal(orders, {"shop.orders"});
  expect_equal(none, {});
  EXPECT_EQ(query_value(orders.standby(), "SELECT count(*) FROM shop.orders"), "3002");
  for (auto& reader : readers_) reader->stop();
  EXPECT_TRUE(all.spooled("shop"));
  EXPECT_FALSE(none.spooled(kMarker));
  EXPECT_FALSE(orders.spooled("\"secret\""));
}

// One that was away is read for alone, and comes back to the others.
TEST_F(ReceiverTables, ComesBackBehindTheOthers) {
  make();
  auto& all = taking("all", "*");
  auto& orders = taking("orders", "shop.orders");
  for (int round = 0; round < 3; ++round) {
    for (auto& reader : readers_) reader->wait_applied();
    orders.stop();
    for (int i = 1; i <= 20; ++i) on_master(some_life(round * 100 + i));
    all.wait_applied();
    orders.start();
    for (int i = 21; i <= 30; ++i) on_master(some_life(round * 100 + i));
  }
  expect_equal(all, {"shop.orders", "shop.lines", "shop.secret"});
  expect_equal(orders, {"shop.orders"});
  orders.stop();
  EXPECT_FALSE(orders.spooled(kMarker));
}

constexpr const char* kGrants =
    "[receivers.\"report*\"]\ntables = [\"shop.orders\"]\n"
    "[receivers.reporting]\ntables = [\"shop.*\", \"!shop.secret\"]\n";

std::string list(const char* tables) {
  return fmt::format("[receivers.reporting]\ntables = [{}]\n[receivers.all]\ntables = [\"*\"]\n",
                     tables);
}

// SIGHUP: who is connected comes back under the new lists.
TEST_F(ReceiverTables, ListsAreReadAgain) {
  configure(list("\"shop.orders\""));
  make();
  auto& reporting = add("reporting", {});
  reporting.wait_applied();
  on_master(
      "INSERT INTO shop.orders VALUES (1, 'o'); INSERT INTO shop.lines (v) VALUES ('hidden')");
  expect_equal(reporting, {"shop.orders"});
  const auto lines = [&] {
    return query_value(reporting.standby(), "SELECT string_agg(v, ',') FROM shop.lines");
  };
  EXPECT_EQ(lines(), "");
  reload(list("\"shop.orders\", \"shop.lines\""));
  on_master("INSERT INTO shop.lines (v) VALUES ('shown')");
  reporting.wait_applied();
  EXPECT_EQ(lines(), "shown");
  reload(list("\"shop.orders\""));
  on_master(
      "INSERT INTO shop.lines (v) VALUES ('hidden again'); INSERT INTO shop.orders VALUES (2, "
      "'o')");
  expect_equal(reporting, {"shop.orders"});
  EXPECT_EQ(lines(), "shown");
}

// What is taken away is, whatever becomes of the publication.
TEST_F(ReceiverTables, ListsAreNarrowedFirst) {
  const std::string both = list("\"shop.orders\", \"shop.lines\"");
  configure(both);
  make();
  auto& reporting = add("reporting", {});
  reporting.wait_applied();
  const auto lines = [&] {
    reporting.wait_applied();
    return query_value(reporting.standby(),
                       "SELECT coalesce(string_agg(v, ','), '') FROM shop.lines");
  };
  configure(list("\"shop.orders\", \"shop.secret\"") +
            "[table.\"shop.orders\"]\nwhere = \"nope\"\n");
  send_signal(pair_->sender(), SIGHUP);
  ASSERT_TRUE(eventually([&] { return pair_->said("event=reload_failed") == 1; }));
  on_master(
      "INSERT INTO shop.lines (v) VALUES ('hidden'); INSERT INTO shop.secret (v) VALUES ('s')");
  on_master("INSERT INTO shop.orders VALUES (1, 'o')");
  EXPECT_EQ(lines(), "");
  EXPECT_TRUE(reporting.same_content("shop.orders"));
  expect_empty(reporting, "shop.secret");
  reload(both);
  on_master("INSERT INTO shop.lines (v) VALUES ('shown')");
  EXPECT_EQ(lines(), "shown");
}

// The transaction comes again from its beginning.
TEST_F(ReceiverTables, ListsReadInsideATransaction) {
  configure(list("\"shop.orders\""));
  make();
  on_master(fmt::format("ALTER DATABASE {} SET logical_decoding_work_mem = '64kB'", pair_->name()));
  pair_->stop_sender();
  pair_->start_sender();
  auto& all = add("all", {});
  auto& reporting = add("reporting", {});
  for (auto& reader : readers_) reader->wait_applied();
  const auto begin = [](pqxx::work& open, int from) {
    open.exec(
        fmt::format("INSERT INTO shop.orders SELECT {} + i, 'o' FROM generate_series(1, 3000) i;"
                    "INSERT INTO shop.lines (v) SELECT 'l' FROM generate_series(1, 3000)",
                    from));
  };
  pqxx::connection connection(pair_->master());
  {
    pqxx::work grows(connection);
    begin(grows, 0);
    on_master("INSERT INTO shop.orders VALUES (-1, 'meanwhile')");
    for (auto& reader : readers_) reader->wait_applied();
    reload(list("\"shop.orders\", \"shop.lines\""));
    begin(grows, 10'000);
    grows.commit();
  }
  expect_equal(all, {"shop.orders", "shop.lines"});
  expect_equal(reporting, {"shop.orders", "shop.lines"});
  {
    pqxx::work shrinks(connection);
    begin(shrinks, 20'000);
    on_master("INSERT INTO shop.orders VALUES (-2, 'meanwhile')");
    for (auto& reader : readers_) reader->wait_applied();
    reload(list("\"shop.orders\""));
    begin(shrinks, 30'000);
    shrinks.commit();
  }
  expect_equal(all, {"shop.orders", "shop.lines"});
  expect_equal(reporting, {"shop.orders"});
  EXPECT_EQ(query_value(reporting.standby(), "SELECT count(*) FROM shop.lines"), "6000");
}

TEST_F(ReceiverTables, ListsReadWhileOneIsAlone) {
  configure(list("\"shop.orders\""));
  make();
  auto& all = add("all", {});
  auto& reporting = add("reporting", {{"--tables", "shop.*"}});
  for (int round = 0; round < 3; ++round) {
    for (auto& reader : readers_) reader->wait_applied();
    reporting.stop();
    for (int i = 0; i < 40; ++i) {  // of 4 MiB and more there is a reader of its own
      on_master(
          fmt::format("INSERT INTO shop.orders SELECT {} + i, md5(i::text) FROM "
                      "generate_series(1, 2000) i",
                      (round * 40 + i) * 2000));
    }
    all.wait_applied();
    const auto alone = pair_->said("event=catching_up");
    reporting.start();
    ASSERT_TRUE(eventually([&] { return pair_->said("event=catching_up") > alone; }));
    reload(list(round % 2 == 0 ? "\"shop.orders\", \"shop.lines\"" : "\"shop.orders\""));
    on_master(
        "INSERT INTO shop.lines (v) VALUES ('l'); UPDATE shop.orders SET v = 'u' WHERE id % 500 = "
        "0");
  }
  expect_equal(all, {"shop.orders", "shop.lines"});
  expect_equal(reporting, {"shop.orders"});
  EXPECT_EQ(query_value(reporting.standby(), "SELECT count(*) FROM shop.lines"), "2");
}

TEST_F(ReceiverTables, AListPerReceiver) {
  configure(kGrants);
  make();
  auto& reporting = taking("reporting", "shop.*");
  auto& reports = add("reports", {});
  for (auto& reader : readers_) reader->wait_applied();
  for (int i = 1; i <= 10; ++i) on_master(some_life(i));
  expect_equal(reporting, {"shop.orders", "shop.lines"});
  expect_equal(reports, {"shop.orders"});
  expect_empty(reporting, "shop.secret");
  expect_empty(reports, "shop.lines");
  struct Case {
    const char* name;
    Changes changes;
    std::vector<std::string> words;
  };
  for (const Case& c :
       {Case{"nobody's",
             {{"--name", "stranger"}},
             {"stranger", "[receivers.\"stranger\"]", "tables"}},
        Case{
            "by name",
            {{"--name", "reporting2"}, {"--tables", "shop.orders,shop.secret"}},
            {"receiver reporting2 may not have table shop.secret", "--tables", "[receivers.NAME]"}},
        Case{"no copy of it",
             {{"--name", "reporting2"}, {"--tables", "shop.lines"}, {"--no-copy", ""}},
             {"reporting2 may not have table shop.lines"}}}) {
    expect_receiver_refused(*pair_, {c.name, c.changes, 2, c.words});
  }
  EXPECT_EQ(registered_receivers(*pair_).find("stranger"), std::string::npos);
  EXPECT_EQ(registered_receivers(*pair_).find("reporting2"), std::string::npos);
}

TEST_F(ReceiverTables, CopiesOfWhatItMayHaveOnly) {
  configure(kGrants);
  make();
  on_master(some_life(1));
  auto& reader =
      add("reporting",
          {{"--no-copy", ""}, {"--create-schema", "true"}, {"--sequences-interval", "1s"}}, false);
  expect_equal(reader, {"shop.orders", "shop.lines"});
  EXPECT_EQ(query_value(reader.standby(), "SELECT to_regclass('shop.secret')"), "");
  EXPECT_EQ(query_value(reader.standby(), "SELECT to_regclass('shop.secret_id_seq')"), "");
  on_master(some_life(2));
  expect_equal(reader, {"shop.orders", "shop.lines"});
  const auto resync = [&](const char* table) {
    return Pair::bitacora({"resync", "--http", reader.http(), table});
  };
  EXPECT_EQ(resync("shop.orders").exit_code, 0);
  execute(reader.standby(), "CREATE TABLE shop.secret (id serial PRIMARY KEY, v text)");
  const auto refused = resync("shop.secret");
  expect_refused(refused, 2, {"reporting may not have table shop.secret"});
  const auto sequences = Pair::bitacora({"sequences", "--now", "--http", reader.http()});
  EXPECT_EQ(sequences.exit_code, 0) << sequences.error_output;
  EXPECT_EQ(query_value(reader.standby(), "SELECT last_value FROM shop.secret_id_seq"), "1");
  EXPECT_EQ(query_value(reader.standby(), "SELECT last_value FROM shop.lines_id_seq"),
            query_value(pair_->master(), "SELECT last_value FROM shop.lines_id_seq"));
  EXPECT_NE(query_value(pair_->master(), "SELECT last_value FROM shop.secret_id_seq"), "1");
  expect_empty(reader, "shop.secret");
  // Its schema, as it would be made.
  const auto dry = run(receiver_command(*pair_, {{"--name", "reports"},
                                                 {"--no-copy", ""},
                                                 {"--create-schema", "true"},
                                                 {"--dry-run", "true"}}));
  EXPECT_EQ(dry.exit_code, 0) << dry.error_output;
  EXPECT_NE(dry.output.find("shop.orders"), std::string::npos);
  EXPECT_EQ(dry.output.find("secret"), std::string::npos) << dry.output;
  EXPECT_EQ(dry.output.find("lines"), std::string::npos) << dry.output;
}

TEST_F(ReceiverTables, AFileThatSaysItWrong) {
  struct Case {
    const char* name;
    const char* text;
    std::vector<std::string> words;
  };
  Pair pair;
  for (const Case& c :
       {Case{"no tables", "[receivers.a]\n", {"receivers.a", "tables is missing"}},
        Case{"empty", "[receivers.a]\ntables = []\n", {"receivers.a", "line 2", "[\"*\"]"}},
        Case{"no receiver", "[receivers]\n", {"receivers", "names no receiver"}},
        Case{"a key", "[receivers.a]\ntabels = [\"x\"]\n", {"tabels", "did you mean tables?"}},
        Case{"no pattern", "[receivers.a]\ntables = [\"a.b.c\"]\n", {"a.b.c", "schema.table"}},
        Case{"no table of it", "[receivers]\na = 1\n", {"receivers", "a", "wants a table"}}}) {
    configure(c.text);
    expect_sender_refused(pair, {c.name, {{"--config", config_}}, 2, c.words});
  }
}

}  // namespace
}  // namespace bitacora::harness
