// A pair over TLS: both sides show a certificate, and only the right ones are let in.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <stdexcept>

#include "tests/engine/refusal.h"
#include "tests/postgres/database.h"

namespace bitacora::harness {
namespace {

namespace fs = std::filesystem;

// Certificates of an authority made for the test, by the openssl command.
class Authority {
 public:
  explicit Authority(const fs::path& directory) : directory_(directory) {
    fs::create_directories(directory);
    openssl({"req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-days", "2", "-subj", "/CN=test authority", "-keyout", file("ca.key"), "-out",
             file("ca.pem")});
  }

  // Options of one side; `arguments` of `openssl x509` set how long it is valid.
  Changes issue(const std::string& name, const std::vector<std::string>& validity = {"-days", "2"},
                const std::string& address = "IP:127.0.0.1") const {
    openssl({"req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-subj", "/CN=" + name, "-addext", "subjectAltName=" + address, "-keyout",
             file(name + ".key"), "-out", file(name + ".csr")});
    std::vector<std::string> sign{"x509",
                                  "-req",
                                  "-in",
                                  file(name + ".csr"),
                                  "-CA",
                                  file("ca.pem"),
                                  "-CAkey",
                                  file("ca.key"),
                                  "-CAcreateserial",
                                  "-copy_extensions",
                                  "copy",
                                  "-out",
                                  file(name + ".pem")};
    sign.insert(sign.end(), validity.begin(), validity.end());
    openssl(sign);
    return {{"--tls-cert", file(name + ".pem")},
            {"--tls-key", file(name + ".key")},
            {"--tls-ca", file("ca.pem")}};
  }

  std::string file(const std::string& name) const { return directory_ / name; }

 private:
  static void openssl(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "openssl");
    const auto ended = run(arguments);
    if (ended.exit_code != 0) throw std::runtime_error(ended.error_output);
  }

  fs::path directory_;
};

class TlsPair : public testing::Test {
 protected:
  TlsPair()
      : ours_(pair_.state_dir().parent_path() / "ours"),
        theirs_(pair_.state_dir().parent_path() / "theirs") {
    pair_.on_both("CREATE TABLE t (id int PRIMARY KEY)");
  }

  void expect_replicates() {
    pair_.wait_for_slot();
    pair_.on_master("INSERT INTO t VALUES (1)");
    pair_.wait_applied();
    EXPECT_TRUE(pair_.same_content("public.t"));
  }

  // The receiver goes on asking, and nobody lets it in.
  void expect_kept_out(const Changes& sender_tls, const Changes& receiver_tls) {
    Process sender(sender_command(pair_, sender_tls));
    ASSERT_TRUE(eventually([&] {
      return sender.error_output().find("event=sender_ready") != std::string::npos;
    })) << sender.error_output();
    Process receiver(receiver_command(pair_, receiver_tls));
    EXPECT_TRUE(eventually([&] {
      return receiver.error_output().find("event=sender_lost") != std::string::npos;
    })) << receiver.error_output();
    EXPECT_NE(receiver.error_output().find("certificates"), std::string::npos)
        << receiver.error_output();
    EXPECT_EQ(sender.error_output().find("event=receiver_connected"), std::string::npos)
        << sender.error_output();
    EXPECT_LT(event_lines(receiver.error_output()), 10);
    EXPECT_EQ(left_on_standby(pair_).find("progress rows"), std::string::npos);
  }

