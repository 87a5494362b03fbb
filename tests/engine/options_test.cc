// What the command line means, and what it refuses.
#include "engine/options.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

namespace bitacora::engine {
namespace {

Result<Command> parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "bitacora");
  return parse_command_line(static_cast<int>(arguments.size()), arguments.data());
}

struct Refused {
  std::vector<const char*> arguments;
  ErrorCode code;
  std::string message;
  std::string hint;
};

void expect_refused(const Refused& c) {
  const auto parsed = parse(c.arguments);
  ASSERT_FALSE(parsed.ok());
  EXPECT_EQ(parsed.error().code, c.code);
  EXPECT_NE(parsed.error().message.find(c.message), std::string::npos) << parsed.error().message;
  EXPECT_NE(parsed.error().hint.find(c.hint), std::string::npos) << parsed.error().hint;
}

TEST(Options, ConflictRules) {
  for (const Refused& c : {
           Refused{{"receiver", "--standby", "x", "--data-dir", "/x", "--conflict", "*.t=overwrit"},
                   ErrorCode::kUsage,
                   "none of error, keep, overwrite, skip",
                   "did you mean overwrite?"},
           Refused{{"receiver", "--standby", "x", "--data-dir", "/x", "--conflict", "t=ignore-it"},
                   ErrorCode::kUsage,
                   "none of error, keep, overwrite, skip",
                   "for example"},
           Refused{{"receiver", "--standby", "x", "--data-dir", "/x", "--conflict", "keep"},
                   ErrorCode::kUsage,
                   "not PATTERN=POLICY",
                   "for example"},
           Refused{{"receiver", "--standby", "x", "--data-dir", "/x", "--conflict", "a.b.c=keep"},
                   ErrorCode::kUsage,
                   "not schema.table",
                   "wildcards"},
       }) {
    SCOPED_TRACE(c.arguments.back());
    expect_refused(c);
  }
  const auto parsed = parse({"receiver", "--standby", "x", "--data-dir", "/x", "--conflict",
                             "*.*=keep", "--conflict", "s.*,!s.audit=overwrite"});
  ASSERT_TRUE(parsed.ok()) << one_line(parsed.error());
  const auto& conflicts = std::get<ReceiverOptions>(*parsed).conflicts;
  EXPECT_EQ(conflicts.of("s", "t"), apply::ConflictPolicy::kOverwrite);
  EXPECT_EQ(conflicts.of("s", "audit"), apply::ConflictPolicy::kKeep);
}

TEST(Options, Unknown) {
  for (const Refused& c : {
           Refused{{"sendr"}, ErrorCode::kUsage, "unknown command sendr", "did you mean sender?"},
           Refused{{"reciever"},
                   ErrorCode::kUsage,
                   "unknown command reciever",
                   "did you mean receiver?"},
           Refused{{"xylophone"}, ErrorCode::kUsage, "unknown command xylophone", "--help"},
           Refused{{"sender", "--mastr", "x"},
                   ErrorCode::kUsage,
                   "unknown option --mastr",
                   "did you mean --master?"},
           Refused{{"sender", "--mastr=x"},
                   ErrorCode::kUsage,
                   "unknown option --mastr",
                   "did you mean --master?"},
           Refused{{"receiver", "--stanby", "x"},
                   ErrorCode::kUsage,
                   "unknown option --stanby",
                   "did you mean --standby?"},
           Refused{
               {"drop", "--listen", "x"}, ErrorCode::kUsage, "unknown option --listen", "--help"},
           Refused{{"sender", "--zzzzzzzzz"},
                   ErrorCode::kUsage,
                   "unknown option --zzzzzzzzz",
                   "--help"},
           Refused{{"sender", "--master"}, ErrorCode::kUsage, "--master", "--help"},
           Refused{{}, ErrorCode::kUsage, "subcommand", "--help"},
       }) {
    SCOPED_TRACE(c.message);
    expect_refused(c);
  }
}

