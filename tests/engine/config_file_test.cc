// The configuration file: names, kinds of values, who wins, and the nearest name.
#include "engine/config_file.h"

#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>

namespace bitacora::engine {
namespace {

class ConfigFile : public testing::Test {
 protected:
  ConfigFile() {
    command_.name("sender");
    command_.add_option("--master", master_);
    command_.add_option("--state-dir", state_dir_);
    command_.add_option("--tables", tables_)->delimiter(',');
    command_.add_flag("--log-json", log_json_);
    command_.add_option("--config", config_);
  }
  ~ConfigFile() override { std::remove(path_.c_str()); }

  Result<void> apply(const std::string& text, const std::string& flags = "") {
    std::ofstream(path_) << text;
    command_.parse(flags);
    return apply_config_file(command_, path_);
  }

  const std::string path_ = testing::TempDir() + "bitacora_config_file_test.toml";
  CLI::App command_;
  std::string master_;
  std::string state_dir_;
  std::vector<std::string> tables_;
  bool log_json_ = false;
  std::string config_;
};

TEST_F(ConfigFile, SetsWhatItNames) {
  const auto applied = apply(
      "master = \"host=db1 dbname='a b'\"\nstate_dir = \"/state\"  # with _ or -\n"
      "tables = [\"public.*\", \"!public.log\"]\nlog-json = true\n");
  ASSERT_TRUE(applied.ok()) << applied.error().message;
  EXPECT_EQ(master_, "host=db1 dbname='a b'");
  EXPECT_EQ(state_dir_, "/state");
  EXPECT_EQ(tables_, (std::vector<std::string>{"public.*", "!public.log"}));
  EXPECT_TRUE(log_json_);
}

TEST_F(ConfigFile, EmptyFile) { EXPECT_TRUE(apply("# nothing\n").ok()); }

TEST_F(ConfigFile, ListAsOneString) {
  ASSERT_TRUE(apply("tables = \"public.*,!public.log\"\n").ok());
  EXPECT_EQ(tables_, (std::vector<std::string>{"public.*", "!public.log"}));
}

TEST_F(ConfigFile, FalseLeavesAFlagOut) {
  ASSERT_TRUE(apply("log-json = false\n").ok());
  EXPECT_FALSE(log_json_);
}

TEST_F(ConfigFile, TheCommandLineWins) {
  ASSERT_TRUE(apply("master = \"file\"\ntables = [\"file.*\"]\nlog-json = false\n",
                    "--master line --tables line.* --log-json")
                  .ok());
  EXPECT_EQ(master_, "line");
  EXPECT_EQ(tables_, std::vector<std::string>{"line.*"});
  EXPECT_TRUE(log_json_);
}

TEST_F(ConfigFile, Refuses) {
  struct Case {
    const char* text;
    const char* message;
    const char* hint;
  };
  for (const Case& c : {
           Case{"\nmastr = \"x\"\n", "line 2: unknown key mastr", "did you mean master?"},
           Case{"stat_dir = \"x\"\n", "line 1: unknown key stat_dir", "did you mean state-dir?"},
           Case{"xylophone = 1\n", "line 1: unknown key xylophone", "bitacora sender --help"},
           Case{"config = \"other.toml\"\n", "unknown key config", ""},
           Case{"[sender]\nmaster = \"x\"\n", "line 1: unknown key sender", "--help"},
           Case{"master = \n", "line 1: ", "key = \"value\""},
           Case{"master = \"x\"\nmaster = \"y\"\n", "line 2: ", "key = \"value\""},
           Case{"tables = [1, 2]\n", "line 1: tables wants", "for example"},
           Case{"master = 1979-05-27\n", "line 1: master wants", "for example"},
           Case{"log-json = \"maybe\"\n", "line 1: log-json", "for example"},
       }) {
    SCOPED_TRACE(c.text);
    command_.clear();
    const auto applied = apply(c.text);
    ASSERT_FALSE(applied.ok());
    EXPECT_EQ(applied.error().code, ErrorCode::kConfiguration);
    EXPECT_NE(applied.error().message.find(path_), std::string::npos);
    EXPECT_NE(applied.error().message.find(c.message), std::string::npos)
        << applied.error().message;
    EXPECT_NE(applied.error().hint.find(c.hint), std::string::npos) << applied.error().hint;
  }
}

TEST_F(ConfigFile, Missing) {
  const auto applied = apply_config_file(command_, "/nowhere/bitacora.toml");
  ASSERT_FALSE(applied.ok());
  EXPECT_EQ(applied.error().code, ErrorCode::kConfiguration);
  EXPECT_NE(applied.error().message.find("/nowhere/bitacora.toml"), std::string::npos);
  EXPECT_NE(applied.error().hint.find("check the path"), std::string::npos) << applied.error().hint;
}

TEST(Nearest, ByEditDistance) {
  const std::vector<std::string> known{"master", "listen", "state-dir", "stream"};
  for (const auto& [word, meant] :
       std::vector<std::pair<std::string, std::string>>{{"mastr", "master"},
                                                        {"lisetn", "listen"},
                                                        {"state-dirs", "state-dir"},
                                                        {"streams", "stream"},
                                                        {"master", "master"},
                                                        {"xylophone", ""},
                                                        {"", ""}}) {
    SCOPED_TRACE(word);
    EXPECT_EQ(nearest(word, known), meant);
  }
  EXPECT_EQ(nearest("master", {}), "");
}

}  // namespace
}  // namespace bitacora::engine
