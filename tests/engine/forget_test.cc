// `bitacora sender --forget RECEIVER`: of a sender that runs and of one that does not.
#include <gtest/gtest.h>

#include <fstream>
#include <iostream>
#include <optional>

#include "tests/engine/named_receiver.h"
#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"

namespace bitacora::harness {
namespace {

class Forget : public testing::Test {
 protected:
  void SetUp() override {
    away_.emplace(pair_, shared_standby(), "away");
    const std::string table = "CREATE TABLE t (id bigserial PRIMARY KEY, v text)";
    pair_.on_both(table);
    execute(away_->standby(), table);
    pair_.start();
    away_->start();
    write();
    away_->wait_applied(wal_end());
  }
  void TearDown() override {
    if (HasFailure()) std::cout << pair_.story() << away_->story();
    away_.reset();
  }

  void write() {
    pair_.on_master("INSERT INTO t (v) SELECT 'v' FROM generate_series(1, 100)");
    pair_.wait_applied();
  }
  std::string wal_end() const { return query_value(pair_.master(), "SELECT pg_current_wal_lsn()"); }
  Finished forget(const std::string& receiver) const {
    return Pair::bitacora({"sender", "--forget", receiver, "--http", pair_.sender_http()});
  }
  Finished forget_in_state_dir(const std::string& receiver) const {
    return Pair::bitacora({"sender", "--forget", receiver, "--http", pair_.sender_http(),
                           "--state-dir", pair_.state_dir()});
  }
  // The sender notices a moment later that a receiver is gone.
  Finished forget_when_gone(const std::string& receiver) const {
    Finished done;
    eventually([&] {
      done = forget(receiver);
      return done.error_output.find("is connected") == std::string::npos;
    });
    return done;
  }
  std::string confirmed() const {
    return query_value(pair_.master(),
                       "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = "
                       "'bitacora_" +
                           pair_.name() + "'");
  }
  bool slot_passes(const std::string& lsn) const {
    return eventually([&] {
      return query_value(pair_.master(), "SELECT '" + confirmed() + "'::pg_lsn >= '" + lsn + "'") ==
             "t";
    });
  }
  void expect_forgotten(const Finished& done, const std::string& words = "\n") const {
    EXPECT_EQ(done.exit_code, 0) << done.error_output;
    EXPECT_EQ(done.output.find("receiver away is forgotten; the slot is held from "), 0u)
        << done.output;
    EXPECT_NE(done.output.find(" on, by " + pair_.name() + words), std::string::npos)
        << done.output;
    EXPECT_EQ(done.error_output, "");
  }