TEST(Options, Missing) {
  for (const Refused& c : {
           Refused{
               {"sender", "--state-dir", "d"}, ErrorCode::kUsage, "--master is missing", "host="},
           Refused{{"sender", "--master", "m"},
                   ErrorCode::kUsage,
                   "--state-dir is missing",
                   "/var/lib"},
           Refused{
               {"receiver", "--data-dir", "d"}, ErrorCode::kUsage, "--standby is missing", "host="},
           Refused{{"receiver", "--standby", "s"},
                   ErrorCode::kUsage,
                   "--data-dir is missing",
                   "/var/lib"},
           Refused{{"receiver", "--standby", "s", "--data-dir", "d", "--name", ""},
                   ErrorCode::kUsage,
                   "--name is missing",
                   "reporting"},
           Refused{{"status"}, ErrorCode::kUsage, "--http is missing", "7433"},
           Refused{{"drop"}, ErrorCode::kUsage, "--master is missing", "host="},
       }) {
    SCOPED_TRACE(c.message);
    expect_refused(c);
  }
}

TEST(Options, Malformed) {
  const auto sender = [](const char* option, const char* value, std::string message,
                         std::string hint) {
    return Refused{{"sender", "--master", "m", "--state-dir", "d", option, value},
                   ErrorCode::kUsage,
                   std::move(message),
                   std::move(hint)};
  };
  const std::string too_long(55, 'a');
  for (const Refused& c : {
           sender("--stream", "Upper", "\"Upper\"", "lower-case"),
           sender("--stream", "a-b", "\"a-b\"", "lower-case"),
           sender("--stream", "", "\"\"", "up to 54"),
           sender("--stream", too_long.c_str(), too_long, "up to 54"),
           sender("--listen", "7432", "--listen 7432 is not HOST:PORT", "127.0.0.1:7432"),
           sender("--listen", ":7432", "not HOST:PORT", "for example"),
           sender("--listen", "host:", "not HOST:PORT", "for example"),
           sender("--listen", "host:http", "not HOST:PORT", "for example"),
           sender("--listen", "host:65536", "not HOST:PORT", "for example"),
           sender("--listen", "host:999999999999", "not HOST:PORT", "for example"),
           sender("--listen", "host:0", "not HOST:PORT", "for example"),
           sender("--http", "host:-1", "--http host:-1 is not HOST:PORT", "for example: --http"),
           sender("--tables", "a.b.c", "\"a.b.c\"", "schema.table"),
           sender("--tables", "public.t,.x", "\".x\"", "schema.table"),
       }) {
    SCOPED_TRACE(c.message + " " + c.arguments.back());
    expect_refused(c);
  }
  EXPECT_TRUE(
      parse({"sender", "--master", "m", "--state-dir", "d", "--stream", too_long.c_str() + 1})
          .ok());
  EXPECT_TRUE(
      parse({"sender", "--master", "m", "--state-dir", "d", "--listen", "[::1]:65535"}).ok());
}

TEST(Options, ReceiversThatAreAway) {
  const auto sender = [](std::vector<const char*> more) {
    more.insert(more.begin(), {"sender", "--master", "m", "--state-dir", "d"});
    return parse(more);
  };
  EXPECT_EQ(std::get<SenderOptions>(*sender({})).keep_bytes_max, 0u);
  EXPECT_EQ(std::get<SenderOptions>(*sender({"--max-receiver-keep-size", "2GB"})).keep_bytes_max,
            2ull << 30);
  EXPECT_FALSE(std::get<SenderOptions>(*sender({})).forget.has_value());
  const auto forget = parse({"sender", "--forget", "reporting"});
  ASSERT_TRUE(forget.ok()) << one_line(forget.error()) << ": it needs no master";
  EXPECT_EQ(std::get<SenderOptions>(*forget).forget, "reporting");
  for (const Refused& c : {
           Refused{{"sender", "--forget", ""}, ErrorCode::kUsage, "--forget is missing", "example"},
           Refused{{"sender", "--forget"}, ErrorCode::kUsage, "--forget", "--help"},
           Refused{{"sender", "--forget", "a", "--http", "7433"},
                   ErrorCode::kUsage,
                   "--http 7433 is not HOST:PORT",
                   "example"},
           Refused{{"sender", "--master", "m", "--state-dir", "d", "--max-receiver-keep-size", "x"},
                   ErrorCode::kUsage,
                   "--max-receiver-keep-size",
                   "--help"},
       }) {
    SCOPED_TRACE(c.message);
    expect_refused(c);
  }
}

