// What a copy may not hand out: rows of a table whose right is taken away while it is copied,
// columns that leave the publication meanwhile, tables that are not published at all.
#include <gtest/gtest.h>

#include <signal.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <optional>
#include <pqxx/pqxx>

#include <fmt/format.h>

#include "tests/engine/refusal.h"
#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"
#include "transport/copy_client.h"

namespace bitacora::harness {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

constexpr int kRows = 100'000;
constexpr int kHeldUpAt = 40'000;  // the row
constexpr int kPartRows = 5'000;   // at most, of a part of 1 MB
constexpr const char* kTables =
    "CREATE TABLE big (id int PRIMARY KEY, v text, salary text, at timestamptz); CREATE TABLE "
    "small (id int PRIMARY KEY, v int); CREATE TABLE later (id int PRIMARY KEY)";
// It can sleep on the standby for as long as somebody wants.
constexpr const char* kHoldUp =
    "CREATE FUNCTION hold_up() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM "
    "pg_advisory_xact_lock_shared(1); RETURN new; END'; CREATE TRIGGER hold_up BEFORE INSERT ON "
    "big FOR EACH ROW WHEN (new.id = {}) EXECUTE FUNCTION hold_up(); ALTER TABLE big ENABLE ALWAYS "
    "TRIGGER hold_up";

class CopyLimits : public testing::Test {
 protected:
  CopyLimits() : config_(fs::temp_directory_path() / (case_name() + ".toml")) {}
  ~CopyLimits() override { fs::remove(config_); }

  void configure(const std::string& text) const { std::ofstream(config_) << text; }
  std::string may_have(const std::string& tables) const {
    return fmt::format("[receivers.{}]\ntables = [{}]\n", pair_->name(), tables);
  }
  void make(std::vector<std::string> receiver_arguments = {}) {
    PairOptions options;
    options.copy = true;
    options.sender_arguments = {"--config", config_};
    options.receiver_arguments = std::move(receiver_arguments);
    options.receiver_arguments.insert(options.receiver_arguments.end(), {"--copy-sessions", "1"});
    pair_.emplace(options);
    pair_->on_both(kTables);
    // Nothing that compresses well, so that it does not all fit on the way.
    pair_->on_master(fmt::format(
        "INSERT INTO big SELECT i, v, 's' || i, '2025-01-01' FROM generate_series(1, {}) i, "
        "LATERAL "
        "(SELECT string_agg(md5(i || '-' || j), '') AS v FROM generate_series(1, 8) j) values; "
        "INSERT INTO small SELECT i, i FROM generate_series(1, 100) i",
        kRows));
    pair_->on_standby(fmt::format(kHoldUp, kHeldUpAt));
  }
  // Starts, and answers when the copy of big waits in the middle; let_go() ends that.
  void hold_up() {
    lock_.emplace(pair_->standby());
    pqxx::nontransaction(*lock_).exec("SELECT pg_advisory_lock(1)");
    pair_->start();
    ASSERT_TRUE(eventually([&] {
      return query_value(pair_->standby(),
                         "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT "
                         "granted AND objid = 1") == "1";
    })) << pair_->story();
  }
  void let_go() {
    copied_before_ = copied();
    lock_.reset();
  }
  void reload(const std::string& text) {
    configure(text);
    const auto before = pair_->said("event=reloaded");
    send_signal(pair_->sender(), SIGHUP);
    ASSERT_TRUE(eventually([&] { return pair_->said("event=reloaded") > before; }))
        << pair_->story();
  }
  int copied() const {
    return std::stoi(query_value(pair_->standby(), "SELECT count(*) FROM big"));
  }
  // But for the part that was on its way.
  void expect_no_more() const {
    EXPECT_LE(copied(), copied_before_ + kPartRows);
    EXPECT_LT(copied(), kRows);
  }
  void expect_equal(std::initializer_list<const char*> tables) {
    pair_->wait_applied(milliseconds(60000));
    for (const char* table : tables) EXPECT_TRUE(pair_->same_content(table)) << table;
  }
  void expect_refused_and_goes_on_without() {
    expect_ends_refused(pair_->receiver(), 2,
                        {pair_->name() + " may not have table public.big", "[receivers.NAME]"});
    expect_no_more();
    ASSERT_FALSE(pair_->receiver().running());
    pair_->start_receiver();
    pair_->on_master("UPDATE small SET v = v + 1; UPDATE big SET v = 'hidden' WHERE id < 10");
    expect_equal({"public.small"});
    EXPECT_GE(pair_->said("event=copy_given_up table=public.big"), 1);
    EXPECT_EQ(query_value(pair_->standby(), "SELECT count(*) FROM big WHERE v = 'hidden'"), "0");
    expect_no_more();
  }
  void TearDown() override {
    if (HasFailure() && pair_) std::cout << pair_->story();
  }

