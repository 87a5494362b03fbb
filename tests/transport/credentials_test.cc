#include "transport/credentials.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <future>

#include <fmt/format.h>

#include "engine/throwaway_cluster.h"
#include "tests/postgres/process.h"
#include "tests/transport/sender_under_test.h"

namespace bitacora::transport {
namespace {

namespace fs = std::filesystem;

void openssl(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "openssl");
  const auto finished = harness::run(arguments);
  ASSERT_EQ(finished.exit_code, 0) << finished.error_output;
}

// Two authorities and what they signed, made once by the openssl command.
class CredentialsTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto pattern = (fs::temp_directory_path() / "bitacora-tls-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    make_authority("ca");
    make_authority("strangers_ca");
    sign("server", "ca", "IP:127.0.0.1,DNS:localhost");
    sign("other_host", "ca", "DNS:elsewhere.example");
    sign("client", "ca", "DNS:client.example,URI:spiffe://example/client,IP:192.0.2.1");
    sign("expired", "ca", "IP:127.0.0.1,DNS:localhost", true);
    sign("stranger", "strangers_ca", "IP:127.0.0.1,DNS:localhost");
  }
  static void TearDownTestSuite() { fs::remove_all(directory_); }

  static std::string path(const std::string& file) { return directory_ / file; }

  static TlsFiles files(const std::string& name, const std::string& authority = "ca") {
    return {path(name + ".crt"), path(name + ".key"), path(authority + ".crt")};
  }

 private:
  static void make_authority(const std::string& name) {
    openssl({"req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-days", "2", "-subj", "/CN=" + name, "-keyout", path(name + ".key"), "-out",
             path(name + ".crt")});
    openssl({"rand", "-hex", "-out", path(name + ".srl"), "8"});
  }

  static void sign(const std::string& name, const std::string& authority, const std::string& names,
                   bool expired = false) {
    openssl({"req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
             "/CN=" + name, "-keyout", path(name + ".key"), "-out", path(name + ".csr")});
    std::ofstream(path(name + ".ext")) << "subjectAltName=" << names << '\n';
    // A negative number of days ends before it begins: it was never valid.
    openssl({"x509", "-req", "-in", path(name + ".csr"), "-CA", path(authority + ".crt"), "-CAkey",
             path(authority + ".key"), "-days", expired ? "-1" : "2", "-extfile",
             path(name + ".ext"), "-out", path(name + ".crt")});
  }

  static inline fs::path directory_;
};

struct Outcome {
  std::optional<Error> refusal;
  bool registered = false;
};

Outcome dialled(SenderUnderTest* sender, const TlsFiles& receiver) {
  const auto connection = sender->dial("a", "one", receiver);
  return {connection.ok() ? std::nullopt : std::optional(connection.error()),
          sender->hub().is_registered("a")};
}

TEST_F(CredentialsTest, OnlyTheRightCertificatesConnect) {
  struct Case {
    std::string name;
    TlsFiles sender;
    TlsFiles receiver;
    bool connects;
  };
  const std::vector<Case> cases{
      {"both right", files("server"), files("client"), true},
      {"expired sender", files("expired"), files("client"), false},
      {"expired receiver", files("server"), files("expired"), false},
      {"sender of an authority the receiver does not know", files("stranger"), files("client"),
       false},
      {"receiver of an authority the sender does not know", files("server"), files("stranger"),
       false},
      {"receiver trusts another authority", files("server"), files("client", "strangers_ca"),
       false},
      {"sender trusts another authority", files("server", "strangers_ca"), files("client"), false},
      {"sender is another host", files("other_host"), files("client"), false},
      {"receiver has none", files("server"), {}, false},
      {"sender has none", {}, files("client"), false},
  };
  // A refused handshake is tried again until the dialling time is over: all cases at once.
  std::vector<std::future<Outcome>> outcomes;
  std::vector<std::unique_ptr<SenderUnderTest>> senders;
  for (const Case& c : cases) {
    SenderOptions options;
    options.tls = c.sender;
    const auto& sender = senders.emplace_back(std::make_unique<SenderUnderTest>(options));
    outcomes.push_back(std::async(std::launch::async, dialled, sender.get(), c.receiver));
  }
  for (std::size_t i = 0; i < cases.size(); ++i) {
    SCOPED_TRACE(cases[i].name);
    const auto outcome = outcomes[i].get();
    EXPECT_EQ(outcome.registered, cases[i].connects) << "nobody unknown holds the slot";
    EXPECT_EQ(outcome.refusal.has_value(), !cases[i].connects);
    if (!outcome.refusal) continue;
    EXPECT_EQ(outcome.refusal->code, ErrorCode::kNetwork);
    EXPECT_TRUE(outcome.refusal->heals()) << "certificates are renewed while we run";
  }
}