  Pair pair_;
  std::optional<NamedReceiver> away_;
};

TEST_F(Forget, OfASenderThatRuns) {
  EXPECT_EQ(away_->stop(), 0);
  write();
  const auto written = wal_end();
  EXPECT_EQ(query_value(pair_.master(), "SELECT '" + confirmed() + "'::pg_lsn < '" + written + "'"),
            "t")
      << "the one that is away holds it";
  expect_forgotten(forget_when_gone("away"));
  write();
  EXPECT_TRUE(slot_passes(written));
  EXPECT_EQ(registered_receivers(pair_).find("away"), std::string::npos);
  const auto shown = Pair::bitacora({"status", "--http", pair_.sender_http()}).output;
  EXPECT_EQ(shown.find("away"), std::string::npos) << shown;
  expect_refused(forget("away"), 3,
                 {"no receiver away is registered", "registered are: " + pair_.name()});
  pair_.kill_sender();
  pair_.start_sender();
  write();
  EXPECT_TRUE(slot_passes(written)) << "it came back with the sender";
  away_->start();
  away_->expect_refused_for_state({"receiver away needs changes from", "the gap"});
}

TEST_F(Forget, OfASenderThatIsStopped) {
  EXPECT_EQ(away_->stop(), 0);
  write();
  const auto written = wal_end();
  pair_.stop_sender();
  expect_refused(forget_in_state_dir("awya"), 3,
                 {"no receiver awya is registered", "registered are: away, " + pair_.name()});
  expect_forgotten(forget_in_state_dir("away"), ", once the sender is started\n");
  expect_refused(forget_in_state_dir("away"), 3, {"no receiver away is registered"});
  pair_.start_sender();
  write();
  EXPECT_TRUE(slot_passes(written));
  EXPECT_EQ(registered_receivers(pair_).find("away"), std::string::npos);
  away_->start();
  away_->expect_refused_for_state({"the gap"});
}

// Its file is not changed behind its back.
TEST_F(Forget, ASenderThatRunsIsAskedAlsoByItsStateDir) {
  EXPECT_EQ(away_->stop(), 0);
  forget_when_gone("nobody");
  ASSERT_TRUE(eventually([&] {
    return forget_in_state_dir("away").output.find("is forgotten") != std::string::npos;
  }));
  EXPECT_NE(pair_.story().find("event=receiver_forgotten receiver=away"), std::string::npos);
}

TEST_F(Forget, NotOneThatIsConnected) {
  expect_refused(forget("away"), 3, {"receiver away is connected", "stop it first"});
  write();
  away_->wait_applied(wal_end());
  EXPECT_NE(registered_receivers(pair_).find("away"), std::string::npos);
}

// It has all that the slot has dropped: there is no gap.
TEST_F(Forget, WhoLacksNothingIsLetInAgain) {
  EXPECT_EQ(away_->stop(), 0);
  pair_.stop_receiver();
  expect_forgotten(forget_when_gone("away"));
  pair_.on_master("INSERT INTO t (v) VALUES ('while both are away')");
  away_->start();
  away_->wait_applied(wal_end());
  pair_.start_receiver();
  pair_.wait_applied();
  EXPECT_TRUE(pair_.same_content("public.t"));
  EXPECT_EQ(table_content(away_->standby(), "public.t"), table_content(pair_.master(), "public.t"));
}

TEST_F(Forget, TheLastOne) {
  EXPECT_EQ(away_->stop(), 0);
  pair_.stop_receiver();
  expect_forgotten(forget_when_gone("away"));
  const auto done = forget_when_gone(pair_.name());
  EXPECT_EQ(done.exit_code, 0) << done.error_output;
  EXPECT_NE(done.output.find("nobody holds the slot any more"), std::string::npos) << done.output;
  expect_refused(forget("away"), 3, {"no receiver away is registered", "nobody holds the slot"});
}

TEST_F(Forget, WrongAddressesAndDirectories) {
  const auto state_dir = [](const std::string& path) {
    return Pair::bitacora({"sender", "--forget", "away", "--state-dir", path});
  };
  expect_refused(forget(""), 1, {"the receiver of --forget is missing"});
  expect_refused(Pair::bitacora({"sender", "--forget", "away", "--http", pair_.receiver_http()}), 3,
                 {"this is a receiver", "give the sender's --http"});
  expect_refused(Pair::bitacora({"resync", "--http", pair_.sender_http(), "public.t"}), 3,
                 {"this is a sender", "give the receiver's --http"});
  expect_refused(Pair::bitacora({"sender", "--forget", "away", "--http", free_address()}), 6,
                 {"nothing answers at", "--http"});
  expect_refused(state_dir(pair_.data_dir() / "nowhere"), 2, {"No such file", "--state-dir"});
  EXPECT_FALSE(std::filesystem::exists(pair_.data_dir() / "nowhere"));
  expect_refused(state_dir(pair_.state_dir().parent_path()), 2, {"not a sender's", "--state-dir"});
  const auto empty = pair_.data_dir() / "empty";
  std::filesystem::create_directory(empty);
  expect_refused(state_dir(empty), 2, {"no sender has been started with it", "--http"});
  const auto config = pair_.state_dir().parent_path() / "sender.toml";
  std::ofstream(config) << "forget = \"away\"\n";
  expect_refused(run(sender_command(pair_, {{"--config", config}})), 2, {"unknown key forget"});
}

}  // namespace
}  // namespace bitacora::harness