  const fs::path config_;
  std::optional<Pair> pair_;
  std::optional<pqxx::connection> lock_;
  int copied_before_ = 0;
};

TEST_F(CopyLimits, ARightIsTakenAwayBetweenParts) {
  configure("");
  make({"--split-tables-larger-than", "1MB"});
  configure(may_have("\"*\""));
  hold_up();
  reload(may_have("\"public.small\", \"public.later\""));
  let_go();
  expect_refused_and_goes_on_without();
}

// What is on its way arrives, but nothing of the table is kept.
TEST_F(CopyLimits, ARightIsTakenAwayInsideOfAPart) {
  configure("");
  make();
  configure(may_have("\"*\""));
  hold_up();
  reload(may_have("\"public.small\", \"public.later\""));
  lock_.reset();  // the copy has big locked: nobody can count its rows
  expect_refused_and_goes_on_without();
  EXPECT_EQ(copied(), 0);
}

TEST_F(CopyLimits, WhoseRightsStayGoesOnInItsSnapshot) {
  configure("");
  make({"--split-tables-larger-than", "1MB"});
  pair_->on_both("ALTER TABLE big REPLICA IDENTITY FULL");
  pair_->on_master(fmt::format(
      "ALTER DATABASE {0} SET timezone = 'Asia/Tokyo'; ALTER DATABASE {0} SET datestyle "
      "= 'German'",
      pair_->name()));
  const auto shipped = [&](const std::string& tables, const std::string& others) {
    return fmt::format(
        "tables = [{}]\n[table.\"public.big\"]\nwhere = \"at > '2020-01-01 00:00:00+00'\"\n{}"
        "[receivers.other]\ntables = [{}]\n",
        tables, may_have("\"*\""), others);
  };
  configure(shipped("\"public.big\", \"public.small\"", "\"*\""));
  hold_up();
  reload(shipped("\"public.big\", \"public.small\"", "\"public.small\""));
  reload(shipped("\"public.big\", \"public.small\", \"public.later\"", "\"public.small\""));
  pair_->on_master("UPDATE big SET v = 'new' WHERE id % 100 = 0; INSERT INTO later VALUES (1)");
  let_go();
  expect_equal({"public.big", "public.small", "public.later"});
  EXPECT_EQ(pair_->said("event=copy_begun"), 1);
  EXPECT_EQ(pair_->said("event=session_lost"), 0);
}

// The snapshot goes on showing them, so there has to be another.
TEST_F(CopyLimits, AColumnAndRowsLeaveThePublication) {
  configure("");
  make({"--split-tables-larger-than", "1MB"});
  configure("tables = \"*\"\n");
  hold_up();
  reload(
      "tables = \"*\"\n[table.\"public.big\"]\ncolumns = [\"id\", \"v\", \"at\"]\nwhere = \"id <= "
      "25000\"\n");
  let_go();
  pair_->wait_applied(milliseconds(60000));
  EXPECT_EQ(query_value(pair_->standby(), "SELECT count(*) FROM big WHERE salary IS NOT NULL"),
            "0");
  EXPECT_EQ(table_content(pair_->standby(), "(SELECT id, v, at FROM public.big)"),
            table_content(pair_->master(), "(SELECT id, v, at FROM public.big WHERE id <= 25000)"));
  EXPECT_TRUE(pair_->same_content("public.small"));
  EXPECT_EQ(pair_->said("event=copy_begun"), 2);
  EXPECT_TRUE(pair_->receiver().running());
}

TEST_F(CopyLimits, ATableLeavesThePublication) {
  configure("");
  make({"--split-tables-larger-than", "1MB"});
  configure("tables = [\"big\", \"small\"]\n");
  hold_up();
  reload("tables = [\"small\"]\n");
  let_go();
  expect_equal({"public.small"});
  expect_no_more();
  EXPECT_GE(pair_->said("event=copy_given_up table=public.big"), 1);
}

pb::TableName named(const std::string& table) {
  pb::TableName name;
  name.set_schema("public");
  name.set_name(table);
  return name;
}

// By calls that no receiver makes.
TEST_F(CopyLimits, AreKeptWhateverIsCalled) {
  configure("");
  make();
  pair_->on_master(fmt::format(
      "CREATE PUBLICATION bitacora_{} FOR TABLE small; CREATE VIEW wages AS SELECT salary FROM big",
      pair_->name()));
  pair_->start_sender();
  ASSERT_TRUE(eventually([&] { return pair_->said("event=sender_ready") > 0; })) << pair_->story();
  const auto client = transport::CopyClient::dial(pair_->sender_address(), {});
  ASSERT_TRUE(client.ok());
  pb::Caller caller;
  caller.set_stream(pair_->name());
  caller.set_receiver("nobody");

  pb::BeginCopyRequest begin;
  *begin.mutable_caller() = caller;
  *begin.add_tables() = named("small");
  const auto begun = (*client)->begin(begin, [](const std::string&) {});
  ASSERT_FALSE(begun.ok());
  EXPECT_NE(begun.error().message.find("nobody has not subscribed"), std::string::npos)
      << one_line(begun.error());
  EXPECT_EQ(pair_->said("event=copy_begun"), 0);

  pb::DumpSchemaRequest dump;
  *dump.mutable_caller() = caller;
  const auto chosen = (*client)->dump_schema(dump);
  ASSERT_TRUE(chosen.ok()) << one_line(chosen.error());
  const auto text = chosen->DebugString();
  EXPECT_NE(text.find("small"), std::string::npos);
  for (const char* hidden : {"salary", "later", "wages"})
    EXPECT_EQ(text.find(hidden), std::string::npos) << hidden;

  *dump.add_tables() = named("small");
  *dump.add_tables() = named("big");
  const auto unpublished = (*client)->dump_schema(dump);
  ASSERT_FALSE(unpublished.ok());
  EXPECT_EQ(unpublished.error().code, ErrorCode::kConfiguration);
  EXPECT_NE(unpublished.error().message.find("does not have table public.big"), std::string::npos)
      << one_line(unpublished.error());

  // Of which publication they all are is no matter.
  pair_->on_master(
      fmt::format("ALTER PUBLICATION bitacora_{} ADD TABLE big, later", pair_->name()));
  dump.clear_tables();
  const auto everything = (*client)->dump_schema(dump);
  ASSERT_TRUE(everything.ok()) << one_line(everything.error());
  EXPECT_NE(everything->DebugString().find("wages"), std::string::npos);
}

}  // namespace
}  // namespace bitacora::harness
