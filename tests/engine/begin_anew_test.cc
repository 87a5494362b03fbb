// `bitacora receiver --begin-anew`: what a receiver forgets, and how it comes back to the stream.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <optional>

#include "tests/engine/refusal.h"
#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"

namespace bitacora::harness {
namespace {

PairOptions with_copy() {
  PairOptions options;
  options.copy = true;
  return options;
}

class BeginAnew : public testing::Test {
 protected:
  void start() {
    pair_.on_both("CREATE TABLE t (id bigserial PRIMARY KEY, v text)");
    pair_.on_master("INSERT INTO t (v) SELECT 'old' FROM generate_series(1, 100)");
    pair_.start();
    pair_.wait_applied();
  }
  void TearDown() override {
    if (HasFailure()) std::cout << pair_.story();
  }

  Finished begin_anew(const Changes& changes = {}) const {
    Changes options{{"--begin-anew", "true"}, {"--no-copy", ""}};
    for (const auto& [option, value] : changes) options[option] = value;
    return run(receiver_command(pair_, options));
  }
  Process start_receiver(const Changes& changes) const {
    Changes options{{"--no-copy", ""}};
    for (const auto& [option, value] : changes) options[option] = value;
    return Process(receiver_command(pair_, options));
  }
  std::string progress_rows() const {
    return query_value(pair_.standby(), "SELECT count(*) FROM bitacora.progress") + " " +
           query_value(pair_.standby(), "SELECT count(*) FROM bitacora.copied_tables");
  }

  Pair pair_{with_copy()};
};

TEST_F(BeginAnew, AfterItWasForgottenAndHasAGap) {
  start();
  EXPECT_EQ(pair_.stop_receiver(), 0);
  ASSERT_TRUE(eventually([&] {
    return Pair::bitacora({"sender", "--forget", pair_.name(), "--http", pair_.sender_http()})
               .exit_code == 0;
  }));
  pair_.on_master("UPDATE t SET v = 'new' WHERE id % 2 = 0; DELETE FROM t WHERE id % 5 = 0");
  const auto slot = "bitacora_" + pair_.name();
  ASSERT_TRUE(eventually([&] {
    return query_value(
               pair_.master(),
               "SELECT active FROM pg_replication_slots WHERE slot_name = '" + slot + "'") == "f";
  }));
  pair_.on_master("SELECT pg_replication_slot_advance('" + slot + "', pg_current_wal_lsn())");
  auto refused = start_receiver({});
  expect_ends_refused(refused, 3, {"the gap", "bitacora receiver --begin-anew", "--truncate"});

  const auto done = begin_anew();
  EXPECT_EQ(done.exit_code, 0) << done.error_output;
  EXPECT_EQ(done.output.find("receiver " + pair_.name() + " has forgotten everything, applied up"),
            0u)
      << done.output;
  EXPECT_EQ(progress_rows(), "0 0");
  EXPECT_TRUE(std::filesystem::is_empty(pair_.data_dir()));
  EXPECT_EQ(query_value(pair_.standby(), "SELECT count(*) FROM t"), "100") << "readers keep theirs";
  const auto again = begin_anew();
  EXPECT_NE(again.output.find("nothing was applied"), std::string::npos) << again.output;

  auto filled = start_receiver({});
  expect_ends_refused(filled, 2, {"hold rows already: public.t", "--truncate"});
  auto receiver = start_receiver({{"--truncate", "true"}});
  pair_.on_master("INSERT INTO t (v) VALUES ('newest')");
  EXPECT_TRUE(eventually([&] { return pair_.same_content("public.t"); }))
      << receiver.error_output();
}

TEST_F(BeginAnew, NotOfOneThatRunsNorInAnothersDirectory) {
  start();
  expect_refused(begin_anew(), 3, {"receiver " + pair_.name() + " is running", "stop it first"});
  EXPECT_EQ(pair_.stop_receiver(), 0);
  expect_refused(begin_anew({{"--data-dir", pair_.state_dir()}}), 2,
                 {"holds files that are not a receiver's"});
  EXPECT_TRUE(std::filesystem::exists(pair_.state_dir() / "sender.toml"));
  EXPECT_EQ(progress_rows(), "1 1") << "nothing is forgotten then";
  expect_refused(begin_anew({{"--no-copy", "true"}}), 1, {"--no-copy goes with no --begin-anew"});
  const auto config = pair_.state_dir().parent_path() / "receiver.toml";
  std::ofstream(config) << "begin-anew = true\n";
  expect_refused(run(receiver_command(pair_, {{"--config", config}})), 2,
                 {"unknown key begin-anew"});
  EXPECT_EQ(progress_rows(), "1 1");
  pair_.start_receiver();
  pair_.on_master("INSERT INTO t (v) VALUES ('goes on')");
  pair_.wait_applied();
  EXPECT_TRUE(pair_.same_content("public.t"));
}

}  // namespace
}  // namespace bitacora::harness
