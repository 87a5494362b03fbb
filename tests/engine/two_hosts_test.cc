// A pair between two hosts, as the README sets it up, over links of every kind.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <pqxx/pqxx>
#include <sstream>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "tests/engine/two_hosts.h"
#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"
#include "tests/postgres/process.h"

namespace bitacora::harness {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::system_clock;

constexpr const char* kSender = "192.168.1.105:7432";
constexpr const char* kSenderHttp = "127.0.0.1:7433";
constexpr const char* kReceiverHttp = "127.0.0.1:7434";
constexpr const char* kSenderNoticed = "event=receiver_disconnected";
constexpr const char* kReceiverNoticed = "event=sender_lost";
constexpr seconds kNoticedWithin{10};
constexpr seconds kCaughtUpWithin{10};  // after the link is whole again
constexpr std::size_t kMemoryMax = 200u << 20;

const WireQuality kCut{.loss = 1};

// A host with a PostgreSQL of its own, which listens on the host's loopback. We ask it over its
// Unix socket, which does not care where we are.
struct Site {
  explicit Site(const std::string& address, const std::string& name) : host(address) {
    const Visit visit(host);
    auto made = engine::ThrowawayCluster::make(name);
    if (!made.ok()) throw std::runtime_error(one_line(made.error()));
    cluster.emplace(std::move(made).value());
  }

  Host host;
  std::optional<engine::ThrowawayCluster> cluster;
};

// What all cases share; starting two servers takes longer than most of them.
struct Sites {
  Site db1{"192.168.1.105", "db1"};
  Site db2{"192.168.1.106", "db2"};
  Wire to_standby{db1.host, db2.host};
  Wire to_master{db2.host, db1.host};
};

// The README's step 4, its keys smaller for the test's sake.
void make_certificates(const fs::path& directory) {
  const auto made = run({"bash", "-euc", R"(
    cd "$0"
    key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256)
    openssl req -x509 "${key[@]}" -nodes -days 2 -subj /CN=bitacora-ca -keyout ca.key -out ca.crt
    for host in db1:192.168.1.105 db2:192.168.1.106; do
      name=${host%%:*} address=${host##*:}
      openssl req "${key[@]}" -nodes -subj /CN=$name -keyout $name.key -out $name.csr
      openssl x509 -req -in $name.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \
        -out $name.crt -extfile <(echo "subjectAltName=DNS:$name,IP:$address")
    done)",
                         directory});
  if (made.exit_code != 0) throw std::runtime_error(made.error_output);
}

// When the log line "2026-11-23T04:05:06.789+0100 ..." was written.
system_clock::time_point written_at(const std::string& line) {
  std::tm time{};
  const char* rest = strptime(line.c_str(), "%Y-%m-%dT%H:%M:%S", &time);
  if (rest == nullptr || *rest != '.') throw std::runtime_error("no time in: " + line);
  const milliseconds fraction(std::stoi(rest + 1));
  std::tm zone{};
  if (strptime(rest + 4, "%z", &zone) == nullptr) throw std::runtime_error("no zone in: " + line);
  return system_clock::from_time_t(timegm(&time) - zone.tm_gmtoff) + fraction;
}

// A row every 50 ms, with the time of its insertion, until it dies.
class Trickle {
 public:
  explicit Trickle(const std::string& conninfo)
      : writer_([conninfo](const std::stop_token& stop) {
          pqxx::connection connection(conninfo);
          while (!stop.stop_requested()) {
            pqxx::nontransaction(connection).exec("INSERT INTO t (v) VALUES ('trickle')");
            std::this_thread::sleep_for(milliseconds(50));
          }
        }) {}

 private:
  std::jthread writer_;
};

class TwoHosts : public testing::Test {
 protected:
  static void TearDownTestSuite() { sites_.reset(); }

  void SetUp() override {
    make_sites();
    if (!sites_) GTEST_SKIP() << "needs root, network namespaces and /dev/net/tun: " << why_none_;
    auto directory = (fs::temp_directory_path() / "bitacora-two-hosts-XXXXXX").string();
    if (mkdtemp(directory.data()) == nullptr) throw std::runtime_error("no temporary directory");
    directory_ = directory;
    make_certificates(directory_);
    for (const Site* site : {&sites_->db1, &sites_->db2}) {
      const Visit visit(site->host);
      fresh_database(*site->cluster, case_name());
      execute(site->cluster->conninfo(case_name()),
              "CREATE TABLE t (id bigserial PRIMARY KEY,"
              " at timestamptz NOT NULL DEFAULT clock_timestamp(), v text)");
    }
  }

  void TearDown() override {
    if (HasFailure() && sender_) std::cerr << "--- sender\n" << sender_->error_output();
    if (HasFailure() && receiver_) std::cerr << "--- receiver\n" << receiver_->error_output();
    receiver_.reset();
    sender_.reset();
    if (sites_) set_link({}, {});
    std::error_code ignored;
    if (!directory_.empty()) fs::remove_all(directory_, ignored);
  }

