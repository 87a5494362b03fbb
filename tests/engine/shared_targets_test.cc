// Two tables of the master in one of the standby: what belongs to one of them is never the other's,
// whatever the keys, the policies and the names say.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <optional>

#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"

namespace bitacora::harness {
namespace {

class SharedTargets : public testing::Test {
 protected:
  ~SharedTargets() override { std::filesystem::remove(file_); }

  void make(const std::string& config, std::vector<std::string> receiver_arguments = {}) {
    std::ofstream(file_) << config;
    PairOptions options;
    options.receiver_arguments = std::move(receiver_arguments);
    options.receiver_arguments.insert(options.receiver_arguments.end(), {"--config", file_});
    pair_.emplace(options);
  }
  std::string on_standby(const std::string& sql) const {
    return query_value(pair_->standby(), sql);
  }

  const std::string file_ = testing::TempDir() + case_name() + ".toml";
  std::optional<Pair> pair_;
};

constexpr const char* kBoth =
    "[table.\"a.f\"]\nto = \"public.f\"\nshared = true\nconstants = { src = \"a\" }\n"
    "[table.\"b.f\"]\nto = \"public.f\"\nshared = true\nconstants = { src = \"b\" }\n";

constexpr const char* kMaster =
    "CREATE SCHEMA a; CREATE SCHEMA b;"
    "CREATE TABLE a.f (id int PRIMARY KEY, v text); CREATE TABLE b.f (LIKE a.f INCLUDING ALL);"
    "ALTER TABLE a.f REPLICA IDENTITY FULL; ALTER TABLE b.f REPLICA IDENTITY FULL";
// The constant is no part of the key here.
constexpr const char* kStandby = "CREATE TABLE f (id int PRIMARY KEY, v text, src text)";

TEST_F(SharedTargets, AConstantTellsRowsApartWithFullIdentity) {
  make(kBoth, {"--conflict", "a.f=keep"});
  pair_->on_master(kMaster);
  pair_->on_standby(kStandby);
  pair_->start();
  pair_->on_master("INSERT INTO b.f VALUES (5, 'b')");
  for (const char* change : {"INSERT INTO a.f VALUES (5, 'a'), (6, 'a')", "UPDATE a.f SET v = 'a2'",
                             "DELETE FROM a.f WHERE id = 5"}) {
    pair_->on_master(change);
    pair_->wait_applied();
    EXPECT_EQ(on_standby("SELECT v || src FROM f WHERE id = 5"), "bb") << change;
  }
  EXPECT_EQ(on_standby("SELECT v || src FROM f WHERE id = 6"), "a2a");
  pair_->on_master("UPDATE b.f SET v = 'b2'; DELETE FROM a.f");
  pair_->wait_applied();
  EXPECT_EQ(on_standby("SELECT string_agg(f::text, ' ') FROM f"), "(5,b2,b)");
}

// One table's policy is not the other's, whose rows take the same path for a while.
TEST_F(SharedTargets, ConflictsAreResolvedWhereTheyMayBeOnly) {
  make(kBoth, {"--conflict", "a.f=keep"});
  pair_->on_master(kMaster);
  pair_->on_standby(kStandby);
  pair_->start();
  pair_->wait_applied();
  pair_->on_standby("INSERT INTO f VALUES (1, 'drift', 'a'), (2, 'drift', 'b')");
  pair_->on_master("INSERT INTO a.f VALUES (1, 'a')");
  pair_->wait_applied();
  EXPECT_EQ(on_standby("SELECT count(*) FROM bitacora.conflicts"), "1");
  pair_->on_master("INSERT INTO b.f VALUES (2, 'b')");
  EXPECT_EQ(pair_->receiver().wait(std::chrono::seconds(20)), 5);
  EXPECT_NE(pair_->receiver().error_output().find("Key (id)=(2) already exists"), std::string::npos)
      << pair_->receiver().error_output();
  EXPECT_EQ(on_standby("SELECT count(*) FROM bitacora.conflicts"), "1");
}

// Of the same table in another schema, and of one that has none: a sequence of the master's name is
// somebody else's there.
TEST_F(SharedTargets, SequencesOfOthersAreLeftAlone) {
  make(
      "[table.\"shop.orders\"]\nto = \"ventas.orders\"\n[table.\"shop.item\"]\nto = "
      "\"ventas.item\"\n");
  pair_->on_master(
      "CREATE SCHEMA shop; CREATE TABLE shop.orders (id serial PRIMARY KEY);"
      "CREATE TABLE shop.item (id serial PRIMARY KEY)");
  pair_->on_standby(
      "CREATE SCHEMA shop; CREATE TABLE shop.orders (id serial PRIMARY KEY);"
      "CREATE TABLE shop.item (id serial PRIMARY KEY); CREATE SCHEMA ventas;"
      "CREATE TABLE ventas.orders (id serial PRIMARY KEY); CREATE TABLE ventas.item (id int "
      "PRIMARY "
      "KEY)");
  pair_->start();
  pair_->on_master(
      "INSERT INTO shop.orders SELECT FROM generate_series(1, 7);"
      "INSERT INTO shop.item SELECT FROM generate_series(1, 9)");
  pair_->wait_applied();
  const auto synced = Pair::bitacora({"sequences", "--now", "--http", pair_->receiver_http()});
  EXPECT_EQ(synced.exit_code, 0) << synced.error_output;
  EXPECT_EQ(on_standby("SELECT nextval('ventas.orders_id_seq')"), "8");
  EXPECT_EQ(on_standby("SELECT nextval('shop.orders_id_seq')"), "1");
  EXPECT_EQ(on_standby("SELECT nextval('shop.item_id_seq')"), "1");
  EXPECT_EQ(pair_->said("missing=\"ventas.item.id\""), 1) << pair_->story();
}

}  // namespace
}  // namespace bitacora::harness
