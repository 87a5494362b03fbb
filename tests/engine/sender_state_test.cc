// The sender's memory on disk: what was saved comes back, anything else is refused.
#include "engine/sender_state.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

namespace bitacora::engine {
namespace {

namespace fs = std::filesystem;

class SenderStateTest : public testing::Test {
 protected:
  SenderStateTest() {
    auto path = (fs::temp_directory_path() / "bitacora-state-XXXXXX").string();
    directory_ = mkdtemp(path.data());
  }
  ~SenderStateTest() override { fs::remove_all(directory_); }

  static SenderState example() {
    SenderState state;
    state.identity.set_system_identifier(18'446'744'073'709'551'615u);
    state.identity.set_database("a \"quoted\" = database\\");
    state.identity.set_slot("bitacora_shop");
    state.identity.set_stream("shop");
    state.slot_from = MasterLsn{0x16B374D848};
    state.receivers = {{"db2.example.com", MasterLsn{0x16B374D900}},
                       {"with space = [x]", MasterLsn{0}}};
    state.dropped = {{"db3.example.com", {MasterLsn{0x15}, MasterLsn{0x16}, 20u << 20, "then"}}};
    state.certificates = {{"db2.example.com", {"db2", "with \"quotes\""}}};
    return state;
  }

  void write(const std::string& text) const { std::ofstream(directory_ / "sender.toml") << text; }
  std::string written() const {
    std::ifstream file(directory_ / "sender.toml");
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }

  void expect_refused(const std::string& message) const {
    const auto opened = SenderStateFile::open(directory_);
    ASSERT_FALSE(opened.ok());
    EXPECT_EQ(opened.error().code, ErrorCode::kConfiguration);
    EXPECT_NE(opened.error().message.find(directory_.string()), std::string::npos)
        << opened.error().message;
    EXPECT_NE(opened.error().message.find(message), std::string::npos) << opened.error().message;
    EXPECT_FALSE(opened.error().hint.empty());
  }

  fs::path directory_;
};

TEST_F(SenderStateTest, RoundTrip) {
  const auto saved = example();
  {
    auto file = SenderStateFile::open(directory_ / "made" / "anew");
    ASSERT_TRUE(file.ok()) << file.error().message;
    EXPECT_FALSE(file->state().has_value());
    ASSERT_TRUE(file->save(saved).ok());
  }
  const auto file = SenderStateFile::open(directory_ / "made" / "anew");
  ASSERT_TRUE(file.ok()) << file.error().message;
  ASSERT_TRUE(file->state().has_value());
  EXPECT_EQ(file->state()->identity.SerializeAsString(), saved.identity.SerializeAsString());
  EXPECT_EQ(file->state()->slot_from, saved.slot_from);
  EXPECT_EQ(file->state()->receivers, saved.receivers);
  EXPECT_EQ(file->state()->dropped, saved.dropped);
  EXPECT_EQ(file->state()->certificates, saved.certificates);
}

TEST_F(SenderStateTest, NamesThatTomlCannotHoldAreRefused) {
  auto file = SenderStateFile::open(directory_);
  ASSERT_TRUE(file->save(example()).ok());
  const auto good = written();
  for (const char* name : {"a\nb", "a'\n'''"}) {
    SCOPED_TRACE(name);
    auto state = example();
    state.receivers[name] = MasterLsn{1};
    EXPECT_FALSE(file->save(state).ok());
    EXPECT_EQ(written(), good);
  }
}

TEST_F(SenderStateTest, OneAtATime) {
  auto first = SenderStateFile::open(directory_);
  ASSERT_TRUE(first.ok());
  expect_refused("another sender has it open");
  const SenderStateFile moved = std::move(first).value();
  expect_refused("another sender has it open");
}

// For who only changes what a sender left.
TEST_F(SenderStateTest, OpenUnlessInUse) {
  const auto refused = [](const fs::path& directory) {
    const auto opened = SenderStateFile::open_unless_in_use(directory);
    return opened.ok() ? std::string("opened") : opened.error().message;
  };
  EXPECT_NE(refused(directory_).find("no sender has been started"), std::string::npos);
  EXPECT_NE(refused(directory_ / "nowhere").find("No such file"), std::string::npos);
  EXPECT_FALSE(fs::exists(directory_ / "nowhere"));
  {
    auto sender = SenderStateFile::open(directory_);
    ASSERT_TRUE(sender.value().save(example()).ok());
    const auto opened = SenderStateFile::open_unless_in_use(directory_);
    ASSERT_TRUE(opened.ok());
    EXPECT_FALSE(opened->has_value());
  }
  const auto opened = SenderStateFile::open_unless_in_use(directory_);
  ASSERT_TRUE(opened.ok());
  ASSERT_TRUE(opened->has_value());
  EXPECT_EQ((*opened)->state()->receivers, example().receivers);
  expect_refused("another sender has it open");
}

TEST_F(SenderStateTest, FreeAgainAfterwards) {
  { ASSERT_TRUE(SenderStateFile::open(directory_).ok()); }
  EXPECT_TRUE(SenderStateFile::open(directory_).ok());
}

// What a kill between writing and renaming leaves.
TEST_F(SenderStateTest, HalfWrittenFileBesideIsIgnored) {
  { ASSERT_TRUE(SenderStateFile::open(directory_).value().save(example()).ok()); }
  std::ofstream(directory_ / "sender.toml.new") << "format = 1\nsyst";
  const auto file = SenderStateFile::open(directory_);
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(file->state()->slot_from, example().slot_from);
}

TEST_F(SenderStateTest, FirstSaveCutShort) {
  std::ofstream(directory_ / "sender.toml.new") << "format = 1\nsyst";
  const auto file = SenderStateFile::open(directory_);
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_FALSE(file->state().has_value());
}

TEST_F(SenderStateTest, ForeignDirectory) {
  std::ofstream(directory_ / "notes.txt") << "mine";
  expect_refused("not a sender's");
}

TEST_F(SenderStateTest, DamagedFile) {
  { ASSERT_TRUE(SenderStateFile::open(directory_).value().save(example()).ok()); }
  const auto good = written();
  const auto changed = [&](const std::string& from, const std::string& to) {
    const auto at = good.find(from);
    CHECK(at != std::string::npos);
    return std::string(good).replace(at, from.size(), to);
  };
  for (const auto& [text, message] : std::vector<std::pair<std::string, std::string>>{
           {"", "not readable"},
           {"this is no TOML", "line 1"},
           {good.substr(0, good.size() / 2), "sender.toml"},
           {good.substr(0, good.find("[receivers]")), "not readable"},
           {changed("'db2'", "2"), "not readable"},
           {changed("format = 1", "format = 2"), "not readable"},
           {changed("16/B374D848", "here"), "not readable"},
           {changed("16/B374D900", "here"), "not readable"},
           {changed("'0/15'", "'there'"), "not readable"},
           {changed("'0/16'", "16"), "not readable"},
           {changed("20971520", "-1"), "not readable"},
           {changed("18446744073709551615", "18446744073709551616"), "not readable"},
           {changed("18446744073709551615", "1x"), "not readable"},
           {changed("slot = 'bitacora_shop'", ""), "not readable"},
       }) {
    SCOPED_TRACE(text);
    write(text);
    expect_refused(message);
  }
  write(good);
  EXPECT_TRUE(SenderStateFile::open(directory_).ok());
}

TEST_F(SenderStateTest, FileInItsPlace) {
  const auto directory = directory_;
  directory_ /= "file";
  std::ofstream(directory_) << "x";
  expect_refused("Not a directory");
  directory_ = directory;
}

}  // namespace
}  // namespace bitacora::engine
