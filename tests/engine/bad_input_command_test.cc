// The command line and the configuration file through the program itself; the rows of what they
// refuse are in options_test and config_file_test.
#include <gtest/gtest.h>

#include <fstream>

#include "tests/engine/refusal.h"

namespace bitacora::harness {
namespace {

struct Case {
  std::vector<std::string> arguments;
  int exit_code;
  std::vector<std::string> words;
};

TEST(BadInputCommand, OneLineEach) {
  for (const Case& c : {
           Case{{}, 1, {"subcommand", "--help"}},
           Case{{"sendr"}, 1, {"unknown command sendr", "did you mean sender?"}},
           Case{
               {"sender", "--mastr", "x"}, 1, {"unknown option --mastr", "did you mean --master?"}},
           Case{{"sender", "--state-dir", "/nowhere"}, 1, {"--master is missing", "for example"}},
           Case{{"status", "--http", "nowhere"}, 1, {"nowhere is not HOST:PORT", "for example"}},
           Case{{"drop"}, 1, {"--master is missing", "for example"}},
           Case{{"drop", "--master", "prot=1"}, 2, {"--master", "prot", "for example"}},
           Case{{"sender", "--config", "/nowhere.toml"}, 2, {"/nowhere.toml", "check the path"}},
       }) {
    SCOPED_TRACE(c.arguments.empty() ? "no arguments" : c.arguments.back());
    expect_refused(Pair::bitacora(c.arguments), c.exit_code, c.words);
  }
}

TEST(BadInputCommand, ConfigurationFile) {
  const Pair pair;
  const auto file = pair.data_dir() / "bitacora.toml";
  std::ofstream(file) << "listn = \"127.0.0.1:7432\"\n";
  expect_sender_refused(
      pair,
      {"unknown key", {{"--config", file}}, 2, {file, "line 1", "listn", "did you mean listen?"}});
  std::ofstream(file) << "listen = \n";
  expect_sender_refused(pair,
                        {"no TOML", {{"--config", file}}, 2, {file, "line 1", "key = \"value\""}});
  std::ofstream(file) << "tables = [\"nowhere.*\"]\nstream = \"Not For A Slot\"\n";
  expect_sender_refused(pair, {"flags win", {{"--config", file}}, 2, {"--tables", "pg_tables"}});
}

}  // namespace
}  // namespace bitacora::harness