TEST(Options, SenderDefaults) {
  const auto parsed = parse({"sender", "--master", "dbname=shop", "--state-dir", "/state"});
  ASSERT_TRUE(parsed.ok());
  const auto& sender = std::get<SenderOptions>(*parsed);
  EXPECT_EQ(sender.master, "dbname=shop");
  EXPECT_EQ(sender.listen, "127.0.0.1:7432");
  EXPECT_EQ(sender.common.http, "127.0.0.1:7433");
  EXPECT_EQ(sender.slot(), "bitacora_bitacora");
  EXPECT_EQ(sender.publication(), "bitacora_bitacora");
  EXPECT_TRUE(sender.tables.empty());
  EXPECT_FALSE(sender.tls.given());
}

TEST(Options, Receiver) {
  const auto parsed =
      parse({"receiver", "--standby", "s", "--data-dir", "d", "--name", "copy", "--stream", "shop",
             "--tables", "public.*,!public.log", "--no-copy", "--log-json", "--workers", "4"});
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  const auto& receiver = std::get<ReceiverOptions>(*parsed);
  EXPECT_EQ(receiver.sender, "127.0.0.1:7432");
  EXPECT_EQ(receiver.common.http, "127.0.0.1:7434");
  EXPECT_EQ(receiver.name, "copy");
  EXPECT_EQ(receiver.stream, "shop");
  EXPECT_EQ(receiver.tables, (std::vector<std::string>{"public.*", "!public.log"}));
  EXPECT_TRUE(receiver.copy.none);
  EXPECT_TRUE(receiver.common.log_json);
  EXPECT_EQ(receiver.workers, 4u);
  for (const char* workers : {"0", "65", "many", "-1"}) {
    const auto refused =
        parse({"receiver", "--standby", "s", "--data-dir", "d", "--workers", workers});
    EXPECT_FALSE(refused.ok()) << workers;
  }
}

TEST(Options, OthersAndHelp) {
  const auto status = parse({"status", "--http", "127.0.0.1:7433", "--json"});
  ASSERT_TRUE(status.ok());
  EXPECT_TRUE(std::get<StatusOptions>(*status).json);
  const auto drop = parse({"drop", "--master", "m", "--stream", "shop"});
  ASSERT_TRUE(drop.ok());
  EXPECT_EQ(std::get<DropOptions>(*drop).stream, "shop");
  EXPECT_NE(std::get<ShowText>(*parse({"--help"})).text.find("receiver"), std::string::npos);
  EXPECT_NE(std::get<ShowText>(*parse({"sender", "--help"})).text.find("--state-dir"),
            std::string::npos);
  EXPECT_NE(std::get<ShowText>(*parse({"--version"})).text.find("bitacora "), std::string::npos);
}

// Also in spite of a value in the file that would not do.
TEST(Options, FlagsWinOverTheFile) {
  const std::string path = testing::TempDir() + "bitacora_options_test.toml";
  std::ofstream(path)
      << "master = \"of the file\"\nstate_dir = \"/file\"\nstream = \"Not For A Slot\"\n";
  const auto parsed =
      parse({"sender", "--config", path.c_str(), "--stream", "shop", "--state-dir", "/flag"});
  std::remove(path.c_str());
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  const auto& sender = std::get<SenderOptions>(*parsed);
  EXPECT_EQ(sender.master, "of the file");
  EXPECT_EQ(sender.state_dir, "/flag");
  EXPECT_EQ(sender.stream, "shop");
}