  static void make_sites() try {
    if (!sites_ && why_none_.empty()) sites_ = std::make_unique<Sites>();
  } catch (const std::system_error& error) {
    if (!is_not_offered(error.code())) throw;
    why_none_ = error.what();
  }

  static void set_link(const WireQuality& to_standby, const WireQuality& to_master) {
    sites_->to_standby.set(to_standby);
    sites_->to_master.set(to_master);
  }
  static void set_link(const WireQuality& both) { set_link(both, both); }

  static std::string master() { return sites_->db1.cluster->socket_conninfo(case_name()); }
  static std::string standby() { return sites_->db2.cluster->socket_conninfo(case_name()); }
  static bool on_standby(const std::string& condition) {
    return query_value(standby(), "SELECT " + condition) == "t";
  }

  // `bitacora ROLE ...` on its host, with what the README gives both.
  Process start_on(const Site& site, const std::string& name, std::vector<std::string> arguments) {
    const Visit visit(site.host);
    arguments.insert(arguments.begin(), BITACORA_BINARY);
    const auto file = [&](const std::string& of) { return (directory_ / of).string(); };
    for (const auto& more :
         {std::string("--stream"), case_name(), std::string("--tls-cert"), file(name + ".crt"),
          std::string("--tls-key"), file(name + ".key"), std::string("--tls-ca"), file("ca.crt")})
      arguments.push_back(more);
    return Process(std::move(arguments));
  }
  void start() {
    const auto& [db1, db2, to_standby, to_master] = *sites_;
    sender_.emplace(start_on(db1, "db1",
                             {"sender", "--master", db1.cluster->conninfo(case_name()), "--listen",
                              kSender, "--state-dir", directory_ / "sender"}));
    ASSERT_TRUE(says(*sender_, "event=sender_ready")) << sender_->error_output();
    receiver_.emplace(
        start_on(db2, "db2",
                 {"receiver", "--sender", kSender, "--name", "reporting", "--no-copy", "--standby",
                  db2.cluster->conninfo(case_name()), "--data-dir", directory_ / "receiver"}));
    ASSERT_TRUE(says(*receiver_, "event=applying")) << receiver_->error_output();
  }
  static bool says(Process& process, const std::string& words) {
    const auto said = [&] { return process.error_output().find(words) != std::string::npos; };
    return eventually([&] { return said() || !process.running(); }) && said();
  }

  static nlohmann::json status(const Site& site, const std::string& http) {
    const Visit visit(site.host);
    return nlohmann::json::parse(run({BITACORA_BINARY, "status", "--http", http, "--json"}).output);
  }
  static nlohmann::json sender_status() { return status(sites_->db1, kSenderHttp); }
  static nlohmann::json receiver_status() { return status(sites_->db2, kReceiverHttp); }

  // Everything committed on the master so far is visible on the standby, and equal there.
  void expect_arrives(milliseconds timeout) {
    const auto lsn = query_value(master(), "SELECT pg_current_wal_lsn()");
    const auto applied = "applied_lsn >= '" + lsn + "' FROM bitacora.progress";
    EXPECT_TRUE(eventually([&] { return on_standby(applied); }, timeout))
        << receiver_status().dump();
    EXPECT_EQ(table_content(master(), "public.t"), table_content(standby(), "public.t"));
  }
  // No quality of a link that carries anything at all is a reason to give it up.
  void expect_never_lost() const {
    EXPECT_EQ(sender_->error_output().find(kSenderNoticed), std::string::npos);
    EXPECT_EQ(receiver_->error_output().find(kReceiverNoticed), std::string::npos);
  }
  void expect_noticed(const Process& process, const std::string& event,
                      system_clock::time_point cut_at) {
    std::istringstream lines(process.error_output());
    std::string line;
    while (std::getline(lines, line) && line.find(event) == std::string::npos) {
    }
    ASSERT_NE(line.find(event), std::string::npos) << event << " was not logged";
    const auto after = std::chrono::duration_cast<milliseconds>(written_at(line) - cut_at);
    RecordProperty(event.substr(6), std::to_string(after.count()) + " ms");
    EXPECT_GT(after, milliseconds(0)) << line;
    EXPECT_LT(after, kNoticedWithin) << line;
  }
  static void expect_less_than_a_second_behind() {
    EXPECT_LT(receiver_status()["lag_seconds"].get<double>(), 1.0);
    EXPECT_TRUE(on_standby("max(at) > clock_timestamp() - interval '1 second' FROM t"))
        << query_value(standby(), "SELECT clock_timestamp() - max(at) FROM t");
    execute(master(), "INSERT INTO t (v) VALUES ('after')");
    EXPECT_TRUE(
        eventually([] { return on_standby("count(*) = 1 FROM t WHERE v = 'after'"); }, seconds(1)));
  }
  // Such a failure while rows trickle in, until both have noticed and for so long at the least, and
  // what comes after it.
  void expect_noticed_and_healed(const WireQuality& to_standby, const WireQuality& to_master,
                                 seconds lasts) {
    ASSERT_NO_FATAL_FAILURE(start());
    {
      const Trickle trickle(master());
      ASSERT_TRUE(eventually([] { return on_standby("count(*) > 10 FROM t"); }));
      const auto cut_at = system_clock::now();
      set_link(to_standby, to_master);
      says(*sender_, kSenderNoticed);
      says(*receiver_, kReceiverNoticed);
      std::this_thread::sleep_until(cut_at + lasts);
      expect_noticed(*sender_, kSenderNoticed, cut_at);
      expect_noticed(*receiver_, kReceiverNoticed, cut_at);
      EXPECT_GT(receiver_status()["lag_seconds"].get<double>(), 4.0) << "nobody knows better";
      set_link({});
      std::this_thread::sleep_for(kCaughtUpWithin);
      expect_less_than_a_second_behind();
    }
    expect_arrives(seconds(10));
  }

