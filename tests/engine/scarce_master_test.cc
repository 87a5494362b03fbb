// A master that is short of memory, of temporary files or of slots while its backlog is read: all
// of it arrives, by the live reader where there is no other way, and that is said once.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <pqxx/pqxx>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/engine/small_disk.h"
#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"

namespace bitacora::harness {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::minutes kPatience{3};
constexpr int kSessions = 8;

class ScarceMaster : public testing::Test {
 protected:
  void make(const std::map<std::string, std::string>& settings,
            std::vector<std::string> receiver_arguments = {}) {
    engine::ClusterOptions options;
    options.settings = settings;
    master_.emplace(engine::ThrowawayCluster::make("scarce_master", options).value());
    PairOptions pair_options;
    pair_options.receiver_arguments = std::move(receiver_arguments);
    pair_.emplace(*master_, shared_standby(), pair_options);
    pair_->on_both("CREATE TABLE t (id serial PRIMARY KEY, v text)");
    pair_->start();
    pair_->on_master("INSERT INTO t (v) VALUES ('first')");
    pair_->wait_applied();
  }

  // 20 MB in transactions of 200 rows.
  void write_backlog() const {
    pair_->on_master(
        "DO $$ BEGIN FOR i IN 1..100 LOOP INSERT INTO t (v) SELECT repeat(md5(n::text), 32)"
        " FROM generate_series(1, 200) AS n; COMMIT; END LOOP; END $$");
  }

  // Transactions of many sessions at the same time, in subtransactions of which every third is
  // rolled back; 1 MB each, all of them much larger than what the master may keep in memory.
  void write_interleaved() const {
    std::vector<std::unique_ptr<pqxx::connection>> sessions;
    std::vector<std::unique_ptr<pqxx::work>> transactions;
    for (int i = 0; i < kSessions; ++i) {
      sessions.push_back(std::make_unique<pqxx::connection>(pair_->master()));
      transactions.push_back(std::make_unique<pqxx::work>(*sessions.back()));
    }
    for (int round = 0; round < 50; ++round) {
      for (auto& transaction : transactions) {
        transaction->exec("SAVEPOINT s");
        transaction->exec(
            "INSERT INTO t (v) SELECT repeat(md5(n::text), 32) FROM generate_series(1, 30) AS n");
        transaction->exec(round % 3 == 0 ? "ROLLBACK TO s" : "RELEASE s");
      }
    }
    transactions.front()->abort();
    while (transactions.size() > 1) {
      transactions.back()->commit();
      transactions.pop_back();
    }
  }

  // For the connections to come.
  void set(const std::string& setting) const {
    const auto before = query_value(pair_->master(), "SELECT clock_timestamp()");
    pair_->on_master("ALTER SYSTEM SET " + setting);
    pair_->on_master("SELECT pg_reload_conf()");
    EXPECT_TRUE(eventually([&] {
      return query_value(pair_->master(), "SELECT pg_conf_load_time() > '" + before + "'") == "t";
    }));
  }

  void expect_all_there() {
    pair_->wait_applied(kPatience);
    EXPECT_TRUE(pair_->same_content("public.t")) << pair_->story();
  }

  std::optional<engine::ThrowawayCluster> master_;
  std::optional<SmallDisk> disk_;  // in the server's directory
  std::optional<Pair> pair_;
};

TEST_F(ScarceMaster, OfMemory) {
  make({{"logical_decoding_work_mem", "64kB"},
        {"work_mem", "64kB"},
        {"maintenance_work_mem", "1MB"},
        {"temp_buffers", "800kB"},
        {"shared_buffers", "1MB"}});
  write_interleaved();
  expect_all_there();
  EXPECT_EQ(pair_->stop_sender(), 0);
  write_interleaved();
  write_interleaved();
  pair_->start_sender();
  expect_all_there();
  EXPECT_EQ(pair_->said("event=catching_up"), 1) << pair_->story();
  EXPECT_EQ(pair_->said("event=catch_up_declined"), 0) << pair_->story();
  EXPECT_GT(std::stoll(query_value(pair_->master(),
                                   "SELECT sum(spill_count) FROM pg_stat_replication_slots")),
            0)
      << "there was memory enough";
}

TEST_F(ScarceMaster, OfTemporaryFilesByItsLimit) {
  make({{"work_mem", "64kB"}, {"temp_file_limit", "1MB"}});
  EXPECT_EQ(pair_->stop_sender(), 0);
  write_backlog();
  pair_->start_sender();
  pair_->wait_applied(kPatience);
  EXPECT_EQ(pair_->said("event=catch_up_declined"), 1) << pair_->story();
  EXPECT_EQ(pair_->said("temp_file_limit"), 1);
  set("temp_file_limit = -1");  // which a comparison needs as well
  expect_all_there();
}

// A range is too large for what is left of the file system, whatever it had brought before.
TEST_F(ScarceMaster, OfSpaceForTemporaryFiles) {
  if (!can_mount()) GTEST_SKIP() << "mounting a small file system needs root";
  make({{"work_mem", "64kB"}});
  const auto small = master_->directory() / "small";
  fs::create_directory(small);
  disk_.emplace(small, 4u << 20);
  const auto space = small / "space";
  fs::create_directory(space);
  ASSERT_EQ(run({"chown", "--reference", master_->directory() / "data", space}).exit_code, 0);
  pair_->on_master("CREATE TABLESPACE small LOCATION '" + space.string() + "'");
  set("temp_tablespaces = 'small'");
  EXPECT_EQ(pair_->stop_sender(), 0);
  write_backlog();
  disk_->fill_up();
  pair_->start_sender();
  pair_->wait_applied(kPatience);
  EXPECT_EQ(pair_->said("event=catch_up_declined"), 1) << pair_->story();
  EXPECT_EQ(pair_->said("No space left on device"), 1) << pair_->story();
  set("temp_tablespaces = ''");
  expect_all_there();
}

TEST_F(ScarceMaster, OfSlots) {
  make({{"max_replication_slots", "2"}});
  pair_->on_master("SELECT pg_create_physical_replication_slot('other')");
  EXPECT_EQ(pair_->stop_sender(), 0);
  write_backlog();
  pair_->start_sender();
  expect_all_there();
  EXPECT_EQ(pair_->said("event=catch_up_declined"), 1) << pair_->story();
  EXPECT_EQ(pair_->said("event=catching_up"), 0);
}

// A walsender begins with where the slot is, which is not where reading begins.
TEST_F(ScarceMaster, OfConfirmations) {
  make({}, {"--spool-max-size", "100kB", "--spool-keep-size", "0"});
  EXPECT_EQ(pair_->stop_sender(), 0);
  for (int i = 0; i < 30; ++i) {  // what compresses well is sent nevertheless
    pair_->on_master(
        "INSERT INTO t (v) SELECT repeat(md5(i::text), 30) FROM generate_series(1, 1000) i");
  }
  pqxx::connection holder(pair_->standby());
  pqxx::work lock(holder);
  lock.exec("LOCK TABLE t IN ACCESS EXCLUSIVE MODE");
  const auto before = pair_->said("event=reading");
  pair_->start_sender();
  ASSERT_TRUE(eventually([&] { return pair_->said("event=reading") > before; }, kPatience));
  std::this_thread::sleep_for(std::chrono::seconds(2));
  EXPECT_EQ(pair_->said("event=reading"), before + 1) << pair_->story();
  lock.abort();
  expect_all_there();
}

}  // namespace
}  // namespace bitacora::harness