  Pair pair_;
  Authority ours_;
  Authority theirs_;
};

TEST_F(TlsPair, Replicates) {
  Process sender(sender_command(pair_, ours_.issue("sender")));
  Process receiver(receiver_command(pair_, ours_.issue("receiver")));
  expect_replicates();
}

// Each call of the copy has to show its certificate too.
TEST_F(TlsPair, CopiesTablesAndSchema) {
  pair_.on_standby("DROP TABLE t");
  pair_.on_master("INSERT INTO t SELECT generate_series(2, 1000)");
  Process sender(sender_command(pair_, ours_.issue("sender")));
  pair_.wait_for_slot();
  auto copies = ours_.issue("receiver");
  copies.merge(Changes{{"--no-copy", ""}, {"--create-schema", "true"}});
  Process receiver(receiver_command(pair_, copies));
  expect_replicates();
  EXPECT_EQ(query_value(pair_.standby(),
                        "SELECT count(*) FROM pg_index WHERE indrelid = 't'::regclass AND "
                        "indisprimary"),
            "1");
}

// Whatever they call themselves.
TEST_F(TlsPair, EachReceiverMayHaveWhatItsCertificateMay) {
  pair_.on_both("CREATE TABLE secret (id int PRIMARY KEY)");
  const auto config = ours_.file("sender.toml");
  std::ofstream(config) << "[receivers.reporting]\ntables = [\"public.t\"]\n"
                           "[receivers.\"*.branch.example\"]\ntables = [\"public.secret\"]\n";
  auto tls = ours_.issue("sender");
  tls["--config"] = config;
  Process sender(sender_command(pair_, tls));
  pair_.wait_for_slot();
  const auto stranger = run(receiver_command(pair_, ours_.issue("stranger")));
  expect_refused(stranger, 2, {"certificate stranger", "[receivers.\"stranger\"]"});
  auto pretends = ours_.issue("branch", {"-days", "2"}, "DNS:north.branch.example");
  pretends.merge(Changes{{"--name", "reporting"}, {"--tables", "public.t"}});
  expect_refused(
      run(receiver_command(pair_, pretends)), 2,
      {"reporting (certificate branch, north.branch.example)", "may not have table public.t"});
  pretends["--tables"] = "public.*";
  pretends["--name"] = "";
  {
    Process branch(receiver_command(pair_, pretends));
    pair_.on_master("INSERT INTO t VALUES (2); INSERT INTO secret VALUES (2)");
    EXPECT_TRUE(eventually([&] { return pair_.same_content("public.secret"); }))
        << branch.error_output();
    EXPECT_EQ(query_value(pair_.standby(), "SELECT count(*) FROM t"), "0");
  }
}

// Else one that is let in could take another's place in the log, and the changes it has not seen.
TEST_F(TlsPair, ANameBelongsToItsCertificate) {
  const auto sender_tls = ours_.issue("sender");
  const auto berlin = ours_.issue("berlin");
  std::optional<Process> sender(sender_command(pair_, sender_tls));
  const auto expect_let_in = [&](const Changes& tls) {
    Process receiver(receiver_command(pair_, tls));
    pair_.wait_for_slot();
    pair_.on_master("INSERT INTO t SELECT coalesce(max(id), 0) + 1 FROM t");
    pair_.wait_applied();
  };
  const auto expect_not_his = [&](const Changes& tls, const std::string& whose) {
    expect_refused(run(receiver_command(pair_, tls)), 2,
                   {"belongs to the certificate " + whose, "--name", "--forget " + pair_.name()});
  };
  expect_let_in(berlin);
  expect_not_his(ours_.issue("paris"), "berlin");
  sender.emplace(sender_command(pair_, sender_tls));
  expect_not_his(ours_.issue("madrid"), "berlin");
  expect_let_in(berlin);
  // The host gets another name.
  expect_let_in(ours_.issue("rome", {"-days", "2"}, "DNS:berlin"));
  expect_let_in(ours_.issue("roma", {"-days", "2"}, "DNS:rome"));
  expect_not_his(berlin, "roma, rome");
  EXPECT_EQ(
      pair_.bitacora({"sender", "--forget", pair_.name(), "--http", pair_.sender_http()}).exit_code,
      0);
  expect_let_in(berlin);
}

TEST_F(TlsPair, TwoAuthorities) {
  auto sender_tls = ours_.issue("sender");
  auto receiver_tls = theirs_.issue("receiver");
  std::swap(sender_tls["--tls-ca"], receiver_tls["--tls-ca"]);
  Process sender(sender_command(pair_, sender_tls));
  Process receiver(receiver_command(pair_, receiver_tls));
  expect_replicates();
}

TEST_F(TlsPair, KeepsOut) {
  const std::vector<std::string> expired{"-days", "-1"};
  struct Case {
    std::string name;
    Changes sender;
    Changes receiver;
  };
  auto trusts_theirs = ours_.issue("astray");
  trusts_theirs["--tls-ca"] = theirs_.file("ca.pem");
  for (const Case& c : {
           Case{"receiver of another authority", ours_.issue("s1"), theirs_.issue("r1")},
           Case{"receiver that trusts another authority", ours_.issue("s2"), trusts_theirs},
           Case{"sender that trusts another authority", trusts_theirs, ours_.issue("r3")},
           Case{"expired receiver", ours_.issue("s4"), ours_.issue("r4", expired)},
           Case{"expired sender", ours_.issue("s5", expired), ours_.issue("r5")},
           Case{"sender of another name", ours_.issue("s6", {"-days", "2"}, "IP:192.0.2.1"),
                ours_.issue("r6")},
           Case{"receiver without TLS", ours_.issue("s7"), {}},
           Case{"sender without TLS", {}, ours_.issue("r8")},
       }) {
    SCOPED_TRACE(c.name);
    expect_kept_out(c.sender, c.receiver);
  }
}

// Our receiver always has a certificate; somebody else's client may not.
TEST_F(TlsPair, ClientWithoutCertificate) {
  Process sender(sender_command(pair_, ours_.issue("sender")));
  pair_.wait_for_slot();
  const auto knock = [&](std::vector<std::string> more) {
    std::vector<std::string> client{
        "openssl", "s_client", "-connect",           pair_.sender_address(), "-alpn",
        "h2",      "-CAfile",  ours_.file("ca.pem"), "-verify_return_error"};
    client.insert(client.end(), more.begin(), more.end());
    client.push_back("-tls1_2");  // where the handshake itself is refused
    return run(client);
  };
  const auto client = ours_.issue("client");
  EXPECT_EQ(knock({"-cert", client.at("--tls-cert"), "-key", client.at("--tls-key")}).exit_code, 0);
  EXPECT_NE(knock({}).exit_code, 0);
}

TEST_F(TlsPair, HalfOfTheFilesIsRefused) {
  auto tls = ours_.issue("half");
  for (const char* missing : {"--tls-cert", "--tls-key", "--tls-ca"}) {
    auto half = tls;
    half[missing] = "";
    expect_sender_refused(pair_, {missing, half, 2, {"TLS", missing}});
    expect_receiver_refused(pair_, {missing, half, 2, {"TLS", missing}});
  }
}

}  // namespace
}  // namespace bitacora::harness