// Whatever the receiver calls itself.
TEST_F(CredentialsTest, WhoCallsIsKnownByItsCertificate) {
  SenderOptions options;
  options.tls = files("server");
  SenderUnderTest with_tls(options);
  ASSERT_TRUE(with_tls.dial("a", "one", files("client")).ok());
  EXPECT_TRUE(with_tls.last_peer().has_certificate);
  EXPECT_EQ(with_tls.last_peer().names,
            (std::vector<std::string>{"client", "client.example", "spiffe://example/client"}));
  SenderUnderTest without;
  ASSERT_TRUE(without.dial("a").ok());
  EXPECT_FALSE(without.last_peer().has_certificate);
  EXPECT_TRUE(without.last_peer().names.empty());
}

TEST_F(CredentialsTest, IncompleteOrUnreadableFilesAreNamed) {
  std::ofstream(path("not.pem")) << "nothing\n";
  struct Case {
    std::string name;
    TlsFiles files;
    std::string said;
  };
  const auto right = files("server");
  const std::vector<Case> cases{
      {"no key", {right.certificate, "", right.authority}, "--tls-key"},
      {"no authority", {right.certificate, right.key, ""}, "--tls-ca"},
      {"no certificate", {"", right.key, right.authority}, "--tls-cert"},
      {"missing file", {right.certificate, path("gone.key"), right.authority}, path("gone.key")},
      {"not PEM", {right.certificate, right.key, path("not.pem")}, path("not.pem")},
      {"a directory", {path(""), right.key, right.authority}, "--tls-cert"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const auto server = server_credentials(c.files, "127.0.0.1:1");
    const auto client = client_credentials(c.files, "127.0.0.1:1");
    for (const auto* error :
         {server.ok() ? nullptr : &server.error(), client.ok() ? nullptr : &client.error()}) {
      ASSERT_NE(error, nullptr);
      EXPECT_EQ(error->code, ErrorCode::kConfiguration);
      EXPECT_FALSE(error->heals());
      EXPECT_NE(one_line(*error).find(c.said), std::string::npos) << one_line(*error);
    }
  }
}

TEST_F(CredentialsTest, PlaintextOnlyOnLoopback) {
  struct Case {
    std::string address;
    bool loopback;
  };
  const std::vector<Case> cases{
      {"127.0.0.1:7432", true},
      {"127.8.9.1:7432", true},
      {"127.0.0.1", true},
      {"localhost:7432", true},
      {"localhost", true},
      {"[::1]:7432", true},
      {"::1", true},
      {"0.0.0.0:7432", false},
      {"[::]:7432", false},
      {"10.0.0.1:7432", false},
      {"db.example:7432", false},
      {"", false},
      {"127.evil.example:7432", false},
      {"127.0.0.1.evil.example:7432", false},
      {"localhost.evil.example:7432", false},
      {"[::1].evil.example:7432", false},
      {"[2001:db8::1]:7432", false},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.address);
    EXPECT_EQ(is_loopback(c.address), c.loopback);
    const auto server = server_credentials({}, c.address);
    const auto client = client_credentials({}, c.address);
    EXPECT_EQ(server.ok(), c.loopback);
    EXPECT_EQ(client.ok(), c.loopback);
    EXPECT_TRUE(server_credentials(files("server"), c.address).ok());
    EXPECT_TRUE(client_credentials(files("client"), c.address).ok());
    if (server.ok() || client.ok()) continue;
    EXPECT_EQ(server.error().code, ErrorCode::kConfiguration);
    EXPECT_NE(server.error().hint.find("--tls-cert"), std::string::npos);
    EXPECT_EQ(client.error().code, ErrorCode::kConfiguration);
  }
}

}  // namespace
}  // namespace bitacora::transport