class SenderFile : public testing::Test {
 protected:
  ~SenderFile() override { std::remove(path_.c_str()); }
  Result<Command> parse_file(const std::string& text) const {
    std::ofstream(path_) << text;
    return parse({"sender", "--master", "m", "--state-dir", "/state", "--config", path_.c_str()});
  }
  const std::string path_ = testing::TempDir() + "bitacora_sender_file_test.toml";
};

TEST_F(SenderFile, SaysWhatToShip) {
  const auto parsed = parse_file(
      "tables = [\"shop.*\"]\nschemas = [\"telemetry\"]\noperations = [\"insert\", "
      "\"update\"]\nstrict = true\n[table.\"shop.orders\"]\ncolumns = [\"id\", "
      "\"total\"]\nwhere = \"total > 100\"\n[table.items]\ncolumns = \"id\"\n");
  ASSERT_TRUE(parsed.ok()) << one_line(parsed.error());
  const auto& sender = std::get<SenderOptions>(*parsed);
  EXPECT_EQ(sender.tables, std::vector<std::string>{"shop.*"});
  EXPECT_EQ(sender.schemas, std::vector<std::string>{"telemetry"});
  EXPECT_EQ(sender.operations, (std::vector<std::string>{"insert", "update"}));
  EXPECT_TRUE(sender.common.strict);
  const std::vector<wal::PublicationRule> rules{{"items", {"id"}, ""},
                                                {"shop.orders", {"id", "total"}, "total > 100"}};
  EXPECT_EQ(sender.publication_rules, rules);
  EXPECT_EQ(sender.config, path_);
}

TEST_F(SenderFile, SectionsThatSayNothingGood) {
  struct Case {
    std::string text;
    std::string message;
    std::string hint;
  };
  for (const Case& c : {
           Case{"[table.\"a.b\"]\n", "table.a.b: says nothing", "columns, where or both"},
           Case{"[table.\"a.b\"]\ncolums = [\"id\"]\n", "colums: unknown key",
                "did you mean columns?"},
           Case{"[table.\"a.b\"]\ncolumns = []\n", "columns: names none", "leave it out"},
           Case{"[table.\"a.b\"]\nwhere = \" \"\n", "where: is empty", "leave it out"},
           Case{"[table.\"a.b\"]\nwhere = 5\n", "where: wants a string", "for example"},
           Case{"[table.\"a.b.c\"]\nwhere = \"x\"\n", "is not schema.table", "for example"},
           Case{"[table.\"!a.b\"]\nwhere = \"x\"\n", "is not schema.table", "for example"},
           Case{"[table]\nwhere = \"x\"\n", "wants a table", "[table.\"where\"]"},
           Case{"table = \"a.b\"\n", "table wants a table", "[table]"},
           Case{"operations = [\"upsert\"]\n", "upsert", ""},
       }) {
    SCOPED_TRACE(c.text);
    const auto parsed = parse_file(c.text);
    ASSERT_FALSE(parsed.ok());
    EXPECT_EQ(parsed.error().code, ErrorCode::kConfiguration);
    EXPECT_NE(parsed.error().message.find(c.message), std::string::npos) << parsed.error().message;
    EXPECT_NE(parsed.error().hint.find(c.hint), std::string::npos) << parsed.error().hint;
  }
}

TEST(Options, APlanNeedsNoStateDirectory) {
  EXPECT_FALSE(parse({"sender", "--master", "m"}).ok());
  const auto parsed = parse(
      {"sender", "--master", "m", "--plan", "--schemas", "a,b", "--operations", "insert,truncate"});
  ASSERT_TRUE(parsed.ok()) << one_line(parsed.error());
  EXPECT_TRUE(std::get<SenderOptions>(*parsed).plan);
  EXPECT_EQ(std::get<SenderOptions>(*parsed).schemas, (std::vector<std::string>{"a", "b"}));
  EXPECT_FALSE(parse({"sender", "--master", "m", "--plan", "--schemas", "a*"}).ok());
  EXPECT_FALSE(parse({"sender", "--master", "m", "--plan", "--operations", "insert,upsert"}).ok());
}

}  // namespace
}  // namespace bitacora::engine