  static std::unique_ptr<Sites> sites_;
  static std::string why_none_;

  fs::path directory_;
  std::optional<Process> sender_;
  std::optional<Process> receiver_;
};

std::unique_ptr<Sites> TwoHosts::sites_;
std::string TwoHosts::why_none_;

TEST_F(TwoHosts, RowsArrive) {
  const auto before = sites_->to_standby.traffic();
  ASSERT_NO_FATAL_FAILURE(start());
  execute(master(), "INSERT INTO t (v) SELECT md5(i::text) FROM generate_series(1, 10000) AS i");
  expect_arrives(seconds(20));
  EXPECT_GT(sites_->to_standby.traffic().bytes, before.bytes + 100'000) << "by another way?";
  const auto sender = sender_status();
  ASSERT_EQ(sender["receivers"].size(), 1u) << sender;
  EXPECT_EQ(sender["receivers"][0]["connected"], true) << sender;
  const auto receiver = receiver_status();
  EXPECT_EQ(receiver["state"], "streaming") << receiver;
  EXPECT_EQ(receiver["last_error"], nullptr) << receiver;
  expect_never_lost();
}

TEST_F(TwoHosts, BlackHole) { expect_noticed_and_healed(kCut, kCut, seconds(15)); }

TEST_F(TwoHosts, NothingReachesTheStandby) { expect_noticed_and_healed(kCut, {}, seconds(0)); }

TEST_F(TwoHosts, NothingReachesTheMaster) { expect_noticed_and_healed({}, kCut, seconds(0)); }

TEST_F(TwoHosts, HundredMillisecondsOfDelay) {
  set_link({.delay = milliseconds(100)});
  ASSERT_NO_FATAL_FAILURE(start());
  const auto begun = Clock::now();
  execute(master(), "INSERT INTO t (v) VALUES ('first')");
  EXPECT_TRUE(eventually([] { return on_standby("count(*) = 1 FROM t"); }));
  EXPECT_GE(Clock::now() - begun, milliseconds(100)) << "the link did not delay";
  pqxx::connection connection(master());
  pqxx::nontransaction session(connection);
  for (int i = 0; i < 200; ++i) session.exec("INSERT INTO t (v) VALUES ('one')");
  expect_arrives(seconds(5));  // and not one after the other: that would take 40 s
  expect_never_lost();
}

TEST_F(TwoHosts, OnePercentOfLoss) {
  const auto before = sites_->to_standby.traffic();
  set_link({.loss = 0.01});
  ASSERT_NO_FATAL_FAILURE(start());
  execute(master(), "INSERT INTO t (v) SELECT md5(i::text) FROM generate_series(1, 50000) AS i");
  expect_arrives(seconds(30));
  EXPECT_GT(sites_->to_standby.traffic().lost, before.lost) << "the link did not lose anything";
  expect_never_lost();
}

TEST_F(TwoHosts, OneMegabitPerSecond) {
  set_link({.bits_per_second = 1e6});
  ASSERT_NO_FATAL_FAILURE(start());
  const auto before = sites_->to_standby.traffic();
  const auto begun = Clock::now();
  // Hardly compressible: seven seconds of the link.
  execute(master(),
          "INSERT INTO t (v) SELECT md5(i::text) || md5((-i)::text) FROM generate_series(1, 20000)"
          " AS i");
  expect_arrives(seconds(40));
  const auto took = Clock::now() - begun;
  EXPECT_GT(took, seconds(5)) << "the link was not the narrow place";
  const auto carried = sites_->to_standby.traffic().bytes - before.bytes;
  RecordProperty("bytes", std::to_string(carried));
  EXPECT_LT(peak_resident_bytes(sender_->pid()), kMemoryMax);
  EXPECT_LT(peak_resident_bytes(receiver_->pid()), kMemoryMax);
  expect_never_lost();
}

}  // namespace
}  // namespace bitacora::harness
